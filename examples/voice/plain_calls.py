"""Speech to speech by three calls, without LiveKit's agents and rooms: what was said, an answer, the answer spoken.

    python examples/voice/plain_calls.py QUESTION.wav ANSWER.wav [STACK]

The models are those of a stack of voicegw.yaml, the project's own without a name; what the calls cost is in `voicegw costs`.
"""

from __future__ import annotations

import asyncio
import sys
import wave
from pathlib import Path

from livekit import rtc
from livekit.agents import APIError, llm, stt, utils

from voicegw_mcp import inference
from voicegw_mcp.errors import GatewayError

INSTRUCTIONS = "Answer in one short sentence."


def read_speech(path: str) -> rtc.AudioFrame:
    """Return the audio of a WAV file (16 bit)."""
    with wave.open(path, "rb") as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{path} has {8 * file.getsampwidth()} bits a sample; 16 are needed.")
        channels, frames = file.getnchannels(), file.getnframes()
        return rtc.AudioFrame(file.readframes(frames), file.getframerate(), channels, frames)


async def transcribe(speech_to_text: stt.STT, speech: rtc.AudioFrame) -> str:
    """Return what was said. Models that only listen to streams get the recording as one."""
    if speech_to_text.capabilities.offline_recognize:
        event = await speech_to_text.recognize(speech)
        return event.alternatives[0].text
    async with speech_to_text.stream() as stream:
        stream.push_frame(speech)
        stream.end_input()
        final = stt.SpeechEventType.FINAL_TRANSCRIPT
        return " ".join([event.alternatives[0].text async for event in stream if event.type == final])


async def main(question: str, answer: str, stack: str | None = None) -> None:
    """Transcribe a file, answer what it says, and write the answer spoken."""
    await inference.preload()
    # LiveKit's plugins share an HTTP session that its jobs open; without a job one opens it oneself.
    async with utils.http_context.open():
        models = inference.stack(stack)
        if not (models.stt and models.llm and models.tts):
            raise ValueError("The stack has not all of stt, llm and tts.")
        with inference.session() as conversation:
            asked = await transcribe(models.stt, read_speech(question))
            print(f"asked: {asked}")
            talk = llm.ChatContext()
            talk.add_message(role="system", content=INSTRUCTIONS)
            talk.add_message(role="user", content=asked)
            said = (await models.llm.chat(chat_ctx=talk).collect()).text
            print(f"said: {said}")
            audio = await models.tts.synthesize(said).collect()
        await asyncio.to_thread(Path(answer).write_bytes, audio.to_wav_bytes())
        for model in (models.stt, models.llm, models.tts):
            await model.aclose()
    print(
        f"{answer}: {audio.duration:.1f} s. `voicegw logs --session-id {conversation}` shows the three requests."
    )


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit("Say: python plain_calls.py QUESTION.wav ANSWER.wav [STACK]")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except GatewayError as error:
        sys.exit(f"{error.message} {error.hint}")
    except (APIError, OSError, ValueError, wave.Error) as error:
        sys.exit(str(error))
