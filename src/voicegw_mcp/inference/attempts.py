"""One request on one instance of a plugin, from its entry until its row is on the way to the log: exactly one row.

On the event loop only what cannot wait is done; the row is made, priced and cleaned of secrets in another thread: the recorder's,
or the one that adds up budgets.
What was said stays out of it: rows hold counts, and error messages lose the texts of their request.
May import ``inference``, ``config``, ``core``, ``store.ids``, ``domain`` and ``errors``; never LiveKit.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import time
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from weakref import ref

from opentelemetry.context import get_current

from voicegw_mcp.config.redaction import HIDDEN, hide_in_text
from voicegw_mcp.domain import NO_USAGE, Modality, RequestRecord, RequestStatus, Usage
from voicegw_mcp.inference import chain, context
from voicegw_mcp.inference.spans import Traced, begin_of, times_of
from voicegw_mcp.store.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

    from voicegw_mcp.core.charges import Charge
    from voicegw_mcp.inference.meter import Meter
    from voicegw_mcp.store.recorder import Recorder

logger = logging.getLogger(__name__)

Use: TypeAlias = "Usage | Callable[[], Usage]"
"""What was used, or what adds it up in the thread that makes the row."""
MOST_MESSAGE: Final = 500
"""Characters of an error's message in the log."""
_LEAST_STATUS: Final = 100
_MOST_STATUS: Final = 599
_MOST_LOOKED_AT: Final = 2_000
"""Characters of a message that are looked through for what must not be kept."""
_LEAST_PART: Final = 12
"""As many characters in common with a text are a part of it; fewer are words that anybody uses."""
_LEAST_TEXT: Final = 3
"""A text this short is no conversation, and cutting it out of a message would cut words apart."""


_UNRECORDED: Final = "A request on %s was not recorded."


class Measured(NamedTuple):
    """What was measured of a request.

    Args:
        usage: what it used.
        ttfb_ms: from its begin to the first of the answer, ms.
        total_ms: from its begin to the end, ms.
    """

    usage: Usage = NO_USAGE
    ttfb_ms: float | None = None
    total_ms: float | None = None


class Attempt:
    """A request that was entered and is not settled yet.

    Kinds of requests derive from it; each says in ``abandon`` what is known of one that nobody waits for any more.

    Args:
        meter: of the instance that is called; the settled request lets go of both, as its row may wait long for its store.
    """

    streamed = True
    """Whether what is billed is the price of streaming, where a provider has two."""
    _trace: tuple[Tracer, Context] | None = None

    def __init__(self, meter: Meter) -> None:
        self.settled = False
        self.meter = meter
        self.leaf = meter.leaf
        self.runtime = meter.runtime
        self.project = meter.begin()
        self.session = context.session_id()
        _, self.chain, self.probe = chain.place.get()
        self.fallback_from = None if self.chain is None or self.probe else self.chain.before(meter.leaf)
        if self.runtime.tracer is not None:
            self._trace = self.runtime.tracer, get_current()
        self.at_ms = meter.now_ms()
        self.started = time.perf_counter()
        self._live: ref[Attempt] = ref(self)
        _live.add(self._live)

    def __del__(self) -> None:
        # A stream that was thrown away, or whose loop was closed, with its request under way.
        if not getattr(self, "settled", True):
            with contextlib.suppress(Exception):
                self.abandon()

    def abandon(self) -> None:
        """Settle a request of which nothing more will come."""
        self.settle(RequestStatus.CANCELLED)

    def fail(self, error: BaseException, usage: Use = NO_USAGE, **measured: Any) -> None:
        """Settle a request that ended with an error; one that was cancelled is no failure."""
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            self.settle(RequestStatus.CANCELLED, usage, **measured)
        else:
            self.settle(RequestStatus.ERROR, usage, error=error, **measured)

    def drop(self) -> None:
        """Forget a request that never was one."""
        if not self.settled:
            self.settled = True
            _live.discard(self._live)
            del self.meter

    def settle(self, status: RequestStatus, usage: Use = NO_USAGE, **measured: Any) -> None:
        """Write the request's row; only the first call does anything. Never raises.

        Args:
            status: how it ended.
            usage: what it used.
            measured: see ``write``.
        """
        if not self.settled:
            self.settled = True
            _live.discard(self._live)
            if self.chain is not None and status is RequestStatus.ERROR and not self.probe:
                self.chain.fail(self.leaf)
            self.write(status, usage, **measured)
            del self.meter

    def succeed(self) -> None:
        """Settle a request that was answered in full: what it used is asked in another thread, by ``measure``. Never raises."""
        if not self.settled:
            self.settled = True
            _live.discard(self._live)
            try:
                self.kept = self.meter.kept
                began_ns = None if self._trace is None else begin_of(self.started)
                make = self._success if began_ns is None else partial(self._success, began_ns)
                self.runtime.record(self.project, make)
            except Exception:
                logger.exception(_UNRECORDED, self.leaf.model_id)
            del self.meter

    def measure(self) -> Measured:
        """Return what was measured of a request that was answered in full; in another thread, when nothing of it changes any more."""
        raise NotImplementedError

    def write(
        self,
        status: RequestStatus,
        usage: Use = NO_USAGE,
        *,
        at_ms: int | None = None,
        ttfb_ms: float | None = None,
        total_ms: float | None = None,
        error: BaseException | None = None,
        texts: Iterable[str] = (),
        estimated: bool = False,
    ) -> None:
        """Put a row of this request into the recorder's queue. Never raises.

        Args:
            status: how it ended; a probe's is always ``probe``, success that stands in for another model ``fallback``.
            usage: what was used.
            at_ms: when, UTC epoch ms, when it was not the request's begin.
            ttfb_ms: from its begin to the first of the answer, ms.
            total_ms: from its begin to the end, ms.
            error: why it failed.
            texts: what was said; it is cut out of the error's message.
            estimated: whether the usage is a guess.
        """
        try:
            self.kept = self.meter.kept
            make = partial(
                self._row,
                status,
                usage,
                self.at_ms if at_ms is None else at_ms,
                ttfb_ms,
                total_ms,
                None if error is None else Problem(*describe(error), list(texts), self.meter.keys()),
                estimated,
            )
            if self._trace is not None:
                times = times_of(at_ms, self.started, total_ms)
                make = Traced(*self._trace, *times, self.streamed, self.leaf).around(make)
            self.runtime.record(self.project, make)
        except Exception:
            logger.exception(_UNRECORDED, self.leaf.model_id)

    def _success(self, began_ns: int | None = None) -> RequestRecord:
        """Make the row of a request that was answered in full, and its span where it is said when it began, UTC epoch ns."""
        try:
            usage, ttfb_ms, total_ms = self.measure()
        except Exception:
            logger.exception("A request on %s was not measured.", self.leaf.model_id)
            usage, ttfb_ms, total_ms = Measured()
        make = partial(
            self._row, RequestStatus.SUCCESS, usage, self.at_ms, ttfb_ms, total_ms, None, estimated=False
        )
        if self._trace is not None and began_ns is not None:
            end_ns = began_ns + round((total_ms or 0) * 1_000_000)
            make = Traced(*self._trace, began_ns, end_ns, self.streamed, self.leaf).around(make)
        return make()

    def _row(  # noqa: PLR0917 - partial() passes what is in order at less cost
        self,
        status: RequestStatus,
        usage: Use,
        at_ms: int,
        ttfb_ms: float | None,
        total_ms: float | None,
        problem: Problem | None,
        estimated: bool,
    ) -> RequestRecord:
        """Make the row, in another thread."""
        from voicegw_mcp.core.charges import Charge  # noqa: PLC0415 - decimals are only met in the other thread

        leaf, kept = self.leaf, self.kept
        if self.probe:
            status = RequestStatus.PROBE
        elif status is RequestStatus.SUCCESS and self.fallback_from is not None:
            status = RequestStatus.FALLBACK
        if not kept.cost_tracking:
            usage, billed = NO_USAGE, Charge()
        else:
            usage = usage() if callable(usage) else usage
            billed = self._charge(usage, at_ms)
        if not kept.latency_tracking:
            ttfb_ms = total_ms = None
        return RequestRecord(
            id=new_id(at_ms),
            timestamp_ms=at_ms,
            project=self.project,
            modality=leaf.modality,
            provider=leaf.provider,
            model_id=leaf.model_id,
            status=status,
            usage=usage,
            **billed._asdict(),
            ttfb_ms=ttfb_ms,
            total_ms=total_ms,
            session_id=self.session,
            error_kind=problem and problem.kind,
            error_message=problem and problem.shown(),
            fallback_from=self.fallback_from,
            estimated=estimated,
        )

    def _charge(self, usage: Usage, at_ms: int) -> Charge:
        """Return what the usage costs; unpriced when that cannot be found out."""
        from voicegw_mcp.core.charges import Charge, charge  # noqa: PLC0415 - as in _row()

        leaf = self.leaf
        try:
            return charge(
                self.runtime.prices(),
                usage,
                modality=leaf.modality,
                provider_type=leaf.provider_type,
                model_id=leaf.model_id,
                model_name=leaf.model,
                at_ms=at_ms,
                batch=leaf.modality is Modality.STT and not self.streamed,
            )
        except Exception:
            logger.exception("No price for %s.", leaf.model_id)
            return Charge(0) if usage == NO_USAGE else Charge()


_live: Final[set[ref[Attempt]]] = set()
"""Weakly, so that a request that is thrown away is settled then."""


def under_way() -> list[Attempt]:
    """Return the requests that are not settled yet."""
    return [attempt for attempt in [live() for live in list(_live)] if attempt is not None]


def settle_all_at_exit(recorder: Recorder | None) -> None:
    """Settle what is under way when the program ends, before the recorder that was just opened is closed."""
    atexit.unregister(_settle_all)
    atexit.register(_settle_all)
    if recorder is not None:
        recorder.before_end = _settle_all


def _settle_all() -> None:
    for attempt in under_way():
        with contextlib.suppress(Exception):  # the others are settled all the same, and the program ends
            attempt.abandon()


def _forget_all() -> None:
    """Leave what was under way at a fork to the parent."""
    for attempt in under_way():
        attempt.drop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class Problem(NamedTuple):
    """Why a request failed, and what must not be told of it: what was said, and the keys."""

    kind: str
    message: str
    texts: list[str]
    keys: tuple[str, ...]

    def shown(self) -> str:
        """Return the message as it may be kept, of a length one can look at."""
        message = self.message[:_MOST_LOOKED_AT]
        for key in self.keys:
            message = message.replace(key, HIDDEN)
        message = hide_in_text(_without(message, self.texts))
        return message if len(message) <= MOST_MESSAGE else message[: MOST_MESSAGE - 1] + "…"


def _without(message: str, texts: Iterable[str]) -> str:
    """Return a message with "…" for what it quotes of texts: whole ones, escaped ones, and longer parts of either."""
    for text in sorted({text.strip() for text in texts}, key=len, reverse=True):
        if len(text) <= _LEAST_TEXT:
            continue
        for form in {
            text,
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            repr(text)[1:-1],
        }:
            message = _without_parts(message.replace(form, "…"), form)
    return message


def _without_parts(message: str, text: str) -> str:
    """Return a message without the runs of at least ``_LEAST_PART`` characters that it has in common with a text."""
    quoted = bytearray(len(message))
    for start in range(len(message) - _LEAST_PART + 1):
        if message[start : start + _LEAST_PART] in text:
            quoted[start : start + _LEAST_PART] = b"\1" * _LEAST_PART
    runs = groupby(zip(message, quoted, strict=True), key=itemgetter(1))
    return "".join("…" if is_quoted else "".join(letter for letter, _ in run) for is_quoted, run in runs)


def describe(error: BaseException) -> tuple[str, str]:
    """Return kind and message of an error: ``http_401``, ``timeout``, ``connection``, else the exception's name.

    LiveKit wraps what failed, and plugins do; the outermost that has a status decides.
    """
    causes = list(_causes(error))
    for cause in causes:
        status = getattr(cause, "status_code", None) or getattr(cause, "status", None)
        if isinstance(status, int) and _LEAST_STATUS <= status <= _MOST_STATUS:
            # LiveKit's own text of a status error has the provider's whole answer in it.
            return f"http_{status}", str(getattr(cause, "message", "") or cause)
    for kind, word in (("timeout", "Timeout"), ("connection", "Connect")):
        if any(word in each.__name__ for cause in causes for each in type(cause).__mro__):
            return kind, str(error)
    return type(error).__name__, str(error)


def _causes(error: BaseException) -> Iterable[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
