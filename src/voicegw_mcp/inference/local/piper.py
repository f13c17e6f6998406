"""Text to speech by piper in this process. Its package is under the GPL: an extra, nothing of it is shipped here.

May import ``inference.local`` and ``errors``; piper is imported in the engine's thread. Its parameters and the form of its
files are those of piper-tts 1.8.
"""

from __future__ import annotations

import importlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.errors import InvalidInput, nearest, quote
from voicegw_mcp.inference.local.engine import shared_engine
from voicegw_mcp.inference.local.files import require_file, shown
from voicegw_mcp.inference.local.speech import LocalTTS

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = "~/.local/share/piper-voices/"
"""Where voices are when nothing says where, as in VoiceGateway."""


class TTS(LocalTTS):
    """A voice of piper in this process.

    Args:
        model: the voice, ``en_US-lessac-medium``: the name of its file, ``MODEL.onnx``.
        voice: the same, where the model is called otherwise; goes before it.
        default_voice: the voice where there is no file of the model's name and ``voice`` is not given.
        speaker: name or number of a speaker, where the voice has several.
        model_dir: the folder of the voices.
        model_path: the voice's file, instead of a name and a folder.
        config_path: its description; without one the ``.onnx.json`` beside it.
        speed: 2 is twice as fast; without one the voice's own.
        volume: 1 is the voice's own.
        noise_scale: how much the sound varies; without one the voice's own.
        noise_w_scale: how much the lengths of sounds vary; likewise.
        num_workers: texts spoken at once.

    Raises:
        InvalidInput: a file is missing or damaged, or there is no such speaker.
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        model: str,
        voice: str | None = None,
        default_voice: str | None = None,
        speaker: str | int | None = None,
        model_dir: str = FOLDER,
        model_path: str | None = None,
        config_path: str | None = None,
        speed: float | None = None,
        volume: float = 1.0,
        noise_scale: float | None = None,
        noise_w_scale: float | None = None,
        num_workers: int = 1,
    ) -> None:
        if speed is not None and speed <= 0:
            raise ValueError(f"speed must be more than 0, not {speed!r}")
        path = _voice_file(model, voice, default_voice, model_dir, model_path)
        config = require_file(
            config_path or f"{path}.json",
            option="config_path",
            hint="It comes with the voice: download both, or name it with config_path.",
        )
        described = _described(config)
        super().__init__(
            model=model,
            provider="piper",
            sample_rate=described["audio"]["sample_rate"],
            engine=shared_engine(
                f"piper/{path.stem}",
                partial(_load, path, config),
                settings=(path, config),
                hint=f"Its files are {path} and {config}: download them anew.",
                workers=num_workers,
            ),
        )
        length = described.get("inference", {}).get("length_scale", 1.0)
        self._options = {
            "speaker_id": _speaker_id(speaker, described, config),
            "length_scale": None if speed is None else length / speed,
            "noise_scale": noise_scale,
            "noise_w_scale": noise_w_scale,
            "volume": volume,
        }

    def say(self, text: str, model: Any) -> Iterator[bytes]:
        """Yield the audio of each sentence."""
        package: Any = importlib.import_module("piper")  # loaded by now
        for sentence in model.synthesize(text, package.SynthesisConfig(**self._options)):
            yield sentence.audio_int16_bytes


def _voice_file(
    model: str, voice: str | None, default_voice: str | None, model_dir: str, model_path: str | None
) -> Path:
    if model_path is not None:
        return require_file(model_path, option="model_path", hint="It is a voice's .onnx file.")
    folder = Path(model_dir).expanduser()
    named = voice or model
    if voice is None and default_voice and not (folder / f"{model}.onnx").is_file():
        named = default_voice
    near = nearest(named, [each.stem for each in folder.glob("*.onnx")])
    return require_file(
        folder / f"{named}.onnx",
        option="model_dir",
        hint=(f"Did you mean {', '.join(near)}? " if near else "")
        + f"Download it: python -m piper.download_voices {named} --download-dir {folder}; "
        "or write model_dir, model_path, or base_url of a server, into the provider's entry.",
    )


def _described(path: Path) -> dict[str, Any]:
    """Return what a voice's description says; that of an unusable one is refused here, not by the first request."""
    described: Any = {}
    try:
        described = json.loads(path.read_text("utf-8"))
        good = isinstance(described["audio"]["sample_rate"], int) and described["num_speakers"] >= 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        good, why = False, f"{type(error).__name__}: {error}"
    else:
        why = "it has no sample rate, or no number of speakers"
    if not good:
        raise InvalidInput(
            f"{shown(path)} is no description of a piper voice: {why}.",
            field="config_path",
            hint="Download the voice's .onnx.json anew.",
        )
    return described


def _speaker_id(speaker: str | int | None, described: dict[str, Any], path: Path) -> int | None:
    if speaker is None:
        return None
    speakers: dict[str, int] = described.get("speaker_id_map", {})
    if isinstance(speaker, str) and speaker in speakers:
        return speakers[speaker]
    number = int(speaker) if str(speaker).isdecimal() else -1
    if 0 <= number < described["num_speakers"]:
        return number
    raise InvalidInput(
        f"{quote(speaker)} is no speaker of {shown(path)}.",
        field="speaker",
        hint=f"There are 0 to {described['num_speakers'] - 1}" + ", ".join(["", *speakers][:50]) + ".",
    )


def _load(model: Path, config: Path) -> Any:
    package: Any = importlib.import_module("piper")
    return package.PiperVoice.load(model, config)
