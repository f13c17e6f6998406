"""OpenAI's protocol, for OpenAI itself and for those who speak it too: Groq, Ollama, and servers of one's own.

Chat completions as a stream of events, speech, transcriptions, the list of models, and the realtime socket in transcription mode.
"""

from __future__ import annotations

import base64
import json
import math
from array import array
from typing import TYPE_CHECKING, Any, ClassVar

from tests.loopback import formulas
from tests.loopback.server import Answer, Door, Provider, Socket, form_in, send_json, send_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web
    from tests.loopback.faults import Call

MODELS = ("gpt-4o-mini", "gpt-4o-mini-tts", "tts-1", "gpt-4o-mini-transcribe", "whisper-1")
SAMPLE_RATE = 24000

_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("billing_error", "insufficient_quota", "You have no credit left."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    408: ("timeout", "request_timeout", "The request took too long."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached."),
}


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, or parts of which some are text."""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or [])


class OpenAI(Provider):
    """api.openai.com."""

    name: ClassVar[str] = "openai"
    root: ClassVar[str] = "/v1"
    sample_rate: ClassVar[int] = SAMPLE_RATE

    def doors(self) -> Iterable[Door]:
        """Return the addresses under the API root."""
        return [
            Door("chat", "POST", f"{self.root}/chat/completions", self._chat),
            Door("speech", "POST", f"{self.root}/audio/speech", self._speech),
            Door("transcriptions", "POST", f"{self.root}/audio/transcriptions", self._transcribe),
            Door("models", "GET", f"{self.root}/models", self._models),
            Door("realtime", "GET", f"{self.root}/realtime", self._listen),
        ]

    def key_in(self, request: web.Request) -> str | None:
        """Return what follows ``Bearer``."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key if scheme == "Bearer" else None

    def error_body(self, status: int) -> Any:
        """Return ``error`` with type, code and message."""
        kind, code, message = _ERRORS.get(status, ("server_error", None, "The server had an error."))
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    async def _models(self, request: web.Request, call: Call) -> web.StreamResponse:
        data = [{"id": model, "object": "model", "created": 0, "owned_by": self.name} for model in MODELS]
        return await send_json(request, call, {"object": "list", "data": data})

    async def _chat(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Reply as ``formulas`` says; the words of system messages come from the prompt cache."""
        asked = await request.json()
        call.model = asked["model"]
        texts = [(message["role"], text_of(message["content"])) for message in asked["messages"]]
        reply = formulas.reply_to(next((text for role, text in reversed(texts) if role == "user"), ""))
        call.input_tokens = formulas.count_words(*(text for _, text in texts))
        call.cached_tokens = formulas.count_words(
            *(text for role, text in texts if role in ("system", "developer"))
        )
        call.output_tokens = len(reply)
        head = {
            "id": f"chatcmpl-{call.number}",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": call.model,
        }
        usage = {
            "prompt_tokens": call.input_tokens,
            "completion_tokens": call.output_tokens,
            "total_tokens": call.input_tokens + call.output_tokens,
            "prompt_tokens_details": {"cached_tokens": call.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

        def event(delta: dict[str, str] | None, finish: str | None = None) -> bytes:
            choices = (
                []
                if delta is None
                else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
            )
            chunk = {**head, "choices": choices, "usage": usage if delta is None else None}
            return f"data: {json.dumps(chunk)}\n\n".encode()

        answer = Answer(request, call, "text/event-stream")
        for index, word in enumerate(reply):
            await answer.write(event({"role": "assistant", "content": word if index == 0 else f" {word}"}))
        await answer.write(event({}, "stop"))
        if asked.get("stream_options", {}).get("include_usage"):
            await answer.write(event(None))
        await answer.write(b"data: [DONE]\n\n")
        return await answer.end()

    async def _speech(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Speak: as events with their usage where asked for, else the bytes of the format."""
        asked = await request.json()
        text = asked["input"]
        call.model, call.characters = asked["model"], len(text)
        call.audio_ms = formulas.spoken_ms(text)
        kind = asked.get("response_format", "mp3")
        audio = {"pcm": formulas.pcm, "wav": formulas.wav, "mp3": formulas.mp3}[kind](
            call.audio_ms, self.sample_rate
        )
        content_type = {"mp3": "audio/mpeg"}.get(kind, f"audio/{kind}")
        if asked.get("stream_format") != "sse":
            return await send_pieces(request, call, formulas.pieces(audio), content_type)
        call.input_tokens = formulas.count_words(text)
        call.output_tokens = math.ceil(call.audio_ms / formulas.MS_PER_TOKEN_SPOKEN)
        events: list[dict[str, Any]] = [
            {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}
            for piece in formulas.pieces(audio)
        ]
        usage = {
            "input_tokens": call.input_tokens,
            "output_tokens": call.output_tokens,
            "total_tokens": call.input_tokens + call.output_tokens,
        }
        events.append({"type": "speech.audio.done", "usage": usage})
        lines = (f"data: {json.dumps(event)}\n\n".encode() for event in events)
        return await send_pieces(request, call, lines, "text/event-stream")

    async def _transcribe(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Write down a WAV file; usage by tokens, or by started seconds for whisper."""
        form = await form_in(request)
        call.model = form["model"]
        call.audio_ms = formulas.wav_ms(form["file"])
        text = " ".join(formulas.words_heard(call.audio_ms))
        by_time: dict[str, Any] = {"type": "duration", "seconds": math.ceil(call.audio_ms / 1000)}
        if form.get("response_format") == "verbose_json":
            body: dict[str, Any] = {
                "task": "transcribe",
                "language": "english",
                "duration": call.audio_ms / 1000,
                "text": text,
                "segments": [],
                "usage": by_time,
            }
        elif "whisper" in call.model:
            body = {"text": text, "usage": by_time}
        else:
            body = {"text": text, "usage": self._tokens_heard(call)}
        return await send_json(request, call, body)

    @staticmethod
    def _tokens_heard(call: Call) -> dict[str, Any]:
        call.input_tokens = math.ceil(call.audio_ms / formulas.MS_PER_TOKEN_HEARD)
        call.output_tokens = len(formulas.words_heard(call.audio_ms))
        return {
            "type": "tokens",
            "input_tokens": call.input_tokens,
            "output_tokens": call.output_tokens,
            "total_tokens": call.input_tokens + call.output_tokens,
            "input_token_details": {"audio_tokens": call.input_tokens, "text_tokens": 0},
        }

    async def _listen(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Write down what is said on a realtime socket: a turn ends at a tenth of a second of silence, or at a commit."""
        call.model = request.query.get("model", "")
        socket = Socket(request, call)
        await socket.open()
        heard = Turn()
        async for message in socket.messages():
            if message["type"] == "session.update":
                await socket.send({"type": "session.updated", "session": message["session"]})
                continue
            if message["type"] == "input_audio_buffer.append":
                heard.add(base64.b64decode(message["audio"]))
                if not heard.ended:
                    continue
            for event in self._turn_events(call, heard):
                await socket.send(event)
            heard = Turn(heard.end_ms)
        return await socket.close()

    def _turn_events(self, call: Call, heard: Turn) -> Iterable[dict[str, Any]]:
        item = f"item_{call.number}_{heard.start_ms}"
        before = call.audio_ms
        call.audio_ms = heard.audio_ms
        usage = self._tokens_heard(call)
        call.audio_ms += before
        prefix = "conversation.item.input_audio_transcription"
        yield {
            "type": "input_audio_buffer.speech_started",
            "item_id": item,
            "audio_start_ms": heard.start_ms,
        }
        yield {
            "type": "input_audio_buffer.speech_stopped",
            "item_id": item,
            "audio_end_ms": heard.start_ms + heard.audio_ms,
        }
        words = formulas.words_heard(heard.audio_ms)
        for index, word in enumerate(words):
            yield {
                "type": f"{prefix}.delta",
                "item_id": item,
                "delta": f"{' ' if index else ''}{word}",
            }
        yield {
            "type": f"{prefix}.completed",
            "item_id": item,
            "transcript": " ".join(words),
            "usage": usage,
        }


class Turn:
    """What was said on the realtime socket since the last turn ended."""

    def __init__(self, start_ms: int = 0) -> None:
        self.start_ms = start_ms
        self.ended = False
        self._size = self._silence = 0

    @property
    def audio_ms(self) -> int:
        """How long it is, without the silence at its end."""
        return (self._size - self._silence) * 1000 // (2 * SAMPLE_RATE)

    @property
    def end_ms(self) -> int:
        """Where the next one begins."""
        return self.start_ms + self._size * 1000 // (2 * SAMPLE_RATE)

    def add(self, audio: bytes) -> None:
        """Hear more: 16 bit mono."""
        self._size += len(audio)
        loud = max(map(abs, array("h", audio)), default=0) > formulas.LOUD
        self._silence = 0 if loud else self._silence + len(audio)
        self.ended = self._silence >= 2 * SAMPLE_RATE // 10 and self._size > self._silence


class Groq(OpenAI):
    """api.groq.com: OpenAI's protocol under a root of its own, speech at 48 kHz."""

    name: ClassVar[str] = "groq"
    root: ClassVar[str] = "/openai/v1"
    sample_rate: ClassVar[int] = 48000


class OpenAICompatible(OpenAI):
    """A server of one's own that speaks OpenAI's protocol, with a key."""

    name: ClassVar[str] = "openai_compatible"


class Ollama(OpenAI):
    """An Ollama server: it asks for no key, its root has no path, and it lists its models in its own way too."""

    name: ClassVar[str] = "ollama"
    models: ClassVar[tuple[str, ...]] = ("qwen2.5:3b",)

    @property
    def base_url(self) -> str:
        """The server's address."""
        return self.origin

    def doors(self) -> Iterable[Door]:
        """Return chat and models under ``/v1``, and ``/api/tags``."""
        return [
            Door("chat", "POST", "/v1/chat/completions", self._chat, open=True),
            Door("models", "GET", "/v1/models", self._models, open=True),
            Door("tags", "GET", "/api/tags", self._tags, open=True),
        ]

    async def _tags(self, request: web.Request, call: Call) -> web.StreamResponse:
        body = {"models": [{"name": model, "model": model, "size": 1} for model in self.models]}
        return await send_json(request, call, body)
