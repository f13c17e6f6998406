"""``voicegw changes | undo``: the journal as a table, and one change taken back.

May import typer, ``core``, ``tools`` and ``cli``.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import with_gateway
from voicegw_mcp.cli.options import AsJson, Config

if TYPE_CHECKING:
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.undo import Undone
    from voicegw_mcp.tools.history import ChangePage, ChangeView

MOST: int = 1000


def changes(
    *,
    change_id: Annotated[
        str | None,
        typer.Argument(metavar="CHANGE", help="The id of one change: shows its diff.", show_default=False),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, max=MOST, help="Changes at most, 1 to 1000.")
    ] = 20,
    before: Annotated[
        str | None, typer.Option("--before", metavar="ID", help="Only changes older than this one.")
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List changes of voicegw.yaml, newest first, or show one with its diff."""
    from voicegw_mcp.tools.history import view_change  # noqa: PLC0415 - loaded when the command runs

    if change_id is not None:
        asked = change_id
        view = with_gateway(config, lambda gateway: view_change(gateway, asked))
        if as_json:
            terminal.print_json(view.as_json())
        else:
            _show_change(view)
        return
    page = with_gateway(config, lambda gateway: _gathered(gateway, limit, before))
    if as_json:
        terminal.print_json(page.as_json())
    else:
        _show_changes(page)


def undo(
    *,
    change_id: Annotated[
        str | None,
        typer.Argument(
            metavar="CHANGE",
            help="The id of the change; without it the newest one in force that is no undo itself.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the diff, write nothing.")] = False,
    if_version: Annotated[
        str | None,
        typer.Option("--if-version", metavar="V", help="Refuse unless the file is at this config_version."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Take a change of voicegw.yaml back; undo an undo to have the change again.

    The entries get their old bytes again. Refused (exit code 1) when someone changed them since, or others need them now.
    """
    from voicegw_mcp.core.undo import undo_change  # noqa: PLC0415 - as in changes()

    async def work(gateway: "Gateway") -> "Undone":
        return await undo_change(gateway, change_id, tool="undo", if_version=if_version, dry_run=dry_run)

    found = with_gateway(config, work)
    if as_json:
        from voicegw_mcp.tools.history import answer_of  # noqa: PLC0415 - as in changes()

        terminal.print_json(answer_of(found).as_json())
    else:
        _show_undone(found, dry_run=dry_run)


async def _gathered(gateway: "Gateway", limit: int, before: str | None) -> "ChangePage":
    """Return one page of ``limit`` changes: those of the tool end at a budget of bytes as well."""
    from voicegw_mcp.tools.history import ListChanges, cursor_behind, list_changes  # noqa: PLC0415 - as in changes()

    views: list[ChangeView] = []
    cursor = None if before is None else cursor_behind(before)
    while True:
        asked: Any = ListChanges(limit=limit - len(views), cursor=cursor)
        page: Any = await list_changes.run(gateway, asked)
        views += page.changes
        cursor = page.next_cursor
        if cursor is None or len(views) >= limit:
            return page.model_copy(update={"changes": views, "count": len(views)})


def _show_changes(page: "ChangePage") -> None:
    from voicegw_mcp.cli.tables import moment  # noqa: PLC0415 - as in changes()

    if not page.changes:
        terminal.print_line("Nothing was changed yet.")
        return
    terminal.print_table(
        [
            terminal.Column("Change"),
            terminal.Column("When (UTC)", 1),
            terminal.Column("Who", 2),
            terminal.Column("Tool", 3),
            terminal.Column("Summary", fills=True),
            terminal.Column("State"),
        ],
        [
            (view.id, moment(view.created), _who(view), view.tool, view.summary, _state(view))
            for view in page.changes
        ],
    )
    if page.next_cursor:
        terminal.print_line(f"More: repeat with --before {page.changes[-1].id}", style="dim")


def _show_change(view: "ChangeView") -> None:
    terminal.print_line(f"{view.id}: {view.summary}", style="bold")
    for name, value in {
        "created": view.created,
        "applied": view.applied,
        "state": _state(view),
        "undoes": view.undoes,
        "who": _who(view),
        "tool": view.tool,
        "file": f"{view.file} at version {view.config_version}",
    }.items():
        if value:
            terminal.print_line(f"  {name:<7}  {value}")
    terminal.print_line()
    terminal.print_diff(view.diff or "")


def _show_undone(found: "Undone", *, dry_run: bool) -> None:
    from voicegw_mcp.core.periods import iso  # noqa: PLC0415 - as in changes()

    change = found.change
    when = iso(change.created_ms, "UTC")
    done = "Would take back" if dry_run else "Took back"
    terminal.print_line(f"{done} {change.id}: {change.summary}", style="bold")
    terminal.print_line(f"  made by {change.actor} ({change.door}, {change.tool}) at {when}")
    terminal.print_line()
    terminal.print_diff(found.receipt.diff)
    if found.receipt.change_id is None:
        terminal.print_line("Nothing was written.")
    else:
        terminal.print_line(f"To have it again: voicegw undo {found.receipt.change_id}")


def _who(view: "ChangeView") -> str:
    return f"{view.actor} ({view.door})"


def _state(view: "ChangeView") -> str:
    return f"undone by {view.undone_by}" if view.undone_by else view.state
