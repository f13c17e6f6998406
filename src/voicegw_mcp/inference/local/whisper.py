"""Speech to text by faster-whisper in this process, as LiveKit's ``stt.STT``: whole recordings, no stream of its own.

May import ``inference.local`` and ``errors``; faster-whisper is imported in the engine's thread. Its parameters and its
results are those of faster-whisper 1.2.
"""

from __future__ import annotations

import importlib
import math
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from livekit import rtc
from livekit.agents import NOT_GIVEN, APIConnectOptions, LanguageCode, stt, utils
from livekit.agents.types import TimedString

from voicegw_mcp.inference.local.engine import shared_engine
from voicegw_mcp.inference.local.files import require_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from livekit.agents.types import NotGivenOr
    from livekit.agents.utils import AudioBuffer

RATE: Final = 16_000
"""Samples per second that the model hears."""

_FILES: Final = ("config.json", "model.bin", "tokenizer.json")
"""What a model's folder must have; without the last one faster-whisper would fetch another model's."""

_DETECT: Final = frozenset({"", "auto", "multi"})
"""Languages that mean: find out."""


class STT(stt.STT[Any]):
    """A whisper model in this process.

    Args:
        model: a size (``base``, ``large-v3``, ``turbo``, ...) or the id of a converted model (``Systran/faster-whisper-base``),
            downloaded at its first use.
        language: ``en``, ``english`` or ``en-US``; without one, or with ``auto``, each recording's is found out.
        model_path: the folder of a model in CTranslate2's form, instead of a download.
        download_root: the folder downloads are kept in, instead of the cache folder of Hugging Face.
        local_files_only: take what was downloaded before, and ask no server.
        device: ``cpu``, ``cuda`` or ``auto``.
        compute_type: ``int8``, ``float16``, ...; ``default`` is what the model was made with, as far as the device can.
        cpu_threads: of one run; 0 leaves it to CTranslate2.
        num_workers: recordings transcribed at once.
        beam_size: of the search; 1 is fastest.
        vad_filter: leave out what is no speech, by faster-whisper's own detector.
        word_timestamps: tell words with their times.
        initial_prompt: names and words to expect.

    Raises:
        InvalidInput: ``model_path`` is no folder with a model.
        ValueError: ``num_workers`` is less than 1.
    """

    def __init__(
        self,
        *,
        model: str,
        language: str | None = None,
        model_path: str | None = None,
        download_root: str | None = None,
        local_files_only: bool = False,
        device: str = "auto",
        compute_type: str = "default",
        cpu_threads: int = 0,
        num_workers: int = 1,
        beam_size: int = 5,
        vad_filter: bool = False,
        word_timestamps: bool = False,
        initial_prompt: str | None = None,
    ) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=False,
                interim_results=False,
                aligned_transcript="word" if word_timestamps else False,
            )
        )
        self._model = model
        self._language = language
        self._options = {
            "beam_size": beam_size,
            "vad_filter": vad_filter,
            "word_timestamps": word_timestamps,
            "initial_prompt": initial_prompt,
        }
        hint = f"A model's folder has {', '.join(_FILES)} and a vocabulary; ct2-transformers-converter makes one."
        folder = model_path and require_folder(model_path, option="model_path", hint=hint, files=_FILES)
        source = {"model": model, "download_root": download_root, "local_files_only": local_files_only}
        run = {
            "device": device,
            "compute_type": compute_type,
            "cpu_threads": cpu_threads,
            "num_workers": num_workers,
        }
        self._engine = shared_engine(
            f"whisper/{model}",
            partial(_load, folder or None, source, run),
            settings=(str(folder or ""), *source.items(), *run.items()),
            hint=f"Its folder is {folder}: copy it anew, or choose another compute_type or device."
            if folder
            else "Where there is no network, name the folder of a model with model_path.",
            workers=num_workers,
        )

    @property
    def model(self) -> str:
        """Return the model's name."""
        return self._model

    @property
    def provider(self) -> str:
        """Return what runs it."""
        return "faster-whisper"

    def prewarm(self) -> None:
        """Begin to load the model; returns at once."""
        self._engine.prewarm()

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,  # noqa: ARG002 - there is no connection; LiveKit passes it
    ) -> stt.SpeechEvent:
        wanted = language if isinstance(language, str) else self._language
        known = None if wanted is None or wanted.lower() in _DETECT else LanguageCode(wanted).language
        frames = buffer if isinstance(buffer, list) else [buffer]
        if not any(frame.samples_per_channel for frame in frames):
            return _event([], known or "")
        async with aclosing(self._engine.each(partial(self._transcribe, frames, known))) as pieces:
            told, *segments = [piece async for piece in pieces]
        return _event(segments, told.language)

    def _transcribe(self, frames: list[rtc.AudioFrame], language: str | None, model: Any) -> Iterator[Any]:
        """Yield what is known of the whole recording, then each segment; in the engine's thread."""
        segments, told = model.transcribe(samples_of(frames), language=language, **self._options)
        yield told
        yield from segments


def samples_of(frames: list[rtc.AudioFrame]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return audio of any rate and number of channels as the model wants it: 16 kHz, one channel, -1 to 1."""
    whole = rtc.combine_audio_frames(frames)
    samples = np.frombuffer(whole.data, dtype=np.int16)
    if whole.num_channels > 1:
        samples = samples.reshape(-1, whole.num_channels).mean(axis=1).astype(np.int16)
    if whole.sample_rate != RATE:
        resampler = rtc.AudioResampler(whole.sample_rate, RATE)
        resampled = [*resampler.push(bytearray(samples.tobytes())), *resampler.flush()]
        samples = np.frombuffer(b"".join(bytes(frame.data) for frame in resampled), dtype=np.int16)
    return (samples / 32768).astype(np.float32)


def _load(folder: Path | None, source: dict[str, Any], run: dict[str, Any]) -> Any:
    package: Any = importlib.import_module("faster_whisper")
    if folder is None:
        # Not by the class itself: that would take a folder of the size's name in the working folder for the model.
        folder = package.download_model(
            source["model"],
            cache_dir=source["download_root"],
            local_files_only=source["local_files_only"],
        )
    return package.WhisperModel(str(folder), **run)


def _event(segments: list[Any], language: str) -> stt.SpeechEvent:
    words = [word for segment in segments for word in segment.words or ()]
    tokens = sum(len(segment.tokens) for segment in segments)
    certainty = sum(segment.avg_logprob * len(segment.tokens) for segment in segments) / max(tokens, 1)
    return stt.SpeechEvent(
        type=stt.SpeechEventType.FINAL_TRANSCRIPT,
        request_id=utils.shortuuid("whisper_"),
        alternatives=[
            stt.SpeechData(
                language=LanguageCode(language),
                text="".join(segment.text for segment in segments).strip(),
                start_time=segments[0].start if segments else 0.0,
                end_time=segments[-1].end if segments else 0.0,
                confidence=min(1.0, math.exp(certainty)) if tokens else 0.0,
                words=[
                    TimedString(
                        word.word, start_time=word.start, end_time=word.end, confidence=word.probability
                    )
                    for word in words
                ]
                or None,
            )
        ],
    )
