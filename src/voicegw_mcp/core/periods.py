"""Which span of time a caller means: named periods and ISO dates in a time zone, as windows of whole quarter hours.

Days are calendar days of the zone, over DST changes and in zones with half-hour and 45-minute offsets. A window is
taken outward to quarter hours, because that is what the store adds up by; answers state its real start and end.
May import ``domain`` and ``errors``.
"""

from __future__ import annotations

import contextlib
import re
import zoneinfo
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, get_args

from voicegw_mcp.domain import DAY_MS, QUARTER_MS, Window
from voicegw_mcp.errors import InvalidInput, nearest, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Period = Literal[
    "today",
    "yesterday",
    "week",
    "month",
    "this_month",
    "last_month",
    "last_24h",
    "last_7d",
    "last_30d",
    "all",
]
PERIODS: Final[tuple[Period, ...]] = get_args(Period)
"""Names of periods: calendar days (with today), whole months, rolling hours, everything."""

CUSTOM: Final = "custom"
"""The period of a window given by start and end."""

BucketUnit = Literal["hour", "day"]

_HOUR_MS: Final = 3_600_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS: Final = range(1970, 2200)
_ROLLING_DAYS: Final = {"last_24h": 1, "last_7d": 7, "last_30d": 30}
_ISO: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[T ](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(?P<zone>Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)
_EXPECTED: Final = (
    "Use an ISO 8601 date or time between 1970 and 2199, such as 2026-11-22 or 2026-11-22T14:30:00+01:00."
)


def resolve_window(
    *,
    period: str | None,
    start: str | None,
    end: str | None,
    timezone: str,
    now_ms: int,
    earliest_ms: int | None = None,
    latest_ms: int | None = None,
) -> Window:
    """Return the window a caller means.

    Args:
        period: one of ``PERIODS``; not looked at when ``start`` or ``end`` is given.
        start: ISO 8601 date (its local midnight) or time; one without an offset is local.
        end: the same; a date includes its day. Without it: now. Without ``start``: from ``earliest_ms``.
        timezone: IANA name of the zone whose days count.
        now_ms: the current time, UTC epoch ms.
        earliest_ms: the first moment the store knows, None when it is empty.
        latest_ms: the moment behind its last one; ``all`` reaches there when a clock ran ahead.

    Raises:
        InvalidInput: names the argument (``period``, ``start``, ``end`` or ``timezone``) and what would be valid.
    """
    if start is None and end is None:
        return _named(period or "today", timezone, now_ms, earliest_ms=earliest_ms, latest_ms=latest_ms)
    since, until = resolve_moments(start=start, end=end, timezone=timezone)
    if until is None:
        until = now_ms + 1
        if since is not None and since >= until:
            raise InvalidInput(
                f"start {quote(start)} is in the future.",
                field="start",
                hint="Pass an end that is later than the start.",
            )
    if since is None:
        since = min(earliest_ms if earliest_ms is not None else until, until)
    return _snapped(CUSTOM, since, until, timezone)


def resolve_moments(
    *, start: str | None, end: str | None, timezone: str, names: tuple[str, str] = ("start", "end")
) -> tuple[int | None, int | None]:
    """Return the exact moments that ``start`` and ``end`` of ``resolve_window`` name, UTC epoch ms; None is none.

    A local time that comes twice is the first of them; one that is skipped is as long after the skip as it says. ``names`` are what the
    caller calls the two.

    Raises:
        InvalidInput: names the argument that is no date or time, or no IANA zone, or an end that is not after the start.
    """
    zone = _zone(timezone)
    first, last = names
    since = None if start is None else _moment(start, first, zone, end_of_day=False)
    until = None if end is None else _moment(end, last, zone, end_of_day=True)
    if since is not None and until is not None and since >= until:
        raise InvalidInput(
            f"{first} {quote(start)} is not before {last} {quote(end)}.",
            field=last,
            hint=f"Pass {last} as a time that is later.",
        )
    return since, until


def previous_window(window: Window) -> Window:
    """Return the window to compare with.

    Calendar periods: the calendar days (or month) directly before, up to the same time elapsed: ``today`` at 10:00
    compares with yesterday until 10:00, ``yesterday`` and ``last_month`` with a whole day and month. So do windows
    given by dates. Rolling periods, ``all`` and other windows: the same length directly before.
    """
    zone = _zone(window.timezone)
    first = window.first_day or _local_date(window.start_ms, zone)
    days = {"today": 1, "yesterday": 1, "week": 7, "month": 30}.get(window.period)
    whole = window.period in {"yesterday", "last_month"}
    if window.period == CUSTOM and {window.start_ms, window.end_ms} <= {
        _quarter_below(_midnight(_local_date(edge, zone), zone)) for edge in (window.start_ms, window.end_ms)
    }:
        days, whole = (_local_date(window.end_ms, zone) - first).days, True
    if window.period in {"this_month", "last_month"}:
        before = (first.replace(day=1) - timedelta(days=1)).replace(day=1)
    elif days is not None:
        before = first - timedelta(days=days)
    else:
        length = window.end_ms - window.start_ms
        return Window(window.period, max(0, window.start_ms - length), window.start_ms, window.timezone)
    since = _midnight(before, zone)
    until = window.start_ms if whole else min(since + window.end_ms - window.start_ms, window.start_ms)
    return Window(window.period, max(0, _quarter_below(since)), until, window.timezone)


def day_window(timezone: str, now_ms: int) -> Window:
    """Return the whole local calendar day that holds ``now_ms``, for budgets.

    Raises:
        InvalidInput: ``timezone`` is not an IANA zone.
    """
    zone = _zone(timezone)
    today = _local_date(now_ms, zone)
    return Window(
        "today",
        _quarter_below(_midnight(today, zone)),
        -_quarter_below(-next_midnight_ms(timezone, now_ms)),
        timezone,
    )


def next_midnight_ms(timezone: str, now_ms: int) -> int:
    """Return when the next local day begins, UTC epoch ms: when daily budgets start anew.

    Raises:
        InvalidInput: ``timezone`` is not an IANA zone.
    """
    zone = _zone(timezone)
    day = _local_date(now_ms, zone)
    return next(moment for n in range(1, 4) if (moment := _midnight(day + timedelta(days=n), zone)) > now_ms)


class LocalBuckets:
    """Finds the local hour or day of a moment. Equal ones are those of the same zone and unit."""

    def __init__(self, timezone: str, unit: BucketUnit) -> None:
        self._zone = _zone(timezone)
        self._key: tuple[str, BucketUnit] = timezone, unit
        self._edges: list[int] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalBuckets) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def start_of(self, moment_ms: int) -> int:
        """Return the start of the bucket that holds ``moment_ms``; both UTC epoch ms."""
        edges = self._edges  # of the day asked for last; another thread may put those of another day in place
        if not edges or not edges[0] <= moment_ms < edges[-1]:
            day = _local_date(moment_ms, self._zone)
            edges = self._edges = _day_edges(day, self._key[1], self._zone)
        return edges[bisect_right(edges, moment_ms) - 1]


def newest_spans(window: Window, days: int, *, whole: int = 1) -> tuple[list[tuple[int, int]], bool]:
    """Return the newest local days of a window as spans ``(start_ms, end_ms)``, and whether they are all of it.

    Args:
        window: what to divide.
        days: how many at least.
        whole: so many days are one span, the same ones whatever the window; those of its edges are cut short.
    """
    zone = _zone(window.timezone)
    first, last = (
        _local_date(edge, zone).toordinal() for edge in (window.start_ms, max(window.end_ms - 1, 0))
    )
    earliest = max(first, (last - days + 1) // whole * whole)
    numbers = [*(number for number in range(earliest, last) if number % whole == 0), last]
    starts = [_start_of_day(number, window.timezone) for number in numbers]
    edges = [start for start in starts if window.start_ms < start < window.end_ms]
    complete = earliest == first
    if complete:
        edges.insert(0, window.start_ms)
    # Of a day that the calendar skipped, start and end are the same.
    return list(pairwise(dict.fromkeys([*edges, window.end_ms]))), complete


@lru_cache(maxsize=4096)
def _start_of_day(number: int, timezone: str) -> int:
    """Return the quarter hour in which a day (proleptic Gregorian ordinal) begins in a zone."""
    return _quarter_below(_midnight(date.fromordinal(number), _zone(timezone)))


@lru_cache(maxsize=1024)
def cell_size(window: Window, unit: BucketUnit) -> int:
    """Return the largest size of cells (ms) that no local hour or day of the window cuts through."""
    zone = _zone(window.timezone)
    first, last = (_local_date(edge, zone).toordinal() for edge in (window.start_ms, window.end_ms))
    # Of every midnight, and so quick that a window of two centuries does not stall the event loop.
    offsets = {zone.utcoffset(datetime.fromordinal(day)) or timedelta() for day in range(first, last + 2)}
    if unit == "day" and offsets == {timedelta()}:
        return DAY_MS
    return _HOUR_MS if all(not offset % timedelta(hours=1) for offset in offsets) else QUARTER_MS


@lru_cache(maxsize=4096)
def iso(moment_ms: int, timezone: str, *, milliseconds: bool = False) -> str:
    """Return a moment (UTC epoch ms) as ISO 8601 in the zone, with its offset, to the second or the millisecond."""
    moment = _local(moment_ms, _zone(timezone))
    return moment.isoformat(timespec="milliseconds" if milliseconds else "seconds")


def _named(
    period: str,
    timezone: str,
    now_ms: int,
    *,
    earliest_ms: int | None,
    latest_ms: int | None,
) -> Window:
    zone = _zone(timezone)
    today = _local_date(now_ms, zone)
    month = today.replace(day=1)

    # A row logged in this very millisecond belongs to the window.
    now = now_ms + 1
    first_days = {
        "today": today,
        "yesterday": today - timedelta(days=1),
        "week": today - timedelta(days=6),
        "month": today - timedelta(days=29),
        "this_month": month,
        "last_month": (month - timedelta(days=1)).replace(day=1),
    }
    if period in first_days:
        first = first_days[period]
        behind = {"yesterday": today, "last_month": month}.get(period)
        until = now if behind is None else _midnight(behind, zone)
        return _snapped(period, _midnight(first, zone), until, timezone, first)
    if period == "all":
        since = earliest_ms if earliest_ms is not None else now_ms
        return _snapped(period, since, max(now, latest_ms or 0), timezone)
    if period in _ROLLING_DAYS:
        return _snapped(period, now_ms - _ROLLING_DAYS[period] * DAY_MS, now, timezone)
    near = nearest(period, PERIODS)
    raise InvalidInput(
        f"period {quote(period)} is not one of {', '.join(PERIODS)}.",
        field="period",
        hint=f"Did you mean {near[0]}?" if near else "Or pass start and end as ISO 8601 dates.",
    )


def _snapped(period: str, since: int, until: int, timezone: str, first_day: date | None = None) -> Window:
    start = max(0, _quarter_below(since))
    return Window(period, start, max(start, -_quarter_below(-until)), timezone, first_day)


def _quarter_below(moment_ms: int) -> int:
    return moment_ms // QUARTER_MS * QUARTER_MS


def _moment(text: str, name: str, zone: zoneinfo.ZoneInfo, *, end_of_day: bool) -> int:
    match = _ISO.fullmatch(text) if len(text) < 64 else None
    if match is not None and int(text[:4]) in _YEARS:
        # The pattern admits the 31st of February and 25 o'clock; these are found here.
        with contextlib.suppress(ValueError):
            day = date.fromisoformat(match["date"])
            if match["time"] is None:
                return _midnight(day + timedelta(days=1) if end_of_day else day, zone)
            moment = datetime.fromisoformat(f"{day}T{match['time']}{match['zone'] or ''}")
            return _epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=zone))
    raise InvalidInput(f"{name} {quote(text)} is not a date or time.", field=name, hint=_EXPECTED)


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        near = nearest(name, zoneinfo.available_timezones())
        raise InvalidInput(
            f"timezone {quote(name)} is not an IANA time zone.",
            field="timezone",
            hint=f"Did you mean {', '.join(near)}?" if near else "Use a name such as UTC or Europe/Berlin.",
        ) from error


def _local(moment_ms: int, zone: zoneinfo.ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(milliseconds=moment_ms)).astimezone(zone)


def _local_date(moment_ms: int, zone: zoneinfo.ZoneInfo) -> date:
    """Return the day that a moment is counted in: every moment is in one."""
    day = _local(moment_ms, zone).date()
    # A clock that is put back over midnight shows the day before once more; the day that had begun goes on.
    following = day + timedelta(days=1)
    return following if _midnight(following, zone) <= moment_ms else day


def _midnight(day: date, zone: zoneinfo.ZoneInfo) -> int:
    # Where the clock skips midnight this is the moment of the skip; where midnight comes twice, the first.
    return _epoch_ms(datetime.combine(day, time(), zone))


def _epoch_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _day_edges(day: date, unit: BucketUnit, zone: zoneinfo.ZoneInfo) -> list[int]:
    """Return the edges of a local day's buckets, from its start to its end; a day the calendar skipped has one edge."""
    start, end = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
    inner: Iterable[int] = ()
    if unit == "hour" and start < end:
        local = _local(start, zone)
        if local.utcoffset() == _local(end - 1, zone).utcoffset():
            into = (local.minute * 60 + local.second) * 1000
            inner = range(start + _HOUR_MS - into, end, _HOUR_MS)
        else:
            inner = _hours_of_a_change(_quarter_below(start), end, zone)
    return list(dict.fromkeys(map(_quarter_below, (start, *inner, end))))


def _hours_of_a_change(start_ms: int, end_ms: int, zone: zoneinfo.ZoneInfo) -> Iterator[int]:
    """Give the quarter hours in which the clock shows another hour than before, or the same with another offset."""
    shown = None
    for moment in range(start_ms, end_ms, QUARTER_MS):
        local = _local(moment, zone)
        if shown != (shown := (local.date(), local.hour, local.utcoffset())):
            yield moment
