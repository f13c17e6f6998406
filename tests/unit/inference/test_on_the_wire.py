"""Where the plugins' requests arrive when ``base_url`` is an API root on loopback, and with which key."""

import asyncio
import contextlib

import aiohttp
import pytest
from livekit import rtc
from livekit.agents import APIConnectOptions, APIError, llm, utils

from voicegw_mcp import inference

ONCE = APIConnectOptions(max_retry=0, timeout=10)
FRAME = rtc.AudioFrame(data=bytes(3200), sample_rate=16000, num_channels=1, samples_per_channel=1600)


class Door:
    """A server that reads one request, says no, and remembers where it came to and with which headers."""

    def __init__(self):
        self.seen = asyncio.Queue()
        self.called = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.root = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _answer(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            self.seen.put_nowait((head[0], {line.split(": ", 1)[0].lower(): line for line in head[1:-2]}))
            self.called.set()
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()


async def ask(model, _door):
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="hello")
    async with model.chat(chat_ctx=context, conn_options=ONCE) as stream:
        async for _ in stream:
            pass


async def recognize(model, _door):
    await model.recognize(FRAME, conn_options=ONCE)


async def listen(model, door):
    async with model.stream(conn_options=ONCE) as stream:
        stream.push_frame(FRAME)
        await door.called.wait()  # Cartesia's listener does not call for a stream that has ended already
        stream.end_input()
        async for _ in stream:
            pass


async def say(model, _door):
    async with model.synthesize("hello", conn_options=ONCE) as stream:
        async for _ in stream:
            pass


async def speak(model, _door):
    async with model.stream(conn_options=ONCE) as stream:
        stream.push_text("hello there, this is a whole sentence.")
        stream.end_input()
        async for _ in stream:
            pass


@pytest.mark.parametrize(
    ("make", "model", "use", "root", "request_line", "key"),
    [
        (inference.LLM, "openai/gpt-5", ask, "/v1", "POST /v1/chat/completions", "authorization: Bearer fake-openai"),
        (inference.STT, "openai/whisper-1", recognize, "/v1", "POST /v1/audio/transcriptions", "authorization: Bearer fake-openai"),
        (inference.TTS, "openai/tts-1:ash", say, "", "POST /v1/audio/speech", "authorization: Bearer fake-openai"),
        (inference.LLM, "anthropic/claude-5", ask, "", "POST /v1/messages", "x-api-key: fake-anthropic"),
        (inference.LLM, "groq/llama", ask, "/openai/v1", "POST /openai/v1/chat/completions", "authorization: Bearer fake-groq"),
        (inference.STT, "groq/whisper", recognize, "/openai/v1", "POST /openai/v1/audio/transcriptions", "authorization: Bearer fake-groq"),
        (inference.TTS, "groq/orpheus", say, "/openai/v1", "POST /openai/v1/audio/speech", "authorization: Bearer fake-groq"),
        (inference.STT, "deepgram/nova-3:de", recognize, "/v1", "POST /v1/listen?model=nova-3", "authorization: Token fake-deepgram"),
        (inference.STT, "deepgram/nova-3:de", listen, "/v1", "GET /v1/listen?model=nova-3", "authorization: Token fake-deepgram"),
        (inference.STT, "deepgram/flux-general-en", listen, "/v1", "GET /v2/listen?model=flux-general-en", "authorization: Token fake-deepgram"),
        (inference.TTS, "deepgram/aura-2-thalia-en", say, "/v1", "POST /v1/speak?", "authorization: Token fake-deepgram"),
        (inference.TTS, "deepgram/flux-alexis-en", say, "/v1", "POST /v2/speak?", "authorization: Token fake-deepgram"),
        (inference.STT, "cartesia/ink-2", listen, "", "GET /stt/", "x-api-key: fake-cartesia"),
        (inference.TTS, "cartesia/sonic-3:anna", say, "", "POST /tts/bytes", "x-api-key: fake-cartesia"),
        (inference.STT, "elevenlabs/scribe_v1", recognize, "/v1", "POST /v1/speech-to-text", "xi-api-key: fake-elevenlabs"),
        (inference.TTS, "elevenlabs/eleven_turbo_v2_5:rachel", say, "/v1", "POST /v1/text-to-speech/rachel/stream", "xi-api-key: fake-elevenlabs"),
        (inference.TTS, "elevenlabs/eleven_turbo_v2_5:rachel", speak, "", "GET /v1/text-to-speech/rachel/multi-stream-input", "xi-api-key: fake-elevenlabs"),
        (inference.STT, "assemblyai/universal-streaming-english", listen, "", "GET /v3/ws?", "authorization: fake-assemblyai"),
        (inference.TTS, "assemblyai/assemblyai-tts-1", speak, "/v2", "GET /v1/ws?", "authorization: fake-assemblyai"),
        (inference.LLM, "ollama/qwen2.5:3b", ask, "", "POST /v1/chat/completions", "authorization: Bearer ollama"),
        (inference.STT, "whisper/base", recognize, "/v1", "POST /v1/audio/transcriptions", "authorization: Bearer whisper"),
        (inference.TTS, "piper/amy:amy", say, "/voices/v1", "POST /voices/v1/audio/speech", "authorization: Bearer piper"),
        (inference.LLM, "openai_compatible/llama", ask, "/any/path", "POST /any/path/chat/completions", "authorization: Bearer openai_compatible"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("keys")
async def test_a_request_arrives_under_the_root_with_the_key(
    configure, make, model, use, root, request_line, key
):
    async with Door() as door, utils.http_context.open():
        configure(f"providers:\n  {model.partition('/')[0]}: {{base_url: '{door.root}{root}'}}\n")
        instance = make(model)
        # Some plugins hand aiohttp's errors on.
        with contextlib.suppress(APIError, aiohttp.ClientError):
            await asyncio.wait_for(use(instance, door), 30)
        line, headers = door.seen.get_nowait()
        await instance.aclose()
    assert line.startswith(request_line)
    assert key in {f"{name}: {header.split(': ', 1)[1]}" for name, header in headers.items()}
