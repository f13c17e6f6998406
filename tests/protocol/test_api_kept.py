"""Answers of reports that are kept and shared: never one of another state, caller or quarter hour."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest
from tests.factories import NOW, request_record

from voicegw_mcp.domain import QUARTER_MS
from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.web.api import endpoints

KEYS = """
auth:
  api_keys:
    - {token: "${VIEW}", name: wall, role: viewer}
    - {token: "${BOUND}", name: theirs, role: viewer, projects: [outbound]}
"""
VIEW, BOUND = "fake-token-view", "fake-token-bound"
WAIT_S = 20


class Reports:
    """The reports that are made: their names; those behind ``hold`` wait until they are let go or stopped."""

    def __init__(self):
        self.names = []
        self.stopped = 0
        self.failure = None
        self._held = None
        self._begun = asyncio.Semaphore(0)

    def hold(self):
        self._held = asyncio.Event()

    def let_go(self):
        self._held.set()
        self._held = None

    async def begun(self):
        await asyncio.wait_for(self._begun.acquire(), WAIT_S)

    def counting(self, tool):
        async def run(gateway, args):
            self.names.append(tool.name)
            self._begun.release()
            found = await tool.run(gateway, args)
            try:
                if self._held is not None:
                    await self._held.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
            if self.failure is not None:
                raise self.failure
            return found

        return replace(tool, run=run)

    def __len__(self):
        return len(self.names)


@pytest.fixture
def made(monkeypatch):
    made = Reports()
    for name in ("get_costs", "get_latency_stats"):
        monkeypatch.setattr(endpoints, name, made.counting(getattr(endpoints, name)))
    return made


def row(row_id, **fields):
    plain = {"project": "outbound", "provider": "openai", "model_id": "openai/gpt-4.1-mini"}
    return request_record(id=row_id, cost_nanousd=1_000_000_000, ttfb_ms=100.0, **{**plain, **fields})


async def look_once(site):
    """Look at names and state of the store: the first look waits for a thread, and whoever does looks as if he were waiting."""
    await (await site.gateway.store_handle.sound()).version()


@asynccontextmanager
async def asking(site, path, count, **options):
    """Ask so many times at once; gives the requests, each in a task."""
    await look_once(site)
    tasks = [asyncio.create_task(site.ok(path, **options)) for _ in range(count)]
    # Whoever is not the first has looked at the state of the store, and waits, when all others have had their turns.
    await anyio.wait_all_tasks_blocked()
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("path", ["/v1/costs?period=today", "/v1/latency?period=today"])
async def test_an_answer_is_made_once_until_a_row_comes_in(site, house, made, path):
    await house.log(row("a"))
    first = await site.ok(path)
    assert await site.ok(path) == first
    assert len(made) == 1
    for number, row_id in enumerate("bcd"):  # each right behind the answer before
        await house.log(row(row_id))
        after = await site.ok(path)
        assert after != first
        assert len(made) == 2 + number
        first = after
    assert await site.ok(f"{path}&project=support-line") != after
    assert len(made) == 5


async def test_an_answer_is_made_anew_in_the_next_quarter_hour_and_after_a_change_of_the_file(
    site, house, made
):
    await house.log(row("a"))
    first = await site.ok("/v1/costs")
    house.now = NOW + QUARTER_MS
    later = await site.ok("/v1/costs")
    assert (first["end"] < later["end"], len(made)) == (True, 2)
    house.write(house.text.replace("timezone: UTC", "timezone: Asia/Tokyo"))
    assert (await site.ok("/v1/costs"))["timezone"] == "Asia/Tokyo"


async def test_no_caller_gets_the_answer_of_another(site, house, made):
    house.secrets(VIEW=VIEW, BOUND=BOUND)
    house.write(house.text + KEYS)
    await house.log(row("a"), row("b", project="support-line"))
    totals = [(await site.ok("/v1/costs", token=token))["total"] for token in (VIEW, BOUND, VIEW, BOUND)]
    assert totals == [2, 1, 2, 1]
    assert len(made) == 2
    assert (await site.get("/v1/costs?project=support-line", token=BOUND)).status == 404
    await house.log(row("c", project="support-line"))
    made.hold()
    async with (
        asking(site, "/v1/costs", 1, token=VIEW) as wide,
        asking(site, "/v1/costs", 1, token=BOUND) as own,
    ):
        made.let_go()
        assert [(await task)["total"] for task in (*wide, *own)] == [3, 1]


async def test_few_answers_are_kept(site, house, made, monkeypatch):
    from voicegw_mcp.web.api import kept

    monkeypatch.setattr(kept, "MOST", 2)
    await house.log(row("a"))
    asked = ("today", "week", "today", "month", "today", "week")
    for period in asked:
        await site.ok(f"/v1/costs?period={period}")
    assert len(made) == 4  # of the three the one that was asked for longest ago went


async def test_who_asks_while_an_answer_of_the_same_state_is_made_shares_it(site, house, made):
    await house.log(row("a"))
    made.hold()
    async with asking(site, "/v1/costs", 3) as first:
        await made.begun()
        async with asking(site, "/v1/costs", 5) as others:
            made.let_go()
            answers = await asyncio.gather(*first, *others)
    assert [answer["total"] for answer in answers] == [1] * 8
    assert len(made) == 1


async def test_who_asks_behind_a_row_is_told_of_it_though_an_older_answer_is_still_made_and_that_is_not_kept(
    site, house, made
):
    await house.log(row("a"))
    made.hold()
    async with asking(site, "/v1/costs", 1) as (old,):
        await made.begun()
        let_go_old, made._held = made._held, None
        await house.log(row("b"))
        assert (await site.ok("/v1/costs"))["total"] == 2
        let_go_old.set()
        assert (await old)["total"] == 1
    assert (await site.ok("/v1/costs"))["total"] == 2
    assert len(made) == 2


async def test_who_leaves_takes_the_answer_from_nobody_and_the_last_one_stops_it(site, house, made):
    await house.log(row("a"))
    made.hold()
    async with asking(site, "/v1/costs", 3) as (first, second, third):
        await made.begun()
        first.cancel()
        await asyncio.wait([first])
        made.let_go()
        assert (await second)["total"] == (await third)["total"] == 1
    assert (len(made), made.stopped) == (1, 0)
    await house.log(row("b"))
    made.hold()
    async with asking(site, "/v1/costs", 2):
        await made.begun()
    assert (len(made), made.stopped) == (2, 1)
    made.let_go()
    assert (await site.ok("/v1/costs"))["total"] == 2  # and not what was stopped
    assert len(made) == 3


async def test_what_fails_is_told_to_all_who_wait_and_is_not_kept(site, house, made):
    await house.log(row("a"))
    made.failure = StoreUnavailable("The disk is full.", hint="Make room.")
    made.hold()
    await look_once(site)
    tasks = [asyncio.create_task(site.get("/v1/costs")) for _ in range(3)]
    await made.begun()
    await anyio.wait_all_tasks_blocked()
    made.let_go()
    assert [(await task).status for task in tasks] == [503] * 3
    assert len(made) == 1
    made.failure = None
    assert (await site.ok("/v1/costs"))["total"] == 1
    for _ in range(2):
        assert (await site.get("/v1/costs?project=nobody")).status == 404
    assert len(made) == 4


async def test_a_store_that_does_not_tell_its_state_is_read_for_each_answer(site, house, made, monkeypatch):
    await house.log(row("a"))
    store = await site.gateway.store()

    async def unknown():
        return None

    monkeypatch.setattr(store, "version", unknown)
    assert [(await site.ok("/v1/costs"))["total"] for _ in range(2)] == [1, 1]
    assert len(made) == 2


async def test_a_store_that_is_damaged_meanwhile_is_told(site, house):
    await house.log(row("a"))
    await site.ok("/v1/costs")
    await site.gateway.close()
    house.database.write_bytes(b"no store" * 100)
    assert (await site.get("/v1/costs")).status == 503
    assert (await site.get("/v1/costs?period=fortnight")).status == 400
