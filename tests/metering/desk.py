"""A voicegw.yaml whose providers are on loopback, with a store, and ways to call the three stages and to read the rows."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from functools import wraps

from livekit import rtc
from livekit.agents import APIConnectOptions, llm, utils
from tests.loopback import PROVIDERS, formulas

from voicegw_mcp import inference
from voicegw_mcp.inference import context, runtime

ONCE = APIConnectOptions(max_retry=0, timeout=5)
RATE = 16000
SAID = "Please tell me about the weather in Kyiv tomorrow morning."

PRICES = """\
pricing:
  openai/gpt-4o-mini: {per_million_input_tokens: 0.15, per_million_output_tokens: 0.60, per_million_cached_tokens: 0.075}
  openai/tts-1: {per_1000_characters: 0.015}
  deepgram/nova-3: {per_minute: 0.0048}
  openai/whisper-1: {per_minute: 0.006}
"""


@dataclass(frozen=True)
class Row:
    """A row of the log."""

    seq: int
    timestamp_ms: int
    project: str
    modality: str
    provider: str
    model_id: str
    status: str
    session_id: str | None
    audio_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    characters: int
    cost_nanousd: int | None
    price: str
    ttfb_us: int | None
    total_us: int | None
    error_kind: str | None
    error_message: str | None
    fallback_from: str | None
    estimated: int


_SELECT = """
SELECT seq, timestamp_ms, project, modality, provider, model_id, status, session_id, audio_ms, input_tokens, output_tokens,
    cached_tokens, characters, cost_nanousd, source, ttfb_us, total_us, error_kind, error_message, fallback_from, estimated
FROM requests JOIN series USING (series_id) JOIN price USING (price_id) ORDER BY seq
"""


class Desk:
    """What a test works with; ``desk.openai`` is the provider of that name, started when it is first asked for."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "voicegw.yaml"
        self.providers = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self):
        self._project, self._session = context._project.set(None), context._session.set(None)
        await self._stack.enter_async_context(utils.http_context.open())
        return self

    async def __aexit__(self, *_):
        inference.configure(None)
        await self._stack.aclose()
        context._project.set(None)
        context._session.set(None)

    def own(self, instance):
        """Close an instance at the end, and the client that some plugins leave open."""
        self._stack.push_async_callback(close, instance)
        return instance

    async def start(
        self, *names, more="", projects="projects:\n  shop: {name: Shop}\n  call: {name: Calls}\n"
    ):
        """Start providers and configure them; return them in order."""
        for name in names:
            self.providers[name] = await self._stack.enter_async_context(PROVIDERS[name]())
        self.write(more=more, projects=projects)
        started = [self.providers[name] for name in names]
        return started[0] if len(started) == 1 else started

    def write(self, *, more="", projects=""):
        """Write the file; keys are in files of their own, as references."""
        lines = []
        for name, provider in self.providers.items():
            (self.folder / f"{name}.key").write_text(provider.key)
            lines.append(f"  {name}: {{api_key: '${{file:{name}.key}}', base_url: '{provider.base_url}'}}")
        tracking = f"cost_tracking: {{db_path: '{self.folder / 'voicegw.db'}'}}\n"
        text = "providers:\n" + "\n".join(lines) + "\n" + projects + tracking + more
        self.path.write_text(text, encoding="utf-8")
        inference.configure(self.path)

    def rows(self):
        """Return the rows of the log once all are written."""
        recorder = runtime.current().recorder()
        assert recorder.flush(20)
        if not (self.folder / "voicegw.db").exists():
            return []
        with closing(sqlite3.connect(self.folder / "voicegw.db")) as store:
            return [Row(*row) for row in store.execute(_SELECT)]

    def row(self):
        """Return the one row there is."""
        rows = self.rows()
        assert len(rows) == 1, rows
        return rows[0]

    def totals(self, model_id):
        """Return status -> (requests, cost, rows with a latency) of a model's day."""
        self.rows()
        with closing(sqlite3.connect(self.folder / "voicegw.db")) as store:
            found = store.execute(
                "SELECT status, requests, cost_nanousd, total_count FROM rollup JOIN series USING (series_id) "
                "WHERE model_id = ? AND grain_s = 86400",
                (model_id,),
            )
            return {status: tuple(sums) for status, *sums in found}

    def bytes(self):
        """Return everything the store has on disk."""
        self.rows()
        return b"".join(path.read_bytes() for path in self.folder.glob("voicegw.db*"))


async def close(instance):
    """Close an instance, and the client that some plugins leave open."""
    await instance.aclose()
    for name in ("_llm_instances", "_stt_instances", "_tts_instances"):
        for each in getattr(instance, name, ()):
            await close(getattr(each, "wrapped_stt", each))
    client = getattr(instance, "_client", None)
    if client is not None:
        await client.close()


def within(seconds):
    """Bound how long a call may take."""

    def bound(call):
        @wraps(call)
        async def run(*args, **kwargs):
            async with asyncio.timeout(seconds):
                return await call(*args, **kwargs)

        return run

    return bound


def audio(ms, rate=RATE):
    """Return a tone as one frame."""
    data = formulas.pcm(ms, rate)
    return rtc.AudioFrame(data=data, sample_rate=rate, num_channels=1, samples_per_channel=len(data) // 2)


def conversation(text=SAID, *, system=None):
    """Return a conversation of one message."""
    context = llm.ChatContext.empty()
    if system:
        context.add_message(role="system", content=system)
    context.add_message(role="user", content=text)
    return context


@within(20)
async def ask(model, text=SAID, *, options=ONCE, **said):
    """Read a whole reply."""
    async with model.chat(chat_ctx=conversation(text, **said), conn_options=options) as stream:
        return "".join([chunk.delta.content or "" async for chunk in stream if chunk.delta])


@within(20)
async def say(voice, text=SAID, *, options=ONCE):
    """Synthesize a whole text; return the ms of audio."""
    async with voice.synthesize(text, conn_options=options) as stream:
        return sum([event.frame.duration async for event in stream]) * 1000


@within(20)
async def speak(voice, text=SAID, *, options=ONCE):
    """Synthesize a text pushed word by word; return the ms of audio."""
    async with voice.stream(conn_options=options) as stream:
        for word in text.split(" "):
            stream.push_text(word + " ")
        stream.end_input()
        return sum([event.frame.duration async for event in stream]) * 1000


@within(20)
async def recognize(ears, ms=900, *, options=ONCE):
    """Transcribe a recording."""
    event = await ears.recognize(audio(ms), conn_options=options)
    return event.alternatives[0].text


@within(20)
async def listen(ears, ms=900, *, options=ONCE):
    """Transcribe audio pushed in pieces of 100 ms; return the final transcripts."""
    async with ears.stream(conn_options=options) as stream:
        for _ in range(ms // 100):
            stream.push_frame(audio(100))
            await asyncio.sleep(0)
        stream.end_input()
        return [event.alternatives[0].text async for event in stream if event.type == "final_transcript"]
