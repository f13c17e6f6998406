"""Metering: puts itself before the calls of a plugin's instance, so that each request becomes one row of the log.

The instance stays the plugin's own. What its streams send is watched where plugins hand it to LiveKit (``streams``); LiveKit's
own events are not enough: it sends none for a request that is cancelled before its first answer or, for streams of speech,
at all. Only errors are taken from there, because they come before LiveKit's own retries: that is when a rotated key is due.
May import ``inference``, ``domain`` and ``errors``.
"""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakSet

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions

from voicegw_mcp.config.schema import Observability
from voicegw_mcp.domain import Modality, RequestStatus
from voicegw_mcp.inference import attempts, context, keys
from voicegw_mcp.inference.attempts import Attempt
from voicegw_mcp.inference.streams import Chat, Listening, Recognition, Speech

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicegw_mcp.inference.leaf import Leaf
    from voicegw_mcp.inference.runtime import Runtime
    from voicegw_mcp.store.recorder import Recorder

logger = logging.getLogger(__name__)

Guard: TypeAlias = "Callable[[Leaf, str, bool], Any]"
"""What is asked before a request is sent: the instance's leaf, the project, and True for the request as a whole (of a fallback
list once), then False for each instance it is sent to.

It returns None, or an instance of the same kind that shall serve the request instead. It raises to refuse it."""

_inside: Final[ContextVar[object]] = ContextVar("voicegw_inside", default=None)
"""The meter whose request this context works on: some plugins synthesize by calling their own ``stream``."""


class Meter:
    """The meter of one instance.

    Args:
        instance: of a plugin's class.
        leaf: whom it speaks to.
        runtime: gives projects, prices, keys and the recorder.
        guard: asked at the entry of each request.
        conn_options: of requests that come without, or with LiveKit's default.
    """

    def __init__(
        self,
        instance: Any,
        leaf: Leaf,
        runtime: Runtime,
        *,
        guard: Guard | None = None,
        conn_options: APIConnectOptions | None = None,
    ) -> None:
        self.leaf = leaf
        self.runtime = runtime
        self.kept = Observability()
        self._instance = instance
        self._guard = guard
        self._conn_options = conn_options
        self._seen = runtime.catalog()
        self._recorder: Recorder | None = None
        self._streams: WeakSet[Any] = WeakSet()
        instance.on("error", self._on_error)
        if leaf.modality is Modality.LLM:
            self._watch_streams("chat", Chat)
        elif leaf.modality is Modality.TTS:
            self._watch_streams("synthesize", Speech)
            self._watch_streams("stream", Speech)
        else:
            self._watch_streams("stream", Listening)
            self._watch_recognize()

    def begin(self) -> str:
        """Look at the configuration, as every request does once, and return the project the request counts on."""
        try:
            catalog = self.runtime.catalog_lately()
            recorder = self.runtime.recorder(catalog)
            if catalog is not self._seen:
                self._seen = catalog
                self.renew_key()
            if recorder is not self._recorder:
                self._recorder = recorder
                attempts.settle_all_at_exit()
        except Exception as error:  # noqa: BLE001 - a file that is gone or broken must not end a conversation
            logger.warning(
                "A request on %s goes by the configuration as it was: %s", self.leaf.model_id, error
            )
            catalog = self._seen
        self.kept = catalog.settings.observability
        return context.project_id(catalog, self.leaf.project)

    def admit(self, attempt: Attempt, *, first: bool) -> Any:
        """Ask the guard; return the instance that shall serve instead, None for this one.

        Raises:
            Exception: what the guard raises to refuse the request; the row says ``blocked``.
        """
        if self._guard is None:
            return None
        try:
            return self._guard(self.leaf, attempt.project, first)
        except BaseException as refusal:
            attempt.settle(RequestStatus.BLOCKED, error=refusal)
            raise

    def _enter(self, attempt: Attempt) -> Any:
        """Ask about the request, unless its list did already, and about this instance; return and raise as ``admit``."""
        instead = self.admit(attempt, first=True) if attempt.chain is None else None
        return self.admit(attempt, first=False) if instead is None else instead

    def key(self) -> str | None:
        """Return the key in use, to take it out of messages."""
        return keys.key_in(self._instance)

    def renew_key(self) -> None:
        """Use the account's key as it is now, also for streams that connect anew."""
        key = keys.renew_key(self.runtime, self.leaf, self._instance)
        if key is not None:
            for stream in list(self._streams):
                keys.put_key(stream, key)

    def _on_error(self, _: Any) -> None:
        # An exception of a handler, if it is a TypeError, would go on into the request.
        with contextlib.suppress(Exception):
            self.renew_key()

    def _watch_streams(self, name: str, kind: type[Chat | Speech | Listening]) -> None:
        """Meter a method that returns a stream."""
        original = getattr(self._instance, name)

        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if _inside.get() is self:
                return original(*args, **kwargs)
            self._choose_options(kwargs)
            attempt = kind(self)
            instead = self._enter(attempt)
            if instead is not None:
                attempt.drop()
                return getattr(instead, name)(*args, **kwargs)
            inside = _inside.set(self)
            try:
                stream = original(*args, **kwargs)
            except BaseException as error:
                attempt.fail(error)
                raise
            finally:
                _inside.reset(inside)
            try:
                attempt.watch(stream)
            except Exception:
                logger.exception("Requests on %s cannot be metered.", self.leaf.model_id)
                attempt.drop()
            if kind is Listening:
                self._streams.add(stream)
            return stream

        setattr(self._instance, name, call)

    def _watch_recognize(self) -> None:
        """Meter the method that transcribes a whole recording."""
        original = self._instance.recognize

        @wraps(original)
        async def recognize(*args: Any, **kwargs: Any) -> Any:
            if _inside.get() is self:
                return await original(*args, **kwargs)
            self._choose_options(kwargs)
            attempt = Recognition(self, args[0] if args else kwargs.get("buffer"))
            instead = self._enter(attempt)
            if instead is not None:
                attempt.drop()
                return await instead.recognize(*args, **kwargs)
            inside = _inside.set(self)
            try:
                event = await original(*args, **kwargs)
            except BaseException as error:
                attempt.end(error)
                raise
            finally:
                _inside.reset(inside)
            attempt.end(None)
            return event

        self._instance.recognize = recognize

    def _choose_options(self, kwargs: dict[str, Any]) -> None:
        # A session always passes some, mostly LiveKit's default.
        if (
            self._conn_options is not None
            and kwargs.get("conn_options", DEFAULT_API_CONNECT_OPTIONS) == DEFAULT_API_CONNECT_OPTIONS
        ):
            kwargs["conn_options"] = self._conn_options
