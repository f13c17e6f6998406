"""Real clients against real servers, over stdio, Streamable HTTP and HTTP+SSE: each holds the eleven-step conversation.

What runs here is shared by ``tests/e2e`` and the section "real clients" of ``python -m tests.conformance``.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import npm
from tests.conformance.conversation import check, steps
from tests.conformance.scene import Scene, Server
from tests.e2e.conftest import KEY
from tests.fake_providers import answering, serving
from tests.npm import BIN, NODE

TYPESCRIPT = Path(__file__).parents[1] / "e2e" / "typescript"
PYTHON = Path(__file__).with_name("conversation.py")
CLAUDE = Path(__file__).parent / "packages" / "claude"
COMMAND = BIN / "voicegw-mcp"
TRANSPORTS = ("stdio", "http", "sse")
RUN_S = 120


class ClientFailed(AssertionError):
    """A client ended badly; the text is what it wrote."""


def run(command: Sequence[object], scene: Scene, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a client's program in the scene's folder and return how it ended."""
    return subprocess.run(
        [*map(str, command)],
        cwd=scene.folder,
        env={**scene.environment, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


def converse(client: Sequence[object], scene: Scene, server: Server, transport: str, **more: str) -> Any:
    """Let a client hold the conversation, check it and return what the client told.

    Args:
        client: the program, to which the order is added.
        scene: whose file has to be the same bytes afterwards.
        server: for the transports over HTTP; over stdio the client starts its own.
        transport: one of ``TRANSPORTS``.
        more: further parts of the order, such as ``era``.
    """
    before = scene.file.read_bytes()
    with serving(answering(200, b"{}")) as provider:
        order = {
            **more,
            "transport": transport,
            "command": str(COMMAND),
            "args": ["stdio"],
            "env": scene.environment,
            "url": server.sse if transport == "sse" else server.mcp,
            "token": scene.token,
            "steps": steps(provider.url),
        }
        done = run([*client, json.dumps(order)], scene)
    if done.returncode != 0:
        raise ClientFailed(done.stderr[-2000:])
    assert KEY not in done.stdout + done.stderr, "a key left the server"
    told = json.loads(done.stdout)
    check(told)
    assert scene.file.read_bytes() == before, "the file is not what it was"
    return told


def typescript(scene: Scene, server: Server, transport: str, library: str, era: str) -> Any:
    """Run an official TypeScript client: ``library`` is ``sdk`` (1.x) or ``client`` (2.x)."""
    folder = npm.install(TYPESCRIPT)
    script = folder / f"conversation-{os.getpid()}.mjs"  # where node looks for the packages
    shutil.copy(TYPESCRIPT / "conversation.mjs", script)
    try:
        return converse([NODE, script], scene, server, transport, library=library, era=era)
    finally:
        script.unlink()


def python(scene: Scene, server: Server, transport: str, interpreter: Path, era: str) -> Any:
    """Run the official Python client that ``interpreter`` has."""
    return converse([interpreter, "-W", "ignore", PYTHON], scene, server, transport, era=era)


def inspect(scene: Scene, server: Server, transport: str) -> list[str]:
    """Let the MCP Inspector look at the list of tools with --strict; return their names."""
    inspector = npm.install(TYPESCRIPT) / "node_modules" / ".bin" / "mcp-inspector"
    options: list[str] = []
    if transport == "stdio":
        target = [str(COMMAND)]
    else:
        target = [server.sse if transport == "sse" else server.mcp]
        options = ["--transport", transport]
        if scene.token:
            options += ["--header", f"Authorization: Bearer {scene.token}"]
    done = run([inspector, "--cli", *target, *options, "--method", "tools/list", "--strict"], scene)
    if done.returncode != 0:
        raise ClientFailed((done.stdout + done.stderr)[-2000:])
    return [tool["name"] for tool in json.loads(done.stdout)["tools"]]


def installed_claude() -> Path | None:
    """Return Claude Code's program: on PATH or in VOICEGW_CLIENTS_DIR."""
    given = os.environ.get("VOICEGW_CLIENTS_DIR")
    places = [given, str(Path(given) / "node_modules" / ".bin")] if given else []
    found = shutil.which("claude", path=os.pathsep.join([*places, os.environ["PATH"]]))
    return Path(found) if found else None


def find_claude() -> Path:
    """Return Claude Code's program, installed from the npm registry where there is none."""
    return installed_claude() or npm.install(CLAUDE, scripts=True) / "node_modules" / ".bin" / "claude"


def add_and_list(claude: Path, scene: Scene, server: Server) -> dict[str, str]:
    """Add the server over all three transports and return the state of each; the line it printed is run by a shell.

    Args:
        claude: the program.
        scene: a fresh one; its folder is the home.
        server: with a token or without.
    """
    header = " --header 'Authorization: Bearer ${VOICEGW_MCP_TOKEN}'" if scene.token else ""
    lines = [
        f"claude mcp add stdio -e VOICEGW_CONFIG={scene.file} -- {COMMAND}",
        server.added.replace(" voicegateway ", " http "),
        f"claude mcp add --transport sse sse {server.sse}{header}",
    ]
    quiet = {"DISABLE_AUTOUPDATER": "1", "NO_COLOR": "1", "TERM": "dumb"}
    path = f"{claude.parent}{os.pathsep}{scene.environment['PATH']}"
    for line in lines:
        done = run(["sh", "-c", line], scene, PATH=path, **quiet)
        if done.returncode != 0:
            raise ClientFailed(f"{line}\n{done.stdout}{done.stderr}")
    told = run([claude, "mcp", "list"], scene, **quiet).stdout
    found = {name: re.search(rf"^{name}: .* - (.*)$", told, re.MULTILINE) for name in TRANSPORTS}
    return {name: match[1] if match else told for name, match in found.items()}
