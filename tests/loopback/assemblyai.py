"""AssemblyAI: the streaming socket that listens (v3), and the one that speaks.

Both open for everybody and tell a wrong key in a message.
"""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any, ClassVar

from tests.loopback import formulas
from tests.loopback.server import Door, Provider, Socket, send_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiohttp import web
    from tests.loopback.faults import Call

UNAUTHORIZED = 1008
_CODES = {401: UNAUTHORIZED, 402: UNAUTHORIZED, 404: 3006, 408: 3008, 429: 3009}
"""HTTP status -> the code that is told and that the socket is closed with."""
_SEE_MESSAGE = "See Error message for details"


class AssemblyAI(Provider):
    """streaming.assemblyai.com and tts.us.assemblyai.com, at one address."""

    name: ClassVar[str] = "assemblyai"

    def doors(self) -> Iterable[Door]:
        """Return both sockets, and the list of transcripts by which a key is checked."""
        return [
            Door("stt-ws", "GET", "/v3/ws", self._listen, late=True),
            Door("tts-ws", "GET", "/v1/ws", self._speak, late=True),
            Door("transcripts", "GET", "/v2/transcript", self._transcripts),
        ]

    def key_in(self, request: web.Request) -> str | None:
        """Return ``Authorization`` as it is: there is no scheme."""
        return request.headers.get("Authorization")

    def error_body(self, status: int) -> Any:
        """Return ``error``."""
        return {"error": "Invalid API key" if status == 401 else f"Error {status}"}

    def _failure(self, status: int) -> dict[str, Any]:
        code = _CODES.get(status, 3005)
        told = {"type": "Error", "error_code": code, "error": self.error_body(status)["error"]}
        return told | {"retryable": status in (408, 429) or status >= 500}

    async def _transcripts(self, request: web.Request, call: Call) -> web.StreamResponse:
        return await send_json(request, call, {"page_details": {}, "transcripts": []})

    async def _refuse(self, socket: Socket) -> web.StreamResponse:
        await socket.send(self._failure(401))
        return await socket.close(UNAUTHORIZED, _SEE_MESSAGE)

    async def _listen(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Write down a stream: the turn grows each second, and ends at ForceEndpoint or Terminate."""
        call.model = request.query["speech_model"]
        bytes_per_ms = 2 * int(request.query["sample_rate"]) // 1000
        socket = Socket(request, call)
        await socket.open()
        if not call.accepted:
            return await self._refuse(socket)
        await socket.send(
            {"type": "Begin", "id": f"stt-{call.number}", "expires_at": int(time.time()) + 3600}
        )
        size = start_ms = order = 0

        def turn(*, end: bool) -> dict[str, Any]:
            words = formulas.timed_words(call.audio_ms - start_ms)
            return {
                "type": "Turn",
                "turn_order": order,
                "turn_is_formatted": end,
                "end_of_turn": end,
                "end_of_turn_confidence": 1.0 if end else 0.1,
                "transcript": " ".join(word for word, _, _ in words),
                "words": [
                    {
                        "text": word,
                        "start": start_ms + round(start * 1000),
                        "end": start_ms + round(stop * 1000),
                        "confidence": 0.99,
                        "word_is_final": True,
                    }
                    for word, start, stop in words
                ],
            }

        async for message in socket.messages():
            if isinstance(message, bytes):
                size += len(message)
                before, call.audio_ms = call.audio_ms, size // bytes_per_ms
                if before == start_ms:
                    await socket.send({"type": "SpeechStarted", "timestamp": start_ms})
                if before // 1000 != call.audio_ms // 1000:
                    await socket.send(turn(end=False))
                continue
            if message["type"] in ("ForceEndpoint", "Terminate") and call.audio_ms > start_ms:
                await socket.send(turn(end=True))
                start_ms, order = call.audio_ms, order + 1
            if message["type"] == "Terminate":
                seconds = call.audio_ms / 1000
                told = {"audio_duration_seconds": seconds, "session_duration_seconds": seconds}
                await socket.send({"type": "Termination", **told})
                break
        return await socket.close()

    async def _speak(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Speak what was generated at each Flush: that is one synthesis, ``tts-ws/turn``."""
        call.model = request.query["model_id"]
        sample_rate = int(request.query["sample_rate"])
        timed = request.query.get("word_boundaries") == "true"
        socket = Socket(request, call)
        await socket.open()
        if not call.accepted:
            return await self._refuse(socket)
        await socket.send(
            {
                "type": "Begin",
                "id": f"tts-{call.number}",
                "expires_at": int(time.time()) + 3600,
                "configuration": {"word_boundaries": timed},
            }
        )
        text = ""
        flushes = 0
        async for message in socket.messages():
            if message["type"] == "Generate":
                text += message["text"]
            elif message["type"] == "Flush":
                spoken = self.enter("tts-ws/turn")
                spoken.accepted, spoken.model = True, call.model
                spoken.characters, spoken.audio_ms = len(text), formulas.spoken_ms(text)
                speech = self._speech(spoken, text, flushes, sample_rate, timed=timed)
                text, flushes = "", flushes + 1
                if not await socket.speak(spoken, speech, self._failure):
                    code = _CODES.get((spoken.fault and spoken.fault.status) or 0, 3005)
                    return await socket.close(code, _SEE_MESSAGE)
            elif message["type"] == "Cancel":
                text = ""
                await socket.send({"type": "Cancelled"})
            elif message["type"] == "Terminate":
                await socket.send({"type": "Termination"})
                break
        return await socket.close()

    @staticmethod
    def _speech(
        call: Call, text: str, flush_id: int, sample_rate: int, *, timed: bool
    ) -> Iterator[dict[str, Any]]:
        for piece in formulas.pieces(formulas.pcm(call.audio_ms, sample_rate)):
            yield {"type": "Audio", "flush_id": flush_id, "audio": base64.b64encode(piece).decode()}
        if timed:
            words: list[dict[str, Any]] = []
            end = 0
            for word in text.split():
                start, end = end, end + formulas.spoken_ms(word)
                words.append({"word": word, "start": start, "end": end, "confidence": 0.99})
            yield {"type": "WordBoundaries", "flush_id": flush_id, "audio_start_ms": 0, "words": words}
        yield {"type": "FlushDone", "flush_id": flush_id, "audio_duration_ms": call.audio_ms}
