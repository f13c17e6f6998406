"""What is measured of a stream that transcribes, which lives as long as a conversation: its rows are turns, and time without any.

May import ``inference`` and ``domain``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections import deque
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import ref

from livekit.agents.stt import SpeechEventType

from voicegw_mcp.domain import NO_USAGE, RequestStatus, Usage
from voicegw_mcp.inference.attempts import Use, under_way
from voicegw_mcp.inference.streams import UNMEASURED, Streamed

if TYPE_CHECKING:
    from voicegw_mcp.inference.meter import Meter

logger = logging.getLogger(__name__)

TURN_S: Final = 6.0
"""How long a recognized turn waits for usage that is reported after it before its row is written. Deepgram's plugin reports every
5 s, and the end of a connection up to 5 s late."""

IDLE_MS: Final = 60_000
"""After so much audio without a turn a stream's use is written all the same: costs must not stay unseen for hours."""

_RECONNECT_S: Final = 0.01
"""A stream's times begin anew with a connection, whose offset LiveKit tells; the first one's is a moment."""
_MOST_MARKS: Final = 3_000
"""Frames whose time of arrival is remembered: a minute of the usual 20 ms."""
_USED: Final = SpeechEventType.RECOGNITION_USAGE
_HEARD: Final = SpeechEventType.FINAL_TRANSCRIPT
"""Looked up once: in Python 3.11 the member of an enumeration is found by a function."""


class Listening(Streamed):
    """A stream that transcribes: a row for each final transcript, and rows for time in which none came."""

    _used_s = 0.0
    _input_tokens = 0
    _output_tokens = 0
    _written = (0, 0, 0)
    _turns = 0
    _turn: tuple[int, float | None] | None = None
    _due = 0.0
    _before_s = 0.0
    _pushed_s = 0.0
    _offset = 0.0

    def watch(self, stream: Any) -> None:
        """Watch a stream, and when audio is pushed into it."""
        super().watch(stream)
        self._loop = asyncio.get_running_loop()  # LiveKit has just begun tasks in it
        self._marks: deque[tuple[float, float]] = deque(maxlen=_MOST_MARKS)
        self._push = stream.push_frame
        stream.push_frame = self.push_frame

    def close(self) -> None:
        """Take the end of the plugin's work."""
        stream = self.stream
        if stream.__dict__.get("push_frame") == self.push_frame:  # nobody else's; see Streamed.close
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
            logger.exception("Audio for %s was not measured.", self.leaf.model_id)

    def send(self, item: Any) -> None:
        """Take what was used and what was recognized."""
        self._pass_on(item)
        try:
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
                self._due = self._loop.time() + TURN_S
                self._turn = (self.meter.now_ms(), self._latency_ms(item))
                if self._loop not in _with_timer:
                    _look_later(self._loop, self._due)
        except Exception:
            logger.exception(UNMEASURED, self.leaf.model_id)

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

    def _let_go(self) -> None:
        stream: ref[Any] = ref(self.stream)

        def push(frame: Any) -> None:
            """Let LiveKit say that the stream has ended to who still pushes through here."""
            alive: Any = stream()
            if alive is not None:
                # Not the instance's: that may be somebody's who calls this one.
                cast("Any", type)(alive).push_frame(alive, frame)

        super()._let_go()
        self._push = push
        self._marks.clear()

    def write_turn_of(self, loop: asyncio.AbstractEventLoop) -> float | None:
        """Write the turn that waits if it is one of this event loop and has waited long enough; else return until when it does."""
        if self._turn is None or self._loop is not loop:
            return None
        if self._due > loop.time():
            return self._due
        self._write_turn()
        return None

    def _write_turn(self, *, estimated: bool = False) -> None:
        """Write the turn that waits, if one does."""
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


_with_timer: Final[set[asyncio.AbstractEventLoop]] = set()
"""Event loops that look for turns that have waited long enough: one timer for all, as one for each takes as long as all else."""


def _look_later(loop: asyncio.AbstractEventLoop, due: float) -> None:
    for each in list(_with_timer):  # other threads have loops of their own and come here, too
        if each.is_closed():
            _with_timer.discard(each)
    _with_timer.add(loop)
    # In no request's context: it would live on as long as one timer sets the next.
    loop.call_at(due, _write_turns, context=Context())


def _write_turns() -> None:
    """Write the turns of this event loop that have waited long enough, and look again when the next one has."""
    loop = asyncio.get_running_loop()
    _with_timer.discard(loop)
    due: list[float] = []
    for each in under_way():
        if isinstance(each, Listening):
            try:
                moment = each.write_turn_of(loop)
            except Exception:
                logger.exception(UNMEASURED, each.leaf.model_id)
            else:
                due += [] if moment is None else [moment]
    if due:
        _look_later(loop, min(due))


def open_streams(meter: Meter) -> list[Any]:
    """Return the streams of speech of an instance that have not ended."""
    return [
        attempt.stream
        for attempt in under_way()
        if isinstance(attempt, Listening) and getattr(attempt, "meter", None) is meter
    ]
