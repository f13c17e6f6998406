"""``voicegw install``: a client's entry for this server, shown or written into the client's own file.

May import typer, ``errors``, ``config`` and ``cli``. No token passes through here: only the name of its variable does.
"""

import difflib
import json
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.client_files import ABSENT, JsonFile, TomlFile, Unparsable, toml_lines
from voicegw_mcp.cli.clients import CLIENTS, FORMS, Client, ClientName, Machine, Server, claude_command
from voicegw_mcp.cli.opening import require_named
from voicegw_mcp.cli.options import SEARCHED, AsJson, Url, require_url
from voicegw_mcp.errors import Conflict, InvalidInput, ReadOnly, quote

PROGRAM: Final = "voicegw-mcp"
TOKEN_ENV: Final = "VOICEGW_MCP_TOKEN"  # noqa: S105 - the name of a variable

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_EXPANDED: Final = ("$", "{env:", "{file:")
"""What some client or other replaces inside values."""


def install(
    *,
    client: Annotated[ClientName, typer.Argument(help="The client that is to know this server.")],
    write: Annotated[
        bool,
        typer.Option(
            "--write/--print",
            help="Write into the client's file, or show what goes where.",
            show_default=False,
        ),
    ] = False,
    url: Url = None,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env",
            metavar="NAME",
            help=f"With --url: the variable that holds the token [{TOKEN_ENV}]; '' for a server without.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="The voicegw.yaml that the launched server manages."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What the client calls the server.")
    ] = "voicegateway",
    project: Annotated[
        str | None,
        typer.Option(
            "--project", metavar="DIR", help="Use the client's file of this project, not the user's."
        ),
    ] = None,
    bare: Annotated[
        bool,
        typer.Option("--bare", help=f"Name the command {PROGRAM} without its path; PATH must lead to it."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace another entry of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Connect a coding agent: show its configuration for voicegw-mcp, or write it.

    Other entries of the file stay byte for byte. No token is written, only a reference to the variable that holds it.
    """
    kind = CLIENTS[client]
    folder = _project(kind, project)
    if url is None:
        if token_env is not None:
            raise InvalidInput(
                "--token-env goes with --url.", field="token_env", hint="A launched server needs no token."
            )
        server = _launched(name, config, bare=bare)
    else:
        if config is not None or bare:
            raise InvalidInput(
                f"--url and {'--bare' if bare else '--config'} exclude each other.",
                field="url",
                hint="The server at URL is launched by someone else.",
            )
        server = _reached(kind, name, url, token_env)
    file = kind.file(Machine(sys.platform, os.environ), folder)
    entry = kind.words(server)
    answer: dict[str, Any] = {
        "client": client.value,
        "file": str(file),
        "snippet": _snippet(kind, server, entry),
        "written": write and _merge(file, kind, server, entry, force=force, quiet=as_json),
        "notes": _notes(kind, server, folder, bare=bare, config=config),
    }
    if client is ClientName.CLAUDE_CODE:
        reference = kind.reference % server.token_env if server.token_env else ""
        answer["command"] = claude_command(server, reference, folder)
    if as_json:
        terminal.print_json(answer)
    else:
        _show(kind, answer, server.name, asked_to_write=write)


def installed_program() -> str:
    """Return the absolute path of voicegw-mcp: a desktop program has another PATH than a shell.

    Raises:
        InvalidInput: it is nowhere.
    """
    name = f"{PROGRAM}.exe" if sys.platform == "win32" else PROGRAM
    schemes = (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user"))
    for folder in (Path(sysconfig.get_path("scripts", scheme)) for scheme in schemes):
        if (folder / name).is_file():
            return str(folder / name)
    found = shutil.which(PROGRAM)
    if found is None:
        raise InvalidInput(
            f"The command {PROGRAM} is not installed where this program is, nor on PATH.",
            field="bare",
            hint="Install the package, or pass --bare when the client finds the command by its own PATH.",
        )
    return str(Path(found).absolute())


def _project(client: Client, project: str | None) -> Path | None:
    if project is None:
        return None
    if not client.project_file:
        raise InvalidInput(
            f"{client.title} has no file of a project here.",
            field="project",
            hint="Leave --project out: it reads the user's file only.",
        )
    folder = Path(project).expanduser().absolute()
    if not folder.is_dir():
        raise InvalidInput(f"There is no folder {quote(str(folder))}.", field="project")
    return folder


def _launched(name: str, config: str | None, *, bare: bool) -> Server:
    environment: dict[str, str] = {}
    if config is not None:
        require_named(config)
        environment["VOICEGW_CONFIG"] = _plain(str(Path(config).expanduser().absolute()), "config")
    program = PROGRAM if bare else _plain(installed_program(), "bare")
    return Server(_named(name), (program, "stdio"), environment)


def _reached(client: Client, name: str, url: str, token_env: str | None) -> Server:
    require_url(url)
    if token_env and _VARIABLE.fullmatch(token_env) is None:
        raise InvalidInput(
            "--token-env takes the name of a variable, in capitals.",
            field="token_env",
            hint=f"Pass the variable's name, never the token: --token-env {TOKEN_ENV}",
        )
    if token_env and not client.reference:
        raise InvalidInput(
            f"{client.title} sends header values as they are: it cannot take a token from a variable.",
            field="token_env",
            hint="Let it launch the server (no --url), or leave --token-env out and add the header to its file by hand.",
        )
    wanted = TOKEN_ENV if token_env is None and client.reference else token_env or ""
    server = Server(_named(name), url=_plain(url, "url"), token_env=wanted)
    if server.form not in client.forms:
        can = " and ".join(FORMS[form] for form in client.forms)
        address = "--url http://HOST:PORT/mcp, or " if "http" in client.forms else ""
        raise InvalidInput(
            f"{client.title} does not speak {FORMS[server.form]} by its file; it speaks {can}.",
            field="url",
            hint=f"Use {address}no --url: then it launches the server itself.",
            details={"forms": list(client.forms)},
        )
    return server


def _named(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{quote(name)} is no name that every client takes.",
            field="name",
            hint="Use up to 64 letters, digits, hyphens and underscores.",
        )
    return name


def _plain(text: str, field: str) -> str:
    """Refuse what a client would read as something else, or a file could not hold."""
    if not text.isprintable() or any(mark in text for mark in _EXPANDED):
        raise InvalidInput(
            f"{quote(text)} holds a character that clients expand or cannot read ($, {{env:, control characters).",
            field=field,
            hint="Use another path, for example by a link.",
        )
    return text


def _snippet(client: Client, server: Server, entry: dict[str, Any]) -> str:
    if client.syntax == "toml":
        return "\n".join(toml_lines(client.key, server.name, entry)) + "\n"
    asked = client.inputs(server)
    inputs = {"inputs": asked} if asked else {}
    return json.dumps({**inputs, client.key: {server.name: entry}}, indent=2, ensure_ascii=False) + "\n"


def _merge(
    file: Path, client: Client, server: Server, entry: dict[str, Any], *, force: bool, quiet: bool
) -> bool:
    """Put the entry into the client's file; return False when it is there already.

    Raises:
        Conflict: another entry has the name, or someone saved the file meanwhile.
        ConfigInvalid: the file is broken, or cannot be edited without harm.
        ReadOnly: it cannot be read or written.
    """
    old = _read(file)
    try:
        text = old.decode("utf-8")
    except UnicodeDecodeError:
        raise Unparsable(str(file), "It is not UTF-8.") from None
    if not text.strip():
        new = _snippet(client, server, entry)
    else:
        document: JsonFile | TomlFile
        if client.syntax == "toml":
            document = TomlFile(text, str(file))
        else:
            document = JsonFile(text, str(file), comments=client.syntax == "jsonc")
        found = document.get(client.key, server.name)
        if found is not ABSENT and found != entry and not force:
            raise _other_entry(file, server.name, found, entry, quiet=quiet)
        if found != entry:
            document.put(client.key, server.name, entry)
        if isinstance(document, JsonFile):
            for wanted in client.inputs(server):
                document.include("inputs", wanted)
        new = document.text
    if new == text:
        return False
    _replace(file, old, new.encode("utf-8"))
    return True


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ReadOnly(f"{file} cannot be read ({error.strerror}).") from error


def _replace(file: Path, old: bytes, new: bytes) -> None:
    """Write the file whole or not at all, with the mode it had, and where a link leads to."""
    from voicegw_mcp.config.replacement import (  # noqa: PLC0415 - needed only for --write
        Names,
        Superseded,
        Unconfirmed,
        replace_file,
    )

    target = Path(os.path.realpath(file))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(Names.of(target, str(os.getpid())), old, new)
    except Superseded:
        raise Conflict(
            f"{file} was saved by another program meanwhile, and is as that one left it.",
            hint="End the client, then run the same command again.",
        ) from None
    except (OSError, Unconfirmed) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ReadOnly(
            f"{file} cannot be written ({reason}).",
            hint="Or paste the snippet: the same command without --write.",
        ) from error


def _other_entry(file: Path, name: str, found: Any, entry: dict[str, Any], *, quiet: bool) -> Conflict:
    """Return the refusal; a person sees the difference on standard error, a program gets it in the details."""
    from voicegw_mcp.config.redaction import hide_secrets  # noqa: PLC0415 - needed only to refuse

    old, new = (
        json.dumps(part, indent=2, ensure_ascii=False).splitlines() for part in (hide_secrets(found), entry)
    )
    lines = list(difflib.unified_diff(old, new, f"{name} in {file.name}", f"{name} as wanted", lineterm=""))
    if not quiet:
        for line in lines:
            sys.stderr.write(f"{terminal.shown(line)}\n")
    return Conflict(
        f"{file} has another entry {name} already.",
        hint="--force replaces it; --name NAME adds one beside it.",
        details={"file": str(file), "diff": "\n".join(lines)},
    )


def _notes(
    client: Client, server: Server, project: Path | None, *, bare: bool, config: str | None
) -> list[str]:
    notes = [client.project_note if project else client.user_note, client.note]
    if server.url:
        if client.asks and server.token_env:
            notes.append(f"{client.title} asks for the token once and keeps it.")
        elif server.token_env:
            notes.append(
                f"{client.title} reads the token from {server.token_env}: it must see that variable."
            )
        elif not client.reference:
            notes.append(
                f"{client.title} expands no variables: a header with a token is for you to add to its file."
            )
    elif config is None:
        notes.append(
            f"Without -c the server takes the first of: {SEARCHED}; clients start it in their own folder."
        )
    if project and not server.url and not bare:
        notes.append(
            "Others who use this project's file have another path: --bare writes the command's name only."
        )
    return [note for note in notes if note]


def _show(client: Client, answer: dict[str, Any], name: str, *, asked_to_write: bool) -> None:
    file = answer["file"]
    if answer["written"]:
        terminal.print_line(f"{name} is written to {file}; {client.title} knows it after its next start.")
    elif asked_to_write:
        terminal.print_line(f"{file} has exactly this entry already; nothing is written.")
    else:
        terminal.print_line(f"{client.title} reads {file}. This goes there, beside what is there already:")
        terminal.print_line()
        for line in answer["snippet"].splitlines():
            terminal.print_line(line)
        terminal.print_line()
        if "command" in answer:
            terminal.print_line("Claude Code writes it itself with:")
            terminal.print_line(f"  {answer['command']}")
        terminal.print_line("The same command with --write merges it into that file.")
    for note in answer["notes"]:
        terminal.print_line(f"note: {note}")
