"""Synthetic calls, and what reports on them must say, worked out apart from the program: Decimal sums, sorted values.

Nothing here imports how the program adds up, divides time or estimates percentiles.
"""

# Seeded generators make the same calls in every run.
# ruff: noqa: S311

import random
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from voicegw_mcp.domain import Modality, RequestRecord, RequestStatus, Usage, to_nano_usd

ZONE = "Asia/Kathmandu"
"""Its midnight is at 18:15 UTC: neither an hour nor a day of UTC begins with its days."""
NOW = int(datetime(2026, 11, 20, 14, 37, tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)
SPAN_MS = 52 * 86_400_000
MODELS = 20
STATUSES = [*RequestStatus, *[RequestStatus.SUCCESS] * 36]
PER_UNIT = [Decimal(number) / Decimal(10**9) for number in (0, 1, 37, 150, 600, 2_500, 10_001, 43_333)]
PERIODS = [
    "today", "yesterday", "week", "month", "this_month", "last_month", "last_24h", "last_7d", "last_30d", "all",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """What happened, in the units of who pays and waits: USD and ms."""

    number: int
    at_ms: int
    project: str
    modality: str
    provider: str
    model: str
    status: str
    session: str | None
    tokens: int
    usd: Decimal | None
    ttfb: float | None
    total: float | None

    def record(self) -> RequestRecord:
        return RequestRecord(
            id=f"call-{self.number}",
            timestamp_ms=self.at_ms,
            project=self.project,
            modality=Modality(self.modality),
            provider=self.provider,
            model_id=self.model,
            status=RequestStatus(self.status),
            usage=Usage(input_tokens=self.tokens),
            cost_nanousd=None if self.usd is None else to_nano_usd(self.usd),
            ttfb_ms=self.ttfb,
            total_ms=self.total,
            session_id=self.session,
        )


def make_calls(count, seed=7):
    """Return calls in the order of their time, the last of them at NOW."""
    rng = random.Random(seed)
    times = sorted(NOW - int(SPAN_MS * rng.random() ** 1.5) for _ in range(count))
    return [one_call(number, at_ms, rng) for number, at_ms in enumerate(times)]


def one_call(number, at_ms, rng):
    """Return a call at a moment."""
    model = rng.randrange(MODELS)
    tokens = rng.randrange(1, 8000)
    ttfb = None if rng.random() < 0.05 else rng.lognormvariate(5, 1)
    return Call(
        number=number,
        at_ms=at_ms,
        project=f"project-{rng.randrange(4)}",
        modality=["stt", "llm", "tts"][model % 3],
        provider=f"provider-{model % 8}",
        model=f"provider-{model % 8}/model-{model}",
        status=str(rng.choice(STATUSES)),
        session=None if rng.random() < 0.1 else f"session-{number // 25}",
        tokens=tokens,
        usd=None if rng.random() < 0.02 else tokens * rng.choice(PER_UNIT),
        ttfb=ttfb,
        total=None if ttfb is None else ttfb * (1 + 3 * rng.random()),
    )


def span_of(period, calls):
    """Return [start, end) of a period at NOW in ms, outward to quarter hours."""
    now = datetime.fromtimestamp(NOW / 1000, ZoneInfo(ZONE))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = midnight.replace(day=1)
    days = {"today": 0, "yesterday": 1, "week": 6, "month": 29}
    rolling = {"last_24h": 1, "last_7d": 7, "last_30d": 30}
    end = NOW + 1
    if period == "all":
        start = calls[0].at_ms
    elif period in rolling:
        start = NOW - rolling[period] * 86_400_000
    elif period in days:
        start = _ms(midnight - timedelta(days=days[period]))
        end = _ms(midnight) if period == "yesterday" else end
    else:
        start = _ms(month) if period == "this_month" else _ms((month - timedelta(days=1)).replace(day=1))
        end = _ms(month) if period == "last_month" else end
    return start // 900_000 * 900_000, -(-end // 900_000) * 900_000


def within(calls, span):
    """Return the calls of a span."""
    first, behind = (bisect_left(calls, edge, key=lambda call: call.at_ms) for edge in span)
    return calls[first:behind]


def grouped(calls, name):
    """Return calls by the key that an answer gives their group."""
    if name in {"hour", "day"}:
        key = _local_start(name)
    elif name == "session":
        key = lambda call: call.session or "(no session)"
    else:
        key = lambda call: getattr(call, name)
    groups = defaultdict(list)
    for call in calls:
        groups[key(call)].append(call)
    return groups


def counted(calls):
    """Return how many of the calls somebody made: time on an open stream and trials of a model are none."""
    return sum(call.status not in {"probe", "idle"} for call in calls)


def timed(calls):
    """Return the calls that took as long as they should: what failed, was refused or tried tells nothing of that."""
    return [call for call in calls if call.status in {"success", "fallback", "cancelled"}]


def usd_of(calls):
    """Return the exact sum, and its nearest float."""
    return sum((call.usd for call in calls if call.usd is not None), Decimal(0))


def percentile(ordered, percent):
    """Return the exact percentile of sorted values, linear between two."""
    rank = (len(ordered) - 1) * percent / 100
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def _ms(moment):
    return int(moment.timestamp() * 1000)


def _local_start(unit):
    zone, known = ZoneInfo(ZONE), {}

    def start(call):
        quarter = call.at_ms // 900_000
        if quarter not in known:
            local = datetime.fromtimestamp(quarter * 900, zone)
            local = local.replace(minute=0, **({"hour": 0} if unit == "day" else {}))
            known[quarter] = local.isoformat()
        return known[quarter]

    return start
