"""Cartesia: speaking in one request and on a socket, listening on sockets with and without turns."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, ClassVar

from tests.loopback import formulas
from tests.loopback.server import Door, Provider, Socket, send_json, send_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aiohttp import web
    from tests.loopback.faults import Call

_ERRORS = {
    401: ("invalid_api_key", "Invalid API key"),
    402: ("quota_exceeded", "Not enough credits"),
    404: ("not_found", "The model does not exist"),
    408: ("timeout", "The request took too long"),
    429: ("too_many_requests", "Too many requests"),
}


class Cartesia(Provider):
    """api.cartesia.ai."""

    name: ClassVar[str] = "cartesia"

    def doors(self) -> Iterable[Door]:
        """Return speech by POST and on a socket, both listening sockets, and the list of voices."""
        return [
            Door("tts-bytes", "POST", "/tts/bytes", self._speak),
            Door("tts-ws", "GET", "/tts/websocket", self._speak_on_socket),
            Door("stt-turns-ws", "GET", "/stt/turns/websocket", self._listen_for_turns),
            Door("stt-ws", "GET", "/stt/websocket", self._listen),
            Door("voices", "GET", "/voices", self._voices),
        ]

    def key_in(self, request: web.Request) -> str | None:
        """Return ``X-API-Key`` or what follows ``Bearer``; nothing counts without the version of the protocol."""
        if not (request.headers.get("Cartesia-Version") or request.query.get("cartesia_version")):
            return None
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return request.headers.get("X-API-Key") or (key if scheme == "Bearer" else None)

    def error_body(self, status: int) -> Any:
        """Return ``error_code``, ``title`` and ``message``."""
        code, message = _ERRORS.get(status, ("internal_server_error", "Internal server error"))
        return {"error_code": code, "title": message, "message": message, "status_code": status}

    async def _voices(self, request: web.Request, call: Call) -> web.StreamResponse:
        return await send_json(request, call, {"data": [{"id": "anna", "name": "Anna"}], "has_more": False})

    async def _speak(self, request: web.Request, call: Call) -> web.StreamResponse:
        asked = await request.json()
        text = asked["transcript"]
        call.model, call.characters = asked["model_id"], len(text)
        call.audio_ms = formulas.spoken_ms(text)
        audio = formulas.pcm(call.audio_ms, asked["output_format"]["sample_rate"])
        return await send_pieces(request, call, formulas.pieces(audio), "audio/pcm")

    async def _speak_on_socket(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Speak each context when its last message has come: that is one synthesis, ``tts-ws/turn``."""
        socket = Socket(request, call)
        await socket.open()
        texts: dict[str, str] = {}
        async for message in socket.messages():
            context = message["context_id"]
            if message.get("cancel"):
                texts.pop(context, None)
                continue
            texts[context] = texts.get(context, "") + message["transcript"]
            if message["continue"]:
                continue
            text = texts.pop(context)
            spoken = self.enter("tts-ws/turn")
            spoken.accepted, spoken.model, spoken.characters = True, message["model_id"], len(text)
            spoken.audio_ms = formulas.spoken_ms(text)
            await socket.speak(spoken, self._speech(spoken, message, text), self._failing(context))
        return await socket.close()

    def _failing(self, context: str) -> Callable[[int], dict[str, Any]]:
        return lambda status: {
            **self.error_body(status),
            "type": "error",
            "context_id": context,
            "done": False,
        }

    @staticmethod
    def _speech(call: Call, message: dict[str, Any], text: str) -> Iterator[dict[str, Any]]:
        common = {"context_id": message["context_id"], "status_code": 206, "done": False}
        audio = formulas.pcm(call.audio_ms, message["output_format"]["sample_rate"])
        for piece in formulas.pieces(audio):
            yield {"type": "chunk", "data": base64.b64encode(piece).decode(), **common}
        if message.get("add_timestamps"):
            ends = [0.0]
            words = text.split()
            for word in words:
                ends.append(ends[-1] + formulas.spoken_ms(word) / 1000)
            times = {"words": words, "start": ends[:-1], "end": ends[1:]}
            yield {"type": "timestamps", "word_timestamps": times, **common}
        yield {"type": "done", **common, "status_code": 200, "done": True}

    async def _listen_for_turns(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Write down a stream: a turn begins with the first audio, and ends when the client closes."""
        call.model = request.query["model"]
        bytes_per_ms = 2 * int(request.query["sample_rate"]) // 1000
        socket = Socket(request, call)
        await socket.open()
        name = f"turns-{call.number}"
        await socket.send({"type": "connected", "request_id": name})
        size = 0
        async for message in socket.messages():
            if isinstance(message, bytes):
                if size == 0:
                    await socket.send({"type": "turn.start", "request_id": name})
                size += len(message)
                call.audio_ms = size // bytes_per_ms
                text = " ".join(formulas.words_heard(call.audio_ms))
                await socket.send({"type": "turn.update", "request_id": name, "transcript": text})
            elif message["type"] == "close":
                if size:
                    text = " ".join(formulas.words_heard(call.audio_ms))
                    await socket.send({"type": "turn.end", "request_id": name, "transcript": text})
                break
        return await socket.close()

    async def _listen(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Write down a stream without turns: partly each second, finally at each ``finalize``, and at ``close``."""
        call.model = request.query["model"]
        bytes_per_ms = 2 * int(request.query["sample_rate"]) // 1000
        socket = Socket(request, call)
        await socket.open()
        name = f"stt-{call.number}"
        size = start_ms = 0

        def transcript(*, final: bool) -> dict[str, Any]:
            words = formulas.timed_words(call.audio_ms - start_ms)
            return {
                "type": "transcript",
                "request_id": name,
                "is_final": final,
                "text": " ".join(word for word, _, _ in words),
                "duration": (call.audio_ms - start_ms) / 1000,
                "words": [{"word": word, "start": start, "end": end} for word, start, end in words],
            }

        async for message in socket.messages():
            if isinstance(message, bytes):
                size += len(message)
                before, call.audio_ms = call.audio_ms, size // bytes_per_ms
                if before // 1000 != call.audio_ms // 1000:
                    await socket.send(transcript(final=False))
                continue
            if call.audio_ms > start_ms:
                await socket.send(transcript(final=True))
                start_ms = call.audio_ms
            await socket.send({"type": "done" if message == "close" else "flush_done", "request_id": name})
            if message == "close":
                break
        return await socket.close()
