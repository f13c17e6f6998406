"""The gateway: one configuration file and one store, shared by every door. Handlers get it as first argument.

May import ``config``, ``store``, ``domain``, ``errors`` and ``core``. Making one opens nothing: the file is read and
the store opened when a call needs them, so that a broken file or a locked store never keeps a server from starting.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import secrets as random
import time
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from voicegw_mcp.config.file import ConfigFile, find_config
from voicegw_mcp.config.overlay import FILE_NAME
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.config.values import is_map
from voicegw_mcp.core.access import EVERYTHING, Access
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.core.pricing import PriceBook, PriceOverride
from voicegw_mcp.core.recovery import Drift, describe_drift, recover
from voicegw_mcp.errors import StoreUnavailable, quote
from voicegw_mcp.store.rollups import recorded_requests
from voicegw_mcp.store.sqlite import Stamp, Store, choose_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from voicegw_mcp.config.schema import Settings


DEFAULT_STORE: Final = "~/.config/voicegateway/voicegw.db"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the door (``stdio``, ``http``, ``cli``), a name to write into the journal, and what he may do."""

    door: str
    actor: str
    access: Access = EVERYTHING


class StoreHandle:
    """Opens the store when it is first needed, again after a failure, and elsewhere when its path changed.

    Args:
        read_path: gives the path to open; raises ConfigInvalid while it cannot be known.
        opened: what to do with a store before it is used.
    """

    def __init__(
        self, read_path: Callable[[], Path], opened: Callable[[Store], Awaitable[None]] | None = None
    ) -> None:
        self._read_path = read_path
        self._opened = opened
        self._opening = anyio.Lock()
        self._store: Store | None = None
        self._asked: Path | None = None
        self._counted: tuple[Stamp | None, int] = (None, 0)
        self._drift: Drift | None = None
        self._attempt = 0
        self._failure: StoreUnavailable | None = None

    def wanted_path(self) -> Path:
        """Return the path the configuration and environment name."""
        return self._read_path()

    async def counted(self, store: Store) -> tuple[int, int]:
        """Return how many requests the open store ever recorded, and its bytes; counts again only when it changed."""
        stamp = store.stamp()
        if stamp != self._counted[0]:
            self._counted = stamp if stamp.is_settled() else None, await recorded_requests(store)
        return self._counted[1], stamp.size_bytes()

    async def drift(self, files: ConfigFile) -> str:
        """Return how the file differs from the journal of the open store; looks again only when one of them changed."""
        store = await self.get()
        key = (store.stamp(), files.stamps_read())
        if self._drift is None or self._drift.key != key:
            self._drift = await describe_drift(store, files.disks(), key, self._drift)
        return self._drift.text

    async def get(self) -> Store:
        """Return the open store.

        Raises:
            StoreUnavailable: it is locked, damaged, or newer than this program; the next call tries again.
        """
        path = self._read_path()
        if self._store is not None and path == self._asked:
            return self._store
        attempt = self._attempt
        async with self._opening:
            if self._store is None or path != self._asked:
                if attempt != self._attempt and self._failure is not None:
                    # Someone failed while we waited; one more span of patience each would add up.
                    raise _again(self._failure)
                return await self._open(path)
        return self._store

    async def _open(self, path: Path) -> Store:
        await self._close()
        self._attempt, self._failure = self._attempt + 1, None
        try:
            store = await Store.open(await anyio.to_thread.run_sync(choose_path, path))
            if self._opened is not None:
                try:
                    await self._opened(store)
                except BaseException:
                    await store.close()
                    raise
        except StoreUnavailable as error:
            self._failure = error
            raise
        self._store, self._asked = store, path
        return store

    async def close(self) -> None:
        """Close it; closing twice is fine."""
        async with self._opening:
            await self._close()

    async def _close(self) -> None:
        store, self._store = self._store, None
        self._counted = None, 0
        if store is not None:
            await store.close()


class CatalogCache:
    """Keeps the catalog and the prices of the configuration that was current at the last call."""

    def __init__(self, config_file: ConfigFile) -> None:
        self._config_file = config_file
        self._catalog: Catalog | None = None
        self._prices = PriceBook()

    def get(self) -> Catalog:
        """Return the catalog of the newest good configuration."""
        configuration = self._config_file.load()
        if self._catalog is None or self._catalog.configuration is not configuration:
            before, self._catalog = self._catalog, Catalog(configuration)
            # Prices that were looked up hold as long as nobody sets other ones of his own.
            if before is None or before.settings.pricing != self._catalog.settings.pricing:
                self._prices = PriceBook(price_overrides(self._catalog.settings))
        return self._catalog

    def prices(self) -> PriceBook:
        """Return the prices with the overrides of the newest good configuration."""
        self.get()
        return self._prices


@dataclass(frozen=True)
class Gateway:
    """One configuration file and one store.

    ``now_ms`` is the clock (UTC epoch ms). Changes of one process follow each other in the store's writer thread, those
    of several are kept apart by the file's lock.
    """

    config_file: ConfigFile
    secrets: Secrets
    store_handle: StoreHandle
    catalogs: CatalogCache
    caller: Caller
    now_ms: Callable[[], int]
    started_ms: int
    instance_id: str

    @classmethod
    def open(
        cls,
        config: str | None = None,
        *,
        door: str,
        environment: Mapping[str, str] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> Gateway:
        """Make a gateway on the file found by ``find_config``; touches neither the file nor the store.

        Args:
            config: the file's path, or None to search for it.
            door: through which callers come.
            environment: the process environment.
            now_ms: the clock.
        """
        environment = os.environ if environment is None else environment
        path = find_config(config, environment)
        secrets = Secrets(path.parent / "secrets.env", environment)
        named = environment.get("VOICEGW_DB_PATH", "")
        overlay = environment.get("VOICEGW_OVERLAY", "")
        # Every call asks for the path; working it out takes longer than answering get_health.
        resolve = functools.lru_cache(maxsize=4)(partial(_store_path, None if named else path.parent))

        def choose_overlay(data: Mapping[str, Any]) -> tuple[Path, bool]:
            if overlay:
                return Path(overlay).expanduser().absolute(), True
            tracking = data.get("cost_tracking")
            beside = named or (tracking.get("db_path") if is_map(tracking) else None)
            try:
                return resolve(str(beside or DEFAULT_STORE)).with_name(FILE_NAME), False
            except StoreUnavailable:  # told where the store is asked for
                return resolve(DEFAULT_STORE).with_name(FILE_NAME), False

        config_file = ConfigFile(path, secrets, choose_overlay)

        def store_path() -> Path:
            return resolve(named or config_file.load().settings.cost_tracking.db_path or DEFAULT_STORE)

        return cls(
            config_file=config_file,
            secrets=secrets,
            store_handle=StoreHandle(store_path, partial(recover, config_file)),
            catalogs=CatalogCache(config_file),
            caller=Caller(door, _user_name()),
            now_ms=now_ms,
            started_ms=now_ms(),
            instance_id=random.token_hex(6),
        )

    def as_caller(self, actor: str, access: Access | None = None) -> Gateway:
        """Return the same gateway, seen by another caller of the same door; ``access`` is what he may do, when it is less."""
        if not actor and access is None:
            return self
        caller = replace(self.caller, actor=actor or self.caller.actor, access=access or self.caller.access)
        return replace(self, caller=caller)

    def catalog(self) -> Catalog:
        """Return what is configured now; costs one ``stat`` when nothing changed.

        Raises:
            ConfigInvalid: the file is broken and was never good since this process started.
        """
        return self.catalogs.get()

    def prices(self) -> PriceBook:
        """Return the prices, own ones first."""
        return self.catalogs.prices()

    async def store(self) -> Store:
        """Return the open store.

        Raises:
            StoreUnavailable: it cannot be opened now.
            ConfigInvalid: the file that names its place is broken.
        """
        return await self.store_handle.get()

    async def close(self) -> None:
        """Close the store."""
        await self.store_handle.close()


def _again(error: StoreUnavailable) -> StoreUnavailable:
    """Return the same answer for another caller."""
    return StoreUnavailable(error.message, hint=error.hint, details=error.details)


def _store_path(folder: Path | None, named: str) -> Path:
    """Return where the store is; ``named`` is relative to ``folder``, or to the working directory.

    Raises:
        StoreUnavailable: the path is none.
    """
    with contextlib.suppress(RuntimeError, OSError):
        if "\0" not in named:
            path = Path(named).expanduser()
            return (folder / path if folder else path).absolute()
    raise StoreUnavailable(
        f"{quote(named)} is no path of a store: its home or working directory does not exist, or it holds a zero byte.",
        hint="Correct VOICEGW_DB_PATH, or cost_tracking.db_path in the file.",
        details={"path": quote(named), "reason": "path"},
    )


def price_overrides(settings: Settings) -> dict[str, list[PriceOverride]]:
    """Return the file's own prices by model id, as exact decimals of what is written there."""
    return {
        model_id: [
            PriceOverride(
                date=price.effective.isoformat() if price.effective else "",
                usd_per_minute=_decimal(price.per_minute),
                usd_per_1000_characters=_decimal(price.per_1000_characters),
                usd_per_million_input_tokens=_decimal(price.per_million_input_tokens),
                usd_per_million_output_tokens=_decimal(price.per_million_output_tokens),
                usd_per_million_cached_tokens=_decimal(price.per_million_cached_tokens),
            )
            for price in prices
        ]
        for model_id, prices in settings.pricing.items()
    }


def _decimal(amount: float | None) -> Decimal | None:
    return None if amount is None else Decimal(str(amount))


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user id without a name
        return "unknown"
