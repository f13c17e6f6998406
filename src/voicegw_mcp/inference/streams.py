"""What is measured of each kind of request, from what a plugin sends into its stream's channel and how its task ends.

A plugin hands everything to LiveKit through that channel: text, audio, transcripts, and what was used. LiveKit closes it when the
plugin's work is over, however it ended, so that is the one place where a request is settled. May import ``inference`` and ``domain``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from bisect import bisect_left
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from livekit.agents.stt import SpeechEventType

from voicegw_mcp.domain import NO_USAGE, RequestStatus, Usage
from voicegw_mcp.inference.attempts import Attempt, Use, under_way

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from voicegw_mcp.inference.meter import Meter

logger = logging.getLogger(__name__)

TURN_S: Final = 6.0
"""How long a recognized turn waits for usage that is reported after it before its row is written. Deepgram's plugin reports every
5 s, and the end of a connection up to 5 s late."""

IDLE_MS: Final = 60_000
"""After so much audio without a turn a stream's use is written all the same: costs must not stay unseen for hours."""

CHARACTERS_PER_TOKEN: Final = 4
_RECONNECT_S: Final = 0.01
"""A stream's times begin anew with a connection, whose offset LiveKit tells; the first one's is a moment."""
_MOST_MARKS: Final = 3_000
"""Frames whose time of arrival is remembered: a minute of the usual 20 ms."""
_USED: Final = SpeechEventType.RECOGNITION_USAGE
_HEARD: Final = SpeechEventType.FINAL_TRANSCRIPT
"""Looked up once: in Python 3.11 the member of an enumeration is found by a function."""


class _Streamed(Attempt):
    """A request whose answer comes through a stream."""

    stream: Any = None
    """LiveKit's; None before it is there and when it has ended."""

    def watch(self, stream: Any) -> None:
        """Watch a stream that was just made; its tasks have not begun yet."""
        self.stream = stream
        channel = stream._event_ch  # noqa: SLF001 - what plugins send into; all of LiveKit's streams have it
        self._pass_on = channel.send_nowait
        channel.send_nowait, channel.close = self.send, self.close

    def send(self, item: Any) -> None:
        """Take what the plugin sends."""
        self._pass_on(item)
        try:
            self.see(item)
        except Exception:
            logger.exception("An answer of %s was not measured.", self.meter.leaf.model_id)

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

    def see(self, item: Any) -> None:
        """Measure an item."""
        raise NotImplementedError

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
            logger.exception("A request on %s was not measured.", self.meter.leaf.model_id)
            self.settle(RequestStatus.SUCCESS if error is None else RequestStatus.ERROR, error=error)
        self.stream = None

    def _since_ms(self, moment: float | None) -> float | None:
        return None if moment is None else (moment - self.started) * 1000


class Chat(_Streamed):
    """A language model's reply."""

    _first: float | None = None
    _characters = 0
    _usage: Any = None
    _answered = False

    def see(self, item: Any) -> None:
        """Count what was said, and keep what the provider says was used."""
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

    def finish(self, error: BaseException | None, *, cancelled: bool) -> None:
        """Settle; what a provider did not come to say is estimated."""
        ended = time.perf_counter()
        said, texts = self._usage, ()
        if error is not None or said is None:
            texts = tuple(_texts_of(self.stream.chat_ctx))
        if said is not None:
            usage = partial(
                Usage,
                input_tokens=said.prompt_tokens,
                output_tokens=said.completion_tokens,
                cached_tokens=said.prompt_cached_tokens,
            )
        elif error is not None and not self._characters:
            usage = NO_USAGE
        else:
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
            ttfb_ms=self._since_ms(self._first),
            total_ms=self._since_ms(ended),
            error=error,
            texts=texts,
            estimated=said is None and usage is not NO_USAGE,
        )


class Speech(_Streamed):
    """A synthesis, of a whole text or of one that is pushed piece by piece."""

    _first_ms: float | None = None
    _last: float | None = None
    _samples = 0
    _rate = 1
    _final = False

    def see(self, item: Any) -> None:
        """Count audio."""
        self._last = time.perf_counter()
        if self._first_ms is None:
            # LiveKit's mark: when the first text went to the provider. An agent's text comes slowly, as its model writes it.
            self.started = getattr(self.stream, "_started_time", 0) or self.started
            self._first_ms = (self._last - self.started) * 1000
            self._rate = item.frame.sample_rate
        self._samples += item.frame.samples_per_channel
        if item.is_final:
            self._final = True

    def finish(self, error: BaseException | None, *, cancelled: bool) -> None:
        """Settle; a stream that was given no text was no request."""
        text = _text_of(self.stream)
        if error is None and not text:
            self.drop()
            return
        heard = self._first_ms is not None
        usage = NO_USAGE
        if heard or error is None:
            usage = partial(
                Usage,
                audio_ms=round(self._samples * 1000 / self._rate),
                input_tokens=getattr(self.stream, "_input_tokens", 0),
                output_tokens=getattr(self.stream, "_output_tokens", 0),
                characters=len(text),
            )
        if error is not None:
            status = RequestStatus.ERROR
        elif (cancelled and not self._final) or not heard:  # silence and no error is how LiveKit takes a 499
            status = RequestStatus.CANCELLED
        else:
            status = RequestStatus.SUCCESS
        self.settle(
            status,
            usage,
            ttfb_ms=self._first_ms,
            total_ms=self._since_ms(self._last or time.perf_counter()),
            error=error,
            texts=(text,),
            estimated=status is not RequestStatus.SUCCESS and usage is not NO_USAGE,
        )


class Recognition(Attempt):
    """The transcription of a whole recording.

    Args:
        meter: of the instance.
        buffer: the recording, as LiveKit takes it.
    """

    streamed = False

    def __init__(self, meter: Meter, buffer: Any) -> None:
        super().__init__(meter)
        self._frames: list[Any] = cast("list[Any]", buffer) if isinstance(buffer, list) else [buffer]

    def end(self, error: BaseException | None) -> None:
        """Settle. A recording that could not be transcribed is not billed, one that was cancelled may be."""
        total_ms = (time.perf_counter() - self.started) * 1000
        if error is None:
            self.settle(RequestStatus.SUCCESS, self._used(), total_ms=total_ms)
        elif isinstance(error, Exception):
            self.fail(error, total_ms=total_ms)
        else:
            self.fail(error, self._used(), total_ms=total_ms, estimated=True)
        self._frames = []  # the row may wait long for its store

    def abandon(self) -> None:
        """Settle a request of which nothing more will come."""
        self.end(asyncio.CancelledError())

    def _used(self) -> Use:
        seconds = sum(frame.samples_per_channel / frame.sample_rate for frame in self._frames)
        return partial(Usage, round(seconds * 1000))


class Listening(_Streamed):
    """A stream that transcribes: a row for each final transcript, and rows for time in which none came."""

    _used_s = 0.0
    _input_tokens = 0
    _output_tokens = 0
    _written = (0, 0, 0)
    _turns = 0
    _turn: tuple[int, float | None] | None = None
    _timer: asyncio.TimerHandle | None = None
    _before_s = 0.0
    _pushed_s = 0.0
    _offset = 0.0

    def watch(self, stream: Any) -> None:
        """Watch a stream, and when audio is pushed into it."""
        super().watch(stream)
        self._marks: deque[tuple[float, float]] = deque(maxlen=_MOST_MARKS)
        self._push = stream.push_frame
        stream.push_frame = self.push_frame

    def close(self) -> None:
        """Take the end of the plugin's work."""
        stream = self.stream
        if stream.__dict__.get("push_frame") == self.push_frame:  # nobody else's; see _Streamed.close
            del stream.push_frame
        super().close()

    def push_frame(self, frame: Any) -> None:
        """Take the audio that is recognized, and remember when it came: in one function, because it runs 50 times a second."""
        self._push(frame)
        try:
            offset = self._offset if self.stream is None else self.stream.start_time_offset
            if offset - self._offset > _RECONNECT_S:
                self._before_s += self._pushed_s
                self._pushed_s = 0.0
                self._marks.clear()
            self._offset = offset
            self._pushed_s += frame.duration
            self._marks.append((self._pushed_s, time.perf_counter()))
        except Exception:
            logger.exception("Audio for %s was not measured.", self.meter.leaf.model_id)

    def see(self, item: Any) -> None:
        """Take what was used and what was recognized."""
        if item.type == _USED and item.recognition_usage is not None:
            used = item.recognition_usage
            self._used_s += used.audio_duration
            self._input_tokens += used.input_tokens
            self._output_tokens += used.output_tokens
            if self._turn is None and self._used_s * 1000 - self._written[0] >= IDLE_MS:
                self.write(RequestStatus.IDLE, self._rest(), at_ms=self.meter.now_ms())
        elif item.type == _HEARD and item.alternatives and item.alternatives[0].text:
            self._write_turn()
            self._turns += 1
            self._turn = (self.meter.now_ms(), self._latency_ms(item))
            self._timer = asyncio.get_running_loop().call_later(TURN_S, self._write_turn)

    def finish(self, error: BaseException | None, *, cancelled: bool) -> None:
        """Write what was not written yet, and settle."""
        heard_s = self._before_s + self._pushed_s
        estimated = not (self._used_s or self._input_tokens or self._output_tokens) and bool(heard_s)
        # A plugin that reports nothing: what was sent is what was heard, unless it never got through.
        estimated = estimated and (error is None or bool(self._turns))
        if estimated:
            self._used_s = heard_s
        if self._turn is not None and error is None:
            self._write_turn(estimated=estimated)
            self.drop()
            return
        self._write_turn(estimated=estimated)
        rest = self._rest()
        if error is not None:
            self.fail(error, rest, at_ms=self.meter.now_ms(), estimated=estimated and rest is not NO_USAGE)
        elif not heard_s and rest is NO_USAGE:
            self.drop()
        elif cancelled and not self._turns:
            self.settle(RequestStatus.CANCELLED, rest, estimated=estimated)
        elif not self._turns or rest is not NO_USAGE:
            self.settle(RequestStatus.IDLE, rest, at_ms=self.meter.now_ms(), estimated=estimated)
        else:
            self.drop()

    def _write_turn(self, *, estimated: bool = False) -> None:
        """Write the turn that waits, if one does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._turn is not None:
            (at_ms, latency_ms), self._turn = self._turn, None
            self.write(
                RequestStatus.SUCCESS, self._rest(), at_ms=at_ms, total_ms=latency_ms, estimated=estimated
            )

    def _rest(self) -> Use:
        """Return what was used since the row before; all rows together are what was used, to the millisecond."""
        total = round(self._used_s * 1000), self._input_tokens, self._output_tokens
        rest = [now - before for now, before in zip(total, self._written, strict=True)]
        self._written = total
        return partial(Usage, *rest) if any(rest) else NO_USAGE

    def _latency_ms(self, event: Any) -> float | None:
        """Return how long after its last word a transcript came: an agent's microphone sends on when nobody speaks.

        Where the provider does not tell when the last word was, it is the last audio that counts.
        """
        now = time.perf_counter()
        if event.speech_end_time is not None:
            return max(0.0, time.time() - event.speech_end_time) * 1000
        if not self._marks:
            return None
        spoken_s = event.alternatives[0].end_time - self._offset
        at = bisect_left(self._marks, (spoken_s, 0.0)) if spoken_s > self._marks[0][0] else len(self._marks)
        return (now - self._marks[min(at, len(self._marks) - 1)][1]) * 1000


def open_streams(meter: Meter) -> list[Any]:
    """Return the streams of speech of an instance that have not ended."""
    return [
        attempt.stream for attempt in under_way() if isinstance(attempt, Listening) and attempt.meter is meter
    ]


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
