"""What is held in memory of a project's day, compared with all rows there ever were, added up anew."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.core import spending as module
from voicegw_mcp.core.periods import day_window
from voicegw_mcp.core.spending import REFRESH_S, Spending
from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.spend import Spent

ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"]
SPRING = 1_774_742_400_000  # 2026-03-29T00:00Z: clocks are put forward in Berlin an hour later
COSTS = st.one_of(st.none(), st.integers(0, 10**10))


@dataclass
class Snapshot:
    """One state of a store that is a list of rows."""

    rows: list
    during: object = None

    def spent(self, project, start_ms, end_ms):
        if self.during:
            self.during()
        return total(
            [row for row in self.rows if row.project == project and start_ms <= row.timestamp_ms < end_ms]
        )

    def present(self, ids):
        return {row.id for row in self.rows} & set(ids)


def total(rows):
    return Spent(
        sum(row.cost_nanousd or 0 for row in rows), sum(1 for row in rows if row.cost_nanousd is None)
    )


class Process(RuleBasedStateMachine):
    """A process with a store that others write into as well, on a clock that somebody sets."""

    def __init__(self):
        super().__init__()
        module.FIRST_WAIT_S = 0
        self.now, self.seconds, self.locked, self.count = SPRING, 0.0, False, 0
        self.zone = "UTC"
        self.own, self.waiting, self.store = [], [], []
        self.spending = Spending(
            self.state, lambda: self.now, seconds=lambda: self.seconds, start=lambda _: None
        )
        self.spending.follow({"p0": self.zone})
        self.window = self.known = None
        self.busy = False

    @contextmanager
    def state(self):
        if self.locked:
            raise StoreUnavailable("The store is locked.")
        if self.busy:
            self.settle(11, True, True)  # written by the recorder before it is counted here
        rows = list(self.store)
        yield Snapshot(rows, (lambda: self.settle(7, True, True)) if self.busy else None)
        self.known = [row for row in rows if row.id.startswith("other")]

    def row(self, kind, cost, at_ms):
        self.count += 1
        return request_record(id=f"{kind}{self.count}", timestamp_ms=at_ms, project="p0", cost_nanousd=cost)

    @rule(cost=COSTS, recorded=st.booleans(), written=st.booleans(), since=st.integers(0, 5_000_000))
    def settle(self, cost, recorded, written, since=0):
        row = self.row("own", cost, self.now - since)
        make = self.spending.note("p0", lambda: row, recorded=recorded)
        assert make() is row
        self.own.append(row)
        if recorded and written:
            self.store.append(row)
        elif recorded:
            self.waiting.append(row)

    @rule(count=st.integers(1, 5))
    def write(self, count):
        self.store += self.waiting[:count]
        del self.waiting[:count]

    @rule(cost=COSTS, since=st.integers(0, 2 * DAY))
    def another_process_writes(self, cost, since):
        self.store.append(self.row("other", cost, self.now - since))

    @rule(ms=st.integers(0, DAY))
    def time_passes(self, ms):
        self.now += ms
        self.seconds += ms // 1000  # whole ones: half a minute is then exactly that

    @rule(ms=st.integers(-2 * DAY, DAY))
    def the_clock_is_set(self, ms):
        self.now += ms

    @rule(zone=st.sampled_from(ZONES))
    def the_zone_is_changed(self, zone):
        self.zone = zone
        self.spending.follow({"p0": zone})

    @rule(locked=st.booleans(), busy=st.booleans())
    def the_store(self, locked, busy):
        self.locked, self.busy = locked, busy

    @precondition(lambda self: not self.locked)
    @rule()
    def half_a_minute_passes(self):
        self.seconds += REFRESH_S
        self.spending.today("p0", self.zone, self.now)
        self.spending.work_off()
        assert self.spending.today("p0", self.zone, self.now) == self.truth()

    def truth(self, others=None):
        window = day_window(self.zone, self.now)
        others = [row for row in self.store if row.id.startswith("other")] if others is None else others
        return total(
            [row for row in others + self.own if window.start_ms <= row.timestamp_ms < window.end_ms]
        )

    @invariant()
    def the_sum_is_what_is_known(self):
        if self.window != (window := day_window(self.zone, self.now)):
            self.known, self.window = None, window
        self.spending.today("p0", self.zone, self.now)
        self.spending.work_off()
        spent = self.spending.today("p0", self.zone, self.now)
        assert spent.cost_nanousd <= self.truth().cost_nanousd
        if self.known is not None:
            # Its own rows, each once, and those of others that were there when it looked last.
            assert spent == self.truth(self.known)


Process.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestProcess = Process.TestCase


@pytest.fixture
def steps(monkeypatch):
    """A store that is a list, a clock, and what goes by them."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0)

    class Steps:
        now, seconds, rows, failure, opened = NOW, 0.0, [], None, 0

        @contextmanager
        def state(self):
            self.opened += 1
            if self.failure:
                raise self.failure
            yield Snapshot(list(self.rows))

        def make(self):
            self.rows = []
            return Spending(self.state, lambda: self.now, seconds=lambda: self.seconds, start=lambda _: None)

    return Steps()


def test_the_store_is_read_at_most_every_30_s(steps):
    spending = steps.make()
    spending.follow({"p0": "UTC"})
    for second in range(91):
        steps.seconds = second
        spending.today("p0", "UTC", steps.now)
        spending.work_off()
    assert steps.opened == 4  # when it began, and at 30, 60, 90


def test_a_store_that_cannot_be_read_is_told_once_and_own_rows_count_on(steps, caplog):
    spending = steps.make()
    spending.follow({"p0": "UTC"})
    steps.failure = StoreUnavailable("The store is locked.")
    for number in range(3):
        steps.seconds += REFRESH_S
        spending.note(
            "p0", lambda number=number: request_record(id=f"r{number}", cost_nanousd=5), recorded=True
        )
        spending.today("p0", "UTC", steps.now)
        spending.work_off()
    assert spending.today("p0", "UTC", steps.now) == Spent(15, 0)
    assert caplog.text.count("The store is locked.") == 1
    steps.failure = None
    steps.seconds += REFRESH_S
    spending.today("p0", "UTC", steps.now)
    spending.work_off()
    assert spending.today("p0", "UTC", steps.now) == Spent(15, 0)


def test_rows_of_days_long_gone_are_forgotten_also_while_the_store_cannot_be_read(steps):
    spending = steps.make()
    spending.follow({"p0": "UTC"})
    steps.failure = StoreUnavailable("The store is locked.")
    for day in range(9):
        steps.now = NOW + day * DAY
        spending.note(
            "p0",
            lambda: request_record(id=f"r{steps.now}", timestamp_ms=steps.now, cost_nanousd=5),
            recorded=True,
        )
        steps.seconds += REFRESH_S
        spending.today("p0", "UTC", steps.now)
        spending.work_off()
    assert spending.today("p0", "UTC", steps.now) == Spent(5, 0)
    assert len(spending._rows["p0"]) == 3  # today's, and those of two days


def test_a_project_that_is_not_followed_costs_nothing_to_note(steps):
    spending = steps.make()
    make = request_record
    assert spending.note("p0", make, recorded=True) is make
    spending.follow({"p0": "UTC"})
    assert spending.note("p0", make, recorded=True) is not make
    spending.follow({})
    spending.work_off()
    assert spending.note("p0", make, recorded=True) is make


def test_a_row_that_cannot_be_made_counts_nothing_and_the_next_one_does(steps):
    spending = steps.make()
    spending.follow({"p0": "UTC"})

    def fail():
        raise ValueError("no price")

    with pytest.raises(ValueError, match="no price"):
        spending.note("p0", fail, recorded=True)()
    spending.note("p0", lambda: request_record(cost_nanousd=3), recorded=True)
    spending.work_off()
    assert spending.today("p0", "UTC", steps.now).cost_nanousd == 3


def test_an_error_of_ours_is_told_and_ends_nothing(steps, caplog):
    spending = steps.make()
    steps.failure = ZeroDivisionError("ours")
    spending.follow({"p0": "UTC"})
    spending.work_off()
    assert "What projects spend is not counted." in caplog.text
    steps.failure = None
    spending.follow({"p0": "UTC"})
    spending.work_off()
    assert spending.today("p0", "UTC", steps.now) == Spent()


def test_who_stood_still_for_long_asks_the_store_before_it_goes_on(steps):
    spending = steps.make()
    spending.follow({"p0": "UTC"})
    spending.today("p0", "UTC", steps.now)
    spending.work_off()
    steps.rows.append(request_record(id="other", cost_nanousd=9))
    steps.seconds += 2 * REFRESH_S
    waited = []

    class Known:
        def clear(self):
            waited.append("clear")

        def wait(self, timeout):
            waited.append(timeout)
            spending.work_off()

        def set(self):
            waited.append("set")

    spending._days["p0"].known = Known()
    assert spending.today("p0", "UTC", steps.now).cost_nanousd == 9
    assert waited == ["clear", 0, "set"]


def test_a_day_that_begins_while_the_store_is_read_loses_no_row(steps):
    spending = steps.make()
    tomorrow = day_window("UTC", NOW).end_ms
    row = request_record(id="r", timestamp_ms=tomorrow, cost_nanousd=5)
    spending.follow({"p0": "UTC"})
    spending.note("p0", lambda: row, recorded=True)
    steps.rows.append(row)
    snapshot = Snapshot(list(steps.rows), lambda: spending.today("p0", "UTC", tomorrow))

    @contextmanager
    def state():
        yield snapshot

    spending._state = state
    spending.work_off()
    spending._state = steps.state
    assert spending.today("p0", "UTC", tomorrow) == Spent(5, 0)
    steps.failure = StoreUnavailable("The store is locked.")
    spending.note("p0", lambda: request_record(timestamp_ms=tomorrow, cost_nanousd=None), recorded=False)
    spending.work_off()
    assert spending.today("p0", "UTC", tomorrow) == Spent(5, 1)
    steps.failure, steps.now = None, tomorrow
    spending.follow({"p0": "UTC"})
    spending.work_off()
    assert spending.today("p0", "UTC", tomorrow) == Spent(5, 1)


def test_another_zone_counts_its_own_day_at_once(steps):
    spending = steps.make()
    spending.follow({"p0": "UTC"})
    # In Kathmandu a day begins at 18:15 UTC.
    row = request_record(timestamp_ms=day_window("UTC", NOW).start_ms - 3_600_000, cost_nanousd=5)
    spending.note("p0", lambda: row, recorded=True)
    spending.work_off()
    assert spending.today("p0", "UTC", NOW).cost_nanousd == 0
    assert spending.today("p0", "Asia/Kathmandu", NOW).cost_nanousd == 5


def test_the_thread_reads_the_store_by_itself_when_nobody_asks(monkeypatch, steps):
    opened = threading.Event()

    @contextmanager
    def state():
        with steps.state() as found:
            yield found
        if steps.opened == 2:
            opened.set()

    monkeypatch.setattr(module, "REFRESH_S", 0.001)
    spending = Spending(state, lambda: NOW)
    spending.follow({"p0": "UTC"})
    try:
        assert opened.wait(20)
    finally:
        spending.close()
