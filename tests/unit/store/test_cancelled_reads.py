"""A caller who goes away in the middle of a query leaves a reader behind that answers the next one with fresh rows."""

import asyncio
import itertools
import threading

import anyio
import pytest

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.reader import Reads

COUNT = "SELECT COUNT(*) FROM series"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
HANGS_S = 30


class Stepped:
    """Awaits ``work`` and calls ``cancel`` when it waits for the time ``at`` (from 0); ``reached`` tells that it did."""

    def __init__(self, work, at, cancel):
        self.work, self.at, self.cancel = work, at, cancel
        self.reached = False

    def __await__(self):
        steps = self.work.__await__()
        resume, value = steps.send, None
        for number in itertools.count():
            try:
                waits = resume(value)
            except StopIteration as done:
                return done.value
            if number == self.at:
                self.reached = True
                self.cancel()
            resume, value = steps.send, None
            try:
                value = yield waits
            except BaseException as error:  # noqa: BLE001 - cancellation goes where it was meant for
                resume, value = steps.throw, error


async def cancelled_by_scope(work, at):
    with anyio.CancelScope() as scope:
        stepped = Stepped(work, at, scope.cancel)
        await stepped
    return stepped.reached


async def cancelled_by_task(work, at):
    async def run():
        nonlocal stepped
        stepped = Stepped(work, at, asyncio.current_task().cancel)
        await stepped

    stepped = None
    await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
    return stepped.reached


async def cancelled_twice(work, at):
    """Cancel the task at that point and again while it cleans up."""

    async def run():
        nonlocal stepped
        task = asyncio.current_task()

        def cancel():
            task.cancel()
            asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(task.cancel))

        stepped = Stepped(work, at, cancel)
        await stepped

    stepped = None
    await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
    return stepped.reached


def twice(reads):
    first = reads.read(COUNT)
    assert reads.read(COUNT) == first
    return first


async def report(store):
    await store.ask(twice)


async def one_read(store):
    await store.read(COUNT)


async def late_patience(store):
    """The first query after the span of patience for opening sets a new one."""
    store._patient, store._deadline = False, 0.0
    await store.read(COUNT)


def put(connection, number):
    connection.execute("INSERT INTO series VALUES (?, 'p', 'stt', 'v', ?)", (number, f"m{number}"))


@pytest.mark.parametrize("work", [report, one_read, late_patience])
@pytest.mark.parametrize("cancelled", [cancelled_by_scope, cancelled_by_task, cancelled_twice])
async def test_reads_see_fresh_rows_wherever_the_one_before_was_cancelled(store, cancelled, work):
    written = 0
    for _ in range(5):
        for at in itertools.count():
            reached = await cancelled(work(store), at)
            written += 1
            await store.write(lambda connection, number=written: put(connection, number))
            assert await store.read(COUNT) == [(written,)]
            assert await store.ask(twice) == [(written,)]
            assert await store.read("SELECT 1, 2") == [(1, 2)]
            if not reached:
                break
        assert at >= 1


async def test_a_query_whose_caller_went_away_is_stopped(store):
    for ask in (store.ask, store.ask_slowly):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, Reads.read, ENDLESS)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(HANGS_S):
            assert await store.read(COUNT) == [(0,)]


async def test_of_several_queries_none_is_asked_once_the_caller_went_away(store):
    asked, told = threading.Event(), threading.Event()
    answers = []

    def work(reads):
        asked.set()
        assert told.wait(HANGS_S)
        try:
            answers.append(reads.read(COUNT))
        except StoreUnavailable as error:
            answers.append(error.details["reason"])
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.ask, work)
        await anyio.to_thread.run_sync(asked.wait)
        tasks.cancel_scope.cancel()
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, told.set)
    assert answers == ["closed"]
    assert await store.read(COUNT) == [(0,)]


async def test_many_readers_that_are_cancelled_at_once_leave_the_others_their_own_rows(store):
    answers = {}

    async def ask(number):
        answers[number] = await store.ask(
            lambda reads: [reads.read("SELECT ?", (number + part / 10,)) for part in range(3)]
        )

    async def give_up(number):
        with anyio.move_on_after(0):
            await ask(number)

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(ask if number % 3 == 0 else give_up, number)
    assert set(range(0, 60, 3)) <= set(answers)
    for number, rows in answers.items():
        assert rows == [[(number + part / 10,)] for part in range(3)]


async def test_a_store_is_closed_while_a_query_is_cancelled(store):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.read, ENDLESS)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(HANGS_S):
            async with anyio.create_task_group() as closing:
                closing.start_soon(store.close)
                tasks.cancel_scope.cancel()
