"""Streams that transcribe: a row for each turn, and together what was billed."""

import asyncio
import threading

import pytest
from livekit import rtc
from livekit.agents import APIError
from tests.loopback import Fault
from tests.metering.desk import ONCE, PRICES, audio, listen

from voicegw_mcp import inference
from voicegw_mcp.inference import listening


class Bill:
    """What LiveKit's stream was told of use, in ms."""

    def __init__(self, stream):
        self.ms = 0.0
        channel = stream._event_ch
        send = channel.send_nowait

        def count(event):
            if event.recognition_usage is not None:
                self.ms += event.recognition_usage.audio_duration * 1000
            send(event)

        channel.send_nowait = count


async def turn(stream, ms=600):
    """Say something, and read to its transcript."""
    for _ in range(ms // 100):
        stream.push_frame(audio(100))
    stream.flush()
    async for event in stream:
        if event.type == "final_transcript":
            return event.alternatives[0].text
    return None


async def read(stream):
    """Read to the end."""
    async for _ in stream:
        pass


async def test_each_turn_is_a_row_and_all_rows_are_what_was_billed(desk):
    await desk.start("deepgram", more=PRICES)
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE) as stream:
        bill = Bill(stream)
        for _ in range(3):
            assert await turn(stream)
    rows = desk.rows()
    assert [row.status for row in rows] == ["success"] * 3
    assert sum(row.audio_ms for row in rows) == round(bill.ms) >= 1800
    assert all(row.cost_nanousd == round(row.audio_ms * 80) for row in rows)  # 0.0048 USD a minute
    assert all(0 < row.total_us < 5_000_000 for row in rows)


async def test_a_stream_closed_in_the_middle_loses_no_use(desk):
    """LiveKit cancels the task that would have told of it."""
    await desk.start("deepgram")
    ears = desk.own(inference.STT("deepgram/nova-3"))
    stream = ears.stream(conn_options=ONCE)
    bill = Bill(stream)
    assert await turn(stream)
    await stream.aclose()
    await stream.aclose()
    assert desk.row().audio_ms == round(bill.ms) > 0


async def test_a_turn_is_written_before_the_next_one_when_it_waits_too_long(desk, monkeypatch):
    await desk.start("deepgram")
    written = asyncio.Event()
    monkeypatch.setattr(listening, "TURN_S", 0)
    write = listening.Listening.write
    monkeypatch.setattr(listening.Listening, "write", lambda *a, **k: (write(*a, **k), written.set()))
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE) as stream:
        assert await turn(stream)
        await asyncio.wait_for(written.wait(), 20)
        assert [row.status for row in desk.rows()] == ["success"]
    rows = desk.rows()
    assert [row.status for row in rows] in (["success"], ["success", "idle"])


async def test_turns_of_several_streams_are_each_written_when_they_have_waited(desk, monkeypatch):
    await desk.start("deepgram")
    written = asyncio.Semaphore(0)
    monkeypatch.setattr(listening, "TURN_S", 0.3)
    write = listening.Listening.write
    monkeypatch.setattr(listening.Listening, "write", lambda *a, **k: (write(*a, **k), written.release()))
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE) as first, ears.stream(conn_options=ONCE) as second:
        for stream in (first, second):
            assert await turn(stream)
        for _ in range(2):
            await asyncio.wait_for(written.acquire(), 20)
        assert [row.status for row in desk.rows()] == ["success"] * 2
        assert not listening._with_timer


async def test_a_turn_that_cannot_be_written_keeps_no_other_one_waiting(desk, monkeypatch, caplog):
    await desk.start("deepgram")
    written = asyncio.Event()
    monkeypatch.setattr(listening, "TURN_S", 0.3)
    write, failing = listening.Listening._write_turn, []

    def fail(self, **said):
        if self is failing[0]:
            raise OverflowError
        write(self, **said)
        if said == {} and self._turns == 1 and self._turn is None:
            written.set()

    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE) as first, ears.stream(conn_options=ONCE) as second:
        failing.append(first.push_frame.__self__)
        for stream in (first, second):
            assert await turn(stream)
        monkeypatch.setattr(listening.Listening, "_write_turn", fail)
        await asyncio.wait_for(written.wait(), 20)
        monkeypatch.setattr(listening.Listening, "_write_turn", write)
    assert "An answer of deepgram/nova-3 was not measured." in caplog.messages
    assert [row.status for row in desk.rows() if row.status != "idle"] == ["success"] * 2


async def test_loops_of_other_threads_may_come_and_go_while_one_sets_its_timer(monkeypatch):
    come = []

    class Loop(asyncio.SelectorEventLoop):
        def is_closed(self):
            if not come:
                come.append(asyncio.SelectorEventLoop())
                thread = threading.Thread(target=listening._with_timer.add, args=come)
                thread.start()
                thread.join()
            return super().is_closed()

    earlier, loop = Loop(), asyncio.get_running_loop()
    monkeypatch.setattr(listening, "_with_timer", {earlier})
    listening._look_later(loop, loop.time() + 1_000)
    assert listening._with_timer == {loop, earlier, *come}
    for each in (earlier, *come):
        each.close()
    listening._look_later(loop, loop.time() + 1_000)
    assert listening._with_timer == {loop}


async def test_a_stream_in_which_nobody_speaks_costs_and_is_no_request(desk, monkeypatch):
    server = await desk.start("deepgram", more=PRICES)
    server.faults.next(Fault(), door="listen-ws")
    monkeypatch.setattr(listening, "IDLE_MS", 1)
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE) as stream:
        bill = Bill(stream)
        await server.arrival("listen-ws")
        stream.end_input()
        async for event in stream:
            assert event.type != "final_transcript"
    rows = desk.rows()
    assert {row.status for row in rows} == {"idle"}
    assert sum(row.audio_ms for row in rows) == round(bill.ms) > 0
    assert all(row.cost_nanousd > 0 for row in rows if row.audio_ms)


async def test_a_stream_whose_connection_breaks_is_an_error_after_its_turns(desk):
    server = await desk.start("deepgram")
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE) as stream:
        assert await turn(stream)
        for transport in list(server._transports):
            transport.abort()
        with pytest.raises(APIError):
            await read(stream)
    assert [row.status for row in desk.rows()] == ["success", "error"]


async def test_a_stream_that_is_opened_and_closed_is_no_request(desk):
    await desk.start("deepgram")
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with ears.stream(conn_options=ONCE):
        pass
    assert desk.rows() == []


async def test_the_latency_of_a_turn_is_from_its_last_word_though_the_microphone_sends_on(desk, monkeypatch):
    await desk.start("deepgram")
    ears = desk.own(inference.STT("deepgram/nova-3"))
    clock = [1000.0]
    monkeypatch.setattr(listening.time, "perf_counter", lambda: clock[0])
    async with ears.stream(conn_options=ONCE) as stream:
        for number in range(10):
            clock[0] = 1000.0 + number
            stream.push_frame(audio(100))
        clock[0] = 1020.0
        stream.flush()
        async for event in stream:
            if event.type == "final_transcript":
                end = event.alternatives[0].end_time
                break
    position = min(9, max(0, -(-round(end * 1000) // 100) - 1))
    assert desk.rows()[0].total_us == (20 - position) * 1_000_000


async def test_a_plugin_that_reports_no_use_is_billed_by_what_was_sent(desk, monkeypatch):
    from livekit.plugins import deepgram

    await desk.start("deepgram")
    monkeypatch.setattr(deepgram.stt.SpeechStream, "_on_audio_duration_report", lambda *_: None)
    assert await listen(desk.own(inference.STT("deepgram/nova-3")), 900)
    assert (desk.row().audio_ms, desk.row().estimated) == (900, 1)


async def test_what_a_plugin_without_reports_heard_before_it_broke_off_is_billed(desk, monkeypatch):
    from livekit.plugins import deepgram

    server = await desk.start("deepgram")
    monkeypatch.setattr(deepgram.stt.SpeechStream, "_on_audio_duration_report", lambda *_: None)
    server.faults.next(
        Fault(cut_after=2), door="listen-ws"
    )  # after the beginning of speech and the transcript
    ears = desk.own(inference.STT("deepgram/nova-3"))
    async with asyncio.timeout(20), ears.stream(conn_options=ONCE) as stream:
        for _ in range(5):
            stream.push_frame(audio(100))
        stream.push_frame(rtc.AudioFrame(bytes(16000), 16000, 1, 8000))
        with pytest.raises(APIError):
            await anext(event async for event in stream if event is None)
    turn, failure = desk.rows()
    assert (turn.status, turn.audio_ms, turn.estimated) == ("success", 1000, 1)
    assert (failure.status, failure.audio_ms, failure.cost_nanousd, failure.estimated) == ("error", 0, 0, 0)
