"""A voice agent of three stages on LiveKit Agents; which models it runs is in voicegw.yaml, not here.

    python examples/voice/agent.py dev                          # a worker of the LiveKit server that LIVEKIT_URL names
    python examples/voice/agent.py wav QUESTION.wav ANSWER.wav  # speech to speech without server and room

Both make the three models of the project's default stack (`voicegw status` shows it); every request of theirs is a row of
`voicegw logs` and in `voicegw costs`. Change the stack, by hand or through MCP, and the next conversation runs on the new one.
"""

from __future__ import annotations

import asyncio
import sys
import time
import wave

from livekit import rtc
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    ConversationItemAddedEvent,
    JobContext,
    cli,
    llm,
    utils,
)
from livekit.agents.voice import io

from voicegw_mcp import inference
from voicegw_mcp.errors import GatewayError

INSTRUCTIONS = "You are on the phone. Answer in one short sentence, without lists."
FRAME_S = 0.05
SILENCE_S = 2.0
"""What a caller leaves after his question; STT hears by it that he has ended."""
PATIENCE_S = 60.0

server = AgentServer()


def make_session() -> AgentSession[None]:
    """Return a session of the project's default stack; the STT model tells when the caller has ended."""
    stages = inference.stack()
    return AgentSession(
        stt=stages.stt, llm=stages.llm, tts=stages.tts, vad=None, turn_handling={"turn_detection": "stt"}
    )


@server.rtc_session()
async def answer_room(job: JobContext) -> None:
    """Talk to who is in a room."""
    await inference.preload()
    inference.session(job.room.name)
    await make_session().start(Agent(instructions=INSTRUCTIONS), room=job.room)


class Recording(io.AudioInput):
    """A caller who plays a WAV file (16 bit), then waits for the answer."""

    def __init__(self, path: str) -> None:
        super().__init__(label=path)
        with wave.open(path, "rb") as file:
            if file.getsampwidth() != 2:
                raise ValueError(f"{path} has {8 * file.getsampwidth()} bits a sample; 16 are needed.")
            self._rate, self._channels = file.getframerate(), file.getnchannels()
            audio = file.readframes(file.getnframes())
        size = int(self._rate * FRAME_S) * self._channels * 2
        audio += bytes(int(SILENCE_S / FRAME_S) * size)
        self._frames = [audio[at : at + size] for at in range(0, len(audio) - size + 1, size)]
        self._due = 0.0
        self.ended = asyncio.Event()

    async def __anext__(self) -> rtc.AudioFrame:
        if not self._frames:
            self.ended.set()
            await asyncio.Event().wait()  # the line stays open; closing the session ends this
        now = time.monotonic()
        self._due = max(self._due, now - FRAME_S) + FRAME_S
        await asyncio.sleep(self._due - now)  # as fast as one speaks
        data = self._frames.pop(0)
        return rtc.AudioFrame(data, self._rate, self._channels, len(data) // (2 * self._channels))


class Loudspeaker(io.AudioOutput):
    """Writes what the agent says into a WAV file, faster than one could listen."""

    def __init__(self, path: str) -> None:
        super().__init__(label=path, capabilities=io.AudioOutputCapabilities(pause=False))
        self._path = path
        self._audio: list[rtc.AudioFrame] = []
        self._unplayed_s = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Keep a frame."""
        await super().capture_frame(frame)
        if not self._unplayed_s:
            self.on_playback_started(created_at=time.time())
        self._unplayed_s += frame.duration
        self._audio.append(frame)

    def flush(self) -> None:
        """Take what came for said."""
        super().flush()
        self._over(interrupted=False)

    def clear_buffer(self) -> None:
        """Break off: somebody interrupted."""
        self._over(interrupted=True)

    def _over(self, *, interrupted: bool) -> None:
        played_s, self._unplayed_s = self._unplayed_s, 0.0
        if played_s:
            self.on_playback_finished(playback_position=played_s, interrupted=interrupted)

    def save(self) -> float:
        """Write the file.

        Returns:
            How long it is, in seconds.
        """
        if not self._audio:
            raise RuntimeError("The agent said nothing; `voicegw logs` shows which request failed.")
        said = rtc.combine_audio_frames(self._audio)
        with wave.open(self._path, "wb") as file:
            file.setnchannels(said.num_channels)
            file.setsampwidth(2)
            file.setframerate(said.sample_rate)
            file.writeframes(bytes(said.data))
        return said.duration


def show(event: ConversationItemAddedEvent) -> None:
    """Print what somebody said."""
    if isinstance(event.item, llm.ChatMessage):
        print(f"{event.item.role}: {event.item.text_content}")


async def answer_file(question: str, answer: str) -> None:
    """Play a file to the agent, and write what it says into another.

    Raises:
        TimeoutError: nothing was said within a minute.
    """
    await inference.preload()
    conversation = inference.session()
    caller, loudspeaker = Recording(question), Loudspeaker(answer)
    answered = asyncio.Event()
    loudspeaker.on("playback_finished", lambda _: answered.set())
    async with utils.http_context.open(), make_session() as session:
        session.on("conversation_item_added", show)
        session.input.audio, session.output.audio = caller, loudspeaker
        await session.start(Agent(instructions=INSTRUCTIONS))
        async with asyncio.timeout(PATIENCE_S):
            await caller.ended.wait()
            await answered.wait()
    print(
        f"{answer}: {loudspeaker.save():.1f} s. `voicegw logs --session-id {conversation}` shows the requests."
    )


def main() -> None:
    """Answer a file, or hand over to LiveKit's own commands."""
    if sys.argv[1:2] != ["wav"]:
        cli.run_app(server)
    elif len(sys.argv) != 4:
        sys.exit("Say: python agent.py wav QUESTION.wav ANSWER.wav")
    else:
        try:
            asyncio.run(answer_file(*sys.argv[2:]))
        except GatewayError as error:
            sys.exit(f"{error.message} {error.hint}")
        except TimeoutError:
            sys.exit("Nothing was said within a minute: `voicegw logs` shows whether anything was heard.")
        except (OSError, ValueError, RuntimeError, wave.Error) as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
