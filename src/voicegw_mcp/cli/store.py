"""``voicegw prune | backup | restore | repair``: what keeps a store in order.

May import typer, rich, ``core`` and ``cli``.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import with_gateway
from voicegw_mcp.cli.options import AsJson, Config
from voicegw_mcp.cli.progress import progress_bar
from voicegw_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.maintenance import Pruned, Restored
    from voicegw_mcp.store.audit import Difference
    from voicegw_mcp.store.backup import Figures
    from voicegw_mcp.store.repair import Findings, Repair

MOST_SHOWN = 50
MOST_DAYS = 36_500
_REMEDIES = {
    "rows": "from its rows",
    "cells": "from the other sums",
    "hour": "known to the hour only",
    "keep": "a row is damaged or lost; totals are right",
}


def prune(
    *,
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=1,
            max=MOST_DAYS,
            help="Days to keep; else cost_tracking.retention_days of the file.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows, delete nothing.")] = False,
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum",
            help="Then write the file anew, smaller: needs room for a copy, and writers wait meanwhile.",
        ),
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Delete old rows of the request log; totals stay.

    A running server does so by itself, every hour, when the file has cost_tracking.retention_days.
    """
    from voicegw_mcp.core import maintenance  # noqa: PLC0415 - loaded when the command runs
    from voicegw_mcp.core.periods import iso  # noqa: PLC0415 - likewise

    if dry_run and vacuum:
        raise InvalidInput("--dry-run and --vacuum exclude each other.", hint="Pass one of them, or none.")

    async def work(gateway: "Gateway") -> "tuple[Pruned, tuple[int, int] | None]":
        with progress_bar("Rows") as progress:
            done = await maintenance.prune(gateway, older_than=older_than, dry_run=dry_run, progress=progress)
        return done, await maintenance.compact(gateway) if vacuum else None

    pruned, sizes = with_gateway(config, work)
    before = iso(pruned.before_ms, "UTC")
    if as_json:
        document: dict[str, Any] = {"dry_run": dry_run, "rows": pruned.rows, "before": before}
        if sizes is not None:
            document |= {"size_bytes_before": sizes[0], "size_bytes": sizes[1]}
        terminal.print_json(document)
        return
    verb = "would be deleted" if dry_run else "deleted"
    terminal.print_line(f"{pruned.rows:,} rows from before {before} {verb}; totals keep them.")
    if sizes is not None:
        terminal.print_line(f"The file had {_megabytes(sizes[0])} and has {_megabytes(sizes[1])} now.")


def backup(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the backup.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE when it is an older backup.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Copy the store into FILE, while it is used, and verify the copy.

    Nobody waits meanwhile. FILE has its name only once its structure, row counts and totals are those of the store.
    """
    from voicegw_mcp.core import maintenance  # noqa: PLC0415 - as in prune()

    file = file.expanduser()

    async def work(gateway: "Gateway") -> "Figures":
        with progress_bar("Pages") as progress:
            return await maintenance.back_up(gateway, file, force=force, progress=progress)

    held = with_gateway(config, work)
    if as_json:
        terminal.print_json({"file": str(file), "size_bytes": file.stat().st_size, **_figures(held)})
    else:
        terminal.print_line(f"{file}: {_megabytes(file.stat().st_size)}, verified")
        _show_figures(held)


def restore(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `voicegw backup` wrote.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also when its rows and its sums contradict each other.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Verify a backup and let it take the place of the store.

    Stop the servers and agents first: refused while one of them has the store open. The store stays beside the new one, as
    voicegw.db.before-restore-TIME. voicegw.yaml is left alone; `voicegw status` says how it differs from the journal now.
    """
    from voicegw_mcp.core import maintenance  # noqa: PLC0415 - as in prune()

    file = file.expanduser()

    async def work(gateway: "Gateway") -> "Restored":
        with progress_bar("Spans") as progress:
            return await maintenance.restore(gateway, file, force=force, progress=progress)

    done = with_gateway(config, work)
    if as_json:
        terminal.print_json(
            {
                "store": str(done.store),
                "kept": str(done.kept) if done.kept else None,
                "contradictions": len(_found(done.findings)),
                **_figures(done.held),
            }
        )
        return
    terminal.print_line(f"{done.store} is what {file} was.")
    _show_figures(done.held)
    if done.kept is not None:
        terminal.print_line(f"  before it: {done.kept}")
    if not done.findings.is_clean():
        terminal.print_line(f"  contradictions: {len(_found(done.findings))}; run `voicegw repair`")


def repair(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look only; change nothing.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Compare rows and sums of the store, and mend what differs.

    Each difference is told. When the file itself is damaged, every row that can be read is saved in a new store beside it,
    for `voicegw restore`, and the file stays as it is. The exit code is 1 when something is left to do.
    """
    from voicegw_mcp.core import maintenance  # noqa: PLC0415 - as in prune()

    async def work(gateway: "Gateway") -> "tuple[Path, Path, Repair]":
        with progress_bar("Spans") as progress:
            return await maintenance.mend(gateway, dry_run=dry_run, progress=progress)

    store, into, done = with_gateway(config, work)
    if as_json:
        terminal.print_json(_document(store, into, done, dry_run=dry_run))
    else:
        _show(store, into, done)
    if not done.is_clean() and (dry_run or done.saved is not None or done.lost_rows):
        raise typer.Exit(1)


def _document(store: Path, into: Path, done: "Repair", *, dry_run: bool) -> dict[str, Any]:
    findings = done.findings
    return {
        "store": str(store),
        "dry_run": dry_run,
        "clean": done.is_clean(),
        "structure_complaints": done.structure,
        "indexes_only": done.indexes,
        "saved": None
        if done.saved is None
        else {"file": str(into), "rows": done.saved.saved, "broken_off": done.saved.broken},
        "lost_rows": done.lost_rows,
        "mended": done.mended,
        "differences": None if findings is None else _found(findings),
    }


def _found(findings: "Findings") -> list[dict[str, Any]]:
    from voicegw_mcp.core.periods import iso  # noqa: PLC0415 - as in prune()

    def described(difference: "Difference") -> dict[str, Any]:
        cells = {key: value for key, value in asdict(difference).items() if key not in {"value", "bucket_ms"}}
        return {**cells, "start": iso(difference.bucket_ms, "UTC")}

    return [
        *map(described, findings.differences),
        *(
            {"table": table, "key": [*key], "remedy": "deleted: it can be none"}
            for table, key in findings.strays
        ),
        *(
            {"table": table, "key": [number], "remedy": "its name is lost"}
            for table, number in findings.nameless
        ),
    ]


def _show(store: Path, into: Path, done: "Repair") -> None:
    if done.is_clean():
        terminal.print_line(f"{store} is sound: structure, rows and sums agree.")
        return
    if done.structure:
        what = "indexes are damaged" if done.indexes else "the structure of the file is damaged"
        made = " and were made anew" if done.indexes and done.findings is not None else ""
        terminal.print_line(f"{store}: {what}{made}.")
    if done.saved is not None:
        terminal.print_line(f"What can be read is saved in {into}; the file is left as it is.")
        for table, count in done.saved.saved.items():
            broken = ", not to its end" if table in done.saved.broken else ""
            terminal.print_line(f"  {table}: {count:,} rows{broken}")
    if done.findings is not None:
        found = _found(done.findings)
        terminal.print_line(f"{len(found):,} cells {'mended' if done.mended else 'differ'}")
        for item in found[:MOST_SHOWN]:
            terminal.print_line(f"  {_line(item)}")
        if len(found) > MOST_SHOWN:
            terminal.print_line(f"  ... and {len(found) - MOST_SHOWN:,} more; --json has all")
    if done.lost_rows:
        terminal.print_line(f"{done.lost_rows:,} rows of the log are lost; the totals count them.")
    if done.saved is not None:
        terminal.print_line(f"Stop the servers, then: voicegw restore {into}")


def _line(item: dict[str, Any]) -> str:
    if "key" in item:
        return f"{item['table']} {item['key']}: {item['remedy']}"
    where = f"{item['table']} {item['start']} +{item['grain_s']} s, series {item['series_id']}"
    status = f", {item['status']}" if item["status"] else ""
    return f"{where}{status}: {item['stored']} -> {item['right']} ({_REMEDIES[item['remedy']]})"


def _figures(held: "Figures") -> dict[str, Any]:
    return {"requests": held.requests, "cost_usd": held.cost_nanousd / 1e9, "rows": held.counts}


def _show_figures(held: "Figures") -> None:
    from voicegw_mcp.cli.tables import money  # noqa: PLC0415 - as in prune()

    terminal.print_line(
        f"  {held.requests:,} requests, {money(held.cost_nanousd / 1e9)}; {held.counts['requests']:,} rows in the log, "
        f"{held.counts['changes']:,} changes"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
