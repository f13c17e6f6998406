"""The three streams that a program is given: closed ones, and an output that takes no more. May import ``errors``.

Both programs begin here, before anything is opened; so it loads nothing that a start would wait for.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from voicegw_mcp.errors import ReadOnly


def open_closed() -> None:
    """Open the null device on those of the descriptors 0 to 2 that are closed.

    Whatever is opened next lands on them otherwise, such as an event loop's own descriptor: it would be written to as
    standard error, and put in the place of standard output. ``sys.__stdout__`` stays None where that was closed.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)  # as all three are
        if opened == 0:
            sys.stdin = os.fdopen(opened, closefd=False)
        elif opened == 1:
            sys.stdout = os.fdopen(opened, "w", closefd=False)
        else:
            sys.stderr = os.fdopen(opened, "w", closefd=False)
    os.close(opened)


def let_go(*streams: TextIO) -> None:
    """Let standard streams lead nowhere from now on, also for what the interpreter writes at its end: it would exit with 120."""
    for stream in streams:
        os.dup2(nowhere := os.open(os.devnull, os.O_WRONLY), stream.fileno())
        os.close(nowhere)


def is_output_lost(error: OSError) -> bool:
    """Say whether standard output takes no more: what else is written, a file or a store, has errors of its own that name it."""
    return error.filename is None and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def output_lost(error: OSError) -> ReadOnly:
    """Return the error that says why standard output takes no more."""
    from voicegw_mcp.errors import ReadOnly  # noqa: PLC0415 - see the module docstring

    return ReadOnly(
        f"Standard output cannot be written ({error.strerror}).",
        hint="Make room where it leads to, or send it elsewhere.",
    )
