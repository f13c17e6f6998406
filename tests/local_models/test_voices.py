"""Texts into `inference.TTS("kokoro/...")` and `("piper/...")` without a server, frames and rows out of them."""

import asyncio
import json
import threading
from contextlib import aclosing

import numpy as np
import pytest
from livekit.agents import tokenize, tts
from livekit.plugins import openai
from tests.local_models.voices import PIPER_RATE, PIPER_SAMPLES, make_kokoro
from tests.metering.desk import ONCE, within

from voicegw_mcp import inference
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.inference.local import kokoro, piper
from voicegw_mcp.inference.local.engine import ModelUnusable

SAID = "Good morning to all of you. It is a fine day today."


async def frames_of(voice, text):
    """Return the audio of a text as numbers, without LiveKit's mark of the end, and the rate of its frames."""
    async with voice.synthesize(text, conn_options=ONCE) as stream:
        frames = [
            event.frame
            async for event in stream
            if not event.is_final or event.frame.data.tobytes().strip(b"\0")
        ]
    samples = np.concatenate([np.frombuffer(frame.data, np.int16) for frame in frames] or [np.zeros(0)])
    return samples, {(frame.sample_rate, frame.num_channels) for frame in frames}


def make_voice(desk, name, kokoro_folder, piper_folder, **options):
    desk.configure(kokoro={"model_dir": kokoro_folder}, piper={"model_dir": piper_folder})
    model = {"kokoro": "kokoro/kokoro", "piper": "piper/en_US-tiny-low"}[name]
    return desk.own(inference.TTS(model, **options))


@pytest.mark.parametrize(("name", "rate"), [("kokoro", 24000), ("piper", PIPER_RATE)])
@within(60)
async def test_a_text_becomes_audio_and_a_row_that_costs_nothing(
    desk, kokoro_folder, piper_folder, name, rate
):
    voice = make_voice(desk, name, kokoro_folder, piper_folder)
    assert (voice.sample_rate, voice.num_channels, voice.capabilities.streaming) == (rate, 1, False)
    assert voice.provider in {"kokoro-onnx", "piper"}
    samples, forms = await frames_of(voice, SAID)
    assert forms == {(rate, 1)}
    row = desk.row()
    assert (row.status, row.provider, row.model_id) == ("success", name, f"{name}/{voice.model}")
    assert (row.characters, row.cost_nanousd, row.price) == (len(SAID), 0, "local")
    assert row.audio_ms == pytest.approx(len(samples) * 1000 / rate, abs=11)
    assert row.audio_ms > 300
    assert 0 < row.ttfb_us <= row.total_us


@pytest.mark.parametrize("name", ["kokoro", "piper"])
@within(60)
async def test_the_first_sentence_is_heard_before_the_second_is_made(desk, kokoro_folder, piper_folder, name):
    voice = make_voice(desk, name, kokoro_folder, piper_folder)
    heard, say = threading.Event(), voice.say
    waited = []

    def say_when_heard(text, model):
        for sentence in say(text, model):
            yield sentence
            waited.append(heard.wait(10))

    voice.say = say_when_heard
    async with voice.synthesize(SAID, conn_options=ONCE) as stream:
        async for _ in stream:
            heard.set()
    assert waited == [True, True]


@pytest.mark.parametrize("name", ["kokoro", "piper"])
@within(60)
async def test_a_stream_that_is_left_ends_with_the_sentence_under_way(
    desk, kokoro_folder, piper_folder, name
):
    voice = make_voice(desk, name, kokoro_folder, piper_folder)
    left, say, sentences = threading.Event(), voice.say, []

    def say_until_left(text, model):
        for sentence in say(text, model):
            sentences.append(sentence)
            yield sentence
            left.wait(10)

    voice.say = say_until_left
    stream = voice.synthesize(f"{SAID} {SAID}", conn_options=ONCE)
    async with aclosing(stream):
        await anext(stream)
    left.set()
    voice._engine._pool.shutdown(wait=True)
    assert len(sentences) <= 2, "of four"
    row = desk.row()
    assert (row.status, row.estimated) == ("cancelled", 1)


@pytest.mark.parametrize("name", ["kokoro", "piper"])
@within(60)
async def test_speed_makes_a_text_shorter(desk, kokoro_folder, piper_folder, name):
    slow = make_voice(desk, name, kokoro_folder, piper_folder)
    fast = make_voice(desk, name, kokoro_folder, piper_folder, speed=2.0)
    said = "Good morning to all of you."
    (long, _), (short, _) = await frames_of(slow, said), await frames_of(fast, said)
    assert len(short) * 2 == pytest.approx(len(long), abs=2)


@pytest.mark.parametrize("name", ["kokoro", "piper"])
@within(60)
async def test_a_text_without_words_is_silence_and_one_of_blanks_is_none(
    desk, kokoro_folder, piper_folder, name
):
    voice = make_voice(desk, name, kokoro_folder, piper_folder)
    voice.say = lambda _text, _model: iter(())
    samples, _ = await frames_of(voice, "\u200b")
    assert not samples.any()
    assert desk.row().status == "success"
    del voice.say
    assert len((await frames_of(voice, ""))[0]) == 0
    assert len((await frames_of(voice, " \n "))[0]) == 0


@within(60)
async def test_kokoro_skips_what_has_no_sounds_and_pauses_between_sentences(
    desk, kokoro_folder, piper_folder
):
    short = make_voice(desk, "kokoro", kokoro_folder, piper_folder, sentence_pause=0.0)
    long = make_voice(desk, "kokoro", kokoro_folder, piper_folder, sentence_pause=0.5)
    (close, _), (apart, _) = await frames_of(short, SAID), await frames_of(long, SAID)
    assert len(apart) - len(close) == 12000
    assert not len((await frames_of(short, "\u200b"))[0])
    assert [row.status for row in desk.rows()] == ["success"] * 3


@pytest.mark.parametrize(
    ("options", "language", "loudness"),
    [
        ({}, "en-us", 0.25),
        ({"voice": "bf_emma"}, "en-gb", 0.5),
        ({"voice": "bf_emma", "language": "fr"}, "fr-fr", 0.5),
        ({"language": "en_GB"}, "en-gb", 0.25),
    ],
)
@within(60)
async def test_kokoro_speaks_with_the_voice_in_its_language(
    desk, kokoro_folder, piper_folder, options, language, loudness
):
    voice = make_voice(desk, "kokoro", kokoro_folder, piper_folder, **options)
    assert voice._language == language
    samples, _ = await frames_of(voice, "Bonjour.")
    assert samples.max() / 32767 == pytest.approx(loudness, abs=0.001)


@pytest.mark.parametrize(("speaker", "sign"), [("anna", 1), ("ben", -1), (1, -1), ("0", 1), (None, 1)])
@within(60)
async def test_piper_speaks_with_the_speaker(desk, piper_folder, speaker, sign):
    desk.configure(piper={"model_dir": piper_folder})
    voice = desk.own(inference.TTS("piper/en_US-pair-low", speaker=speaker))
    samples, _ = await frames_of(voice, "Hello.")
    assert np.sign(samples[0]) == sign
    assert len(samples) % PIPER_SAMPLES == 0


@within(60)
async def test_pipers_voice_is_the_argument_then_the_models_file_then_the_default(desk, piper_folder):
    desk.configure(piper={"model_dir": piper_folder, "default_voice": "en_US-tiny-low"})
    named = {
        text: inference.TTS(text)._engine._name
        for text in ("piper/tts", "piper/en_US-pair-low", "piper/tts:en_US-pair-low")
    }
    assert named == {
        "piper/tts": "piper/en_US-tiny-low",
        "piper/en_US-pair-low": "piper/en_US-pair-low",
        "piper/tts:en_US-pair-low": "piper/en_US-pair-low",
    }
    elsewhere = piper_folder.with_name("elsewhere")
    piper_folder.rename(elsewhere)
    config = elsewhere / "en_US-tiny-low.onnx.json"
    config.rename(elsewhere / "other.json")
    voice = desk.own(
        inference.TTS(
            "piper/amy",
            model_path=str(elsewhere / "en_US-tiny-low.onnx"),
            config_path=str(elsewhere / "other.json"),
        )
    )
    assert (await frames_of(voice, "Hello."))[1] == {(PIPER_RATE, 1)}


@within(60)
async def test_text_that_comes_piece_by_piece_is_spoken_by_livekits_adapter(
    desk, kokoro_folder, piper_folder
):
    voice = make_voice(desk, "piper", kokoro_folder, piper_folder)
    adapter = tts.StreamAdapter(tts=voice, sentence_tokenizer=tokenize.basic.SentenceTokenizer())
    async with adapter.stream(conn_options=ONCE) as stream:
        for word in SAID.split():
            stream.push_text(word + " ")
        stream.end_input()
        assert sum([event.frame.duration async for event in stream]) > 0.3
    assert sum(row.characters for row in desk.rows()) == len(SAID) - 1, (
        "the blank between the sentences is not said"
    )
    assert {row.status for row in desk.rows()} == {"success"}


@pytest.mark.parametrize("name", ["kokoro", "piper"])
@within(60)
async def test_a_damaged_voice_is_told_by_its_path_and_is_a_row(desk, kokoro_folder, piper_folder, name):
    path = {"kokoro": kokoro_folder / "kokoro.onnx", "piper": piper_folder / "en_US-tiny-low.onnx"}[name]
    path.write_bytes(path.read_bytes()[:40])
    voice = make_voice(desk, name, kokoro_folder, piper_folder)
    errors = []
    voice.on("error", errors.append)
    with pytest.raises(ModelUnusable) as caught:
        await frames_of(voice, SAID)
    assert f"{path} and " in str(caught.value)
    assert "download them anew" in str(caught.value)
    assert [error.recoverable for error in errors] == [False]
    row = desk.row()
    assert (row.status, row.error_kind) == ("error", "ModelUnusable")
    assert SAID not in row.error_message


@pytest.mark.parametrize(
    ("model", "options", "tells", "hints"),
    [
        ("kokoro/k2", {}, "There is no file '{folder}/kokoro/k2.onnx'.", "thewh1teagle/kokoro-onnx"),
        ("kokoro/kokoro", {"voices_path": "/nowhere/v.bin"}, "There is no file '/nowhere/v.bin'.", "voices-v1.0.bin"),
        ("kokoro/kokoro", {"voice": "af_hart"}, "'af_hart' is no voice in", "Did you mean af_heart?"),
        ("kokoro/kokoro:zzz", {}, "'zzz' is no voice in", "There are: af_heart, bf_emma."),
        ("kokoro/kokoro", {"speed": 3}, "kokoro.TTS cannot be made: speed must be 0.5 to 2, not 3", "option"),
        ("kokoro/kokoro", {"sentence_pause": -1}, "sentence_pause must be 0 or more, not -1", "option"),
        ("kokoro/kokoro", {"pitch": 1}, "kokoro.TTS takes no option 'pitch'", "It takes: language, model_dir"),
        ("piper/en_US-tiny-hi", {}, "There is no file '{folder}/piper/en_US-tiny-hi.onnx'.", "Did you mean en_US-tiny-low, en_US-pair-low? Download it: python -m piper.download_voices"),
        ("piper/en_US-tiny-low", {"config_path": "/nowhere/c.json"}, "There is no file '/nowhere/c.json'.", "It comes with the voice"),
        ("piper/en_US-tiny-low", {"model_path": "/nowhere/v.onnx"}, "There is no file '/nowhere/v.onnx'.", ".onnx file"),
        ("piper/en_US-pair-low", {"speaker": "carl"}, "'carl' is no speaker of", "There are 0 to 1, anna, ben."),
        ("piper/en_US-tiny-low", {"speaker": 1}, "1 is no speaker of", "There are 0 to 0."),
        ("piper/en_US-tiny-low", {"speed": 0}, "speed must be more than 0, not 0", "option"),
        ("piper/en_US-tiny-low", {"language": "de"}, "piper.TTS takes no language", "Leave the language out"),
    ],
)  # fmt: skip
async def test_what_cannot_be_made_is_refused_with_what_to_do(
    desk, kokoro_folder, piper_folder, model, options, tells, hints
):
    desk.configure(kokoro={"model_dir": kokoro_folder}, piper={"model_dir": piper_folder})
    with pytest.raises(InvalidInput) as caught:
        inference.TTS(model, **options)
    assert tells.format(folder=kokoro_folder.parent) in caught.value.message
    assert hints in caught.value.hint


async def test_kokoro_must_be_told_where_its_files_are(desk, kokoro_folder):
    desk.configure(kokoro={})
    with pytest.raises(InvalidInput, match="Nothing says where the file of the kokoro model 'kokoro' is"):
        inference.TTS("kokoro/kokoro")
    path = str(kokoro_folder / "kokoro.onnx")
    assert isinstance(inference.TTS("kokoro/any", model_path=path), kokoro.TTS)
    (kokoro_folder / "voices-2.bin").write_bytes(b"")
    with pytest.raises(InvalidInput, match="There are several files voices"):
        inference.TTS("kokoro/any", model_path=path)
    with pytest.raises(
        InvalidInput, match=r"voices-2\.bin' is no file of kokoro's voices: File is not a zip file"
    ):
        inference.TTS("kokoro/any", model_path=path, voices_path=str(kokoro_folder / "voices-2.bin"))
    for each in kokoro_folder.glob("voices*"):
        each.unlink()
    with pytest.raises(InvalidInput, match=r"There is no file voices\*\.bin in"):
        inference.TTS("kokoro/any", model_path=path)


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        (json.dumps({"audio": {}}), "KeyError: 'sample_rate'"),
        (json.dumps({"audio": {"sample_rate": "16k"}, "num_speakers": 1}), "it has no sample rate"),
    ],
)
async def test_a_damaged_description_of_a_piper_voice_is_refused(desk, piper_folder, text, tells):
    (piper_folder / "en_US-tiny-low.onnx.json").write_text(text)
    desk.configure(piper={"model_dir": piper_folder})
    with pytest.raises(InvalidInput, match="is no description of a piper voice") as caught:
        inference.TTS("piper/en_US-tiny-low")
    assert tells in caught.value.message


@within(60)
async def test_voices_of_one_model_share_it(desk, tmp_path, piper_folder):
    folder = make_kokoro(tmp_path / "kokoro")
    first = make_voice(desk, "kokoro", folder, piper_folder)
    second = make_voice(desk, "kokoro", folder, piper_folder, voice="bf_emma", speed=1.5)
    assert first._engine is second._engine
    await asyncio.gather(frames_of(first, SAID), frames_of(second, SAID))


async def test_with_a_base_url_a_voice_is_a_server_as_before(desk, piper_folder):
    desk.configure(
        piper={"base_url": "http://127.0.0.1:1/v1"}, here={"type": "piper", "model_dir": piper_folder}
    )
    assert isinstance(desk.own(inference.TTS("piper/amy:amy")), openai.TTS)
    assert isinstance(inference.TTS("here/en_US-tiny-low"), piper.TTS)
