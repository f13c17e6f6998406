"""``voicegw-mcp``: the MCP server over stdio, as hosts launch it.

Imports what it needs only after standard output was put aside: a library that prints while it is imported must not
reach the wire. argparse, because typer and rich take longer to import than the rest of the program.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from voicegw_mcp.cli.modes import OPTIONS, Mode, add_options
from voicegw_mcp.cli.standard_streams import let_go, open_closed, output_lost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voicegw_mcp.errors import GatewayError

SEEN = ("VOICEGW_CONFIG", "VOICEGW_DB_PATH")
COLLECT_AFTER = 25_000
"""How many objects more than before make it worth to look for garbage; Python's own 700 are soon made."""

FIRST_LOOK_S = 30.0
"""How long after its start it looks after alerts for the first time: many are started and ended within seconds."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``voicegw-mcp [stdio] [-c FILE]`` with the options of a mode; exits with 2 when it cannot start."""
    open_closed()
    parser = argparse.ArgumentParser(
        prog="voicegw-mcp",
        description="MCP server that manages a voice-AI gateway: speaks MCP on standard input and output.",
        epilog="Without -c: VOICEGW_CONFIG, ./voicegw.yaml, ~/.config/voicegateway/voicegw.yaml, /etc/voicegateway/voicegw.yaml. "
        "NAMES have commas between; options that take them may be repeated.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "transport", nargs="?", choices=["stdio"], default="stdio", help="the only one here (default)"
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the voicegw.yaml to manage")
    add_options(parser)
    parser.add_argument("-V", "--version", action="store_true", help="print the version and exit")
    options = parser.parse_args(arguments)
    if options.version:
        from voicegw_mcp import __version__  # noqa: PLC0415 - see the module docstring

        try:
            print(__version__, flush=True)  # noqa: T201 - what was asked for
        except OSError as error:
            let_go(sys.stdout)
            raise SystemExit(tell_lost(error)) from None
        return
    problem = start_problem(options.config, os.environ)
    if problem:
        _tell(problem)
        raise SystemExit(2)
    from voicegw_mcp.errors import GatewayError  # noqa: PLC0415 - see the module docstring

    try:
        serve(options.config, Mode(**{option.field: getattr(options, option.field) for option in OPTIONS}))
    except GatewayError as error:
        raise SystemExit(_tell_error(error)) from None


def _tell_error(error: GatewayError) -> int:
    _tell(f"{error.error_code}: {error.message} {error.hint}".rstrip())
    return error.exit_code


def _tell(text: str) -> None:
    """Say it on standard error; whoever cannot be told learns it from the exit code."""
    try:
        sys.stderr.write(f"voicegw-mcp: {text}\n")
        sys.stderr.flush()
    except OSError:
        let_go(sys.stderr)


def tell_lost(error: OSError) -> int:
    """Say why standard output takes no answer any more, but nothing of a client that went away; return the exit code."""
    if isinstance(error, ConnectionError):
        return 1  # as of the commands whose reader went away
    return _tell_error(output_lost(error))


def start_problem(config: str | None, environment: Mapping[str, str]) -> str:
    """Return why the server must not start: a file that was named and does not exist. Empty when it may."""
    if config is not None and not config.strip():
        return "--config names no file. Name one, or leave it out."
    named = config or environment.get("VOICEGW_CONFIG")
    if not named or os.path.isfile(found := Path(named).expanduser()):  # noqa: PTH113 - never raises
        return ""
    seen = ", ".join(name for name in SEEN if environment.get(name)) or "none"
    source = "--config" if config else "VOICEGW_CONFIG"
    if os.path.lexists(found):
        return f"{named} ({source}) is there and is no file that can be read. Put the configuration there, or name another path."
    return (
        f"there is no file {named} ({source}). Make one with: voicegw init {named}  [variables seen: {seen}]"
    )


def collect_seldom() -> None:
    """Look for garbage less often, and not in what was loaded until now.

    Imports stay until the end, and looking through them again and again is a tenth of the start. A parsed file of 2,000
    lines is 40,000 objects, none of them in a circle: looking through those is a third of a change.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    gc.enable()


def serve(config: str | None, mode: Mode) -> None:
    """Serve stdio on the gateway of ``config`` until the client goes away.

    Raises:
        InvalidInput, ConfigInvalid: the mode cannot be put in force, or standard output is closed; nothing was written yet.
    """
    if sys.__stdout__ is None:
        from voicegw_mcp.errors import InvalidInput  # noqa: PLC0415 - see the module docstring

        raise InvalidInput(
            "Standard output is closed: no client could read an answer.",
            hint="Start it as an MCP client does, with a pipe for its input and one for its output.",
        )
    wire = os.dup(1)
    os.dup2(2, 1)
    gc.disable()
    try:
        import anyio  # noqa: PLC0415 - see the module docstring

        from voicegw_mcp.cli.tracing import start_tracing  # noqa: PLC0415 - likewise
        from voicegw_mcp.core.alert_watch import AlertWatch  # noqa: PLC0415 - likewise
        from voicegw_mcp.server import build_server  # noqa: PLC0415 - likewise
        from voicegw_mcp.transports.stdio import serve_stdio  # noqa: PLC0415 - likewise

        tools = mode.choose_tools()  # loads the rest
        tracing = start_tracing()
        sys.stdout.flush()
    finally:
        os.dup2(wire, 1)
        os.close(wire)
        collect_seldom()

    async def run() -> None:
        gateway = mode.open_gateway(config, "stdio")
        watch = AlertWatch(gateway)

        async def close() -> None:
            await watch.stop()
            await gateway.close()
            await tracing.stop()

        watch.start(FIRST_LOOK_S)
        await serve_stdio(build_server(gateway, tools), close, tell_lost)

    try:
        anyio.run(run)
    except KeyboardInterrupt:  # before the receiver was in place
        raise SystemExit(130) from None
