"""What is odd about prices, for ``voicegw check``: models nobody knows a price of, and own prices that say less than they seem to.

May import ``config``, ``domain`` and ``core``.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Final

from voicegw_mcp.config.parse import Problem
from voicegw_mcp.core.models import price_of
from voicegw_mcp.domain import Modality

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.pricing import UnitPrices

EXAMPLES: Final = {
    Modality.STT: "{per_minute: 0.006}",
    Modality.LLM: "{per_million_input_tokens: 0.20, per_million_output_tokens: 0.60}",
    Modality.TTS: "{per_1000_characters: 0.05}",
}
"""How an own price is written, with figures that stand for the user's."""


async def check_prices(gateway: Gateway) -> list[Problem]:
    """Return a warning for each enabled model without a price, and for each own price that will not do what it seems to.

    Raises:
        ConfigInvalid: the file is broken and was never good in this process.
    """
    catalog = gateway.catalog()
    found = list(_odd_overrides(catalog, dt.datetime.fromtimestamp(gateway.now_ms() / 1000, dt.UTC).date()))
    for entry in catalog.models.values():
        usable = entry.settings.enabled and entry.provider_id in catalog.providers
        price = await price_of(gateway, catalog, entry) if usable else None
        if usable and (price is None or not _bills(price, entry.modality)):
            line = f"{json.dumps(entry.id, ensure_ascii=False)}: {EXAMPLES[entry.modality]}"
            found.append(
                catalog.problem(
                    ("models", entry.modality, entry.id),
                    "no price is known in the unit of its requests: they are counted as unpriced",
                    f"Write your own in USD under pricing:, such as  {line}  and run `voicegw reprice --unpriced-only`.",
                )
            )
    return found


def _odd_overrides(catalog: Catalog, today: dt.date) -> Iterator[Problem]:
    for model_id, prices in catalog.settings.pricing.items():
        entry = catalog.models.get(model_id)
        if entry is None and not any(model_id.startswith(f"{each}/") for each in catalog.providers):
            yield catalog.problem(
                ("pricing", model_id),
                "is a price of a model of no configured provider",
                "Own prices go by the model's id, as list_models shows it.",
            )
        listed = isinstance(catalog.configuration.data.get("pricing", {}).get(model_id), list)
        for number, price in enumerate(prices):
            path = ("pricing", model_id, number) if listed else ("pricing", model_id)
            if price.effective is not None and price.effective > today:
                yield catalog.problem(path, f"holds from {price.effective} on, which is to come", "")


def _bills(price: UnitPrices, modality: Modality) -> bool:
    """Say whether a price covers what requests are measured in: minutes, tokens in and out, characters."""
    by_token = None not in (price.usd_per_million_input_tokens, price.usd_per_million_output_tokens)
    if modality is Modality.STT:
        return price.usd_per_minute is not None
    return by_token or (modality is Modality.TTS and price.usd_per_1000_characters is not None)
