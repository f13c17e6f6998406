"""A span of each request an instance sends, made of its row in the log when that is made: not on the event loop.

It says what the row says, without the error's message: no prompt, no transcript, no text. Where nobody collects spans, a request pays for
one look at ``Runtime.tracer``. Names are those of OpenTelemetry's conventions for generative AI (``gen_ai.*``, in development) where there
are any, else ``voicegw.*``. May import ``core.tracing``, ``domain`` and ``inference``.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.trace import SpanKind, Status, StatusCode

from voicegw_mcp.domain import NANO, Modality

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer
    from opentelemetry.util.types import AttributeValue

    from voicegw_mcp.domain import RequestRecord
    from voicegw_mcp.inference.leaf import Leaf

logger = logging.getLogger(__name__)

OPERATIONS: Final = {Modality.LLM: "chat", Modality.STT: "speech_to_text", Modality.TTS: "text_to_speech"}
"""``gen_ai.operation.name``. The conventions name none for speech and leave room for own ones."""

PROVIDER_NAMES: Final = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gen_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
"""``gen_ai.provider.name`` of language models by our provider type, where the conventions have another word for it."""

_MS: Final = 1_000_000


class Traced(NamedTuple):
    """A request whose span is to be made, and when its row was written.

    Args:
        tracer: makes the span.
        context: in which the request was made; its span is the parent.
        start_ns: UTC epoch ns.
        end_ns: likewise.
        streamed: whether the answer came in parts.
        leaf: whom it was sent to.
    """

    tracer: Tracer
    context: Context
    start_ns: int
    end_ns: int
    streamed: bool
    leaf: Leaf

    def around(self, make: Callable[[], RequestRecord]) -> Callable[[], RequestRecord]:
        """Return what makes the row, and its span as well."""

        def make_both() -> RequestRecord:
            row = make()
            try:
                self._tell(row)
            except Exception:
                logger.exception("A request on %s has no span.", row.model_id)
            return row

        return make_both

    def _tell(self, row: RequestRecord) -> None:
        name = f"{OPERATIONS[row.modality]} {self.leaf.model}"
        attributes = describe(row, self.leaf, streamed=self.streamed)
        span = self.tracer.start_span(
            name, self.context, SpanKind.CLIENT, attributes, start_time=self.start_ns
        )
        if row.error_kind is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(self.end_ns)


def begin_of(started: float) -> int:
    """Return when it was, UTC epoch ns, what ``time.perf_counter`` was then; to be asked soon, as that stands still in a machine that sleeps."""
    return time.time_ns() - round((time.perf_counter() - started) * 1000 * _MS)


def times_of(at_ms: int | None, started: float, total_ms: float | None) -> tuple[int, int]:
    """Return when what a row is about began and ended, UTC epoch ns.

    Args:
        at_ms: when it was over, where the row is about a part of a request (a turn of a stream of speech), UTC epoch ms.
        started: when the request began, by ``time.perf_counter``.
        total_ms: how long it took, None where that is not known: then it ended now.
    """
    lasted_ns = None if total_ms is None else round(total_ms * _MS)
    if at_ms is not None:
        return at_ms * _MS - (lasted_ns or 0), at_ms * _MS
    start_ns = begin_of(started)
    return start_ns, time.time_ns() if lasted_ns is None else start_ns + lasted_ns


def describe(row: RequestRecord, leaf: Leaf, *, streamed: bool) -> dict[str, AttributeValue]:
    """Return the attributes of a row's span; what is not known is left out."""
    usage = row.usage
    provider = leaf.provider_type
    if row.modality is Modality.LLM:
        provider = PROVIDER_NAMES.get(provider, provider)
    found: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": OPERATIONS[row.modality],
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": leaf.model,
        "gen_ai.request.stream": streamed,
        "gen_ai.conversation.id": row.session_id,
        "gen_ai.response.time_to_first_chunk": None if row.ttfb_ms is None else row.ttfb_ms / 1000,
        "gen_ai.usage.input_tokens": usage.input_tokens or None,
        "gen_ai.usage.output_tokens": usage.output_tokens or None,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "error.type": row.error_kind,
        "voicegw.request.id": row.id,
        "voicegw.project": row.project,
        "voicegw.modality": row.modality.value,
        "voicegw.provider": row.provider,
        "voicegw.model_id": row.model_id,
        "voicegw.status": row.status.value,
        "voicegw.fallback_from": row.fallback_from,
        "voicegw.usage.audio_ms": usage.audio_ms or None,
        "voicegw.usage.characters": usage.characters or None,
        "voicegw.usage.estimated": row.estimated,
        "voicegw.cost_nanousd": row.cost_nanousd,
        "voicegw.cost_usd": None if row.cost_nanousd is None else row.cost_nanousd / NANO,
    }
    return {name: value for name, value in found.items() if value is not None}
