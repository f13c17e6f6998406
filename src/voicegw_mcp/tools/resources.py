"""What a host can read without a call: configuration, log, journal, alerts, prices. May import ``core`` and ``store``.

Resources are values like tools: an address, texts and one async function that returns JSON-like data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from voicegw_mcp.config.redaction import hide_secrets
from voicegw_mcp.core import alerts, models
from voicegw_mcp.core.models import PriceView
from voicegw_mcp.store import changes as journal
from voicegw_mcp.tools.history import newest_views, view_change
from voicegw_mcp.tools.observe import GetLogs, get_logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from voicegw_mcp.core.gateway import Gateway

SHOWN = 50
"""Rows of the log and of the journal that a resource shows."""


@dataclass(frozen=True)
class Resource:
    """One resource. ``parameter`` is the name of the last part of ``uri`` when that is a template.

    ``kept_in`` is where what it shows is written down: a change of it is a change there.
    """

    uri: str
    name: str
    description: str
    read: Callable[[Gateway, str], Awaitable[Any]]
    kept_in: Literal["file", "store"]
    parameter: str = ""
    complete: Callable[[Gateway, str], Awaitable[list[str]]] | None = None

    @property
    def template(self) -> str:
        """The address with its parameter in braces (RFC 6570)."""
        return f"{self.uri}{{{self.parameter}}}"

    def argument_of(self, uri: str) -> str | None:
        """Return the parameter's value in ``uri`` ("" without one), None when ``uri`` is another resource's."""
        if not self.parameter:
            return "" if uri == self.uri else None
        return uri.removeprefix(self.uri) or None if uri.startswith(self.uri) else None


async def read_config(gateway: Gateway, _: str) -> dict[str, Any]:
    """Return the file's data with references in place of keys, and its version."""
    gateway.caller.access.require_all_projects("The configuration as a whole")
    configuration = gateway.catalog().configuration
    data = hide_secrets(configuration.data)
    return {"file": str(configuration.path), "config_version": configuration.version, "data": data}


async def read_logs(gateway: Gateway, _: str) -> dict[str, Any]:
    """Return the newest rows of the request log."""
    return (await get_logs.run(gateway, GetLogs(limit=SHOWN))).as_json()


async def read_changes(gateway: Gateway, _: str) -> dict[str, Any]:
    """Return the newest rows of the journal, without their diffs."""
    store = await gateway.store()
    views = [view.as_json() for view in await store.ask(newest_views, limit=SHOWN)]
    return {"changes": views, "count": len(views)}


async def read_change(gateway: Gateway, change_id: str) -> dict[str, Any]:
    """Return one row of the journal with its diff.

    Raises:
        InvalidInput: there is no such change.
    """
    return (await view_change(gateway, change_id)).as_json()


async def complete_change_id(gateway: Gateway, typed: str) -> list[str]:
    """Return the ids of the newest changes that begin with what was typed."""
    store = await gateway.store()
    rows = await store.ask(journal.list_changes, limit=SHOWN)
    return [row.id for row in rows if row.id.startswith(typed)]


async def read_prices(gateway: Gateway, _: str) -> dict[str, Any]:
    """Return the price of every model, and the ids of those nobody knows a price of."""
    catalog = gateway.catalog()
    prices = {entry.id: await models.price_of(gateway, catalog, entry) for entry in catalog.models.values()}
    known = {model_id: PriceView.of(price).as_json() for model_id, price in prices.items() if price}
    return {"currency": "USD", "prices": known, "unpriced": sorted(set(prices) - set(known))}


async def read_alerts(gateway: Gateway, _: str) -> dict[str, Any]:
    """Return the newest alerts; of a caller who is bound to projects, those about them."""
    reader = await gateway.reader()
    found = [alert.as_json() for alert in await reader.ask(alerts.newest, limit=SHOWN)]
    return {"alerts": found, "count": len(found)}


RESOURCES = (
    Resource(
        "voicegw://config",
        "config",
        "voicegw.yaml as data, with references instead of keys",
        read_config,
        "file",
    ),
    Resource("voicegw://logs", "logs", f"The newest {SHOWN} requests", read_logs, "store"),
    Resource(
        "voicegw://changes", "changes", f"The newest {SHOWN} changes of voicegw.yaml", read_changes, "store"
    ),
    Resource(
        "voicegw://changes/",
        "change",
        "One change with its diff",
        read_change,
        "store",
        "id",
        complete_change_id,
    ),
    Resource(
        "voicegw://alerts",
        "alerts",
        f"The newest {SHOWN} alerts: budgets, error rates and latencies over their thresholds",
        read_alerts,
        "store",
    ),
    Resource("voicegw://prices", "prices", "Price of every model with source and date", read_prices, "file"),
)
