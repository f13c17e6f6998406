"""A model is loaded once, off the event loop, and work that nobody waits for ends."""

import asyncio
import logging
import subprocess
import sys
import threading
from contextlib import aclosing

import pytest
from tests.metering.desk import within

from voicegw_mcp.inference.local import engine
from voicegw_mcp.inference.local.engine import Engine, ModelUnusable, shared_engine


def make(load=object, *, workers=1):
    return Engine("toy/model", load, hint="Get another one.", workers=workers)


async def read(pieces):
    async with aclosing(pieces) as reading:
        return [piece async for piece in reading]


@within(20)
async def test_the_event_loop_goes_on_while_a_model_is_loaded():
    may_load = threading.Event()
    one = make(lambda: may_load.wait(10))
    reading = asyncio.create_task(read(one.each(lambda model: [model])))
    for _ in range(100):  # a loop that waited for the model would never come to the end of this
        await asyncio.sleep(0)
    may_load.set()
    assert await reading == [True]


@within(20)
async def test_first_requests_at_once_load_a_model_once_even_in_several_threads():
    loads = []
    one = make(lambda: loads.append(threading.current_thread().name) or "model", workers=3)
    meeting = threading.Barrier(3)

    def work(model):
        meeting.wait(10)
        yield model

    assert await asyncio.gather(*(read(one.each(work)) for _ in range(3))) == [["model"]] * 3
    assert len(loads) == 1
    assert loads[0].startswith("voicegw-toy/model")


@within(20)
async def test_no_more_requests_run_at_once_than_there_are_workers():
    one, running, most = make(), [], []

    def work(_):
        running.append(1)
        most.append(len(running))
        yield 1
        running.pop()

    await asyncio.gather(*(read(one.each(work)) for _ in range(5)))
    assert most == [1] * 5


@within(20)
async def test_pieces_come_while_the_work_goes_on():
    one, heard = make(), threading.Event()

    def work(_):
        yield "first"
        assert heard.wait(10)
        yield "second"

    got = []
    async with aclosing(one.each(work)) as pieces:
        async for piece in pieces:
            got.append(piece)
            heard.set()
    assert got == ["first", "second"]


@within(20)
async def test_the_piece_under_way_is_the_last_when_nobody_reads_on():
    one, begun, may_end, pieces = make(), asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def work(_):
        for number in range(100):
            pieces.append(number)
            loop.call_soon_threadsafe(begun.set)
            may_end.wait(10)
            yield number

    reading = asyncio.create_task(read(one.each(work)))
    await begun.wait()
    waiting = asyncio.create_task(read(one.each(lambda _: pieces.append("never") or [])))
    await asyncio.sleep(0)
    for task in (reading, waiting):
        task.cancel()
    await asyncio.gather(reading, waiting, return_exceptions=True)
    may_end.set()
    assert await read(one.each(lambda _: ["after"])) == ["after"]
    assert pieces == [0]


@within(20)
async def test_a_model_that_cannot_be_loaded_is_told_with_what_to_do_and_tried_anew():
    answers = iter([ValueError("it is torn"), None])

    def load():
        if error := next(answers):
            raise error
        return "model"

    one = make(load)
    with pytest.raises(ModelUnusable) as caught:
        await read(one.each(lambda model: [model]))
    assert str(caught.value) == "toy/model cannot be loaded: it is torn. Get another one."
    assert caught.value.retryable is False
    assert caught.value.hint == "Get another one."
    assert await read(one.each(lambda model: [model])) == ["model"]


@within(20)
async def test_work_that_fails_is_no_fault_of_the_loading():
    def work(_):
        yield 1
        raise ValueError("nothing to say")

    with pytest.raises(ModelUnusable, match="toy/model failed: nothing to say"):
        await read(make().each(work))


@within(20)
async def test_prewarm_loads_and_only_logs_what_goes_wrong(caplog):
    caplog.set_level(logging.INFO, engine.logger.name)
    good, bad = make(), make(lambda: 1 / 0)
    for each in (good, bad):
        each.prewarm()
        each._pool.shutdown(wait=True)
    assert good._model is not None
    assert "toy/model was loaded in" in caplog.text
    assert "toy/model cannot be loaded: division by zero. Get another one." in caplog.text


def test_instances_of_the_same_settings_share_an_engine(monkeypatch):
    monkeypatch.setattr(engine, "_ENGINES", {})

    def share(settings, workers=1):
        return shared_engine("toy/model", object, settings=settings, hint="", workers=workers)

    assert share("a") is share("a")
    assert len({id(share("a")), id(share("b")), id(share("a", 2))}) == 3


FORKING = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore")  # Python warns of forks with threads, which is what this is about
from voicegw_mcp.inference.local.engine import shared_engine
engine = shared_engine("toy/model", os.getpid, settings=(), hint="", workers=1)
async def read():
    return [piece async for piece in engine.each(lambda model: [model])]
assert asyncio.run(read()) == [os.getpid()]
child = os.fork()
if not child:
    os._exit(0 if asyncio.run(asyncio.wait_for(read(), 20)) == [os.getpid()] else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.cover_processes
@pytest.mark.skipif(not hasattr(engine.os, "fork"), reason="there is no fork here")
def test_after_a_fork_the_child_loads_its_own():
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
