"""How a command ends when it fails: one line or one JSON object, and the exit code of the error table.

The only place of the commands that catches ``GatewayError``. May import ``errors``, typer and ``cli.terminal``.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.standard_streams import is_output_lost, let_go, output_lost
from voicegw_mcp.errors import GatewayError, InternalError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def ended(command: Callable[[], Any], arguments: Sequence[str]) -> int:
    """Run a command and return its exit code, having told whatever went wrong.

    Args:
        command: runs it; returns an exit code or None.
        arguments: the command line, which says how to tell errors.
    """
    from typer.exceptions import Abort, TyperException  # noqa: PLC0415 - loaded by then, and only by then

    error: GatewayError
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        return _deaf()
    except OSError as failed:
        if is_output_lost(failed):
            _deaf()
            return _tell(output_lost(failed), ())
        error = _unexpected()
    except KeyboardInterrupt:
        return 130
    except Abort:
        sys.stderr.write("voicegw: nothing was answered; nothing is changed.\n")
        return 1
    except TyperException as usage:
        error = InvalidInput(
            usage.format_message().replace("\n", " ").replace("Value error, ", ""), hint=_help_hint(usage)
        )
    except GatewayError as known:
        error = known
    except Exception:  # noqa: BLE001 - the door: nothing but the one shape leaves the program
        error = _unexpected()
    else:
        return code if isinstance(code, int) else 0
    return _tell(error, arguments)


def wants_json(arguments: Sequence[str]) -> bool:
    """Say whether the answer is read by a program: ``--json``, and ``call``, whose answer always is JSON."""
    return "--json" in arguments or list(arguments[:1]) == ["call"]


def _tell(error: GatewayError, arguments: Sequence[str]) -> int:
    try:
        if wants_json(arguments):
            terminal.print_json(error.payload(), pretty=False if "--json" in arguments else None)
            sys.stdout.flush()
        else:
            sys.stderr.write(f"voicegw: {error.error_code}: {terminal.shown(error.message)}\n")
            if error.hint:
                sys.stderr.write(f"  {terminal.shown(error.hint)}\n")
    except BrokenPipeError:
        return _deaf()
    except OSError as failed:
        if not is_output_lost(failed):
            raise
        let_go(sys.stdout, sys.stderr)  # the code is all that can be told
    return error.exit_code


def _unexpected() -> InternalError:
    error = InternalError()
    error.hint = "Please report it; with VOICEGW_DEBUG=1 the same command prints the traceback to report."
    if os.environ.get("VOICEGW_DEBUG") == "1":
        sys.stderr.write(f"reference {error.reference}\n{traceback.format_exc()}")
    return error


def _help_hint(usage: Exception) -> str:
    context: Any = getattr(usage, "ctx", None)
    return f"See: {context.command_path} --help" if context is not None else ""


def _deaf() -> int:
    """Nobody reads us any more (``voicegw logs | head -1``): end in silence."""
    let_go(sys.stdout)
    return 1
