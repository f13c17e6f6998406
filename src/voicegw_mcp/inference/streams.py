"""What is measured of each kind of request, from what a plugin sends into its stream's channel and how its task ends.

A plugin hands everything to LiveKit through that channel: text, audio, transcripts, and what was used. LiveKit closes it when the
plugin's work is over, however it ended, so that is the one place where a request is settled. May import ``inference`` and ``domain``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final, cast

from voicegw_mcp.domain import NO_USAGE, RequestStatus, Usage
from voicegw_mcp.inference.attempts import Attempt, Measured

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from voicegw_mcp.inference.meter import Meter

logger = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN: Final = 4
UNMEASURED: Final = "An answer of %s was not measured."


class Streamed(Attempt):
    """A request whose answer comes through a stream."""

    stream: Any = None
    """LiveKit's; None before it is there and when it has ended."""
    _pass_on: Any = None

    def watch(self, stream: Any) -> None:
        """Watch a stream that was just made; its tasks have not begun yet."""
        self.stream = stream
        channel = stream._event_ch  # noqa: SLF001 - what plugins send into; all of LiveKit's streams have it
        self._pass_on = channel.send_nowait
        channel.send_nowait, channel.close = self.send, self.close

    def send(self, item: Any) -> None:
        """Take what the plugin sends, pass it on and measure it: in one function, because it runs for each piece of an answer."""
        raise NotImplementedError

    def close(self) -> None:
        """Take the end of the plugin's work, as soon as its task has ended; LiveKit may say it twice."""
        stream = self.stream
        channel = stream._event_ch  # noqa: SLF001 - see watch()
        # The channel is LiveKit's own again: what stays hung into it would have to wait for the garbage collector.
        channel.__dict__.pop("send_nowait", None)
        channel.__dict__.pop("close", None)
        channel.close()
        task = getattr(stream, "_task", None) or getattr(stream, "_synthesize_task", None)
        if task is None or task.done():
            self._end(task)
        else:  # the plugin said itself that nothing more comes
            task.add_done_callback(self._end)

    def finish(self, error: BaseException | None, *, cancelled: bool) -> None:
        """Settle the request; its task has ended so."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Settle a request of which nothing more will come."""
        self.finish(None, cancelled=True)

    def _end(self, task: asyncio.Task[Any] | None) -> None:
        if self.settled:
            return
        cancelled = task is not None and task.cancelled()
        error = None if task is None or cancelled else task.exception()
        try:
            self.finish(error, cancelled=cancelled)
        except Exception:
            logger.exception("A request on %s was not measured.", self.leaf.model_id)
            self.settle(RequestStatus.SUCCESS if error is None else RequestStatus.ERROR, error=error)
        self._let_go()

    def _let_go(self) -> None:
        """Keep nothing of LiveKit's: the row may wait long for its store."""
        self.stream = self._pass_on = None


class Chat(Streamed):
    """A language model's reply."""

    _first: float | None = None
    _characters = 0
    _usage: Any = None
    _answered = False
    _ended = 0.0

    def send(self, item: Any) -> None:
        """Count what was said, and keep what the provider says was used."""
        self._pass_on(item)
        try:
            self._answered = True
            delta = item.delta
            if delta is not None:
                content, calls = delta.content, delta.tool_calls
                if self._first is None and (content or calls):
                    self._first = time.perf_counter()
                if content:
                    self._characters += len(content)
                if calls:
                    self._characters += sum(len(call.arguments) for call in calls)
            if item.usage is not None:
                self._usage = item.usage
        except Exception:
            logger.exception(UNMEASURED, self.leaf.model_id)

    def finish(self, error: BaseException | None, *, cancelled: bool) -> None:
        """Settle; what a provider did not come to say is estimated."""
        self._ended = time.perf_counter()
        if error is None and not cancelled and self._usage is not None:
            self.succeed()
            return
        usage, ttfb_ms, total_ms = self.measure()
        texts = tuple(_texts_of(self.stream.chat_ctx))
        if self._usage is None and (error is None or self._characters):
            usage = Usage(input_tokens=_tokens(sum(map(len, texts))), output_tokens=_tokens(self._characters))
        if error is not None:
            status = RequestStatus.ERROR
        elif (
            cancelled or not self._answered
        ):  # no answer and no error is how LiveKit takes a cancelled request (499)
            status = RequestStatus.CANCELLED
        else:
            status = RequestStatus.SUCCESS
        self.settle(
            status,
            usage,
            ttfb_ms=ttfb_ms,
            total_ms=total_ms,
            error=error,
            texts=texts,
            estimated=self._usage is None and usage is not NO_USAGE,
        )

    def measure(self) -> Measured:
        """Return what the provider said was used, nothing where it did not."""
        usage, said = NO_USAGE, self._usage
        if said is not None:
            usage = Usage(
                input_tokens=said.prompt_tokens,
                output_tokens=said.completion_tokens,
                cached_tokens=said.prompt_cached_tokens,
            )
        ttfb_ms = None if self._first is None else (self._first - self.started) * 1000
        return Measured(usage, ttfb_ms, (self._ended - self.started) * 1000)


class Speech(Streamed):
    """A synthesis, of a whole text or of one that is pushed piece by piece."""

    _first_ms: float | None = None
    _last = 0.0
    _characters = 0
    _tokens = (0, 0)
    _samples = 0
    _rate = 1
    _final = False

    def send(self, item: Any) -> None:
        """Count audio."""
        self._pass_on(item)
        try:
            self._last = time.perf_counter()
            if self._first_ms is None:
                # LiveKit's mark: when the first text went to the provider. An agent's text comes slowly, as its model writes it.
                self.started = getattr(self.stream, "_started_time", 0) or self.started
                self._first_ms = (self._last - self.started) * 1000
                self._rate = item.frame.sample_rate
            self._samples += item.frame.samples_per_channel
            if item.is_final:
                self._final = True
        except Exception:
            logger.exception(UNMEASURED, self.leaf.model_id)

    def finish(self, error: BaseException | None, *, cancelled: bool) -> None:
        """Settle; a stream that was given no text was no request."""
        text = _text_of(self.stream)
        if error is None and not text:
            self.drop()
            return
        self._last = self._last or time.perf_counter()
        self._characters = len(text)
        self._tokens = getattr(self.stream, "_input_tokens", 0), getattr(self.stream, "_output_tokens", 0)
        heard = self._first_ms is not None
        if error is not None:
            status = RequestStatus.ERROR
        elif (cancelled and not self._final) or not heard:  # silence and no error is how LiveKit takes a 499
            status = RequestStatus.CANCELLED
        else:
            self.succeed()
            return
        usage, ttfb_ms, total_ms = self.measure()
        if error is not None and not heard:
            usage = NO_USAGE
        self.settle(
            status,
            usage,
            ttfb_ms=ttfb_ms,
            total_ms=total_ms,
            error=error,
            texts=(text,),
            estimated=usage is not NO_USAGE,
        )

    def measure(self) -> Measured:
        """Return the audio that came, and what was to be said."""
        usage = Usage(round(self._samples * 1000 / self._rate), *self._tokens, characters=self._characters)
        return Measured(usage, self._first_ms, (self._last - self.started) * 1000)


class Recognition(Attempt):
    """The transcription of a whole recording.

    Args:
        meter: of the instance.
        buffer: the recording, as LiveKit takes it.
    """

    streamed = False

    _audio_s = 0.0
    _ended = 0.0

    def __init__(self, meter: Meter, buffer: Any) -> None:
        super().__init__(meter)
        self._frames: list[Any] = cast("list[Any]", buffer) if isinstance(buffer, list) else [buffer]

    def end(self, error: BaseException | None) -> None:
        """Settle. A recording that could not be transcribed is not billed, one that was cancelled may be."""
        self._ended = time.perf_counter()
        if not isinstance(error, Exception):
            self._audio_s = sum(frame.samples_per_channel / frame.sample_rate for frame in self._frames)
        self._frames = []  # the row may wait long for its store
        if error is None:
            self.succeed()
        else:
            usage, _, total_ms = self.measure()
            self.fail(error, usage, total_ms=total_ms, estimated=usage is not NO_USAGE)

    def abandon(self) -> None:
        """Settle a request of which nothing more will come."""
        self.end(asyncio.CancelledError())

    def measure(self) -> Measured:
        """Return the length of the recording."""
        audio_ms = round(self._audio_s * 1000)
        return Measured(Usage(audio_ms) if audio_ms else NO_USAGE, None, (self._ended - self.started) * 1000)


def _tokens(characters: int) -> int:
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def _texts_of(conversation: Any) -> Iterator[str]:
    """Yield the texts of a conversation."""
    for item in conversation.items:
        parts: Iterable[Any] = getattr(item, "content", ())
        yield from (part for part in parts if isinstance(part, str))
        for name in ("arguments", "output"):
            text = getattr(item, name, None)
            if isinstance(text, str):
                yield text


def _text_of(stream: Any) -> str:
    """Return what a synthesis was to say: all of it, or what was pushed and not refused by LiveKit."""
    pushed = getattr(stream, "_input_buffer", None)
    if pushed is None:
        return stream.input_text
    return "".join(part for part in pushed if isinstance(part, str))
