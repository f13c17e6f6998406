"""What one request costs and by which price, as its row of the log keeps it: the same when it is recorded and when it is priced anew.

May import ``domain`` and ``core.pricing``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from voicegw_mcp.core.pricing import cost_of
from voicegw_mcp.domain import NO_USAGE, Modality, Usage

if TYPE_CHECKING:
    from voicegw_mcp.core.pricing import PriceBook


class Charge(NamedTuple):
    """The fields of a ``RequestRecord`` of these names. ``cost_nanousd`` None is unpriced.

    ``price_batch`` says that a whole recording was transcribed, which has a price of its own at some providers.
    """

    cost_nanousd: int | None = None
    price_source: str = ""
    price_date: str = ""
    price_version: str = ""
    price_model: str = ""
    price_terms: str = ""
    price_batch: bool = False


def charge(
    book: PriceBook,
    usage: Usage,
    *,
    modality: Modality,
    provider_type: str,
    model_id: str,
    model_name: str,
    at_ms: int,
    batch: bool = False,
) -> Charge:
    """Return what ``usage`` costs by the price of its day; nothing costs 0, whatever its price.

    Takes 0.2 s when it is the first to load a price library: not on an event loop.

    Args:
        book: own and published prices.
        usage: what was consumed.
        modality, provider_type, model_id, model_name, at_ms: as for ``find_price``.
        batch: whether a whole recording was transcribed: voice-prices has its price, where it is another one than that of
            streaming, under ``NAME-batch``.
    """
    if usage == NO_USAGE:
        return Charge(0)
    find = partial(book.find, modality=modality, provider_type=provider_type, model_id=model_id, at_ms=at_ms)
    price = find(model_name=f"{model_name}-batch") if batch else None
    if price is None or price.match != "exact":
        price = find(model_name=model_name)
    cost = None if price is None else cost_of(price, usage)
    if price is None or cost is None:  # nobody knows it, or only in other units
        return Charge(price_batch=batch)
    return Charge(
        cost,
        price.label,
        price.date,
        price.version,
        price.priced_model,
        price.terms,
        batch,
    )
