"""ElevenLabs: speaking in one request and with many contexts on one socket, as text to speech and as dialogue; listening in one
request and on a socket.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, ClassVar

from tests.loopback import formulas
from tests.loopback.server import Door, Provider, Socket, form_in, send_json, send_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aiohttp import web
    from tests.loopback.faults import Call

_ERRORS = {
    401: ("invalid_api_key", "Invalid API key"),
    402: ("quota_exceeded", "Not enough credits"),
    404: ("voice_not_found", "A voice with that id was not found."),
    408: ("timeout", "The request took too long"),
    429: ("too_many_concurrent_requests", "Too many concurrent requests"),
}


def encode(audio_ms: int, output_format: str) -> bytes:
    """Return speech in an output format such as "mp3_22050_32" or "pcm_24000"."""
    kind, sample_rate = output_format.split("_")[:2]
    return (formulas.pcm if kind == "pcm" else formulas.mp3)(audio_ms, int(sample_rate))


class ElevenLabs(Provider):
    """api.elevenlabs.io."""

    name: ClassVar[str] = "elevenlabs"
    root: ClassVar[str] = "/v1"

    def doors(self) -> Iterable[Door]:
        """Return speech and dialogue by POST and on sockets, transcription, the realtime socket, the list of models."""
        return [
            Door("tts", "POST", "/v1/text-to-speech/{voice}/stream", self._speak),
            Door("tts-ws", "GET", "/v1/text-to-speech/{voice}/multi-stream-input", self._speak_on_socket),
            Door("dialogue", "POST", "/v1/text-to-dialogue/stream", self._speak),
            Door("dialogue-ws", "GET", "/v1/text-to-dialogue/multi-stream-input", self._speak_on_socket),
            Door("stt", "POST", "/v1/speech-to-text", self._transcribe),
            Door("stt-ws", "GET", "/v1/speech-to-text/realtime", self._listen),
            Door("models", "GET", "/v1/models", self._models),
        ]

    def key_in(self, request: web.Request) -> str | None:
        """Return ``xi-api-key``."""
        return request.headers.get("xi-api-key")

    def error_body(self, status: int) -> Any:
        """Return ``detail`` with status and message."""
        code, message = _ERRORS.get(status, ("internal_error", "Internal server error"))
        return {"detail": {"status": code, "message": message}}

    async def _models(self, request: web.Request, call: Call) -> web.StreamResponse:
        return await send_json(request, call, [{"model_id": "eleven_turbo_v2_5", "name": "Turbo"}])

    async def _speak(self, request: web.Request, call: Call) -> web.StreamResponse:
        asked = await request.json()
        text = asked["text"] if "text" in asked else " ".join(turn["text"] for turn in asked["inputs"])
        call.model, call.characters = asked["model_id"], len(text)
        call.audio_ms = formulas.spoken_ms(text)
        output_format = request.query["output_format"]
        kind = "audio/pcm" if output_format.startswith("pcm") else "audio/mpeg"
        return await send_pieces(request, call, formulas.pieces(encode(call.audio_ms, output_format)), kind)

    async def _speak_on_socket(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Speak each context when it is closed: that is one synthesis, ``.../turn``."""
        call.model = request.query["model_id"]
        output_format = request.query["output_format"]
        socket = Socket(request, call)
        await socket.open()
        texts: dict[str, str] = {}
        async for message in socket.messages():
            context = message["context_id"]
            if not message.get("close_context"):
                text = message.get("text") or "".join(turn["text"] for turn in message.get("inputs", ()))
                texts[context] = texts.get(context, "") + text
                continue
            text = texts.pop(context, "")
            spoken = self.enter(f"{call.door}/turn")
            spoken.accepted, spoken.model, spoken.characters = True, call.model, len(text)
            spoken.audio_ms = formulas.spoken_ms(text)
            speech = self._speech(spoken, context, text, output_format)
            await socket.speak(spoken, speech, self._failing(context))
        return await socket.close()

    def _failing(self, context: str) -> Callable[[int], dict[str, Any]]:
        def failure(status: int) -> dict[str, Any]:
            detail = self.error_body(status)["detail"]
            return {"context_id": context, "error": detail["status"], "message": detail["message"]}

        return failure

    @staticmethod
    def _speech(call: Call, context: str, text: str, output_format: str) -> Iterator[dict[str, Any]]:
        dialogue = call.door.startswith("dialogue")
        # The two sockets name their fields differently.
        name, final = ("context_id", "is_final") if dialogue else ("contextId", "isFinal")
        characters = list(text)
        lengths = [formulas.spoken_ms(character) for character in characters]
        starts = [sum(lengths[:index]) for index in range(len(lengths))]
        if dialogue:
            times = {"chars": characters, "char_start_times_ms": starts, "char_durations_ms": lengths}
            alignment: dict[str, Any] = {"alignment": times}
        else:
            times = {"chars": characters, "charStartTimesMs": starts, "charDurationsMs": lengths}
            alignment = {"alignment": times, "normalizedAlignment": times}
        for index, piece in enumerate(formulas.pieces(encode(call.audio_ms, output_format))):
            yield {
                name: context,
                "audio": base64.b64encode(piece).decode(),
                **({} if index else alignment),
            }
        yield {name: context, final: True}

    async def _transcribe(self, request: web.Request, call: Call) -> web.StreamResponse:
        form = await form_in(request)
        call.model = form["model_id"]
        call.audio_ms = formulas.wav_ms(form["file"])
        return await send_json(request, call, self._transcript(call.audio_ms))

    @staticmethod
    def _transcript(audio_ms: int) -> dict[str, Any]:
        words = formulas.timed_words(audio_ms)
        return {
            "language_code": "eng",
            "language_probability": 0.99,
            "text": " ".join(word for word, _, _ in words),
            "words": [
                {"text": word, "start": start, "end": end, "type": "word", "logprob": 0.0}
                for word, start, end in words
            ],
        }

    async def _listen(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Write down a stream: partly each second, finally at each commit; a final transcript is sent twice."""
        call.model = request.query["model_id"]
        bytes_per_ms = 2 * int(request.query["audio_format"].removeprefix("pcm_")) // 1000
        socket = Socket(request, call)
        await socket.open()
        await socket.send({"message_type": "session_started", "session_id": f"stt-{call.number}"})
        size = start_ms = 0
        async for message in socket.messages():
            size += len(base64.b64decode(message["audio_base_64"]))
            before, call.audio_ms = call.audio_ms, size // bytes_per_ms
            length = call.audio_ms - start_ms
            if message["commit"]:
                told = self._transcript(length)
                await socket.send({"message_type": "committed_transcript", "text": told["text"]})
                await socket.send({"message_type": "committed_transcript_with_timestamps", **told})
                start_ms = call.audio_ms
            elif before // 1000 != call.audio_ms // 1000:
                text = " ".join(formulas.words_heard(length))
                await socket.send({"message_type": "partial_transcript", "text": text})
        return await socket.close()
