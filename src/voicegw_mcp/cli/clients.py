"""What each MCP client wants to be told: its file, its words for a server, how it names a token. Imports nothing of ours.

The words are those the clients' own ``mcp add`` commands write (``tests/golden/clients``), or their vendors' pages.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

Form = Literal["stdio", "http", "sse"]
Syntax = Literal["json", "jsonc", "toml"]

FORMS: Final[Mapping[Form, str]] = {"stdio": "stdio", "http": "Streamable HTTP", "sse": "HTTP+SSE"}


class ClientName(StrEnum):
    """The clients there are words for."""

    CLAUDE_DESKTOP = "claude-desktop"
    CLAUDE_CODE = "claude-code"
    CURSOR = "cursor"
    CLINE = "cline"
    CODEX = "codex"
    VSCODE = "vscode"
    GEMINI = "gemini"
    OPENCODE = "opencode"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where clients keep their files: ``sys.platform`` and the environment decide."""

    platform: str
    environment: Mapping[str, str]

    def home(self) -> Path:
        """Return the user's home."""
        named = self.environment.get("USERPROFILE" if self.platform == "win32" else "HOME")
        return Path(named) if named else Path.home()

    def named(self, variable: str) -> Path | None:
        """Return the path that a variable of the client holds, None when it is unset or empty."""
        text = self.environment.get(variable, "").strip()
        return Path(text) if text else None

    def xdg_config(self) -> Path:
        """Return the folder of configurations as the XDG base directory specification has it."""
        return self.named("XDG_CONFIG_HOME") or self.home() / ".config"

    def applications(self) -> Path:
        """Return the folder where desktop programs keep what they are told."""
        if self.platform == "darwin":
            return self.home() / "Library" / "Application Support"
        if self.platform == "win32":
            return self.named("APPDATA") or self.home() / "AppData" / "Roaming"
        return self.xdg_config()


@dataclass(frozen=True, slots=True)
class Server:
    """What a client is to launch (``command`` and its variables) or to reach (``url``, the token's variable)."""

    name: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    url: str = ""
    token_env: str = ""

    @property
    def form(self) -> Form:
        """How the client talks to it; a URL whose path ends in ``/sse`` is HTTP+SSE."""
        if not self.url:
            return "stdio"
        return "sse" if self.url.partition("?")[0].rstrip("/").endswith("/sse") else "http"


@dataclass(frozen=True, slots=True)
class Client:
    """One client. ``reference`` is how its file names a variable (``%s``); empty: it has no way to."""

    title: str
    syntax: Syntax
    key: str
    user_file: Callable[[Machine], Path]
    entry: Callable[[Server, str], dict[str, Any]]
    forms: tuple[Form, ...] = ("stdio", "http", "sse")
    project_file: str = ""
    other_suffix: str = ""
    reference: str = "${%s}"
    asks: bool = False
    user_note: str = ""
    project_note: str = ""
    note: str = ""

    def file(self, machine: Machine, project: Path | None) -> Path:
        """Return its file, or the same with its other suffix when only that one exists."""
        path = project / self.project_file if project else self.user_file(machine)
        other = path.with_suffix(self.other_suffix) if self.other_suffix else path
        return other if other.exists() and not path.exists() else path

    def words(self, server: Server) -> dict[str, Any]:
        """Return the client's entry for a server; it holds a reference to the token, never a token."""
        return self.entry(server, self.reference % server.token_env if server.token_env else "")

    def inputs(self, server: Server) -> list[dict[str, Any]]:
        """Return what the client has to ask its user for before it can reach the server."""
        if not (self.asks and server.token_env):
            return []
        about = f"{server.token_env}: the token of {server.name}"
        return [{"type": "promptString", "id": server.token_env, "description": about, "password": True}]


def claude_command(server: Server, reference: str, project: Path | None) -> str:
    """Return the line for a POSIX shell with which Claude Code writes the entry itself."""
    line = ["claude", "mcp", "add", "-s", "project" if project else "user"]
    if server.url:
        line += ["-t", server.form, server.name, server.url]
        line += ["-H", f"Authorization: Bearer {reference}"] if reference else []
    else:
        line += [server.name]
        line += [part for name, value in server.environment.items() for part in ("-e", f"{name}={value}")]
        line += ["--", *server.command]
    return (f"cd {shlex.quote(str(project))} && " if project else "") + shlex.join(line)


def _launch(server: Server) -> dict[str, Any]:
    program, *arguments = server.command
    variables = {"env": dict(server.environment)} if server.environment else {}
    return {"command": program, "args": arguments, **variables}


def _headers(reference: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {reference}"}} if reference else {}


def _claude_code(server: Server, reference: str) -> dict[str, Any]:
    if server.url:
        return {"type": server.form, "url": server.url, **_headers(reference)}
    return {"type": "stdio", **_launch(server), "env": dict(server.environment)}


def _cline(server: Server, reference: str) -> dict[str, Any]:
    if not server.url:
        return {"transport": {"type": "stdio", **_launch(server)}}
    kind = "sse" if server.form == "sse" else "streamableHttp"
    return {"transport": {"type": kind, "url": server.url, **_headers(reference)}}


def _codex(server: Server, reference: str) -> dict[str, Any]:
    if server.url:
        token = {"bearer_token_env_var": reference} if reference else {}
        return {"url": server.url, **token, "required": True}
    # Codex hands a server nothing but HOME, PATH and the like: what the shell has set must be named.
    passed = {} if server.environment else {"env_vars": ["VOICEGW_CONFIG"]}
    return {**_launch(server), **passed, "required": True}


def _cursor(server: Server, reference: str) -> dict[str, Any]:
    return {"url": server.url, **_headers(reference)} if server.url else _launch(server)


def _gemini(server: Server, reference: str) -> dict[str, Any]:
    if server.url:
        return {"url": server.url, "type": server.form, **_headers(reference)}
    return _launch(server)


def _opencode(server: Server, reference: str) -> dict[str, Any]:
    if server.url:
        return {"type": "remote", "url": server.url, **_headers(reference)}
    variables = {"environment": dict(server.environment)} if server.environment else {}
    return {"type": "local", "command": list(server.command), **variables}


def _vscode(server: Server, reference: str) -> dict[str, Any]:
    if server.url:
        return {"type": server.form, "url": server.url, **_headers(reference)}
    return {"type": "stdio", **_launch(server)}


def _cline_file(machine: Machine) -> Path:
    named = machine.named("CLINE_MCP_SETTINGS_PATH")
    data = machine.named("CLINE_DATA_DIR")
    folder = data or (machine.named("CLINE_DIR") or machine.home() / ".cline") / "data"
    return named or folder / "settings" / "cline_mcp_settings.json"


CLIENTS: Final[Mapping[ClientName, Client]] = {
    ClientName.CLAUDE_DESKTOP: Client(
        "Claude Desktop",
        "json",
        "mcpServers",
        lambda machine: machine.applications() / "Claude" / "claude_desktop_config.json",
        lambda server, _: _launch(server),
        forms=("stdio",),
        user_note="Claude Desktop writes this file too: quit it before --write, then start it.",
    ),
    ClientName.CLAUDE_CODE: Client(
        "Claude Code",
        "json",
        "mcpServers",
        lambda machine: (machine.named("CLAUDE_CONFIG_DIR") or machine.home()) / ".claude.json",
        _claude_code,
        project_file=".mcp.json",
        user_note="Claude Code writes this file while it runs: end its sessions before --write, or use its command.",
        project_note="Claude Code asks once whether to trust the servers of a project.",
    ),
    ClientName.CURSOR: Client(
        "Cursor",
        "json",
        "mcpServers",
        lambda machine: machine.home() / ".cursor" / "mcp.json",
        _cursor,
        project_file=".cursor/mcp.json",
        reference="${env:%s}",
    ),
    ClientName.CLINE: Client(
        "Cline",
        "json",
        "mcpServers",
        _cline_file,
        _cline,
        reference="",
        user_note="Cline writes this file while it runs: end it before --write. The VS Code extension keeps a file of "
        "its own: open it with MCP Servers > Configure, and paste the snippet there.",
    ),
    ClientName.CODEX: Client(
        "Codex",
        "toml",
        "mcp_servers",
        lambda machine: (machine.named("CODEX_HOME") or machine.home() / ".codex") / "config.toml",
        _codex,
        forms=("stdio", "http"),
        reference="%s",
        user_note="Codex writes this file while it runs: end its sessions before --write.",
        note="Codex waits only for servers that are required; others may miss the first question.",
    ),
    ClientName.VSCODE: Client(
        "VS Code",
        "jsonc",
        "servers",
        lambda machine: machine.applications() / "Code" / "User" / "mcp.json",
        _vscode,
        project_file=".vscode/mcp.json",
        reference="${input:%s}",
        asks=True,
        user_note="This is the file of the default profile; another one has its own (MCP: Open User Configuration).",
    ),
    ClientName.GEMINI: Client(
        "Gemini CLI",
        "json",
        "mcpServers",
        lambda machine: (machine.named("GEMINI_CLI_HOME") or machine.home()) / ".gemini" / "settings.json",
        _gemini,
        project_file=".gemini/settings.json",
        user_note="Gemini CLI writes this file when a setting changes: end its sessions before --write.",
        note="Gemini CLI starts servers in trusted folders only.",
    ),
    ClientName.OPENCODE: Client(
        "opencode",
        "jsonc",
        "mcp",
        lambda machine: machine.xdg_config() / "opencode" / "opencode.json",
        _opencode,
        project_file="opencode.json",
        other_suffix=".jsonc",
        reference="{env:%s}",
    ),
}
