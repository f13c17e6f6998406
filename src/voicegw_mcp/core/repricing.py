"""Works out the costs of stored requests anew, with the prices that are known now for each request's own day.

For prices that were not known when the requests were made, and for wrong ones. Running it twice changes nothing the second
time, so one that was interrupted is simply run again. May import ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from voicegw_mcp.core.charges import charge
from voicegw_mcp.domain import IMPORTED, NO_USAGE, Modality
from voicegw_mcp.errors import NotFound
from voicegw_mcp.store import repricing as log
from voicegw_mcp.store.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.pricing import PriceBook
    from voicegw_mcp.store.repricing import PricedRow, Repriced, Selection

OVERRIDE: Final = "override"


@dataclass
class Sums:
    """Requests that got another cost or price, and what they cost before and after, in nano-USD; unpriced ones cost 0."""

    requests: int = 0
    before_nanousd: int = 0
    after_nanousd: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0

    def add(self, change: Repriced) -> None:
        """Count a row."""
        self.requests += 1
        self.before_nanousd += change.row.cost_nanousd or 0
        self.after_nanousd += change.cost_nanousd or 0
        self.unpriced_before += change.row.cost_nanousd is None
        self.unpriced_after += change.cost_nanousd is None


@dataclass
class Outcome:
    """What a run did, or would do.

    Attributes:
        run: its id in the record of runs, "" for one that wrote nothing.
        examined: rows that were looked at.
        models: what changed, by model id.
        imported: rows that were left alone because another program worked out their cost.
        kept: rows that keep their cost because nobody knows a price of their model for their day now.
        unpriced: rows without a cost, of models that still have no price, by model id.
        pruned: requests whose rows are gone; sums count them as they were.
        pruned_before_ms: up to when, UTC epoch ms.
    """

    run: str = ""
    examined: int = 0
    models: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))
    imported: int = 0
    kept: int = 0
    unpriced: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    pruned: int = 0
    pruned_before_ms: int = 0

    def total(self) -> Sums:
        """Return the sums over all models."""
        return Sums(
            sum(each.requests for each in self.models.values()),
            sum(each.before_nanousd for each in self.models.values()),
            sum(each.after_nanousd for each in self.models.values()),
            sum(each.unpriced_before for each in self.models.values()),
            sum(each.unpriced_after for each in self.models.values()),
        )


async def reprice(
    gateway: Gateway,
    selection: Selection,
    *,
    imported: bool,
    dry_run: bool,
    progress: Callable[[int, int], None],
) -> Outcome:
    """Price the rows of a selection anew; others may read and write meanwhile.

    A row that has a cost keeps it when no price is known now, unless it was priced by an override that is gone.

    Args:
        gateway: whose store, prices and models.
        selection: which rows.
        imported: also those whose cost another program worked out, or of which no unit price was kept.
        dry_run: change nothing.
        progress: called with rows looked at and rows there are.

    Raises:
        NotFound: no request was ever made of the model.
        InvalidInput: ``pricing``: a price makes a request absurdly costly. What was changed before stays.
        StoreUnavailable, ConfigInvalid: the store cannot be read or written. What was changed before stays.
    """
    catalog, book = gateway.catalog(), gateway.prices()
    store = await gateway.store()
    if selection.model_id is not None and selection.model_id not in (
        known := await store.ask(log.recorded_models)
    ):
        raise NotFound("model", selection.model_id, known)
    outcome = Outcome(run="" if dry_run else new_id(gateway.now_ms()))
    first, last = await store.ask(log.numbers_of, selection)
    progress(0, last - first + 1)
    for start in range(first, last + 1, log.READ_ROWS):
        end = min(start + log.READ_ROWS - 1, last)
        rows = await store.ask(log.read_rows, selection, first=start, last=end)
        decide = partial(_changes, outcome, rows, catalog, book, imported=imported)
        changes = await anyio.to_thread.run_sync(decide)
        for offset in range(0, len(changes), log.BATCH_ROWS):
            done = changes[offset : offset + log.BATCH_ROWS]
            if not dry_run:
                write = partial(
                    log.apply,
                    changes=done,
                    run=outcome.run,
                    actor=gateway.caller.actor,
                    now_ms=gateway.now_ms(),
                )
                done = await store.write(write)
            for change in done:
                outcome.models[change.row.model_id].add(change)
        progress(end - first + 1, last - first + 1)
    outcome.pruned, outcome.pruned_before_ms = await store.ask(log.read_pruned, selection)
    return outcome


def _changes(
    outcome: Outcome, rows: Sequence[PricedRow], catalog: Catalog, book: PriceBook, *, imported: bool
) -> list[Repriced]:
    """Return the rows that have another cost or price now; counts the others."""
    changes: list[Repriced] = []
    for row in rows:
        outcome.examined += 1
        usage = row.usage()
        if usage == NO_USAGE:
            continue
        if not imported and _is_foreign(row):
            outcome.imported += 1
            continue
        provider_type, model_name = _names(catalog, row)
        billed = charge(
            book,
            usage,
            modality=Modality(row.modality),
            provider_type=provider_type,
            model_id=row.model_id,
            model_name=model_name,
            at_ms=row.timestamp_ms,
            batch=bool(row.price_batch),
        )
        if billed.cost_nanousd is None:
            if row.cost_nanousd is not None and row.price_source != OVERRIDE:
                outcome.kept += 1
                continue
            outcome.unpriced[row.model_id] += 1
            if row.cost_nanousd is None:
                continue
        # A newer version or a later check of the same price is no news.
        if (billed.cost_nanousd, billed.price_source, billed.price_model, billed.price_terms) != (
            row.cost_nanousd,
            row.price_source,
            row.price_model,
            row.price_terms,
        ):
            changes.append(log.Repriced(row, billed.cost_nanousd, billed[1:]))
    return changes


def _is_foreign(row: PricedRow) -> bool:
    """Say whether the cost is another program's: marked so, or from before unit prices were kept."""
    return row.price_version == IMPORTED or (not row.price_terms and bool(row.cost_nanousd))


def _names(catalog: Catalog, row: PricedRow) -> tuple[str, str]:
    """Return the provider's type and its own name of the model, as they are configured now, else as the ids say."""
    entry = catalog.models.get(row.model_id)
    project = catalog.projects.get(row.project)
    own = project.settings.providers.get(row.provider) if project else None
    shared = catalog.providers.get(row.provider)
    provider_type = (own and own.type) or (shared.type_name if shared else row.provider)
    if entry is not None and entry.provider_id == row.provider:
        return provider_type, entry.model_name
    return provider_type, row.model_id.removeprefix(f"{row.provider}/")
