"""Metering: puts itself before the calls of a plugin's instance, so that each request becomes one row of the log.

The instance stays the plugin's own. What its streams send is watched where plugins hand it to LiveKit (``streams``, ``listening``); LiveKit's
own events are not enough: it sends none for a request that is cancelled before its first answer or, for streams of speech,
at all. Only errors are taken from there, because they come before LiveKit's own retries: that is when a rotated key is due.
May import ``inference``, ``domain`` and ``errors``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from livekit import rtc
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, llm, stt, tts

from voicegw_mcp.domain import Modality, RequestStatus
from voicegw_mcp.inference import attempts, chain, context, keys
from voicegw_mcp.inference.attempts import Attempt, describe
from voicegw_mcp.inference.listening import Listening, open_streams
from voicegw_mcp.inference.streams import Chat, Recognition, Speech

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.inference.leaf import Leaf
    from voicegw_mcp.inference.runtime import Runtime

logger = logging.getLogger(__name__)

Guard: TypeAlias = "Callable[[Leaf, str, bool], Any]"
"""What is asked before a request is sent: the instance's leaf, the project, and True for the request as a whole (of a fallback
list once), then False for each instance it is sent to.

Where it has a method ``go_by(leaf, catalog)`` that is told each configuration first, and it is asked only while that was answered with True.
It returns None, or an instance of the same kind that shall serve the request instead. It raises to refuse it."""

_ERRORS: Final = {Modality.LLM: llm.LLMError, Modality.STT: stt.STTError, Modality.TTS: tts.TTSError}


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
        self._instance = instance
        self._guard = guard
        self._conn_options = conn_options
        # Stands for this meter: a context lives as long as a connection that was opened in it, an instance shall not.
        self._sign = object()
        self._inside = chain.Place(meter=self._sign)
        # The configuration that the recorder was opened for; _catalog is what requests go by, also when that fails.
        self._followed: Catalog | None = None
        self._go_by(runtime.catalog())
        self._exchanged: str | None = None
        self._set_handlers_apart()
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
        watch = self.runtime.watch
        if watch is None or watch.catalog is not self._followed:
            self._follow()
        return context.project_named(self.leaf.project) or self._default_project

    def _follow(self) -> None:
        """Go by the configuration with everything, the recorder into its store included."""
        try:
            catalog = self.runtime.catalog_lately()
            if catalog is self._followed:
                return
            attempts.settle_all_at_exit(self.runtime.recorder(catalog))
            if catalog is not self._catalog:
                self._go_by(catalog)
                self.renew_key()
            self._followed = catalog
        except Exception as error:  # noqa: BLE001 - a file that is gone or broken must not end a conversation
            logger.warning(
                "A request on %s goes by the configuration as it was: %s", self.leaf.model_id, error
            )

    def _go_by(self, catalog: Catalog) -> None:
        """Keep what each request needs of a configuration: attributes are read in less time than it is asked in."""
        self._catalog = catalog
        self.kept = catalog.settings.observability
        self.now_ms = self.runtime.gateway().now_ms
        self._default_project = context.default_project(catalog)
        go_by = getattr(self._guard, "go_by", None)
        self._asks = self._guard is not None and (go_by is None or go_by(self.leaf, catalog))

    def admit(self, attempt: Attempt, *, first: bool, called: Any = None) -> Any:
        """Ask the guard; return the instance that shall serve instead, None for this one.

        Args:
            attempt: the request.
            first: see ``Guard``.
            called: what was called, where that is a list's adapter and not this meter's instance.

        Raises:
            Exception: what the guard raises to refuse the request; the row says ``blocked``.
        """
        if self._guard is None:
            return None
        try:
            return self._guard(self.leaf, attempt.project, first)
        except Exception as refusal:
            attempt.settle(RequestStatus.BLOCKED, error=refusal)
            self._tell(refusal, self._instance if called is None else called)
            raise

    def _tell(self, refusal: Exception, called: Any) -> None:
        """Log a refusal, and emit it as LiveKit's error event.

        LiveKit only does so for streams that were made. A session counts these events, and nothing else: without them one whose
        speech to text is refused asks again every half second as long as it lives, and its ``error`` handlers hear of nothing.
        """
        logger.warning("A request on %s was refused: %s", self.leaf.model_id, describe(refusal)[1])
        event = _ERRORS[self.leaf.modality](
            timestamp=time.time(), label=called.label, error=refusal, recoverable=False
        )
        called.emit("error", event)

    def _enter(self, attempt: Attempt) -> Any:
        """Ask about the request, unless its list did already, and about this instance; return and raise as ``admit``."""
        instead = self.admit(attempt, first=True) if attempt.chain is None else None
        return self.admit(attempt, first=False) if instead is None else instead

    def keys(self) -> tuple[str, ...]:
        """Return the key in use and the one before it, to take them out of messages: a request that failed may have had either."""
        return tuple(key for key in (keys.key_in(self._instance), self._exchanged) if key)

    def renew_key(self) -> None:
        """Use the account's key as it is now, also for streams that connect anew."""
        used = keys.key_in(self._instance)
        key = keys.renew_key(self.runtime, self.leaf, self._instance)
        if key is not None:
            self._exchanged = used
            for stream in open_streams(self):
                keys.put_key(stream, key)

    def _set_handlers_apart(self) -> None:
        """Let event handlers run outside of the request whose task emits: what they start are requests of their own."""
        original, handlers = self._instance.emit, self._instance._events  # noqa: SLF001 - event -> its handlers
        livekits = vars(rtc.EventEmitter)["emit"]  # which calls handlers and nothing else
        plain = getattr(original, "__func__", None) is livekits

        @wraps(original)
        def emit(event: str, *args: Any) -> None:
            if plain and not handlers.get(event):
                return
            token = chain.place.set(chain.NOWHERE)
            try:
                original(event, *args)
            finally:
                chain.place.reset(token)

        self._instance.emit = emit

    def _on_error(self, _: Any) -> None:
        # An exception of a handler, if it is a TypeError, would go on into the request.
        with contextlib.suppress(Exception):
            self.renew_key()

    def _watch_streams(self, name: str, kind: type[Chat | Speech | Listening]) -> None:
        """Meter a method that returns a stream."""
        original = getattr(self._instance, name)

        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            place = chain.place.get()
            if place.meter is self._sign:
                return original(*args, **kwargs)
            if self._conn_options is not None:
                self._choose_options(kwargs)
            attempt = kind(self)
            instead = self._enter(attempt) if self._asks else None
            if instead is not None:
                attempt.drop()
                return getattr(instead, name)(*args, **kwargs)
            token = chain.place.set(
                self._inside if place is chain.NOWHERE else place._replace(meter=self._sign)
            )
            try:
                stream = original(*args, **kwargs)
            except BaseException as error:
                attempt.fail(error)
                raise
            finally:
                chain.place.reset(token)
            try:
                attempt.watch(stream)
            except Exception:
                logger.exception("Requests on %s cannot be metered.", self.leaf.model_id)
                attempt.drop()
            return stream

        setattr(self._instance, name, call)

    def _watch_recognize(self) -> None:
        """Meter the method that transcribes a whole recording."""
        original = self._instance.recognize

        @wraps(original)
        async def recognize(*args: Any, **kwargs: Any) -> Any:
            place = chain.place.get()
            if place.meter is self._sign:
                return await original(*args, **kwargs)
            if self._conn_options is not None:
                self._choose_options(kwargs)
            attempt = Recognition(self, args[0] if args else kwargs.get("buffer"))
            instead = self._enter(attempt) if self._asks else None
            if instead is not None:
                attempt.drop()
                return await instead.recognize(*args, **kwargs)
            token = chain.place.set(
                self._inside if place is chain.NOWHERE else place._replace(meter=self._sign)
            )
            try:
                event = await original(*args, **kwargs)
            except BaseException as error:
                attempt.end(error)
                raise
            finally:
                chain.place.reset(token)
            attempt.end(None)
            return event

        self._instance.recognize = recognize

    def _choose_options(self, kwargs: dict[str, Any]) -> None:
        # A session always passes some, mostly LiveKit's default.
        if kwargs.get("conn_options", DEFAULT_API_CONNECT_OPTIONS) == DEFAULT_API_CONNECT_OPTIONS:
            kwargs["conn_options"] = self._conn_options
