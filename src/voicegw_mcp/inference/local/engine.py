"""A loaded model and the threads that run it: one for all instances of the same settings, for as long as the process lives.

Loading takes seconds and runs take the processor, so neither happens on an event loop. A model is kept although its last
instance is gone: an agent makes new ones for each call. Meets LiveKit for the kind of its error only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from livekit.agents import APIError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable, Iterable

logger = logging.getLogger(__name__)

M = TypeVar("M")
R = TypeVar("R")


class ModelUnusable(APIError):
    """A model of this process cannot be loaded, or fails; trying again changes nothing. ``hint`` says what does.

    LiveKit's kind of error, so that its fallback and its sessions take it as the end of a request.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}", retryable=False)
        self.hint = hint


class Engine(Generic[M]):
    """One model, loaded when it is first needed.

    Args:
        name: for messages, ``whisper/base``.
        load: returns the model; runs in one of the threads, and again when it failed.
        hint: what to do when it cannot be loaded.
        workers: requests that run at once; the others wait their turn.
    """

    def __init__(self, name: str, load: Callable[[], M], *, hint: str, workers: int) -> None:
        self._name = name
        self._load = load
        self._hint = hint
        self._workers = workers
        self.begin()

    def begin(self) -> None:
        """Have nothing loaded and no thread; after a fork there is neither, whatever was before."""
        self._model: M | None = None
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(self._workers, f"voicegw-{self._name}")

    def prewarm(self) -> None:
        """Begin to load the model; returns at once. What goes wrong is logged, and raised by the next request."""
        self._pool.submit(self._warm)

    async def each(self, work: Callable[[M], Iterable[R]]) -> AsyncGenerator[R]:
        """Let a thread work with the model, and yield each piece of the work when it is done.

        When nobody reads on (the caller is cancelled), the piece under way is the last; work that waits for a thread is dropped.

        Raises:
            ModelUnusable: the model cannot be loaded, or failed.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[R | None] = asyncio.Queue()
        stopped = threading.Event()

        def run() -> None:
            todo = iter(work(self._loaded()))
            while not stopped.is_set() and (piece := self._next(todo)) is not None:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        running = loop.run_in_executor(self._pool, run)
        running.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await running
        finally:
            stopped.set()
            running.cancel()

    def _next(self, todo: Any) -> Any:
        try:
            return next(todo, None)
        except Exception as error:
            raise ModelUnusable(f"{self._name} failed: {error}.", "Check the request's options.") from error

    def _warm(self) -> None:
        try:
            self._loaded()
        except ModelUnusable as error:
            logger.warning("%s", error)

    def _loaded(self) -> M:
        with self._lock:
            if self._model is None:
                began = time.perf_counter()
                try:
                    self._model = self._load()
                except Exception as error:
                    raise ModelUnusable(f"{self._name} cannot be loaded: {error}.", self._hint) from error
                logger.info("%s was loaded in %.1f s.", self._name, time.perf_counter() - began)
            return self._model


_ENGINES: Final[dict[Hashable, Engine[Any]]] = {}


def shared_engine(
    name: str, load: Callable[[], M], *, settings: Hashable, hint: str, workers: int
) -> Engine[M]:
    """Return the engine of these settings, the one there is or a new one.

    Args:
        name, load, hint, workers: see ``Engine``.
        settings: all that decides what ``load`` returns.

    Raises:
        ValueError: ``workers`` is not a number from 1 on.
    """
    if isinstance(workers, bool) or workers < 1:
        raise ValueError(f"num_workers must be 1 or more, not {workers!r}")
    engine = Engine(name, load, hint=hint, workers=workers)  # starts no thread yet
    return _ENGINES.setdefault((name, settings, workers), engine)


def _begin_anew() -> None:
    for engine in _ENGINES.values():
        engine.begin()


with contextlib.suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=_begin_anew)
