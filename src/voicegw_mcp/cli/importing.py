"""``voicegw import``: a VoiceGateway store's rows into the log, its entries into voicegw.yaml after a look at the diff.

May import typer, rich, ``core.imports`` and ``cli``.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import with_gateway
from voicegw_mcp.cli.options import AsJson, Config
from voicegw_mcp.cli.progress import progress_bar
from voicegw_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from voicegw_mcp.core.changes import Receipt
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.imports import EntryPlan, RequestImport

UNCONFIRMED = "The entries are not written: look at the diff and repeat with --yes, or with --requests-only to leave them out."


@dataclass(frozen=True)
class _Found:
    """What a first pass over the source gave; rows are copied already unless it was a dry run."""

    rows: int
    requests: "RequestImport | None"
    entries: "EntryPlan | None"
    receipt: "Receipt | None"


def import_store(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The store of VoiceGateway 0.0 to 0.27, an SQLite file.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write the entries without asking.")] = False,
    requests_only: Annotated[
        bool, typer.Option("--requests-only", help="Copy the request log only, leave voicegw.yaml alone.")
    ] = False,
    entries_only: Annotated[
        bool,
        typer.Option("--entries-only", help="Add providers, models and projects only, leave the log alone."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, write nothing.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Import a VoiceGateway store.

    Repeating it adds only what is new. Request rows are copied into the log. Providers, models and projects that were managed in the store become entries of
    voicegw.yaml, as one change that is shown and asked for first; keys become references and are never copied.
    """
    if requests_only and entries_only:
        raise InvalidInput(
            "--requests-only and --entries-only exclude each other.", hint="Pass one of them, or none."
        )
    file = file.expanduser()
    found = with_gateway(
        config,
        lambda gateway: _survey(
            gateway, file, requests=not entries_only, entries=not requests_only, dry_run=dry_run
        ),
    )
    diff = found.receipt.diff if found.receipt is not None else ""
    if not as_json:
        terminal.print_diff(diff)
    wanted = found.receipt is not None and not dry_run
    agreed = wanted and (yes or (not as_json and terminal.is_terminal() and _asked(found.receipt)))
    written = with_gateway(config, lambda gateway: _write(gateway, file, found.receipt)) if agreed else None
    if as_json:
        terminal.print_json(_document(found, written, dry_run=dry_run, unconfirmed=wanted and not agreed))
    else:
        _show_summary(found, written, dry_run=dry_run)
    if wanted and not agreed:
        if not as_json:
            sys.stdout.flush()
            sys.stderr.write(f"voicegw: {UNCONFIRMED}\n")
        raise typer.Exit(1)


async def _survey(gateway: "Gateway", file: Path, *, requests: bool, entries: bool, dry_run: bool) -> _Found:
    """Copy the rows (unless it is a dry run) and work out the entries without writing them."""
    import anyio  # noqa: PLC0415 - loaded when the command runs

    from voicegw_mcp.core import imports  # noqa: PLC0415 - likewise

    async with imports.open_source(file) as source:
        rows = await anyio.to_thread.run_sync(source.count_requests) if requests else 0
        plan, receipt = (
            await imports.import_entries(gateway, source, dry_run=True) if entries else (None, None)
        )
        copied = None
        if requests and not dry_run:
            with progress_bar("Requests") as progress:
                copied = await imports.import_requests(gateway, source, progress=progress)
    return _Found(rows, copied, plan, receipt)


async def _write(gateway: "Gateway", file: Path, shown: "Receipt | None") -> "Receipt | None":
    """Write the entries as they were shown: refused when the configuration changed since."""
    from voicegw_mcp.core import imports  # noqa: PLC0415 - as in _survey()

    version = shown.config_version if shown is not None else None
    async with imports.open_source(file) as source:
        return (await imports.import_entries(gateway, source, dry_run=False, if_version=version))[1]


def _asked(receipt: "Receipt | None") -> bool:
    # Not typer.confirm, which makes Ctrl-C the same as no.
    answer = input(f"Write this into {terminal.shown(receipt.file if receipt else '')}? [y/N] ")
    return answer.strip().lower() in {"y", "yes"}


def _document(
    found: _Found, written: "Receipt | None", *, dry_run: bool, unconfirmed: bool
) -> dict[str, Any]:
    document: dict[str, Any] = {"dry_run": dry_run}
    if found.requests is not None:
        document["requests"] = {**asdict(found.requests), "cost_usd": found.requests.cost_nanousd / 1e9}
    elif (dry_run and found.entries is None) or found.rows:
        document["requests"] = {"read": found.rows}
    if found.entries is not None:
        document["entries"] = {
            "added": list(found.entries.added),
            "kept": list(found.entries.kept),
            "skipped": [asdict(entry) for entry in found.entries.skipped],
            "secrets": list(found.entries.secrets),
            "diff": found.receipt.diff if found.receipt else "",
            "written": written is not None,
        }
        if written is not None:
            document["entries"] |= {"change_id": written.change_id, "file": written.file}
    if unconfirmed:
        document["hint"] = UNCONFIRMED
    return document


def _show_summary(found: _Found, written: "Receipt | None", *, dry_run: bool) -> None:
    from voicegw_mcp.cli.tables import money  # noqa: PLC0415 - as in _survey()

    if found.requests is not None:
        done = found.requests
        terminal.print_line(
            f"Requests: {done.read:,} read, {done.added:,} added, {done.known:,} known already"
        )
        for reason, count in done.skipped.items():
            terminal.print_line(f"  skipped {count:,}: {reason}")
        terminal.print_line(f"  cost of those added and known: {money(done.cost_nanousd / 1e9)}")
    elif dry_run and found.rows:
        terminal.print_line(f"Requests: {found.rows:,} would be read")
    entries = found.entries
    if entries is None:
        return
    verb = "added" if written is not None else "to add"
    terminal.print_line(
        f"Entries: {len(entries.added)} {verb}, {len(entries.kept)} kept, {len(entries.skipped)} skipped"
    )
    for name in entries.added:
        terminal.print_line(f"  {verb}: {name}")
    for name in entries.kept:
        terminal.print_line(f"  kept as it is in the file: {name}")
    for entry in entries.skipped:
        terminal.print_line(f"  skipped {entry.kind} {entry.id}: {entry.reason}")
    if entries.secrets:
        terminal.print_line("Keys are not copied. Set them:")
        for name in entries.secrets:
            terminal.print_line(f"  voicegw secrets set {name}")
