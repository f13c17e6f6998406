"""How much a request uses at the loopback providers, and the audio they hear and speak: formulas anybody can compute.

* A token is a word: what ``str.split`` makes of a text.
* A reply is ``You said:`` and the words of the last message of the user, sent word by word.
* Speech lasts 20 ms per character that is no blank, whichever way a text is cut into messages. As MP3 it is rounded up to whole
  frames of 576 samples.
* Speech sold by tokens (gpt-4o-mini-tts): words in, one token per started 50 ms of speech out.
* A transcript has one word per started 200 ms of audio: one two three ... ten one two ...
* Audio heard by tokens (gpt-4o-transcribe): one token per started 100 ms in, words out.
"""

from __future__ import annotations

import io
import math
import wave
from array import array
from functools import cache

MS_PER_CHARACTER = 20
MS_PER_WORD = 200
MS_PER_TOKEN_HEARD = 100
MS_PER_TOKEN_SPOKEN = 50
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def count_words(*texts: str) -> int:
    """Return the tokens of texts."""
    return sum(len(text.split()) for text in texts)


def reply_to(text: str) -> list[str]:
    """Return a reply's words."""
    return ["You", "said:", *text.split()]


LOUD = 100
"""The amplitude, 16 bit, above which there is sound."""


def spoken_ms(text: str) -> int:
    """Return how long a text takes to say, ms."""
    return MS_PER_CHARACTER * sum(not character.isspace() for character in text)


def words_heard(audio_ms: float) -> list[str]:
    """Return the words of a transcript."""
    return [NUMBERS[index % len(NUMBERS)] for index in range(math.ceil(audio_ms / MS_PER_WORD))]


def timed_words(audio_ms: float) -> list[tuple[str, float, float]]:
    """Return the words of a transcript with start and end, seconds."""
    end = audio_ms / 1000
    step = MS_PER_WORD / 1000
    return [
        (word, round(index * step, 3), round(min(end, (index + 1) * step), 3))
        for index, word in enumerate(words_heard(audio_ms))
    ]


@cache
def _second_of_tone(sample_rate: int) -> bytes:
    """Return one second of a quiet 400 Hz tone, 16 bit mono: whole waves, so seconds can follow each other."""
    wave_form = (int(1000 * math.sin(math.tau * 400 * n / sample_rate)) for n in range(sample_rate))
    return array("h", wave_form).tobytes()


def pcm(audio_ms: int, sample_rate: int) -> bytes:
    """Return a tone of so many ms, 16 bit mono."""
    size = audio_ms * sample_rate // 1000 * 2
    second = _second_of_tone(sample_rate)
    return (second * (size // len(second) + 1))[:size]


def wav(audio_ms: int, sample_rate: int) -> bytes:
    """Return a tone in a WAV container."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(pcm(audio_ms, sample_rate))
    return buffer.getvalue()


def wav_ms(data: bytes) -> int:
    """Return how long the audio of a WAV file is, ms."""
    with wave.open(io.BytesIO(data)) as source:
        return round(source.getnframes() * 1000 / source.getframerate())


_MP3_RATES = {22050: 0b00, 24000: 0b01}
"""Sample rate -> its bits in the header of an MPEG-2 layer III frame."""
_MP3_FRAME_SAMPLES = 576


def mp3(audio_ms: int, sample_rate: int) -> bytes:
    """Return silence as MP3: mono frames of 32 kbit/s whose side information says that nothing follows."""
    header = bytes([0xFF, 0xF3, 0b0100 << 4 | _MP3_RATES[sample_rate] << 2, 0xC4])
    frame = header.ljust(72 * 32000 // sample_rate, b"\0")
    return frame * math.ceil(audio_ms * sample_rate / 1000 / _MP3_FRAME_SAMPLES)


def pieces(data: bytes, size: int = 4800) -> list[bytes]:
    """Return data cut as it is sent: 100 ms a piece at 24 kHz, in two pieces at least."""
    size = min(size, len(data) // 4 * 2 + 2)
    return [data[start : start + size] for start in range(0, len(data), size)]
