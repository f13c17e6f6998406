"""What the commands print: JSON, tables and lines that no data can break out of. May import rich and ``core.untrusted``.

Data becomes ``Text``: never markup, and with control characters escaped. Columns are left out before an id is cut.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from voicegw_mcp.core.untrusted import escape_untrusted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

MAX_CELL: Final = 2_000
UNBOUNDED: Final = 10_000
"""Columns of output that goes to a file or a pipe: a line there is never broken."""


@dataclass(frozen=True)
class Column:
    """A column. Of those with ``rank`` the highest is left out first when the terminal is narrow; 0 always stays.

    ``fills`` marks the one column of prose that takes the width that is left and may be broken.
    """

    title: str
    rank: int = 0
    align: Literal["left", "right"] = "left"
    fills: bool = False


def is_terminal() -> bool:
    """Say whether a person can be asked: standard input and output are terminals."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def console(*, stderr: bool = False) -> Console:
    """Return a console that takes text as it is."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms to import, not needed for --json and --help

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else UNBOUNDED
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def print_line(text: str = "", *, style: str = "") -> None:
    """Print one line of ours on standard output; data in it is escaped, a long line is left to the terminal."""
    from rich.text import Text  # noqa: PLC0415 - as in console()

    console().print(Text(shown(text), style=style), soft_wrap=True)


def shown(value: object) -> str:
    """Return a value as one line of harmless text."""
    return escape_untrusted(str(value), MAX_CELL)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Print rows under their columns; None is an empty cell.

    Args:
        columns: what the cells of a row mean, in order.
        rows: values; anything but text is shown by ``str``.
        title: a line above.
    """
    screen = console()
    left = _fitting(screen, columns, rows)
    if title:
        print_line(title, style="bold")
    table = _table([columns[i] for i in left], [[row[i] for i in left] for row in rows])
    # Wider than the screen only when nothing more can be left out: then the terminal breaks the line, and no id is cut.
    screen.width = max(screen.width, _natural_width(screen, table))
    screen.print(table)
    missing = [
        column.title for i, column in enumerate(columns) if i not in left and any(row[i] for row in rows)
    ]
    if missing:
        print_line(f"(no room for: {', '.join(missing)}; --json has everything)", style="dim")


def print_json(data: Any, *, pretty: bool | None = None) -> None:
    """Print one JSON document.

    Args:
        data: JSON-like.
        pretty: over several lines; by default when standard output is a terminal.
    """
    if sys.stdout.isatty() if pretty is None else pretty:
        text = json.dumps(data, ensure_ascii=False, indent=2)
    else:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    sys.stdout.write(_displayable(text) + "\n")


def prepare_streams() -> None:
    """Make both streams take any text: what an encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test's stream may have none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _displayable(text: str) -> str:
    """Escape as JSON what is invisible, acts on a terminal, or is missing from the encoding of standard output."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    encoding = sys.stdout.encoding or "ascii"
    return "".join(
        part if part == "\n" or _is_plain(part, encoding) else json.dumps(part)[1:-1] for part in text
    )


def _is_plain(character: str, encoding: str) -> bool:
    if escape_untrusted(character, 20) != character:
        return False
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _fitting(screen: Console, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> list[int]:
    """Return the indexes of the columns that there is room for; optional ones without any value need none."""
    left = [i for i, column in enumerate(columns) if not column.rank or any(row[i] for row in rows)]
    while True:
        table = _table([columns[i] for i in left], [[row[i] for i in left] for row in rows])
        optional = [i for i in left if columns[i].rank]
        if not optional or _natural_width(screen, table) <= screen.width:
            return left
        left.remove(max(optional, key=lambda i: columns[i].rank))


def print_diff(diff: str) -> None:
    """Print a unified diff with its lines in their colours; nothing when it is empty."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in diff.splitlines():
        print_line(line, style=styles.get(line[:1], ""))
    if diff:
        print_line()


def _table(columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - as in console()
    from rich.text import Text  # noqa: PLC0415 - likewise

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            Text(column.title),
            justify=column.align,
            no_wrap=not column.fills,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text("" if cell is None else shown(cell)) for cell in row))
    return table


def _natural_width(screen: Console, table: Table) -> int:
    """Return the width at which no column but a filling one is narrower than its cells."""
    from rich.measure import Measurement  # noqa: PLC0415 - as in console()

    options = screen.options.update(width=UNBOUNDED)
    total = 0
    for column in table.columns:
        widths = [Measurement.get(screen, options, cell).maximum for cell in (column.header, *column.cells)]
        total += min(max(widths), 24) if not column.no_wrap else max(widths)
        total += 2
    return total
