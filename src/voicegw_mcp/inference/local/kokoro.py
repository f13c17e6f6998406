"""Text to speech by kokoro-onnx in this process.

May import ``inference.local`` and ``errors``; kokoro-onnx is imported in the engine's thread. Its parameters and the form of
its files are those of kokoro-onnx 0.6.
"""

from __future__ import annotations

import importlib
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from livekit.agents import tokenize

from voicegw_mcp.errors import InvalidInput, nearest, quote
from voicegw_mcp.inference.local.engine import shared_engine
from voicegw_mcp.inference.local.files import require_file, shown
from voicegw_mcp.inference.local.speech import LocalTTS

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE: Final = 24_000
"""Samples per second of what the model speaks (``kokoro_onnx.config.SAMPLE_RATE``)."""

_LANGUAGES: Final = {
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt-br",
    "z": "cmn",
}
"""The language of a voice by the first letter of its name, by espeak-ng's name, as Kokoro's list of voices has it."""

_ESPEAK: Final = {"en": "en-us", "fr": "fr-fr", "pt": "pt-br", "zh": "cmn"}
"""Languages that espeak-ng knows by a longer name."""

_DOWNLOAD: Final = (
    "kokoro-v1.0.onnx and voices-v1.0.bin are among the releases of thewh1teagle/kokoro-onnx on GitHub."
)


class TTS(LocalTTS):
    """A kokoro model in this process.

    Args:
        model: its name; also that of its file, ``MODEL.onnx``, where ``model_dir`` says where that is.
        voice: one of its voices, ``af_heart``.
        language: ``en-us``, ``de``, ...; without one that of the voice.
        model_path: the model's file.
        voices_path: the voices' file; without one the only ``voices*.bin`` beside the model.
        model_dir: the folder of the model's file.
        speed: 0.5 to 2.
        sentence_pause: silence between sentences, s.
        num_workers: texts spoken at once.

    Raises:
        InvalidInput: a file is missing or damaged, there is no such voice, or a number is out of its range.
        ValueError: ``num_workers`` is less than 1.
    """

    def __init__(
        self,
        *,
        model: str,
        voice: str = "af_heart",
        language: str | None = None,
        model_path: str | None = None,
        voices_path: str | None = None,
        model_dir: str | None = None,
        speed: float = 1.0,
        sentence_pause: float = 0.25,
        num_workers: int = 1,
    ) -> None:
        if not 0.5 <= speed <= 2:
            raise ValueError(f"speed must be 0.5 to 2, not {speed!r}")
        if sentence_pause < 0:
            raise ValueError(f"sentence_pause must be 0 or more, not {sentence_pause!r}")
        path = _model_file(model, model_path, model_dir)
        voices = _voices_file(path, voices_path)
        _require_voice(voice, voices)
        super().__init__(
            model=model,
            provider="kokoro-onnx",
            sample_rate=RATE,
            engine=shared_engine(
                f"kokoro/{model}",
                partial(_load, path, voices),
                settings=(path, voices),
                hint=f"Its files are {path} and {voices}: download them anew.",
                workers=num_workers,
            ),
        )
        spoken = (language or _LANGUAGES.get(voice[:1], "en-us")).lower().replace("_", "-")
        self._language = _ESPEAK.get(spoken, spoken)
        self._voice = voice
        self._speed = speed
        self._pause = bytes(2 * round(RATE * sentence_pause))
        self._sentences = tokenize.basic.SentenceTokenizer(min_sentence_len=10)

    def say(self, text: str, model: Any) -> Iterator[bytes]:
        """Yield the audio of each sentence, from the second on with the pause before it."""
        pause = b""
        for sentence in self._sentences.tokenize(text):
            phonemes = model.tokenizer.phonemize(sentence, self._language)
            if phonemes:
                audio, _ = model.create(phonemes, voice=self._voice, speed=self._speed, is_phonemes=True)
                yield pause + (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()
                pause = self._pause


def _model_file(model: str, model_path: str | None, model_dir: str | None) -> Path:
    if model_path is None and model_dir is None:
        raise InvalidInput(
            f"Nothing says where the file of the kokoro model {quote(model)} is.",
            field="model_path",
            hint=f"Write model_path (and voices_path) into the provider's entry, or base_url of a server. {_DOWNLOAD}",
        )
    if model_path is not None:
        return require_file(model_path, option="model_path", hint=_DOWNLOAD)
    return require_file(Path(model_dir or "") / f"{model}.onnx", option="model_dir", hint=_DOWNLOAD)


def _voices_file(model: Path, voices_path: str | None) -> Path:
    if voices_path is not None:
        return require_file(voices_path, option="voices_path", hint=_DOWNLOAD)
    found = sorted(model.parent.glob("voices*.bin"))
    if len(found) == 1:
        return found[0]
    raise InvalidInput(
        f"There {'are several files' if found else 'is no file'} voices*.bin in {shown(model.parent)}.",
        field="voices_path",
        hint=f"Name it with voices_path. {_DOWNLOAD}",
    )


def _require_voice(voice: str, path: Path) -> None:
    """Look for a voice in the list of contents of the file, an archive of arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            voices = sorted(name.removesuffix(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidInput(
            f"{shown(path)} is no file of kokoro's voices: {error}.",
            field="voices_path",
            hint=f"Download it anew. {_DOWNLOAD}",
        ) from error
    if voice not in voices:
        near = nearest(str(voice), voices)
        raise InvalidInput(
            f"{quote(voice)} is no voice in {shown(path)}.",
            field="voice",
            hint=f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(voices)}.",
            details={"nearest": near},
        )


def _load(model: Path, voices: Path) -> Any:
    package: Any = importlib.import_module("kokoro_onnx")
    loaded = package.Kokoro(str(model), str(voices))
    with loaded.voices as archive:  # else the file stays open, and is read anew for each request
        loaded.voices = dict(archive)
    return loaded
