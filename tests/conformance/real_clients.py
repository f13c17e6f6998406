"""Section "clients": the clients that people use, against servers that ask for a token, over every transport."""

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tests import npm
from tests.conformance import clients
from tests.conformance.scene import Scene, Server
from tests.proof import Progress, Section

NAME = "clients"
TITLE = "Real clients"
ROUNDS = 0
TOKEN = "fake-token-0001"
MCP_1 = "mcp==1.30.0"
INSTALL_S = 300

CHECKED = """\
Each client connects to `voicegw serve` with a token (over stdio it starts `voicegw-mcp`) and holds the conversation of eleven
steps: add a provider, test it, register a model, create a project with it, look at project, logs and costs, ask for two deletes
and be refused for want of confirmation, delete both. Afterwards `voicegw.yaml` has to be the same bytes as before. The
MCP Inspector lists the tools with `--strict`. Claude Code adds the server with the line that `voicegw serve` prints, run by
a shell as it stands, and with the same over the other transports; the table shows what `claude mcp list` says.
"""

Work = Callable[[Scene, Server, str], object]


def run(_rounds: int, _seed: int, folder: Path, _progress: Progress) -> Section:
    """Let every client run over every transport."""
    section = Section(NAME, columns=("client", *clients.TRANSPORTS))
    for number, (name, work) in enumerate(_clients(folder / "mcp1", section)):
        states = []
        for transport in clients.TRANSPORTS:
            scene = _scene(folder / f"{number}-{transport}")
            with scene.served() as server:
                states.append(section.attempt(f"{name}, {transport}", lambda: work(scene, server, transport)))  # noqa: B023 - called at once
        section.figures.append((name, *states))
    _claude(folder, section)
    return section


def _clients(folder: Path, section: Section) -> list[tuple[str, Work]]:
    """Return the clients by name; those that do not install are noted as violations."""
    typescript = npm.versions(clients.TYPESCRIPT)
    sdk, client = (f"@modelcontextprotocol/{name}" for name in ("sdk", "client"))
    inspector = typescript["@modelcontextprotocol/inspector"]
    found: list[tuple[str, Work]] = [
        (f"TypeScript `{sdk}` {typescript[sdk]}", _typescript("sdk", "legacy")),
        (f"TypeScript `{client}` {typescript[client]}, with sessions", _typescript("client", "legacy")),
        (f"TypeScript `{client}` {typescript[client]}, newest revision", _typescript("client", "auto")),
        (f"Python `mcp` {version('mcp')}, with sessions", _python(Path(sys.executable), "legacy")),
        (f"Python `mcp` {version('mcp')}, newest revision", _python(Path(sys.executable), "auto")),
        (f"MCP Inspector {inspector}, `tools/list --strict`", _inspector),
    ]
    try:
        found.insert(3, (f"Python `{MCP_1.replace('==', '` ')}", _python(_mcp_1(folder), "legacy")))
    except subprocess.SubprocessError as error:
        section.violations.append(f"{MCP_1} did not install: {error}")
    return found


def _scene(folder: Path) -> Scene:
    folder.mkdir()
    return Scene(folder, TOKEN)


def _typescript(library: str, era: str) -> Work:
    def work(scene: Scene, server: Server, transport: str) -> str:
        return _steps(clients.typescript(scene, server, transport, library, era))

    return work


def _python(interpreter: Path, era: str) -> Work:
    def work(scene: Scene, server: Server, transport: str) -> str:
        return _steps(clients.python(scene, server, transport, interpreter, era))

    return work


def _steps(told: dict[str, list[object]]) -> str:
    revision = (
        f", {told['protocol']}" if told["protocol"] else ""
    )  # the 1.x TypeScript client does not tell it
    return f"{len(told['steps'])} steps{revision}"


def _inspector(scene: Scene, server: Server, transport: str) -> str:
    return f"{len(clients.inspect(scene, server, transport))} tools, nothing reported"


def _mcp_1(folder: Path) -> Path:
    """Return an interpreter that has the 1.x client, in an environment of its own."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", MCP_1],
        check=True,
        capture_output=True,
        timeout=INSTALL_S,
    )
    return python


def _claude(folder: Path, section: Section) -> None:
    """Add a row for Claude Code with a token and one without."""
    try:
        program = clients.find_claude()
    except npm.NpmFailed as error:
        section.violations.append(f"Claude Code did not install: {error}")
        return
    for token in (TOKEN, None):
        scene = _scene(folder / f"claude-{bool(token)}")
        scene.token = token
        told = clients.run([program, "--version"], scene).stdout.split()
        name = f"Claude Code {told[0] if told else '?'}, {'with' if token else 'without'} a token"
        with scene.served() as server:
            answer = section.attempt(name, lambda: json.dumps(clients.add_and_list(program, scene, server)))  # noqa: B023 - called at once
        states = json.loads(answer) if answer.startswith("{") else dict.fromkeys(clients.TRANSPORTS, answer)
        section.figures.append((name, *states.values()))
        section.violations += [
            f"{name}, {transport}: {state}"
            for transport, state in states.items()
            if state != "✔ Connected" and not state.startswith("**")
        ]
