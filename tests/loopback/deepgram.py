"""Deepgram: listening in one request, on a socket, and on a Flux socket; speaking in one request and on a socket, both versions."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, ClassVar

from tests.loopback import formulas
from tests.loopback.server import Door, Provider, Socket, send_json, send_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiohttp import web
    from tests.loopback.faults import Call

_ERRORS = {
    401: ("INVALID_AUTH", "Invalid credentials."),
    402: ("ASR_PAYMENT_REQUIRED", "Project does not have enough credits."),
    404: ("NOT_FOUND", "The model does not exist."),
    408: ("SLOW_UPLOAD", "The request timed out."),
    429: ("TOO_MANY_REQUESTS", "Too many requests."),
}


def words_of(audio_ms: int, offset_ms: int = 0) -> list[dict[str, Any]]:
    """Return the words of a transcript as Deepgram writes them, seconds."""
    return [
        {
            "word": word,
            "start": round(start + offset_ms / 1000, 3),
            "end": round(end + offset_ms / 1000, 3),
            "confidence": 0.99,
            "punctuated_word": word,
        }
        for word, start, end in formulas.timed_words(audio_ms)
    ]


def channel(words: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a channel with its only alternative."""
    text = " ".join(word["word"] for word in words)
    return {"alternatives": [{"transcript": text, "confidence": 0.99, "words": words}]}


class Deepgram(Provider):
    """api.deepgram.com."""

    name: ClassVar[str] = "deepgram"
    root: ClassVar[str] = "/v1"

    def doors(self) -> Iterable[Door]:
        """Return listen and speak, by POST and as sockets, of both versions, and the check of a key."""
        return [
            Door("listen", "POST", "/v1/listen", self._transcribe),
            Door("listen-ws", "GET", "/v1/listen", self._listen),
            Door("listen-v2-ws", "GET", "/v2/listen", self._listen_for_turns),
            Door("speak", "POST", "/v1/speak", self._speak),
            Door("speak-ws", "GET", "/v1/speak", self._speak_on_socket),
            Door("speak-v2", "POST", "/v2/speak", self._speak),
            Door("speak-v2-ws", "GET", "/v2/speak", self._speak_on_socket),
            Door("token", "GET", "/v1/auth/token", self._token),
        ]

    def key_in(self, request: web.Request) -> str | None:
        """Return what follows ``Token``."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        return key if scheme == "Token" else None

    def error_body(self, status: int) -> Any:
        """Return ``err_code`` and ``err_msg``."""
        code, message = _ERRORS.get(status, ("INTERNAL_SERVER_ERROR", "Internal server error."))
        return {"err_code": code, "err_msg": message, "request_id": "loopback"}

    async def _token(self, request: web.Request, call: Call) -> web.StreamResponse:
        return await send_json(request, call, {"scopes": ["usage:write"]})

    async def _transcribe(self, request: web.Request, call: Call) -> web.StreamResponse:
        call.model = request.query["model"]
        call.audio_ms = formulas.wav_ms(await request.read())
        metadata = {"request_id": f"listen-{call.number}", "duration": call.audio_ms / 1000, "channels": 1}
        results = {"channels": [channel(words_of(call.audio_ms))]}
        return await send_json(request, call, {"metadata": metadata, "results": results})

    async def _listen(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Write down a stream: an interim result of each second, a final one after ``endpointing`` ms of silence that

        follow speech, at Finalize, and at CloseStream.
        """
        call.model = request.query["model"]
        bytes_per_ms = 2 * int(request.query["sample_rate"]) // 1000
        socket = Socket(request, call)
        await socket.open()
        start_ms = size = silence = 0
        spoken = False
        patience = int(request.query.get("endpointing", 10)) * bytes_per_ms

        def results(*, final: bool) -> dict[str, Any]:
            length = call.audio_ms - start_ms
            heard = length - silence // bytes_per_ms if spoken else 0
            return {
                "type": "Results",
                "channel_index": [0, 1],
                "duration": length / 1000,
                "start": start_ms / 1000,
                "is_final": final,
                "speech_final": final,
                "from_finalize": final,
                "channel": channel(words_of(heard, start_ms)),
                "metadata": {"request_id": f"listen-ws-{call.number}"},
            }

        async for message in socket.messages():
            if isinstance(message, bytes):
                size += len(message)
                before, call.audio_ms = call.audio_ms, size // bytes_per_ms
                self.tell()
                loud = max(map(abs, array("h", message)), default=0) > formulas.LOUD
                silence = 0 if loud else silence + len(message)
                if loud and not spoken:
                    await socket.send({"type": "SpeechStarted", "channel": [0], "timestamp": before / 1000})
                spoken = spoken or loud
                if spoken and silence >= patience:
                    await socket.send(results(final=True))
                    start_ms, spoken = call.audio_ms, False
                elif before // 1000 != call.audio_ms // 1000:
                    await socket.send(results(final=False))
                continue
            if message["type"] in ("Finalize", "CloseStream") and call.audio_ms > start_ms:
                await socket.send(results(final=True))
                start_ms = call.audio_ms
            if message["type"] == "CloseStream":
                await socket.send(
                    {
                        "type": "Metadata",
                        "request_id": f"listen-ws-{call.number}",
                        "duration": call.audio_ms / 1000,
                        "channels": 1,
                    }
                )
                break
        return await socket.close()

    async def _listen_for_turns(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Write down a stream, Flux: a turn begins with the first audio, and ends when the stream does."""
        call.model = request.query["model"]
        bytes_per_ms = 2 * int(request.query["sample_rate"]) // 1000
        socket = Socket(request, call)
        await socket.open()
        await socket.send({"type": "Connected", "request_id": f"flux-{call.number}", "sequence_id": 0})
        size = 0

        def turn(event: str) -> dict[str, Any]:
            words = formulas.timed_words(call.audio_ms)
            return {
                "type": "TurnInfo",
                "event": event,
                "request_id": f"flux-{call.number}",
                "turn_index": 0,
                "audio_window_start": 0.0,
                "audio_window_end": call.audio_ms / 1000,
                "transcript": " ".join(word for word, _, _ in words),
                "words": [{"word": word, "confidence": 0.99} for word, _, _ in words],
                "end_of_turn_confidence": 0.9 if event == "EndOfTurn" else 0.1,
            }

        async for message in socket.messages():
            if isinstance(message, bytes):
                first = size == 0
                size += len(message)
                before, call.audio_ms = call.audio_ms, size // bytes_per_ms
                if first:
                    await socket.send(turn("StartOfTurn"))
                elif before // 1000 != call.audio_ms // 1000:
                    await socket.send(turn("Update"))
            elif message["type"] == "CloseStream":
                if size:
                    await socket.send(turn("EndOfTurn"))
                break
        return await socket.close()

    async def _speak(self, request: web.Request, call: Call) -> web.StreamResponse:
        text = (await request.json())["text"]
        call.model, call.characters = request.query["model"], len(text)
        call.audio_ms = formulas.spoken_ms(text)
        sample_rate = int(request.query["sample_rate"])
        if request.query["encoding"] == "mp3":
            return await send_pieces(
                request, call, formulas.pieces(formulas.mp3(call.audio_ms, sample_rate)), "audio/mpeg"
            )
        audio = formulas.pieces(formulas.pcm(call.audio_ms, sample_rate))
        return await send_pieces(request, call, audio, "audio/l16")

    async def _speak_on_socket(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Speak what was sent at each Flush: that is one synthesis, ``.../turn``; a Flush with nothing to say ends at once."""
        call.model = request.query["model"]
        sample_rate = int(request.query["sample_rate"])
        turns = call.door == "speak-v2-ws"
        socket = Socket(request, call)
        await socket.open()
        text = ""
        flushed = 0

        def answer(spoken: Call) -> Iterator[Any]:
            if turns:
                yield {"type": "SpeechStarted", "request_id": f"speak-{spoken.number}"}
            yield from formulas.pieces(formulas.pcm(spoken.audio_ms, sample_rate))
            if turns:
                yield {"type": "SpeechMetadata", "characters": spoken.characters}
            yield {"type": "Flushed", "sequence_id": flushed}

        def failure(status: int) -> dict[str, Any]:
            body = self.error_body(status)
            return {"type": "Error", "code": body["err_code"], "description": body["err_msg"]}

        async for message in socket.messages():
            if message["type"] == "Speak":
                text += message["text"]
            elif message["type"] == "Flush":
                if text.strip():
                    spoken = self.enter(f"{call.door}/turn")
                    spoken.accepted, spoken.model = True, call.model
                    spoken.characters, spoken.audio_ms = len(text), formulas.spoken_ms(text)
                    text = ""
                    if not await socket.speak(spoken, answer(spoken), failure):
                        break
                else:
                    await socket.send({"type": "Flushed", "sequence_id": flushed})
                flushed += 1
            elif message["type"] == "Close":
                break
        return await socket.close()
