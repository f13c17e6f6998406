"""Calls around nights on which the clocks of a zone change, asked for in that zone by every period and by windows at any edge.

What a local day, hour or window holds is found by asking the zone what its clock shows in every quarter of an hour:
nothing here knows of midnights that are missing, days that are skipped, or hours that come twice.
"""

# Seeded generators make the same calls in every run.

import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from tests.oracle.calls import Call, one_call

QUARTER_MS = 900_000
DAY_MS = 86_400_000
AROUND_MS = 3 * DAY_MS
PERIODS = [
    "today", "yesterday", "week", "month", "this_month", "last_month", "last_24h", "last_7d", "last_30d", "all",
]  # fmt: skip
NIGHTS = [
    ("Europe/Berlin", "2026-03-29T01:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("America/New_York", "2026-03-08T07:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"),  # half an hour
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00Z"),  # 23 o'clock comes twice
    ("America/Sao_Paulo", "2018-11-04T03:00Z"),  # no midnight
    ("Africa/Cairo", "2026-04-23T22:00Z"),
    ("Africa/Cairo", "2026-10-29T21:00Z"),
    ("America/Havana", "2026-11-01T05:00Z"),  # midnight comes twice
    ("Asia/Beirut", "2026-03-28T22:00Z"),
    ("America/Santiago", "2026-04-05T03:00Z"),
    ("Asia/Kolkata", "2026-02-28T18:30Z"),
    ("Asia/Kathmandu", "2024-02-29T18:15Z"),  # no change; a leap day
    ("Pacific/Chatham", "2026-04-04T14:00Z"),
    ("Pacific/Chatham", "2026-09-26T14:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00Z"),  # the 30th was skipped
    ("Pacific/Kwajalein", "1993-08-21T12:00Z"),  # the 21st was skipped
    ("America/Caracas", "2016-05-01T07:00Z"),  # 02:30 became 03:00
    ("Asia/Pyongyang", "2018-05-04T15:00Z"),  # 23:30 became midnight
    ("Asia/Colombo", "2006-04-14T18:30Z"),  # 00:30 became midnight
    ("Antarctica/Troll", "2026-03-29T01:00Z"),  # two hours
    ("Antarctica/Casey", "2010-03-04T15:00Z"),  # 02:00 became 23:00 of the day before
    ("UTC", "2026-12-31T23:59Z"),
]


@dataclass(frozen=True)
class Night:
    """A moment in a zone, and a moment some time before or after it that is taken for now; both UTC epoch ms."""

    zone: str
    at_ms: int
    now_ms: int


@dataclass(frozen=True)
class Asked:
    """Arguments of a report, and the span [start, end) in ms that it must be about."""

    arguments: dict[str, str]
    span: tuple[int, int]


class Clock:
    """The wall clock of a zone, asked for its time in quarters of an hour."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self.shown = cache(self._shown)
        self.day_start = cache(self._day_start)
        self.hour_start = cache(self._hour_start)

    def _shown(self, moment_ms: int) -> datetime:
        return datetime.fromtimestamp(moment_ms / 1000, self._zone)

    def _day_start(self, day: date) -> int:
        """Return the first quarter hour in which the clock shows this day or a later one."""
        moment = _ms(datetime(day.year, day.month, day.day, tzinfo=UTC)) - DAY_MS
        while self.shown(moment).date() < day:
            moment += QUARTER_MS
        return moment

    def day_of(self, moment_ms: int) -> date:
        """Return the day that began last."""
        day = self.shown(moment_ms // QUARTER_MS * QUARTER_MS).date()
        while self.day_start(day + timedelta(days=1)) <= moment_ms:
            day += timedelta(days=1)
        while self.day_start(day) > moment_ms:
            day -= timedelta(days=1)
        return day

    def _hour_start(self, quarter_ms: int) -> int:
        """Return the first quarter hour since when the clock shows this hour of this day, without a change."""
        while self._hour(quarter_ms - QUARTER_MS) == self._hour(quarter_ms):
            quarter_ms -= QUARTER_MS
        return quarter_ms

    def _hour(self, moment_ms: int) -> tuple[object, ...]:
        shown = self.shown(moment_ms)
        return shown.date(), shown.hour, shown.utcoffset()

    def key(self, unit: str) -> Callable[[Call], str]:
        """Return what names the local hour or day of a call."""

        def start(call: Call) -> str:
            quarter = call.at_ms // QUARTER_MS * QUARTER_MS
            if unit == "hour":
                return self.iso(max(self.hour_start(quarter), self.day_start(self.day_of(quarter))))
            return self.iso(self.day_start(self.day_of(quarter)))

        return start

    def iso(self, moment_ms: int) -> str:
        """Return a moment as the clock shows it."""
        return self.shown(moment_ms).isoformat(timespec="seconds")

    def today(self, now_ms: int) -> tuple[int, int]:
        """Return the whole day of ``now_ms``."""
        day = self.day_of(now_ms)
        after = (self.day_start(day + timedelta(days=ahead)) for ahead in range(1, 4))
        return self.day_start(day), next(start for start in after if start > now_ms)

    def period(self, name: str, now_ms: int, first_ms: int, last_ms: int) -> tuple[int, int]:
        """Return the span of a period, not yet outward to quarter hours."""
        today = self.day_of(now_ms)
        month = today.replace(day=1)
        before = (month - timedelta(days=1)).replace(day=1)
        end = now_ms + 1
        if name == "all":
            return first_ms, max(end, last_ms + 1)
        if name.startswith("last_") and name != "last_month":
            return now_ms - {"last_24h": 1, "last_7d": 7, "last_30d": 30}[name] * DAY_MS, end
        if name == "yesterday":
            return self.day_start(today - timedelta(days=1)), self.day_start(today)
        if name == "last_month":
            return self.day_start(before), self.day_start(month)
        days = {"today": today, "week": today - timedelta(days=6), "month": today - timedelta(days=29)}
        return self.day_start(days.get(name, month)), end

    def before(self, name: str, now_ms: int, window: tuple[int, int]) -> tuple[int, int]:
        """Return the span to compare the window of a period with, outward to quarter hours."""
        today = self.day_of(now_ms)
        length = window[1] - window[0]
        if name == "all" or (name.startswith("last_") and name != "last_month"):
            return max(0, window[0] - length), window[0]
        month = today.replace(day=1)
        months = [month]
        for _ in range(2):
            months.append((months[-1] - timedelta(days=1)).replace(day=1))
        days = {"today": 1, "yesterday": 2, "week": 13, "month": 59}
        first = months[1 + (name == "last_month")] if name not in days else today - timedelta(days=days[name])
        since = self.day_start(first)
        whole = name in {"yesterday", "last_month"}
        return since, window[0] if whole else min(since + length, window[0])

    def first_showing(self, moment_ms: int) -> int:
        """Return the first moment at which the clock shows what it shows at this one."""
        shown = self.shown(moment_ms).replace(tzinfo=None)
        earlier = (moment_ms - ago * QUARTER_MS for ago in range(16, 0, -1))
        return next((ms for ms in earlier if self.shown(ms).replace(tzinfo=None) == shown), moment_ms)


def outward(span: tuple[int, int]) -> tuple[int, int]:
    """Return the whole quarter hours that hold a span."""
    return span[0] // QUARTER_MS * QUARTER_MS, -(-span[1] // QUARTER_MS) * QUARTER_MS


def make_nights(count: int, rng: random.Random) -> list[Night]:
    """Return the nights above, the first ``count`` of them in a drawn order, and as many changes of drawn zones."""
    known = [(zone, _ms(datetime.fromisoformat(at))) for zone, at in NIGHTS]
    rng.shuffle(known)
    zones = sorted(available_timezones() - {"localtime"})
    drawn: list[tuple[str, int]] = []
    while len(drawn) < count:
        zone = rng.choice(zones)
        changes = _changes(zone)
        if changes:
            drawn.append((zone, rng.choice(changes)))
    return [
        Night(zone, at_ms, at_ms + rng.randrange(-AROUND_MS // 3, AROUND_MS))
        for zone, at_ms in known[:count] + drawn
    ]


def _changes(zone: str) -> list[int]:
    """Return the quarter hours since 1980 with which a zone's clock jumped; changes within one are left out."""
    clock, found = ZoneInfo(zone), []
    days = range(_ms(datetime(1980, 1, 1, tzinfo=UTC)), _ms(datetime(2030, 1, 1, tzinfo=UTC)), DAY_MS)
    offset = datetime.fromtimestamp(days[0] / 1000, clock).utcoffset()
    for day in days:
        after = datetime.fromtimestamp((day + DAY_MS) / 1000, clock).utcoffset()
        if after != offset:
            seconds = range(day // 1000, day // 1000 + 86_400)
            second = bisect_left(
                seconds, True, key=lambda at: datetime.fromtimestamp(at, clock).utcoffset() == after
            )
            at_ms = seconds[second] * 1000 if second < len(seconds) else day + DAY_MS
            if at_ms % QUARTER_MS == 0:
                found.append(at_ms)
        offset = after
    return found


def make_calls(nights: list[Night], each: int, rng: random.Random) -> list[Call]:
    """Return calls around the nights in the order of their time, many of them at the very edges of quarter hours."""
    times = []
    for night in nights:
        middle = night.at_ms // QUARTER_MS * QUARTER_MS
        edges = [middle + quarter * QUARTER_MS + off for quarter in range(-8, 9) for off in (-1, 0, 1)]
        times += edges + [
            night.at_ms + rng.randrange(-AROUND_MS, AROUND_MS) for _ in range(max(0, each - len(edges)))
        ]
        times += [night.now_ms, night.now_ms + 1]
    return [replace(one_call(number, at_ms, rng), session=None) for number, at_ms in enumerate(sorted(times))]


def windows(night: Night, count: int, rng: random.Random) -> list[Asked]:
    """Return windows between drawn moments around a night, written in every way there is."""
    clock = Clock(night.zone)
    found: list[Asked] = []
    while len(found) < count:
        way = rng.choice(["utc", "offset", "local", "dates"])
        first, second = sorted(night.at_ms + rng.randrange(-AROUND_MS, AROUND_MS) for _ in range(2))
        if rng.random() < 0.5:
            first, second = (moment // QUARTER_MS * QUARTER_MS for moment in (first, second))
        if way == "dates":
            days = [clock.day_of(moment) for moment in (first, second)]
            texts = [str(day) for day in days]
            first, second = clock.day_start(days[0]), clock.day_start(days[1] + timedelta(days=1))
        elif way == "local":
            texts = [_text(clock.shown(moment).replace(tzinfo=None)) for moment in (first, second)]
            first, second = map(clock.first_showing, (first, second))
        else:
            shown = [clock.shown(moment) for moment in (first, second)]
            texts = [_text(moment.astimezone(UTC) if way == "utc" else moment) for moment in shown]
        if first < second and all(len(text) < 33 for text in texts):
            found.append(Asked({"start": texts[0], "end": texts[1]}, outward((first, second))))
    return found


def by(calls: list[Call], key: Callable[[Call], str]) -> dict[str, list[Call]]:
    """Return calls by what names their group."""
    groups: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        groups[key(call)].append(call)
    return groups


def _text(moment: datetime) -> str:
    """Return ISO 8601 to the millisecond; an offset of no whole minutes makes it too long, and it is not used."""
    return moment.isoformat(timespec="milliseconds")


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
