"""How the gateway is: the one report that answers whatever is broken. May import ``config``, ``store``, ``core``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from voicegw_mcp import __version__
from voicegw_mcp.config.parse import problems_in
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.periods import iso
from voicegw_mcp.core.providers import missing_key
from voicegw_mcp.core.recording import describe_losses
from voicegw_mcp.errors import ConfigInvalid, GatewayError
from voicegw_mcp.store.losses import KEPT_MS
from voicegw_mcp.store.rollups import recorded_requests

if TYPE_CHECKING:
    from voicegw_mcp.config.file import ConfigFile
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.store_handle import Figures
    from voicegw_mcp.store.losses import Loss

MAX_WARNINGS = 20
_FAST_MS = 3_600_000
"""A clock may be so fast without being told of."""


class Observability(Answer):
    """What the inference side records."""

    latency_tracking: bool = True
    cost_tracking: bool = True
    request_logging: bool = True


class ConfigError(Answer):
    """Why the file on disk is not in force."""

    message: str
    file: str
    line: int
    column: int


class ConfigHealth(Answer):
    """The file, the version in force, what is wrong with the one on disk, and how it differs from the journal."""

    path: str
    version: str
    overlay: bool
    error: ConfigError | None = None
    journal: str | None = None


class StoreHealth(Answer):
    """The store; ``error`` says why it cannot be used now."""

    kind: str
    path: str
    rows: int | None = None
    size_bytes: int | None = None
    error: str | None = None


class Health(Answer):
    """Answer of get_health; ``status`` is ok only when file and store can be read and written."""

    version: str
    uptime_seconds: float
    status: Literal["ok", "degraded"]
    db_configured: bool
    project_count: int
    provider_count: int
    model_count: int
    observability: Observability
    config: ConfigHealth
    store: StoreHealth
    instance_id: str
    warnings: list[str]


async def health(gateway: Gateway) -> Health:
    """Return the state of file and store. Never raises for what it reports on."""
    catalog, config_error = _load(gateway)
    store, wanted, figures = await _store_health(gateway)
    earliest = gateway.now_ms() - KEPT_MS
    losses = [loss for loss in figures.losses if loss.last_ms >= earliest] if figures else []
    version = catalog.configuration.version if catalog else ""
    return Health(
        version=__version__,
        uptime_seconds=round(time.monotonic() - gateway.started_s, 3),
        status="degraded" if config_error or store.error else "ok",
        db_configured=True,
        project_count=len(catalog.projects) if catalog else 0,
        provider_count=len(catalog.providers) if catalog else 0,
        model_count=len(catalog.models) if catalog else 0,
        observability=Observability.model_validate(catalog.settings.observability, from_attributes=True)
        if catalog
        else Observability(),
        config=ConfigHealth(
            path=str(gateway.config_file.path),
            version=version,
            overlay=bool(gateway.config_file.obstacle())
            or (catalog is not None and catalog.configuration.overlay is not None),
            error=_describe(config_error),
            journal=(figures.drift or None) if figures else None,
        ),
        store=store,
        instance_id=gateway.instance_id,
        warnings=[
            *_ahead(figures.last_ms if figures else 0, gateway.now_ms()),
            *_warnings(gateway, catalog, config_error, store, wanted, losses=losses),
        ],
    )


def explain_obstacle(files: ConfigFile, obstacle: str) -> str:
    """Say where changes go when ``voicegw.yaml`` takes none."""
    place = files.overlay.path if files.overlay else "an overlay"
    return f"{files.path.name} takes no changes here: {obstacle}. They go to {place}; entries of {files.path.name} are read-only."


def explain_save(path: str) -> str:
    """Say what a file is that keeps somebody's save."""
    return (
        f"{path} keeps what somebody saved while a change was written, and somebody else replaced before it could be "
        "put back. Compare it with the file, then delete it."
    )


def _ahead(last_ms: int, now_ms: int) -> list[str]:
    if last_ms <= now_ms + _FAST_MS:
        return []
    until = iso(last_ms, "UTC")
    told = f"Requests of times up to {until} are recorded, in the future: the clock of a process that records ran ahead."
    return [f"{told} They are in `today` when their time has come, and in `all` now."]


def _load(gateway: Gateway) -> tuple[Catalog | None, ConfigInvalid | None]:
    try:
        catalog, error = gateway.catalog(), gateway.config_file.error
    except ConfigInvalid as error:
        return None, error
    return catalog, error and gateway.told(error)


async def _store_health(gateway: Gateway) -> tuple[StoreHealth, str, Figures | None]:
    """Return the store's state, the path that was configured for it, and what only who sees all projects is told."""
    handle = gateway.store_handle
    wanted, figures = "", None
    try:
        wanted = str(handle.wanted_path())
        if gateway.caller.access.projects is None:
            figures = await handle.figures(gateway.config_file)
            path, rows, size = figures.path, figures.requests, figures.size_bytes
        else:
            reader = await gateway.reader()
            path, rows, size = reader.path, await reader.ask(recorded_requests), None
        return StoreHealth(kind="sqlite", path=str(path), rows=rows, size_bytes=size), wanted, figures
    except GatewayError as error:
        told = f"{error.message} {error.hint}".strip()
        return StoreHealth(kind="sqlite", path=wanted, error=told), wanted, None


def _describe(error: ConfigInvalid | None) -> ConfigError | None:
    if error is None:
        return None
    first = problems_in(error)[0]
    return ConfigError(
        message=f"{error.message} {error.hint}".strip(),
        file=error.details["file"],
        line=first.line,
        column=first.column,
    )


def _warnings(
    gateway: Gateway,
    catalog: Catalog | None,
    config_error: ConfigInvalid | None,
    store: StoreHealth,
    wanted: str,
    *,
    losses: list[Loss],
) -> list[str]:
    found = describe_losses(losses)
    obstacle = gateway.config_file.obstacle()
    if obstacle:
        found.append(explain_obstacle(gateway.config_file, obstacle))
    found += [explain_save(path) for path in gateway.config_file.saves()]
    if config_error is not None:
        state = "the last good version stays in force" if catalog else "no configuration is in force"
        found.append(f"{Path(config_error.details['file']).name} is broken: {state}; writing tools refuse.")
    if config_error is None and not gateway.config_file.exists:
        change = "" if gateway.store_handle.read_only else " or the first change"
        found.append(f"There is no {gateway.config_file.path} yet: `voicegw init`{change} makes it.")
    if wanted != store.path:
        found.append(
            f"{wanted} is a VoiceGateway store and is left alone; "
            f"`voicegw import {wanted}` copies it into {store.path}."
        )
    if catalog is not None:
        problems = [*catalog.notes, *catalog.warnings]
        found += [
            f"{Path(item.file or gateway.config_file.path).name}:{item.line}: {item.path} {item.message}. {item.hint}".rstrip()
            for item in problems
        ]
        for entry in catalog.providers.values():
            reference = entry.key_reference
            if reference is None or entry.provider_type is None or not entry.settings.enabled:
                continue
            reason = missing_key(entry, gateway.secrets.look_up(reference))
            if reason:
                found.append(f"Provider {entry.id} is not configured: {reason}.")
    more = len(found) - MAX_WARNINGS
    return found if more <= 0 else [*found[:MAX_WARNINGS], f"... and {more} more; `voicegw check` lists all."]
