"""The task of a server that looks after alerts: it goes on whatever goes wrong, and ends without losing anything."""

import anyio
import anyio.lowlevel
import pytest
from tests.alert_scene import Scene
from tests.webhook_receiver import receiving

from voicegw_mcp.core import webhooks
from voicegw_mcp.core.alert_watch import TASK_NAME, AlertWatch
from voicegw_mcp.errors import StoreUnavailable

ONE = "projects: {p0: {name: P, daily_budget: 10}}\nalerts:\n  budget: {percent: [100]}\n"


@pytest.fixture
async def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    await scene.close()


async def until(condition):
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - tasks tell nobody
            await anyio.sleep(0.005)


async def test_a_server_s_task_goes_on_whatever_goes_wrong_in_a_round(scene, caplog, monkeypatch):
    scene.write(ONE + "  check_every_seconds: 5\n")
    troubles = [
        StoreUnavailable("The store is locked."),
        StoreUnavailable("The store is locked."),
        ValueError("x"),
        None,
    ]
    rounds = []

    async def go_round(_self):
        rounds.append(1)
        trouble = troubles[min(len(rounds), len(troubles)) - 1]
        if trouble is not None:
            raise trouble

    monkeypatch.setattr("voicegw_mcp.core.alerts.Alerting.go_round", go_round)
    monkeypatch.setattr(AlertWatch, "_pause_s", lambda _: 0)
    watch = AlertWatch(scene.gateway)
    watch.start(0)
    await until(lambda: len(rounds) > 5)
    await watch.stop()
    await watch.stop()
    count = len(rounds)
    await anyio.lowlevel.checkpoint()
    assert len(rounds) == count
    assert caplog.text.count("Alerts wait: The store is locked.") == 1
    assert caplog.text.count("looking after alerts failed") == 1


async def test_a_watch_looks_as_often_as_the_file_says(scene):
    watch = AlertWatch(scene.gateway)
    scene.write("nonsense: 1")
    assert watch._pause_s() == 30
    scene.write(ONE + "  check_every_seconds: 7\n")
    assert watch._pause_s() == 7


async def test_a_server_that_is_read_only_or_of_one_project_looks_after_nothing(tmp_path):
    import asyncio

    from voicegw_mcp.core.access import Access
    from voicegw_mcp.core.gateway import Gateway

    for options in ({"read_only": True}, {"access": Access(projects=frozenset({"p0"}))}):
        gateway = Gateway.open(str(tmp_path / "voicegw.yaml"), door="test", environment={}, **options)
        watch = AlertWatch(gateway)
        watch.start(0)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == TASK_NAME]
        await watch.stop()


async def test_a_shutdown_in_the_middle_of_sending_loses_nothing(scene):
    with receiving(hang=True) as receiver:
        scene.write(ONE, receiver)
        await scene.spend(20)
        watch = AlertWatch(scene.gateway)
        watch.start(0)
        await anyio.to_thread.run_sync(receiver.wait_for, 1)
        with anyio.fail_after(5):
            await watch.stop()
        receiver.hang = False
        scene.now += 15_000
        await scene.round()
    assert receiver.received[0].id == receiver.received[1].id
    assert (await scene.rows())[0].delivery == "sent"


async def test_the_event_loop_is_free_while_a_receiver_hangs(scene, monkeypatch):
    monkeypatch.setattr(webhooks, "SEND_S", 5)
    with receiving(hang=True) as receiver:
        scene.write(ONE, receiver)
        await scene.spend(20)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.round)
            await anyio.to_thread.run_sync(receiver.wait_for, 1)
            await scene.spend(1)  # the store takes rows meanwhile
            assert len(await scene.told()) == 1
            tasks.cancel_scope.cancel()
