"""``voicegw reprice``: what stored requests cost, worked out anew with the prices known now.

May import typer, rich, ``core`` and ``cli``.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from voicegw_mcp.cli import terminal
from voicegw_mcp.cli.opening import with_gateway
from voicegw_mcp.cli.options import AsJson, Config
from voicegw_mcp.cli.progress import progress_bar
from voicegw_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.repricing import Outcome, Sums
    from voicegw_mcp.store.repricing import Run

TIME = "ISO 8601 date or time, in the time zone of the file unless it has an offset"
MOST_RUNS = 50


def reprice(
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help=f"Requests from then on: {TIME}.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Requests before then; a date includes its day."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="ID", help="Requests of this model only.")
    ] = None,
    unpriced_only: Annotated[
        bool, typer.Option("--unpriced-only", help="Requests without a cost only.")
    ] = False,
    imported: Annotated[
        bool,
        typer.Option("--imported", help="Also requests whose cost VoiceGateway worked out (voicegw import)."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would change, write nothing.")
    ] = False,
    runs: Annotated[
        bool, typer.Option("--runs", help="List what earlier runs changed and when; change nothing.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Work out the costs of stored requests anew, each with the price of its own day.

    Own prices of the file go first, then the published ones. Servers and agents may go on. One that was interrupted is run
    again: what is right already is left alone. Pruned requests cannot be priced anew.
    """
    if runs:
        _list_runs(config, as_json=as_json)
        return

    async def work(gateway: "Gateway") -> "Outcome":
        from voicegw_mcp.core import repricing  # noqa: PLC0415 - loaded when the command runs
        from voicegw_mcp.core.periods import resolve_moments  # noqa: PLC0415 - likewise
        from voicegw_mcp.store.repricing import Selection  # noqa: PLC0415 - likewise

        start, end = resolve_moments(
            start=since, end=until, timezone=gateway.catalog().settings.timezone, names=("since", "until")
        )
        selection = Selection(start, end, model, unpriced_only)
        with progress_bar("Rows") as progress:
            return await repricing.reprice(
                gateway, selection, imported=imported, dry_run=dry_run, progress=progress
            )

    if model is not None and not model.strip():
        raise InvalidInput("--model is empty.", field="model", hint="Name a model's id, or leave it out.")
    done = with_gateway(config, work)
    if as_json:
        terminal.print_json(_document(done, dry_run=dry_run))
    else:
        _show(done, dry_run=dry_run)


def _list_runs(config: str | None, *, as_json: bool) -> None:
    async def work(gateway: "Gateway") -> "list[Run]":
        from voicegw_mcp.store.repricing import read_runs  # noqa: PLC0415 - as in reprice()

        store = await gateway.store()
        return await store.ask(read_runs, limit=MOST_RUNS)

    from voicegw_mcp.cli.tables import Column, money, print_table  # noqa: PLC0415 - as in reprice()
    from voicegw_mcp.core.periods import iso  # noqa: PLC0415 - likewise

    found = with_gateway(config, work)
    if as_json:
        terminal.print_json(
            {
                "runs": [
                    {
                        "run": each.run,
                        "model_id": each.model_id,
                        "actor": each.actor,
                        "first": iso(each.first_ms, "UTC"),
                        "last": iso(each.last_ms, "UTC"),
                        **_sums(each),
                    }
                    for each in found
                ]
            }
        )
        return
    if not found:
        terminal.print_line("No run has changed a cost.")
        return
    print_table(
        [
            Column("Time (UTC)"),
            Column("Model"),
            Column("Requests", 1, "right"),
            Column("Before", align="right"),
            Column("After", align="right"),
            Column("By", 2),
        ],
        [
            (
                iso(each.last_ms, "UTC"),
                each.model_id,
                f"{each.requests:,}",
                money(each.before_nanousd / 1e9),
                money(each.after_nanousd / 1e9),
                each.actor,
            )
            for each in found
        ],
    )


def _sums(sums: "Sums | Run") -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "before_usd": sums.before_nanousd / 1e9,
        "after_usd": sums.after_nanousd / 1e9,
        "unpriced_before": sums.unpriced_before,
        "unpriced_after": sums.unpriced_after,
    }


def _document(done: "Outcome", *, dry_run: bool) -> dict[str, Any]:
    from voicegw_mcp.core.periods import iso  # noqa: PLC0415 - as in reprice()

    return {
        "dry_run": dry_run,
        "run": done.run if done.models and not dry_run else None,
        "examined": done.examined,
        "changed": _sums(done.total()),
        "by_model": {model_id: _sums(sums) for model_id, sums in sorted(done.models.items())},
        "imported_left": done.imported,
        "kept_without_price": done.kept,
        "still_unpriced": dict(sorted(done.unpriced.items())),
        "pruned": done.pruned,
        "pruned_before": iso(done.pruned_before_ms, "UTC") if done.pruned_before_ms else None,
    }


def _show(done: "Outcome", *, dry_run: bool) -> None:
    from voicegw_mcp.cli.tables import Column, money, print_table  # noqa: PLC0415 - as in reprice()
    from voicegw_mcp.core.periods import iso  # noqa: PLC0415 - likewise

    total, verb = done.total(), "would change" if dry_run else "changed"
    terminal.print_line(
        f"{done.examined:,} rows looked at, {total.requests:,} {verb}: "
        f"{money(total.before_nanousd / 1e9)} -> {money(total.after_nanousd / 1e9)}",
        style="bold",
    )
    if done.models:
        print_table(
            [
                Column("Model"),
                Column("Requests", align="right"),
                Column("Before", align="right"),
                Column("After", align="right"),
                Column("Unpriced before", 1, "right"),
                Column("after", 1, "right"),
            ],
            [
                (
                    model_id,
                    f"{sums.requests:,}",
                    money(sums.before_nanousd / 1e9),
                    money(sums.after_nanousd / 1e9),
                    f"{sums.unpriced_before:,}",
                    f"{sums.unpriced_after:,}",
                )
                for model_id, sums in sorted(done.models.items())
            ],
        )
    for model_id, count in sorted(done.unpriced.items()):
        terminal.print_line(
            f"{count:,} requests of {terminal.shown(model_id)} still have no price: add one under pricing: and run this again."
        )
    if done.kept:
        terminal.print_line(
            f"Rows that keep their cost, because no price is known for them now: {done.kept:,}."
        )
    if done.imported:
        terminal.print_line(
            f"Rows left with the cost they were imported or stored with: {done.imported:,}; --imported prices them too."
        )
    if done.pruned:
        terminal.print_line(
            f"{done.pruned:,} requests from before {iso(done.pruned_before_ms, 'UTC')} have no row any more: "
            "they stay in the totals with the cost they had."
        )
