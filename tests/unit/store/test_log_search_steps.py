"""How much of a log a page reads: steps of SQLite's machine, on a log and on one eight times as long."""

import time
from contextlib import closing

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.domain import RequestStatus
from voicegw_mcp.store.bound_views import BOUND_VIEWS
from voicegw_mcp.store.log_rows import LogFilter
from voicegw_mcp.store.requests import insert_requests, read_log
from voicegw_mcp.store.schema import connect, prepare

MINUTE = 60_000


def many(days):
    """Return rows of so many days, one a minute: most alike, and some that a filter finds only at the other end of the log."""
    start = NOW - days * DAY
    for number in range(days * 1440):
        rare = number in {100, 101, 102, 103} or number in {
            days * 1440 - left for left in (300, 301, 302, 303)
        }
        failed = number % 20 == 0
        yield request_record(
            id=f"{number:08}",
            timestamp_ms=start + number * MINUTE,
            project=f"p{number % 2}",
            provider=f"v{number % 3}",
            model_id="rare" if rare and number % 2 else f"m{number % 3}",
            status=RequestStatus.ERROR if failed else RequestStatus.SUCCESS,
            session_id="always" if number % 7 == 0 else f"s{number // 30}",
            total_ms=9_000.0 if rare else 100.0 + number % 1_000,
            cost_nanousd=10**8 if rare and number % 4 == 0 else 0 if failed else 10_000 + number % 1_000,
            error_message=f"{'disk' if rare else 'call'} {number} failed" if failed or rare else None,
        )


RARE = {
    "nothing": {},
    "slow": {"min_latency_ms": 8_000.0},
    "slower than any": {"min_latency_ms": 10_000.0},
    "costly": {"min_cost_nanousd": 10**7},
    "slow and costly": {"min_latency_ms": 1_000.0, "min_cost_nanousd": 10_900},
    "a model of four rows": {"model_id": "rare"},
    "a model that a project has not": {"model_id": "rare", "project": "p0"},
    "a status nobody has": {"status": "cancelled"},
    "errors that cost": {"status": "error", "min_cost_nanousd": 1},
    "a session": {"session_id": "s7"},
    "a session of every seventh row, rarely slow": {"session_id": "always", "min_latency_ms": 8_000.0},
    "a text": {"search": "call 40 "},
    "a text of few": {"search": "disk"},
    "a text of none": {"search": "tape"},
    "one letter": {"search": "k"},
    "one letter of none": {"search": "~"},
    "a text of many, of a model of few": {"search": "call", "model_id": "rare"},
    "slow, of some days": {"min_latency_ms": 8_000.0, "start_ms": NOW - 8 * DAY, "end_ms": NOW - 5 * DAY},
    "a project, up to a day": {"project": "p1", "provider": "v2", "end_ms": NOW - 5 * DAY},
    "a project, from a day": {"project": "p1", "provider": "v2", "start_ms": NOW - 5 * DAY},
    "errors of some days": {"status": "error", "start_ms": NOW - 8 * DAY, "end_ms": NOW - 5 * DAY},
    "a session, up to a day": {"session_id": "always", "end_ms": NOW - 5 * DAY},
    "a text, up to a day": {"search": "failed", "end_ms": NOW - 5 * DAY},
    "a text of many, slow": {"search": "call", "min_latency_ms": 8_000.0},
}


class _Counted:
    """Reads by a connection that counts the steps of SQLite's machine."""

    def __init__(self, path, projects):
        self.path = path
        self.projects = frozenset(projects) or None
        self.steps = 0
        self.connection = connect(path, timeout_s=1, read_only=True)
        self.connection.set_progress_handler(self._step, 1)

    def _step(self):
        self.steps += 1

    def read(self, sql, params=()):
        return self.connection.execute(sql, params).fetchall()


def steps_of(path, fields, projects):
    counted = _Counted(path, projects)
    with closing(counted.connection):
        if projects:
            counted.connection.executescript(BOUND_VIEWS)
            counted.connection.executemany("INSERT INTO bound VALUES (?)", [(name,) for name in projects])
        steps = []
        for order in ("newest", "oldest"):
            query = LogFilter(**fields, order=order)
            read_log(counted, query, limit=50)
            counted.steps = 0
            read_log(counted, query, limit=50)
            steps.append(counted.steps)
        return max(steps)


@pytest.fixture(scope="module")
def short_and_long(tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("logs"), []
    for days in (9, 72):
        path = folder / f"{days}.db"
        prepare(path, deadline=time.monotonic() + 10)
        with closing(connect(path, timeout_s=1)) as connection:
            connection.execute("BEGIN")
            insert_requests(connection, list(many(days)))
            connection.execute("COMMIT")
        paths.append(path)
    return paths


@pytest.fixture(autouse=True)
def _cells_in_order_are_fewer_than_the_logs_have(monkeypatch):
    """What is bounded by a number grows up to it, and would look like growth with the log."""
    monkeypatch.setattr("voicegw_mcp.store.log_search._MOST_REACHED", 100)


@pytest.mark.unmeasured
@pytest.mark.parametrize("projects", [(), ("p1",)])
@pytest.mark.parametrize("fields", RARE.values(), ids=RARE)
def test_a_log_eight_times_as_long_is_not_searched_longer(short_and_long, fields, projects):
    short, long = [steps_of(path, fields, projects) for path in short_and_long]
    assert long < 1.5 * short + 3_000
    assert long < 60_000
