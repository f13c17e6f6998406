"""What kokoro and piper have in common as LiveKit's ``tts.TTS``: a text is spoken sentence by sentence in the engine's thread.

Meets LiveKit; imports ``inference.local.engine``.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, tts, utils

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicegw_mcp.inference.local.engine import Engine

_SILENCE_S: Final = 0.01
"""What is heard of a text in which there is nothing to say; LiveKit takes no audio at all for a failure."""


class LocalTTS(tts.TTS[Any]):
    """A voice in this process.

    Args:
        model: its name.
        provider: the package that runs it.
        sample_rate: of its audio, samples per second.
        engine: the loaded model.
    """

    def __init__(self, *, model: str, provider: str, sample_rate: int, engine: Engine[Any]) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False), sample_rate=sample_rate, num_channels=1
        )
        self._model = model
        self._provider = provider
        self._engine = engine

    @property
    def model(self) -> str:
        """Return the model's name."""
        return self._model

    @property
    def provider(self) -> str:
        """Return what runs it."""
        return self._provider

    def prewarm(self) -> None:
        """Begin to load the model; returns at once."""
        self._engine.prewarm()

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Speak a text; frames come from the first sentence on. No timeout of ``conn_options`` is applied."""
        return _Synthesis(tts=self, input_text=text, conn_options=conn_options)

    @abstractmethod
    def say(self, text: str, model: Any) -> Iterator[bytes]:
        """Yield the audio of each sentence, 16-bit PCM; in the engine's thread."""

    def spoken(self, text: str) -> Any:
        """Return the audio of each sentence as an asynchronous generator; see ``Engine.each``."""
        return self._engine.each(partial(self.say, text))


class _Synthesis(tts.ChunkedStream):
    """The synthesis of one text."""

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        voice = cast("LocalTTS", self._tts)  # pyright: ignore[reportUnknownMemberType] - LiveKit leaves the events' type open
        output_emitter.initialize(
            request_id=utils.shortuuid(f"{voice.provider}_"),
            sample_rate=voice.sample_rate,
            num_channels=1,
            mime_type="audio/pcm",
        )
        if not self._input_text.strip():
            return
        silent = True
        async with aclosing(voice.spoken(self._input_text)) as sentences:
            async for audio in sentences:
                silent = False
                output_emitter.push(audio)
                output_emitter.flush()
        if silent:
            output_emitter.push(bytes(2 * round(voice.sample_rate * _SILENCE_S)))
