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
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.config.file import ConfigFile, find_config
from voicegw_mcp.config.overlay import FILE_NAME
from voicegw_mcp.config.parse import Problem, invalid, problems_in
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.config.values import is_map
from voicegw_mcp.core.access import EVERYTHING, Access
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.core.followers import Followers
from voicegw_mcp.core.maintenance import Pruning
from voicegw_mcp.core.pricing import PriceBook, PriceOverride
from voicegw_mcp.core.recovery import recover
from voicegw_mcp.core.store_handle import StoreHandle
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import ConfigInvalid, StoreUnavailable, quote
from voicegw_mcp.store.log_tail import LogTails

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from voicegw_mcp.config.schema import Settings
    from voicegw_mcp.core.conversation import Ask, Report
    from voicegw_mcp.store.reader import Reader
    from voicegw_mcp.store.sqlite import Store


DEFAULT_STORE: Final = "~/.config/voicegateway/voicegw.db"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the door (``stdio``, ``http``, ``cli``), a name to write into the journal, and what he may do.

    ``report`` and ``ask`` are there during a call whose client can take them; ``session`` tells his client from others.
    """

    door: str
    actor: str
    access: Access = EVERYTHING
    report: Report | None = None
    ask: Ask | None = None
    session: Callable[[], str] = str


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

    ``now_ms`` is the clock (UTC epoch ms), ``started_s`` the moment it was opened by the monotonic one. Changes of one process follow each other in the store's writer thread, those
    of several are kept apart by the file's lock. ``seen`` is what a call goes by that looked at the file already.
    ``tool_calls`` counts the calls over MCP since then by tool and outcome.
    """

    config_file: ConfigFile
    secrets: Secrets
    store_handle: StoreHandle
    catalogs: CatalogCache
    caller: Caller
    now_ms: Callable[[], int]
    started_s: float
    instance_id: str
    log_tails: LogTails = field(default_factory=LogTails)
    followers: Followers = field(default_factory=Followers)
    seen: Catalog | None = None
    tool_calls: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])

    @classmethod
    def open(
        cls,
        config: str | None = None,
        *,
        door: str,
        access: Access = EVERYTHING,
        read_only: bool = False,
        environment: Mapping[str, str] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> Gateway:
        """Make a gateway on the file found by ``find_config``; touches neither the file nor the store.

        Args:
            config: the file's path, or None to search for it.
            door: through which callers come.
            access: what any of them may do and see at most.
            read_only: open neither the file nor the store for writing; callers are viewers.
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
            store_handle=StoreHandle(
                store_path,
                partial(recover, config_file),
                # A command is over in a moment; `voicegw prune` is the one to prune.
                used=(lambda _store: None) if door == "cli" else Pruning(config_file, now_ms),
                read_only=read_only,
            ),
            catalogs=CatalogCache(config_file),
            caller=Caller(door, _user_name(), access.within(Access(Role.VIEWER)) if read_only else access),
            now_ms=now_ms,
            started_s=time.monotonic(),
            instance_id=random.token_hex(6),
        )

    def as_caller(
        self,
        actor: str,
        access: Access | None = None,
        *,
        catalog: Catalog | None = None,
        report: Report | None = None,
        ask: Ask | None = None,
        session: Callable[[], str] = str,
    ) -> Gateway:
        """Return the same gateway, seen by another caller of the same door.

        Args:
            actor: his name; "" leaves it.
            access: what he may do, when it is less.
            catalog: what is configured, for one call, when it was just looked at.
            report: tells his client what a call finds meanwhile.
            ask: asks his person.
            session: gives what tells his client from others.
        """
        own = self.caller
        access = own.access if access is None else access.within(own.access)
        view = object.__new__(Gateway)  # at every call, and `replace` goes through every field
        view.__dict__.update(
            self.__dict__,
            caller=Caller(own.door, actor or own.actor, access, report, ask, session),
            seen=catalog,
        )
        return view

    def catalog(self) -> Catalog:
        """Return what is configured now, as far as the caller may see it; costs one ``stat`` when nothing changed.

        Raises:
            ConfigInvalid: the file is broken and was never good since this process started.
        """
        try:
            return (self.seen or self.catalogs.get()).narrowed(self.caller.access.projects)
        except ConfigInvalid as error:
            raise self.told(error) from error

    def told(self, error: ConfigInvalid) -> ConfigInvalid:
        """Return the error as the caller may know it: what is wrong may be another project's, where it is may not."""
        if self.caller.access.projects is None or "problems" not in error.details:
            return error
        first = problems_in(error)[0]
        hint = "Ask who keeps the file: `voicegw check` lists every problem."
        problem = Problem("", first.line, first.column, "the file is broken here", hint)
        return invalid([problem], file=Path(error.details["file"]))

    def prices(self) -> PriceBook:
        """Return the prices, own ones first."""
        return self.catalogs.prices()

    async def reader(self) -> Reader:
        """Return what reads the open store: of a caller who is bound to projects, their rows and no others.

        Raises:
            StoreUnavailable: it cannot be opened now, or is damaged.
            ConfigInvalid: the file that names its place is broken.
        """
        store, projects = await self.store_handle.sound(), self.caller.access.projects
        return store if projects is None else await store.narrowed(projects)

    async def store(self) -> Store:
        """Return the open store with the rows and the journal of all projects.

        Raises:
            Forbidden: the caller is bound to projects.
            StoreUnavailable, ConfigInvalid: as ``reader``.
        """
        self.caller.access.require_all_projects("The journal")
        return await self.store_handle.get()

    async def close(self) -> None:
        """Close the store."""
        await self.store_handle.close()


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
