"""Every way in which the installed plugins call the loopback providers: how an instance is made and used, and at which door it knocks.

What is said and heard is the same everywhere, so that what it uses can be written down once:

* asked: five words, two of them in the system message; the reply has five words
* heard: one second of tone, five words
* spoken: "hello dear readers", 18 characters, 16 of them no blanks: 320 ms
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livekit import rtc
from livekit.agents import APIConnectOptions, llm, stt, utils
from livekit.plugins import anthropic, assemblyai, cartesia, deepgram, elevenlabs, groq, openai
from tests.loopback import (
    Anthropic,
    AssemblyAI,
    Cartesia,
    Deepgram,
    ElevenLabs,
    Groq,
    Ollama,
    OpenAI,
    OpenAICompatible,
    formulas,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.loopback import Provider

TEXT = "hello dear readers"
REPLY = "You said: hello there you"
HEARD = "one two three four five"
ONCE = APIConnectOptions(max_retry=0, timeout=10)


def tone(sample_rate: int = 16000, *, ms: int = 1000, silence_ms: int = 0) -> list[rtc.AudioFrame]:
    """Return a tone, and silence, in frames of 10 ms."""
    data = formulas.pcm(ms, sample_rate) + bytes(silence_ms * sample_rate // 1000 * 2)
    samples = sample_rate // 100
    return [
        rtc.AudioFrame(data[start : start + 2 * samples], sample_rate, 1, samples)
        for start in range(0, len(data), 2 * samples)
    ]


async def ask(model: Any, _server: Provider, _door: str, options: APIConnectOptions) -> str:
    """Ask, and return the reply."""
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="be brief")
    context.add_message(role="user", content="hello there you")
    async with model.chat(chat_ctx=context, conn_options=options) as stream:
        return "".join([chunk.delta.content async for chunk in stream if chunk.delta and chunk.delta.content])


async def recognize(model: Any, _server: Provider, _door: str, options: APIConnectOptions) -> str:
    """Send a second of tone at once, and return the transcript."""
    event = await model.recognize(tone(), conn_options=options)
    return event.alternatives[0].text


async def listen(model: Any, server: Provider, door: str, options: APIConnectOptions) -> str:
    """Stream a second of tone, and return the final transcript.

    The end of the input waits for the connection: Cartesia's listener does not call for a stream that has ended.
    """
    number = len(server.of(door)) + 1
    async with model.stream(conn_options=options) as stream:
        # Without resampling: what a resampler leaves of a tone lasts a little longer.
        for frame in tone(24000, silence_ms=200) if door == "realtime" else tone():
            stream.push_frame(frame)
        await server.arrival(door, number)
        stream.end_input()
        async for event in stream:
            # Some sockets stay open after it, until the client goes away.
            if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT:
                return event.alternatives[0].text
    return ""


async def keep_listening(model: Any, _server: Provider, door: str, options: APIConnectOptions) -> str:
    """Stream three seconds of tone without an end of the input: what goes wrong is not taken for the end then."""
    async with model.stream(conn_options=options) as stream:
        for frame in tone(24000, ms=3000, silence_ms=200) if door == "realtime" else tone(ms=3000):
            stream.push_frame(frame)
        return "".join([event.type.value async for event in stream])


async def _audio_of(stream: Any) -> float:
    return sum([event.frame.duration async for event in stream])


async def say(model: Any, _server: Provider, _door: str, options: APIConnectOptions) -> float:
    """Have the text spoken in one request, and return the seconds."""
    async with model.synthesize(TEXT, conn_options=options) as stream:
        return await _audio_of(stream)


async def speak(model: Any, _server: Provider, _door: str, options: APIConnectOptions) -> float:
    """Have the text spoken as a stream, and return the seconds."""
    async with model.stream(conn_options=options) as stream:
        stream.push_text(TEXT)
        stream.end_input()
        return await _audio_of(stream)


@dataclass(frozen=True)
class Stage:
    """One way to call a provider.

    Args:
        provider: the server.
        door: where the call arrives; ``socket`` when it is a WebSocket.
        use: how it is used.
        plugin: the class of the plugin.
        options: more arguments for it.
        path: the address it wants, after the server's origin; ``ws`` when it wants a WebSocket's.
        cached: tokens of the five that come from a cache.
        tokens: (input, output) that are told for what was heard or spoken.
        mp3: speech comes as MP3.
    """

    provider: type[Provider]
    door: str
    use: Callable[[Any, Any, str, APIConnectOptions], Awaitable[Any]]
    plugin: Callable[..., Any]
    options: dict[str, Any]
    path: str = ""
    ws: bool = False
    cached: int = 0
    tokens: tuple[int, int] = (0, 0)
    mp3: bool = False

    @property
    def socket(self) -> bool:
        """Whether it is a WebSocket."""
        return self.door.endswith("-ws") or self.door == "realtime"

    @property
    def spoken_door(self) -> str:
        """Where a synthesis arrives."""
        return f"{self.door}/turn" if self.socket else self.door

    def make(self, server: Provider) -> Any:
        """Return an instance that calls a server, with the key it has now."""
        origin = server.origin.replace("http", "ws", 1) if self.ws else server.origin
        key = {} if self.provider is Ollama else {"api_key": server.key}
        return self.plugin(base_url=origin + self.path, **key, **self.options)

    def __str__(self) -> str:
        model = self.options.get("model", "")
        plugin = getattr(self.plugin, "__qualname__", "")
        return f"{self.provider.name}-{plugin}-{self.door}-{self.use.__name__}{'-' if model else ''}{model}"


STAGES = [
    Stage(OpenAI, "chat", ask, openai.LLM, {"model": "gpt-4o-mini"}, "/v1", cached=2),
    Stage(OpenAI, "speech", say, openai.TTS, {"model": "gpt-4o-mini-tts", "response_format": "pcm"}, "/v1", tokens=(3, 7)),
    Stage(OpenAI, "speech", say, openai.TTS, {"model": "tts-1"}, "/v1", mp3=True),
    Stage(OpenAI, "transcriptions", recognize, openai.STT, {"model": "gpt-4o-mini-transcribe"}, "/v1"),
    Stage(OpenAI, "transcriptions", recognize, openai.STT, {"model": "whisper-1"}, "/v1"),
    Stage(OpenAI, "realtime", listen, openai.STT, {"use_realtime": True}, "/v1", tokens=(10, 5)),
    Stage(Groq, "chat", ask, groq.LLM, {}, "/openai/v1", cached=2),
    Stage(Groq, "speech", say, groq.TTS, {}, "/openai/v1"),
    Stage(Groq, "transcriptions", recognize, groq.STT, {}, "/openai/v1"),
    Stage(OpenAICompatible, "chat", ask, openai.LLM, {"model": "llama"}, "/v1", cached=2),
    Stage(Ollama, "chat", ask, openai.LLM.with_ollama, {"model": "qwen2.5:3b"}, "/v1", cached=2),
    Stage(Anthropic, "messages", ask, anthropic.LLM, {}),
    Stage(Anthropic, "messages", ask, anthropic.LLM, {"caching": "ephemeral"}, cached=2),
    Stage(Deepgram, "listen", recognize, deepgram.STT, {}, "/v1/listen"),
    Stage(Deepgram, "listen-ws", listen, deepgram.STT, {}, "/v1/listen"),
    Stage(Deepgram, "listen-v2-ws", listen, deepgram.STTv2, {}, "/v2/listen", ws=True),
    Stage(Deepgram, "speak", say, deepgram.TTS, {}, "/v1/speak"),
    Stage(Deepgram, "speak-ws", speak, deepgram.TTS, {}, "/v1/speak"),
    Stage(Deepgram, "speak-v2", say, deepgram.TTSv2, {}, "/v2/speak"),
    Stage(Deepgram, "speak-v2-ws", speak, deepgram.TTSv2, {}, "/v2/speak"),
    Stage(Cartesia, "stt-turns-ws", listen, cartesia.STT, {}),
    Stage(Cartesia, "stt-ws", listen, cartesia.STT, {"model": "ink-whisper"}),
    Stage(Cartesia, "tts-bytes", say, cartesia.TTS, {}),
    Stage(Cartesia, "tts-ws", speak, cartesia.TTS, {}),
    Stage(ElevenLabs, "stt", recognize, elevenlabs.STT, {}, "/v1"),
    Stage(ElevenLabs, "stt-ws", listen, elevenlabs.STT, {"model": "scribe_v2_realtime"}, "/v1"),
    Stage(ElevenLabs, "tts", say, elevenlabs.TTS, {}, "/v1", mp3=True),
    Stage(ElevenLabs, "tts-ws", speak, elevenlabs.TTS, {}, "/v1", mp3=True),
    Stage(ElevenLabs, "tts-ws", speak, elevenlabs.TTS, {"encoding": "pcm_24000"}, "/v1"),
    Stage(ElevenLabs, "dialogue", say, elevenlabs.TTS, {"model": "eleven_v3"}, "/v1", mp3=True),
    Stage(ElevenLabs, "dialogue-ws", speak, elevenlabs.TTS, {"model": "eleven_v3", "encoding": "pcm_24000"}, "/v1"),
    Stage(AssemblyAI, "stt-ws", listen, assemblyai.STT, {}, ws=True),
    Stage(AssemblyAI, "tts-ws", say, assemblyai.TTS, {}, ws=True),
    Stage(AssemblyAI, "tts-ws", speak, assemblyai.TTS, {}, ws=True),
]  # fmt: skip


class Running:
    """A stage with its server and its instance; ``metrics`` and ``errors`` are the events seen."""

    def __init__(self, stage: Stage, server: Provider, instance: Any) -> None:
        self.stage, self.server, self.instance = stage, server, instance
        self.metrics: list[Any] = []
        self.errors: list[Any] = []
        instance.on("metrics_collected", self.metrics.append)
        instance.on("error", self.errors.append)

    async def use(self, options: APIConnectOptions = ONCE) -> Any:
        """Use the instance as the stage does."""
        return await self.stage.use(self.instance, self.server, self.stage.door, options)

    async def fail(self, options: APIConnectOptions = ONCE) -> Exception:
        """Use the instance, which fails; return the exception."""
        use = keep_listening if self.stage.use is listen else self.stage.use
        call = asyncio.ensure_future(use(self.instance, self.server, self.stage.door, options))
        try:
            await asyncio.wait([call], timeout=20)
            assert call.done(), "it neither fails nor ends"
            error = call.exception()
            assert isinstance(error, Exception), f"it did not fail: {call.result()!r}"
            return error
        finally:
            call.cancel()
            await asyncio.wait([call])


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[Running]:
    """Run a stage's server, with an instance that calls it."""
    async with stage.provider() as server, utils.http_context.open():
        instance = stage.make(server)
        try:
            yield Running(stage, server, instance)
        finally:
            await instance.aclose()
            # openai.STT and anthropic.LLM leave their HTTP client open.
            if (client := getattr(instance, "_client", None)) is not None:
                await client.close()
