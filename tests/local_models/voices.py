"""Makes voices for kokoro and piper whose audio is as long as the text has sounds, and says which voice it was."""

import json

import numpy as np
from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP
from tests.local_models.onnx_file import FLOAT, INT64, model

KOKORO_SAMPLES = 600
"""Samples of a sound at speed 1; of the two that kokoro-onnx puts around a text as well."""
PIPER_SAMPLES = 256
PIPER_RATE = 16000


def make_kokoro(folder, voices=("af_heart", "bf_emma")):
    """Write ``kokoro.onnx`` and ``voices.bin``; the first voice is half as loud as the second."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        ("Cast", ["tokens"], "sounds", {"to": FLOAT}),
        ("Div", ["samples", "speed"], "length", {}),
        ("Cast", ["length"], "times", {"to": INT64}),
        ("Concat", ["one", "times"], "repeats", {"axis": 0}),
        ("Tile", ["sounds", "repeats"], "long", {}),
        ("Mul", ["long", "nothing"], "silent", {}),
        ("ReduceMean", ["style"], "loudness", {"keepdims": 1}),
        ("Add", ["silent", "loudness"], "audio", {}),
    ]
    inputs = [("tokens", INT64, (1, "n")), ("style", FLOAT, (1, 256)), ("speed", FLOAT, (1,))]
    constants = [("samples", [float(KOKORO_SAMPLES)]), ("one", [1]), ("nothing", [0.0])]
    (folder / "kokoro.onnx").write_bytes(model(nodes, inputs, [("audio", FLOAT, (1, "m"))], constants))
    styles = {
        name: np.full((510, 1, 256), 0.25 * number, np.float32) for number, name in enumerate(voices, 1)
    }
    with (folder / "voices.bin").open("wb") as file:
        np.savez(file, **styles)
    return folder


def make_piper(folder, name="en_US-tiny-low", *, speakers=()):
    """Write a voice and its description."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        ("Cast", ["input"], "sounds", {"to": FLOAT}),
        ("Gather", ["scales", "second"], "scale", {"axis": 0}),
        ("Mul", ["samples", "scale"], "length", {}),
        ("Cast", ["length"], "times", {"to": INT64}),
        ("Concat", ["one", "times"], "repeats", {"axis": 0}),
        ("Tile", ["sounds", "repeats"], "long", {}),
        ("Mul", ["long", "nothing"], "silent", {}),
        ("Add", ["silent", "loudness"], "audio", {}),
    ]
    inputs = [("input", INT64, (1, "n")), ("input_lengths", INT64, (1,)), ("scales", FLOAT, (3,))]
    constants = [("samples", [float(PIPER_SAMPLES)]), ("one", [1]), ("second", [1]), ("nothing", [0.0])]
    if (
        speakers
    ):  # the voice of speaker n is negative for n = 1, so that it is told after its volume was normalized
        inputs.append(("sid", INT64, (1,)))
        constants += [("half", [0.5])]
        nodes[-1:-1] = [
            ("Cast", ["sid"], "speaker", {"to": FLOAT}),
            ("Sub", ["half", "speaker"], "loudness", {}),
        ]
    else:
        constants += [("loudness", [0.5])]
    (folder / f"{name}.onnx").write_bytes(model(nodes, inputs, [("audio", FLOAT, (1, "m"))], constants))
    described = {
        "audio": {"sample_rate": PIPER_RATE},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "num_symbols": 256,
        "num_speakers": max(1, len(speakers)),
        "speaker_id_map": {each: number for number, each in enumerate(speakers)},
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
    }
    (folder / f"{name}.onnx.json").write_text(json.dumps(described), encoding="utf-8")
    return folder
