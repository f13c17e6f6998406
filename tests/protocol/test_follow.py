"""``get_logs`` with ``follow_seconds``: every new row once, whoever inserts it and whatever its timestamp."""

import json
import random
import subprocess
import sys
import threading
from contextlib import closing, suppress
from functools import partial

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from tests.factories import NOW, request_record
from tests.protocol.agents import ERAS

from voicegw_mcp.core import followers
from voicegw_mcp.core.access import Access
from voicegw_mcp.core.log_following import follow_log
from voicegw_mcp.domain import RequestStatus
from voicegw_mcp.store.log_tail import LogTails
from voicegw_mcp.store.requests import LogFilter, insert_requests
from voicegw_mcp.store.schema import connect
from voicegw_mcp.store.sqlite import Store

LONG = 25
BOUND_S = 20


def ids(answer):
    return [row["id"] for row in answer["logs"]]


def insert(house, *records):
    with closing(connect(house.database, timeout_s=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        insert_requests(connection, records)
        connection.execute("COMMIT")


class Reports:
    """What came as progress, and a wait for the next."""

    def __init__(self):
        self.batches = []
        self.progress = []
        self._came = anyio.Event()

    async def __call__(self, progress, total, message):
        assert total is None
        assert message == json.dumps(json.loads(message), ensure_ascii=False, separators=(",", ":"))
        self.batches.append(json.loads(message))
        self.progress.append(progress)
        self._came.set()

    async def wait(self, number):
        with anyio.fail_after(BOUND_S):
            while len(self.batches) < number:
                await self._came.wait()
                self._came = anyio.Event()


async def follow(agent, reports=None, **arguments):
    result = await agent.client.call_tool("get_logs", arguments, progress_callback=reports)
    assert json.loads(result.content[0].text) == result.structured_content
    assert not result.is_error, result.structured_content
    return result.structured_content


@pytest.mark.parametrize("era", ERAS)
async def test_new_rows_come_as_progress_and_in_the_answer_behind_the_page(house, era):
    await house.log(request_record(id="old", timestamp_ms=NOW - 5))
    reports, answers = Reports(), []
    async with house.agent(mode=era) as agent, anyio.create_task_group() as tasks:

        async def call():
            answers.append(await follow(agent, reports, follow_seconds=LONG, limit=3))

        tasks.start_soon(call)
        await started(agent)
        await house.log(request_record(id="a", error_message="<b>\u202e"))
        await reports.wait(1)
        await house.log(request_record(id="late", timestamp_ms=NOW - 10_000))
        await reports.wait(2)
        await house.log(request_record(id="b"))  # the third of three
    (answer,) = answers
    assert ids(answer) == ["old", "a", "late", "b"]
    assert (answer["count"], answer["new_count"]) == (4, 3)
    assert [row for batch in reports.batches for row in batch] == answer["logs"][1:]
    assert reports.progress == [1, 2, 3]
    assert "\u202e" not in answer["logs"][1]["error_message"]


async def started(agent):
    """Wait until a call looks for rows."""
    tails = agent.gateway.log_tails._tails
    with anyio.fail_after(BOUND_S):
        while not any(tail._stamp is not None or tail._turn.locked() for tail in tails.values()):  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_cursor_goes_on_without_gap_or_repeat_also_without_waiting(house, agent):
    await house.log(request_record(id="old"))
    answer = await follow(agent, follow_seconds=0)
    assert (ids(answer), answer["new_count"]) == (["old"], 0)
    for number in range(3):
        await house.log(request_record(id=f"r{number}", timestamp_ms=NOW - number))
        answer = await follow(agent, cursor=answer["next_cursor"])
        assert (ids(answer), answer["new_count"]) == ([f"r{number}"], 1)
    again = await follow(agent, cursor=answer["next_cursor"], follow_seconds=0)
    assert (ids(again), again["next_cursor"]) == ([], answer["next_cursor"])


async def test_more_rows_than_limit_come_in_the_next_calls(house, agent):
    answer = await follow(agent, follow_seconds=0)
    rows = [request_record(id=f"r{number}", timestamp_ms=NOW - number) for number in range(10)]
    await house.log(*rows)
    seen = []
    for expected in (4, 4, 2):
        answer = await follow(agent, cursor=answer["next_cursor"], limit=4)
        assert answer["new_count"] == expected
        seen += ids(answer)
    assert seen == [row.id for row in rows]


async def test_rows_too_long_for_one_answer_come_in_the_next_calls(house, agent):
    answer = await follow(agent, follow_seconds=0)
    rows = [request_record(id=f"r{number}", error_message="é" * 1_900) for number in range(30)]
    await house.log(*rows)
    seen, cut = [], 0
    while not seen or seen[-1] != "r29":
        answer = await follow(agent, cursor=answer["next_cursor"], limit=1000, detail="full")
        assert len(json.dumps(answer, ensure_ascii=False).encode()) < 40_000
        seen += ids(answer)
        cut += "truncated" in answer
    assert seen == [row.id for row in rows]
    assert cut >= 2


async def test_a_full_page_leaves_room_for_what_comes(house, agent):
    await house.log(
        *(request_record(id=f"old{number}", error_message="x" * 1_900) for number in range(30)),
    )
    first = await follow(agent, follow_seconds=0, limit=1000, detail="full")
    assert 0 < first["count"] < 30
    assert first["truncated"]


async def test_filters_hold_and_what_they_leave_out_is_passed(house, agent):
    await house.log(request_record(id="old", status=RequestStatus.ERROR, project="support-line"))
    asked = {"status": "error", "project": "support-line", "search": "quota"}
    answer = await follow(agent, follow_seconds=0, **asked)
    assert ids(answer) == []
    fits = {"status": RequestStatus.ERROR, "project": "support-line", "error_message": "Quota exceeded"}
    await house.log(
        request_record(id="1", **fits),
        request_record(id="2", **{**fits, "status": RequestStatus.FALLBACK}),
        request_record(id="3", **{**fits, "project": "outbound"}),
        request_record(id="4", **{**fits, "error_message": "timeout"}),
        request_record(id="5", **fits),
    )
    answer = await follow(agent, cursor=answer["next_cursor"], **asked)
    assert ids(answer) == ["1", "5"]
    assert ids(await follow(agent, cursor=answer["next_cursor"], **asked)) == []


async def test_cursors_of_pages_and_of_other_queries_are_refused(house, agent):
    await house.log(*(request_record(id=str(number)) for number in range(3)))
    page = await agent.ok("get_logs", limit=1)
    for arguments in (
        {"cursor": page["next_cursor"], "follow_seconds": 1, "limit": 1},
        {"cursor": (await follow(agent, follow_seconds=0))["next_cursor"], "status": "error"},
        {"follow_seconds": 26},
        {"follow_seconds": -1},
    ):
        error = await agent.refused("get_logs", arguments)
        assert error["code"] == "VALIDATION_ERROR"
        assert error["details"]["field"] in {"cursor", "follow_seconds"}


async def test_a_cursor_of_a_log_that_was_replaced_is_refused(house):
    await house.log(*(request_record(id=str(number)) for number in range(5)))
    async with house.agent() as agent:
        cursor = (await follow(agent, follow_seconds=0))["next_cursor"]
    for path in house.folder.glob("voicegw.db*"):
        path.unlink()
    await house.log(request_record(id="new"))
    async with house.agent() as agent:
        error = await agent.refused("get_logs", cursor=cursor)
    assert (error["code"], error["details"]) == ("VALIDATION_ERROR", {"field": "cursor"})


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_follow_ends_at_once_and_loses_nothing(house, era):
    async with house.agent(mode=era) as agent:
        answer = await follow(agent, follow_seconds=0)
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(follow, agent, follow_seconds=LONG, cursor=answer["next_cursor"]))
                await started(agent)
                tasks.cancel_scope.cancel()
            with anyio.fail_after(BOUND_S):
                (tail,) = agent.gateway.log_tails._tails.values()
                while tail._turn.locked():  # noqa: ASYNC110 - the server ends it a moment after the client
                    await anyio.sleep(0.01)
        await house.log(request_record(id="a"))
        assert ids(await follow(agent, cursor=answer["next_cursor"], follow_seconds=LONG, limit=1)) == ["a"]


async def test_many_followers_share_one_look_and_all_hear_of_a_row(house, monkeypatch):
    monkeypatch.setattr(followers, "MOST_OF_A_SESSION", 200)
    async with house.agent() as agent:
        looks, answers = [], []
        store = await agent.gateway.store()
        stamp = store.stamp
        store.stamp = lambda: looks.append(1) or stamp()

        async def one():
            answers.append(await follow(agent, follow_seconds=LONG, limit=1))

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(one)
            await started(agent)
            (tail,) = agent.gateway.log_tails._tails.values()
            with anyio.fail_after(BOUND_S):
                while tail._turn.statistics().tasks_waiting < 199:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            await house.log(request_record(id="a"))
    assert [ids(answer) for answer in answers] == [["a"]] * 200
    assert len(looks) < 100


async def test_who_is_bound_to_projects_follows_their_rows_only(house):
    gateway = house.gateway()
    try:
        bound = gateway.as_caller("x", Access(projects=frozenset({"support-line"})))
        options = {"seconds": 0, "limit": 5, "detail": "concise"}
        first = await follow_log(bound, LogFilter(), after=None, **options)
        await house.log(*(request_record(id=f"o{number}", project="outbound") for number in range(3)))
        await house.log(request_record(id="mine", project="support-line"))
        await house.log(request_record(id="other", project="outbound"))
        page = await follow_log(bound, LogFilter(), after=0, **options)
        assert [row.id for row in page.logs] == ["mine"]
        assert first.count == 0
    finally:
        await gateway.close()


INSERTER = """
import random, sys
from contextlib import closing
from pathlib import Path
from tests.factories import NOW, request_record
from voicegw_mcp.domain import RequestStatus
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import connect
path, seed = Path(sys.argv[1]), sys.argv[2]
chance = random.Random(seed)
with closing(connect(path, timeout_s=30)) as connection:
    for batch in range(60):
        rows = [request_record(id=f"{seed}-{batch}-{n}", timestamp_ms=NOW + chance.choice([0, 0, -9999, 1, 50]),
                               status=RequestStatus(chance.choice(["success", "error"]))) for n in range(chance.randint(1, 9))]
        connection.execute("BEGIN IMMEDIATE")
        insert_requests(connection, rows)
        connection.execute("COMMIT")
        print(*(row.id for row in rows if row.status == "error"), flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
async def test_rows_of_other_processes_and_threads_come_each_exactly_once(house, request, seed):
    async with house.agent() as agent:
        answer = await follow(agent, follow_seconds=0, status="error")
        root = str(request.config.rootpath)
        processes = [
            subprocess.Popen(  # noqa: ASYNC220 - starting one takes no time that matters here
                [sys.executable, "-c", INSERTER, str(house.database), f"p{seed}{number}"],
                cwd=root,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        ]
        mine = []

        def write():
            chance = random.Random(seed)  # noqa: S311
            for number in range(100):
                record = request_record(
                    id=f"t{number}",
                    timestamp_ms=NOW - chance.choice([0, 0, 7, 5_000]),
                    status=RequestStatus.ERROR,
                )
                insert(house, record)
                mine.append(record.id)

        thread = threading.Thread(target=write)
        thread.start()
        seen, chance = [], random.Random(-seed - 1)  # noqa: S311
        expected = None
        with anyio.fail_after(3 * BOUND_S):
            while expected is None or len(seen) < len(expected):
                answer = await follow(
                    agent,
                    cursor=answer["next_cursor"],
                    status="error",
                    limit=chance.choice([1, 3, 20, 1000]),
                    follow_seconds=chance.choice([0, 0.05, 0.3]),
                )
                seen += ids(answer)
                if (
                    expected is None
                    and not thread.is_alive()
                    and all(p.poll() is not None for p in processes)
                ):
                    expected = {*mine, *(name for p in processes for name in p.stdout.read().split())}
        thread.join()
        for process in processes:
            process.stdout.close()
            assert process.wait() == 0
        rest = await follow(agent, cursor=answer["next_cursor"], status="error", follow_seconds=0.3)
        assert ids(rest) == []
    assert len(seen) == len(set(seen))
    assert set(seen) == expected


async def test_a_store_that_cannot_be_read_ends_the_wait(tmp_path):
    store = await Store.open(tmp_path / "voicegw.db")
    tails, failed = LogTails(), []

    async def wait():
        try:
            await tails.wait(store, store, 0)
        except Exception as error:  # noqa: BLE001
            failed.append(error.details["reason"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        await store.close()
        store.stamp = object
    assert failed == ["closed", "closed"]


async def follow_many(agent, number, tasks):
    """Follow with so many calls; return when all of them wait."""

    async def one():
        with suppress(MCPError):  # the client goes before the answer comes
            await follow(agent, follow_seconds=LONG)

    for _ in range(number):
        tasks.start_soon(one)
    with anyio.fail_after(BOUND_S):
        while agent.gateway.followers._count.total() < number:  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.parametrize("era", ERAS)
async def test_one_client_follows_with_so_many_calls_and_is_told_what_to_do_instead(house, era):
    async with house.agent(mode=era) as agent, anyio.create_task_group() as tasks:
        answer = await follow(agent, follow_seconds=0)
        await follow_many(agent, followers.MOST_OF_A_SESSION, tasks)
        error = await agent.refused("get_logs", follow_seconds=1, cursor=answer["next_cursor"])
        assert (error["code"], error["details"]) == ("VALIDATION_ERROR", {"field": "follow_seconds"})
        assert "follow_seconds=0" in error["hint"]
        await house.log(request_record(id="a"))
        looked = await follow(agent, follow_seconds=0, cursor=answer["next_cursor"])
        assert ids(looked) == ["a"]
        tasks.cancel_scope.cancel()


async def test_all_clients_together_follow_with_so_many_calls(house, monkeypatch):
    monkeypatch.setattr(followers, "MOST", 3)
    async with house.agent() as agent, anyio.create_task_group() as tasks:
        await follow_many(agent, 3, tasks)
        error = await agent.refused("get_logs", follow_seconds=1)
        assert (error["code"], error["details"]) == ("STORE_UNAVAILABLE", {"reason": "followers"})
        await house.log(*(request_record(id=str(number)) for number in range(50)))
        with anyio.fail_after(BOUND_S):
            while agent.gateway.followers._count:  # noqa: ASYNC110 - they end with their 50 rows
                await anyio.sleep(0.01)
        assert (await follow(agent, follow_seconds=0.1))["new_count"] == 0
