"""The gateway: one configuration file and one store, shared by every door. Handlers get it as first argument.

May import ``config``, ``store``, ``domain``, ``errors`` and ``core``. Making one opens nothing: the file is read and
the store opened when a call needs them, so that a broken file or a locked store never keeps a server from starting.
"""

from __future__ import annotations

import getpass
import os
import secrets as random
import time
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from voicegw_mcp.config.file import ConfigFile, find_config
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.core.pricing import PriceBook, PriceOverride
from voicegw_mcp.store.sqlite import Store, choose_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voicegw_mcp.config.schema import Settings


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the door (``stdio``, ``cli``) and a name to write into the journal."""

    door: str
    actor: str


class StoreHandle:
    """Opens the store when it is first needed, again after a failure, and elsewhere when its path changed.

    Args:
        read_path: gives the path to open; raises ConfigInvalid while it cannot be known.
    """

    def __init__(self, read_path: Callable[[], Path]) -> None:
        self._read_path = read_path
        self._opening = anyio.Lock()
        self._store: Store | None = None
        self._asked: Path | None = None

    def wanted_path(self) -> Path:
        """Return the path the configuration and environment name."""
        return self._read_path()

    async def get(self) -> Store:
        """Return the open store.

        Raises:
            StoreUnavailable: it is locked, damaged, or newer than this program; the next call tries again.
        """
        path = self._read_path()
        if self._store is not None and path == self._asked:
            return self._store
        async with self._opening:
            if self._store is None or path != self._asked:
                await self._close()
                self._store = await Store.open(await anyio.to_thread.run_sync(choose_path, path))
                self._asked = path
        return self._store

    async def close(self) -> None:
        """Close it; closing twice is fine."""
        async with self._opening:
            await self._close()

    async def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await store.close()


class CatalogCache:
    """Keeps the catalog and the prices of the configuration that was current at the last call."""

    def __init__(self, config_file: ConfigFile) -> None:
        self._config_file = config_file
        self._catalog: Catalog | None = None
        self._prices: PriceBook | None = None

    def get(self) -> Catalog:
        """Return the catalog of the newest good configuration."""
        configuration = self._config_file.load()
        if self._catalog is None or self._catalog.configuration is not configuration:
            self._catalog, self._prices = Catalog(configuration), None
        return self._catalog

    def prices(self) -> PriceBook:
        """Return the prices with the overrides of the newest good configuration."""
        catalog = self.get()
        if self._prices is None:
            self._prices = PriceBook(price_overrides(catalog.settings))
        return self._prices


@dataclass(frozen=True)
class Gateway:
    """One configuration file and one store.

    ``now_ms`` is the clock (UTC epoch ms); ``changing`` serialises changes within this process, the file's lock does so
    between processes.
    """

    config_file: ConfigFile
    secrets: Secrets
    store_handle: StoreHandle
    catalogs: CatalogCache
    caller: Caller
    now_ms: Callable[[], int]
    changing: anyio.Lock
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
        config_file = ConfigFile(path, secrets)
        named_store = environment.get("VOICEGW_DB_PATH", "")

        def store_path() -> Path:
            return _store_path(named_store, config_file)

        return cls(
            config_file=config_file,
            secrets=secrets,
            store_handle=StoreHandle(store_path),
            catalogs=CatalogCache(config_file),
            caller=Caller(door, _user_name()),
            now_ms=now_ms,
            changing=anyio.Lock(),
            started_ms=now_ms(),
            instance_id=random.token_hex(6),
        )

    def as_caller(self, actor: str) -> Gateway:
        """Return the same gateway, seen by another caller of the same door."""
        return replace(self, caller=replace(self.caller, actor=actor)) if actor else self

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


def _store_path(named: str, config_file: ConfigFile) -> Path:
    """Return where the store is: VOICEGW_DB_PATH, ``cost_tracking.db_path`` (relative to the file), the default."""
    if named:
        return Path(named).expanduser().absolute()
    db_path = config_file.load().settings.cost_tracking.db_path
    if db_path:
        return (config_file.path.parent / Path(db_path).expanduser()).absolute()
    return Path("~/.config/voicegateway/voicegw.db").expanduser()


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
