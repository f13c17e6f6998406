"""Recordings into `inference.STT("whisper/...")` without a server, transcripts and rows out of it."""

import asyncio
import logging
import shutil

import numpy as np
import pytest
from faster_whisper.transcribe import Segment, Word
from livekit import rtc
from livekit.agents import APIConnectOptions
from livekit.plugins import openai
from tests.local_models.whisper_model import LANGUAGE, SAID
from tests.metering.desk import ONCE, audio, within

from voicegw_mcp import inference
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.inference.local import engine, whisper
from voicegw_mcp.inference.local.engine import ModelUnusable


def tone(rate, channels, ms=1000, hertz=440):
    """Return a tone that is only in the first channel."""
    count = rate * ms // 1000
    samples = np.zeros((count, channels), np.int16)
    samples[:, 0] = 16000 * np.sin(2 * np.pi * hertz * np.arange(count) / rate)
    return rtc.AudioFrame(
        data=samples.tobytes(), sample_rate=rate, num_channels=channels, samples_per_channel=count
    )


@within(60)
async def test_a_recording_is_transcribed_and_a_row_that_costs_nothing(desk, whisper_folder):
    desk.configure(whisper={"model_path": whisper_folder})
    ears = desk.own(inference.STT("whisper/base:en"))
    assert isinstance(ears, whisper.STT)
    assert (ears.model, ears.provider, ears.capabilities.streaming) == ("base", "faster-whisper", False)
    event = await ears.recognize(audio(900), conn_options=ONCE)
    heard = event.alternatives[0]
    assert (event.type, heard.text, heard.language) == ("final_transcript", SAID, "en")
    assert (heard.start_time, heard.end_time, heard.words) == (0, 1, None)
    assert heard.confidence == pytest.approx(1, abs=0.01)
    assert event.request_id.startswith("whisper_")
    row = desk.row()
    assert (row.status, row.provider, row.model_id) == ("success", "whisper", "whisper/base")
    assert (row.audio_ms, row.cost_nanousd, row.price) == (900, 0, "local")
    assert row.total_us > 0


@pytest.mark.parametrize(
    ("made", "called", "heard"),
    [(None, None, LANGUAGE), ("auto", None, LANGUAGE), ("en-US", None, "en"), ("en", "french", "fr"), ("fr", "auto", LANGUAGE)],
)  # fmt: skip
@within(60)
async def test_the_language_is_the_calls_or_the_instances_or_found_out(
    desk, whisper_folder, made, called, heard
):
    desk.configure(whisper={"model_path": whisper_folder})
    ears = desk.own(inference.STT("whisper/base", language=made))
    more = {"language": called} if called else {}
    event = await ears.recognize(audio(500), conn_options=ONCE, **more)
    assert event.alternatives[0].language == heard


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (48000, 2), (8000, 1), (44100, 6), (24000, 1)])
def test_audio_of_any_rate_and_channels_becomes_what_the_model_hears(rate, channels):
    halves = [tone(rate, channels, 500), tone(rate, channels, 500)]
    samples = whisper.samples_of(halves)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(16000, abs=300)
    spectrum = np.abs(np.fft.rfft(samples[:15600]))
    assert spectrum.argmax() * 16000 / 15600 == pytest.approx(440, abs=3)
    assert np.abs(samples).max() == pytest.approx(16000 / 32768 / channels, rel=0.15)


@within(60)
async def test_a_recording_of_several_parts_and_of_nothing(desk, whisper_folder):
    desk.configure(whisper={"model_path": whisper_folder})
    ears = desk.own(inference.STT("whisper/base:en"))
    parts = [tone(48000, 2, 300)] * 3
    assert (await ears.recognize(parts, conn_options=ONCE)).alternatives[0].text == SAID
    for nothing in ([], tone(16000, 1, 0)):
        heard = (await ears.recognize(nothing, conn_options=ONCE)).alternatives[0]
        assert (heard.text, heard.confidence) == ("", 0)
    assert [row.audio_ms for row in desk.rows()] == [900, 0, 0]


def test_segments_and_words_keep_their_times_and_certainty():
    words = [Word(0.5, 0.8, " good", 0.9), Word(0.8, 1.2, " morning", 0.7)]
    common = {"seek": 0, "compression_ratio": 1, "no_speech_prob": 0, "temperature": 0}
    segments = [
        Segment(id=1, start=0.5, end=1.2, text=" good morning", tokens=[1, 2], avg_logprob=-0.1, words=words, **common),
        Segment(id=2, start=2.0, end=2.5, text=" all", tokens=[3], avg_logprob=-0.4, words=None, **common),
    ]  # fmt: skip
    heard = whisper._event(segments, "en").alternatives[0]
    assert (heard.text, heard.start_time, heard.end_time) == ("good morning all", 0.5, 2.5)
    assert heard.confidence == pytest.approx(np.exp(-0.2))
    assert [(str(each), each.start_time, each.end_time, each.confidence) for each in heard.words] == [
        (" good", 0.5, 0.8, 0.9),
        (" morning", 0.8, 1.2, 0.7),
    ]


@within(60)
async def test_two_instances_at_once_load_one_model(desk, whisper_folder, caplog):
    caplog.set_level(logging.INFO, engine.logger.name)
    desk.configure(whisper={"model_path": whisper_folder})
    first, second = (desk.own(inference.STT("whisper/base:en", beam_size=size)) for size in (1, 5))
    assert first is not second
    await asyncio.gather(*(each.recognize(audio(300), conn_options=ONCE) for each in (first, second)))
    other = desk.own(inference.STT("whisper/base:en", cpu_threads=1, word_timestamps=True, vad_filter=True))
    assert other.capabilities.aligned_transcript == "word"
    assert (await other.recognize(audio(300), conn_options=ONCE)).alternatives[0].language == "en"
    assert [record.message.split(" in ")[0] for record in caplog.records if "loaded" in record.message] == [
        "whisper/base was loaded"
    ] * 2


@within(60)
async def test_prewarm_loads_the_model_before_the_first_request(desk, whisper_folder):
    desk.configure(whisper={"model_path": whisper_folder})
    ears = desk.own(inference.STT("whisper/base:en"))
    ears.prewarm()
    ears._engine._pool.shutdown(wait=True)
    assert ears._engine._model is not None


@within(60)
async def test_a_request_that_is_cancelled_while_it_waits_never_runs_and_its_row_says_so(
    desk, whisper_folder
):
    desk.configure(whisper={"model_path": whisper_folder})
    ears = desk.own(inference.STT("whisper/base:en"))
    await ears.recognize(audio(300), conn_options=ONCE)
    begun, may_end = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(_):
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result(10)
        yield 1

    holding = asyncio.create_task(anext(ears._engine.each(hold)))
    await begun.wait()
    waiting = asyncio.create_task(ears.recognize(audio(400), conn_options=ONCE))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_end.set()
    await holding
    assert [(row.status, row.audio_ms) for row in desk.rows()] == [("success", 300), ("cancelled", 400)]


@within(60)
async def test_a_damaged_model_is_told_by_its_path_at_once_and_is_a_row(desk, whisper_folder, tmp_path):
    folder = tmp_path / "torn"
    shutil.copytree(whisper_folder, folder)
    (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:1000])
    desk.configure(whisper={"model_path": folder})
    ears = desk.own(inference.STT("whisper/base:en"))
    errors = []
    ears.on("error", errors.append)
    with pytest.raises(ModelUnusable) as caught:
        await ears.recognize(audio(300), conn_options=APIConnectOptions(max_retry=3, retry_interval=30))
    assert "whisper/base cannot be loaded" in str(caught.value)
    assert f"Its folder is {folder}: copy it anew" in str(caught.value)
    assert [error.recoverable for error in errors] == [False]
    row = desk.row()
    assert (row.status, row.error_kind, row.audio_ms) == ("error", "ModelUnusable", 0)
    assert "cannot be loaded" in row.error_message


@within(60)
async def test_another_model_stands_in_for_one_that_cannot_be_loaded(desk, whisper_folder, tmp_path):
    folder = tmp_path / "torn"
    shutil.copytree(whisper_folder, folder)
    (folder / "config.json").write_text("{")
    (folder / "model.bin").write_bytes(b"")
    desk.configure(whisper={"model_path": folder}, spare={"type": "whisper", "model_path": whisper_folder})
    ears = desk.own(inference.STT("whisper/base", language="en", fallback=["spare/base"], conn_options=ONCE))
    assert (await ears.recognize(audio(300))).alternatives[0].text == SAID
    assert {
        (row.status, row.model_id, row.fallback_from) for row in desk.rows() if row.status != "probe"
    } == {
        ("error", "whisper/base", None),
        ("fallback", "spare/base", "whisper/base"),
    }


@within(60)
async def test_a_size_that_is_none_is_told_with_those_there_are(desk):
    desk.configure(whisper={})
    ears = desk.own(inference.STT("whisper/enormous"))
    with pytest.raises(ModelUnusable, match=r"Invalid model size 'enormous', expected one of: tiny\.en"):
        await ears.recognize(audio(300), conn_options=ONCE)


@within(60)
async def test_a_folder_of_the_sizes_name_is_not_taken_for_the_model(
    desk, whisper_folder, tmp_path, monkeypatch
):
    shutil.copytree(whisper_folder, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    desk.configure(whisper={"download_root": tmp_path / "cache"})
    ears = desk.own(inference.STT("whisper/base", local_files_only=True))
    with pytest.raises(ModelUnusable, match="name the folder of a model with model_path"):
        await ears.recognize(audio(300), conn_options=ONCE)


@pytest.mark.parametrize(
    ("options", "tells"),
    [
        ({"model_path": "/nowhere/model"}, "There is no folder '/nowhere/model'."),
        ({"model_path": 3}, "model_path 3 is no path"),
        ({"num_workers": 0}, "whisper.STT cannot be made: num_workers must be 1 or more, not 0"),
        ({"beam": 1}, "whisper.STT takes no option 'beam'."),
        ({"voice": "amy"}, "whisper.STT takes no voice."),
    ],
)
async def test_what_cannot_be_made_is_refused_with_what_to_do(desk, options, tells):
    desk.configure(whisper={})
    with pytest.raises(InvalidInput) as caught:
        inference.STT("whisper/base", **options)
    assert tells in caught.value.message
    assert caught.value.hint


async def test_a_folder_without_a_tokenizer_is_refused_by_its_name(desk, whisper_folder, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(whisper_folder, folder)
    (folder / "tokenizer.json").unlink()
    desk.configure(whisper={"model_path": folder})
    with pytest.raises(InvalidInput, match=r"bare' has no tokenizer\.json"):
        inference.STT("whisper/base")
    with pytest.raises(InvalidInput, match="have no models of tts"):
        inference.TTS("whisper/base")


async def test_with_a_base_url_it_is_a_server_as_before(desk, whisper_folder):
    desk.configure(
        whisper={"base_url": "http://127.0.0.1:1/v1"}, here={"type": "whisper", "model_path": whisper_folder}
    )
    assert isinstance(desk.own(inference.STT("whisper/base")), openai.STT)
    assert isinstance(desk.own(inference.STT("here/base")), whisper.STT)
    with pytest.raises(InvalidInput, match=r"openai\.STT takes no option 'model_path'"):
        inference.STT("here/base", base_url="http://127.0.0.1:1/v1", model_path="x")
