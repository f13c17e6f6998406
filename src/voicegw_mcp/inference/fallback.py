"""Fallback lists: LiveKit's own adapter around metered instances.

The adapter is not metered, its instances are: each attempt is a row. What it starts for a request inherits who belongs together
(``chain``); what it starts to find out whether an instance works again is marked as a probe, and held back after one that
failed. May import ``inference``, ``domain`` and ``errors``.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, inference, llm, stt, tts

from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.inference import chain
from voicegw_mcp.inference.attempts import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from livekit.agents import APIConnectOptions

    from voicegw_mcp.inference.meter import Meter

logger = logging.getLogger(__name__)

COOLDOWN_S: Final = 10.0
"""After a probe that failed the next one waits so long: each is a request, and billed when it succeeds."""

_METHODS: Final = {Modality.LLM: ("chat",), Modality.STT: ("stream",), Modality.TTS: ("synthesize", "stream")}
"""The methods that return streams."""


def fall_back(
    modality: Modality, instances: list[Any], meters: list[Meter], conn_options: APIConnectOptions | None
) -> Any:
    """Return LiveKit's adapter around metered instances.

    Args:
        modality: what they do.
        instances: in the order they are tried.
        meters: theirs.
        conn_options: of each attempt; None leaves LiveKit's own.

    Raises:
        InvalidInput: they cannot stand in for each other.
    """
    return _Fallback(modality, instances, meters, conn_options).adapter


class _Fallback:
    """LiveKit's adapter around metered instances, and what is put before its calls."""

    def __init__(
        self,
        modality: Modality,
        instances: list[Any],
        meters: list[Meter],
        conn_options: APIConnectOptions | None,
    ) -> None:
        self._instances = instances
        self._first = meters[0]
        self._leaves = [meter.leaf for meter in meters]
        self._next_probe: dict[int, float] = {}
        # The adapter tries the next instance instead of trying again.
        self._conn_options = None if conn_options is None else replace(conn_options, max_retry=0)
        self.adapter = _adapt(modality, instances, conn_options)
        self.adapter.on(f"{modality}_availability_changed", self._on_availability)
        for name in _METHODS[modality]:
            self._shim_stream(name)
        if modality is Modality.STT:
            self._shim_recognize()
            self._hold_probes(self.adapter)
        self._shim_aclose()
        logger.info("%s: %s", modality, " -> ".join(leaf.model_id for leaf in self._leaves))

    def _shim_stream(self, name: str) -> None:
        original = getattr(self.adapter, name)

        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            instead = self._admit()
            if instead is not None:
                return getattr(instead, name)(*args, **kwargs)
            self._choose_options(kwargs)
            with self._as_one():
                stream = original(*args, **kwargs)
            self._hold_probes(stream)
            return stream

        setattr(self.adapter, name, call)

    def _shim_recognize(self) -> None:
        original = self.adapter.recognize

        @wraps(original)
        async def recognize(*args: Any, **kwargs: Any) -> Any:
            instead = self._admit()
            if instead is not None:
                return await instead.recognize(*args, **kwargs)
            self._choose_options(kwargs)
            with self._as_one():
                return await original(*args, **kwargs)

        self.adapter.recognize = recognize

    def _shim_aclose(self) -> None:
        """Let the adapter close its instances, which nobody else knows."""
        original = self.adapter.aclose

        @wraps(original)
        async def aclose() -> None:
            await original()
            for instance in self._instances:
                await instance.aclose()

        self.adapter.aclose = aclose

    def _admit(self) -> Any:
        """Ask the guard once for the whole list."""
        attempt = Attempt(self._first)
        instead = self._first.admit(attempt, first=True, called=self.adapter)
        attempt.drop()
        return instead

    @contextmanager
    def _as_one(self) -> Generator[None]:
        token = chain.place.set(chain.place.get()._replace(chain=chain.Chain(self._leaves)))
        try:
            yield
        finally:
            chain.place.reset(token)

    def _choose_options(self, kwargs: dict[str, Any]) -> None:
        if (
            self._conn_options is not None
            and kwargs.get("conn_options", DEFAULT_API_CONNECT_OPTIONS) == DEFAULT_API_CONNECT_OPTIONS
        ):
            kwargs["conn_options"] = self._conn_options

    def _hold_probes(self, prober: Any) -> None:
        """Mark what an adapter, or one of its streams, starts as a probe, and let it wait after one that failed."""
        probe: Callable[..., None] = prober._try_recovery  # noqa: SLF001 - the one place where LiveKit starts them

        @wraps(probe)
        def hold(*args: Any, **kwargs: Any) -> None:
            instance = next(iter((*args, *kwargs.values())))
            now = time.monotonic()
            if now < self._next_probe.get(id(instance), now):
                return
            self._next_probe[id(instance)] = now + COOLDOWN_S
            token = chain.place.set(chain.place.get()._replace(probing=True))
            try:
                probe(*args, **kwargs)
            finally:
                chain.place.reset(token)

        prober._try_recovery = hold  # noqa: SLF001 - see above

    def _on_availability(self, event: Any) -> None:
        instance = getattr(event, self._first.leaf.modality, None)
        if event.available:
            self._next_probe.pop(id(instance), None)


def _adapt(modality: Modality, instances: list[Any], options: APIConnectOptions | None) -> Any:
    """Make LiveKit's adapter; with its own defaults where nothing else is said."""
    each: dict[str, Any] = (
        {}
        if options is None
        else {
            "attempt_timeout": options.timeout,
            "retry_interval": options.retry_interval,
            f"max_retry_per_{modality}": options.max_retry,
        }
    )
    try:
        if modality is Modality.LLM:
            return llm.FallbackAdapter(instances, **each)
        if modality is Modality.STT:
            # Those that take whole recordings only need to be told where one ends.
            vad = None if all(one.capabilities.streaming for one in instances) else inference.VAD()
            return stt.FallbackAdapter(instances, vad=vad, **each)
        retries = {name: value for name, value in each.items() if name.startswith("max_retry")}
        return tts.FallbackAdapter(instances, **retries)
    except ValueError as error:
        raise InvalidInput(
            f"These models cannot stand in for each other: {error}",
            field="fallback",
            hint="Choose fallbacks that are of one kind.",
        ) from error
