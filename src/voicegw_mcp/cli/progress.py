"""A bar on standard error for what takes a while, where that is a terminal. May import rich and ``cli.terminal``."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from voicegw_mcp.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextmanager
def progress_bar(title: str) -> Generator[Callable[[int, int], None]]:
    """Show how far something is; what is given takes the number done and the number in all."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 - as in terminal.console()

    columns = TextColumn(title), BarColumn(), MofNCompleteColumn()
    console, hidden = terminal.console(stderr=True), not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
