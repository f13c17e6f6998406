"""What this process's instances share: the configuration, the prices and the recorder, opened when they are first needed.

One per process, because the code that makes instances (an agent's entrypoint, often in a process of its own per call)
has nowhere to keep one. Nothing here needs or waits for an event loop. After a fork the child opens its own.
May import ``core``, ``config``, ``store.recorder`` through ``core.recording`` and ``errors``; never LiveKit.
"""

from __future__ import annotations

import contextlib
import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voicegw_mcp.core.rate_limits import RateLimits
from voicegw_mcp.core.tracing import find_tracer
from voicegw_mcp.errors import InvalidInput, quote
from voicegw_mcp.inference import resolution
from voicegw_mcp.inference.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer

    from voicegw_mcp.config.secrets import Lookup
    from voicegw_mcp.core.budgets import Budgets
    from voicegw_mcp.core.catalog import Catalog, ProjectEntry
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.pricing import PriceBook
    from voicegw_mcp.domain import RequestRecord
    from voicegw_mcp.inference.leaf import Leaf
    from voicegw_mcp.store.recorder import Recorder


class Runtime:
    """The gateway and the recorder of this process.

    Args:
        config: the path of ``voicegw.yaml``, None to search for it as the commands do.
    """

    def __init__(self, config: str | None = None) -> None:
        self._config = config
        self._lock = threading.RLock()
        self._gateway: Gateway | None = None
        self._recorder: Recorder | None = None
        self._budgets: Budgets | None = None
        self._forking: Budgets | None = None
        self.rate_limits = RateLimits()
        self.tracer: Tracer | None = None
        """Makes spans of requests; None where nobody collects any, or requests are not logged. Looked for with the file."""
        self._path: Path | None = None
        self._seen: Catalog | None = None
        self.watch: Watch | None = None
        """Knows what is configured, from the first request on."""
        self._priced: tuple[Catalog, PriceBook] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._begin_anew
            )

    def configure(self, config: str | None) -> None:
        """Go by another file from now on, for instances that are there already too.

        Raises:
            InvalidInput: there is no such file; nothing is changed.
        """
        if config is not None:
            _require_file(config, "config")
        self.close()
        with self._lock:
            self._config, self._gateway, self._seen = config, None, None

    def gateway(self) -> Gateway:
        """Return the gateway; touches no file when it is there already.

        Raises:
            InvalidInput: the file named by ``configure`` or ``VOICEGW_CONFIG`` does not exist.
        """
        with self._lock:
            if self._gateway is None:
                from voicegw_mcp.core.gateway import Gateway  # noqa: PLC0415 - 0.1 s that importing inference does not need

                named = self._config or os.environ.get("VOICEGW_CONFIG")
                if named:
                    _require_file(named, "config" if self._config else "VOICEGW_CONFIG")
                self._gateway = Gateway.open(self._config, door="inference", read_only=True)
            return self._gateway

    def catalog(self) -> Catalog:
        """Return what is configured now; costs a ``stat`` per file when nothing changed.

        Raises:
            ConfigInvalid: the file is broken and was never good in this process.
            InvalidInput: as ``gateway``.
        """
        watch = self.watch
        return self._look(self.gateway()) if watch is None else watch.look()

    def catalog_lately(self) -> Catalog:
        """Return what was configured at the last look, at most ``LOOK_EVERY_S`` ago; the first call begins to watch the files.

        Raises:
            ConfigInvalid, InvalidInput: as ``catalog``.
        """
        watch = self.watch
        return self._begin_to_watch() if watch is None else watch.catalog

    def _begin_to_watch(self) -> Catalog:
        gateway = self.gateway()
        with self._lock:
            watch = self.watch or Watch(partial(self._look, gateway))
            # When the interpreter is ending, or the system has no thread left, each request looks itself.
            with contextlib.suppress(RuntimeError):
                if self.watch is None:
                    watch.start()
                    self.watch = watch
            return watch.catalog

    def _look(self, gateway: Gateway) -> Catalog:
        catalog = gateway.catalog()
        self.tracer = find_tracer() if catalog.settings.observability.request_logging else None
        return catalog

    def catalog_in_use(self) -> Catalog:
        """Return the configuration that the last request went by, without a look at the file; raises as ``catalog``."""
        return self._seen or self.catalog()

    def prices(self) -> PriceBook:
        """Return the prices of ``catalog_lately``, own ones first; raises as that.

        Rows are priced one by one in a thread, and each look at the files there takes the interpreter's lock from the event loop anew.
        """
        watch = self.watch
        catalog = self.catalog() if watch is None else watch.catalog
        if self._priced is None or self._priced[0] is not catalog:
            self._priced = catalog, self.gateway().prices()
        return self._priced[1]

    def now_ms(self) -> int:
        """Return the time, UTC epoch ms."""
        return self.gateway().now_ms()

    def recorder(self, catalog: Catalog | None = None) -> Recorder | None:
        """Return the recorder into the store that is configured now, None where ``request_logging`` is off.

        Args:
            catalog: what is configured, when it was just looked at.

        Raises:
            ConfigInvalid, InvalidInput: as ``catalog``.
            StoreUnavailable: what is configured as store is no path.
        """
        catalog = catalog or self.catalog()
        if catalog is self._seen:
            return self._recorder
        from voicegw_mcp.core.recording import open_recorder  # noqa: PLC0415 - see gateway()

        with self._lock:
            gateway = self.gateway()
            logging = catalog.settings.observability.request_logging
            path = gateway.store_handle.wanted_path() if logging else None
            if path != self._path:
                before, self._recorder, self._path = self._recorder, open_recorder(gateway), path
                if before is not None:  # it may have to wait for its store; who calls may be an event loop
                    threading.Thread(target=before.close, name="voicegw-recorder-end").start()
            self._seen = catalog
            return self._recorder

    def recorder_in_use(self) -> Recorder | None:
        """Return the recorder that ``recorder`` returned last, without a look at the file; raises as that."""
        return self._recorder if self._seen is not None else self.recorder()

    def record(self, project: str, make: Callable[[], RequestRecord]) -> None:
        """Count a row of a project towards its budget, and put it into the queue of ``recorder_in_use``; raises as that.

        Args:
            project: whose it is.
            make: makes it, in another thread.
        """
        recorder, budgets = self.recorder_in_use() if self._seen is None else self._recorder, self._budgets
        if budgets is not None and project in budgets.spending.followed:
            make = budgets.spending.note(project, make, recorded=recorder is not None)
        if recorder is not None:
            recorder.record(make)

    def budgets(self) -> Budgets:
        """Return what checks the budgets; it begins to read the store with the first configuration that has one."""
        with self._lock:
            if self._budgets is None:
                from voicegw_mcp.core.budgets import Budgets  # noqa: PLC0415 - see gateway()
                from voicegw_mcp.core.spending import Spending  # noqa: PLC0415 - likewise
                from voicegw_mcp.store.spend import spend_state  # noqa: PLC0415 - likewise

                gateway = self.gateway()
                spending = Spending(lambda: spend_state(gateway.store_handle.wanted_path()), gateway.now_ms)
                self._budgets = Budgets(spending, gateway.now_ms)
            return self._budgets

    def budgets_in_use(self) -> Budgets | None:
        """Return what ``budgets`` returned; None when no request was ever checked."""
        return self._budgets

    def look_up(self, reference: str) -> Lookup:
        """Return the key that a reference stands for now, or why there is none."""
        return self.gateway().secrets.look_up(reference)

    def key_of(self, leaf: Leaf) -> Lookup | None:
        """Return the key that an instance's account has now; None when it has none, or it was passed in code.

        Raises:
            NotFound, InvalidInput: the provider is gone from the file, or switched off there.
        """
        catalog = self.catalog()
        project: ProjectEntry | None = catalog.projects.get(leaf.account or "")
        reference = (
            None if leaf.own_key else resolution.find_account(catalog, leaf.provider, project).key_reference
        )
        return None if reference is None else self.look_up(reference)

    def close(self) -> None:
        """Write what is recorded and let go of everything; the next use opens it anew."""
        with self._lock:
            recorder, self._recorder, self._path = self._recorder, None, None
            budgets, self._budgets = self._budgets, None
            watch, self.watch = self.watch, None
            self.rate_limits = RateLimits()
            self._seen = None
        if watch is not None:
            watch.end()
        # Without the lock: what is still to be written is priced by the gateway, in threads of their own.
        if recorder is not None:
            recorder.close()
        if budgets is not None:
            budgets.spending.close()
        with self._lock:
            self._gateway = self._seen = None

    def _before_fork(self) -> None:
        self._forking = self._budgets
        if self._forking is not None:
            self._forking.spending.before_fork()

    def _after_fork(self) -> None:
        if self._forking is not None:
            self._forking.spending.after_fork()

    def _begin_anew(self) -> None:
        # A lock may have been held by a thread that is not there in the child. The recorder sees to itself.
        self._lock = threading.RLock()
        self._gateway = self._seen = self._budgets = self.watch = None
        self.rate_limits = RateLimits()


_RUNTIME: Final = Runtime()


def current() -> Runtime:
    """Return the runtime of this process."""
    return _RUNTIME


def _require_file(named: str, field: str) -> None:
    if not Path(named).expanduser().is_file():
        raise InvalidInput(
            f"There is no file {quote(named)}.",
            field=field,
            hint=f"Make one with `voicegw init {named}`, or name another one.",
        )
