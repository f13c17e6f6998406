"""The recorder of a gateway, and what get_health tells of rows that recorders lost. May import ``core`` and ``store``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from voicegw_mcp.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.losses import Loss


def open_recorder(gateway: Gateway) -> Recorder | None:
    """Return a recorder into the gateway's store, None where ``observability.request_logging`` is off.

    The store is the one the gateway reads (``VOICEGW_DB_PATH``, ``cost_tracking.db_path``, the default); it is opened with
    the first row. ``cost_tracking.enabled`` turns nothing off here: there always is a store.

    Raises:
        ConfigInvalid: the file is broken, so nobody knows where the store is.
        StoreUnavailable: what it names as store is no path.
    """
    if not gateway.catalog().settings.observability.request_logging:
        return None
    return Recorder(gateway.store_handle.wanted_path(), now_ms=gateway.now_ms)


def describe_losses(losses: Iterable[Loss]) -> list[str]:
    """Return one sentence for each process that lost rows, the most recent first."""
    by_process: dict[tuple[str, int], list[Loss]] = {}
    for loss in losses:
        by_process.setdefault((loss.host, loss.pid), []).append(loss)
    return [_describe(host, pid, told) for (host, pid), told in by_process.items()]


def _describe(host: str, pid: int, losses: list[Loss]) -> str:
    total = sum(loss.requests for loss in losses)
    reasons = "; ".join(f"{loss.requests}: {loss.reason}" for loss in losses)
    # A clock that was put back has a first that is later than its last.
    moments = [ms for loss in losses for ms in (loss.first_ms, loss.last_ms)]
    since, until = (
        dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for ms in (min(moments), max(moments))
    )
    requests = "1 request was" if total == 1 else f"{total} requests were"
    return (
        f"{requests} not recorded by process {pid} on {host}, {since} to {until} ({reasons}): "
        "costs and counts of that time are too low."
    )
