"""Providers of speech and language on loopback, for tests and measurements: they speak the providers' own protocols.

    async with OpenAI() as openai:
        openai.faults.next(Fault(status=503), door="chat")
        llm = livekit.plugins.openai.LLM(base_url=openai.base_url, api_key=openai.key)
        ...
        assert openai.of("chat")[-1].output_tokens == 4

Keys are checked in each provider's own form. What a request uses follows from the request (``formulas``); what goes wrong is said
beforehand (``faults``).
"""

from tests.loopback.anthropic import Anthropic
from tests.loopback.assemblyai import AssemblyAI
from tests.loopback.cartesia import Cartesia
from tests.loopback.deepgram import Deepgram
from tests.loopback.elevenlabs import ElevenLabs
from tests.loopback.faults import Call, Fault
from tests.loopback.openai import Groq, Ollama, OpenAI, OpenAICompatible
from tests.loopback.server import Provider

PROVIDERS: dict[str, type[Provider]] = {
    provider.name: provider
    for provider in (
        OpenAI,
        Groq,
        OpenAICompatible,
        Ollama,
        Anthropic,
        Deepgram,
        Cartesia,
        ElevenLabs,
        AssemblyAI,
    )
}
"""By the provider's type name."""

__all__ = [
    "PROVIDERS",
    "Anthropic",
    "AssemblyAI",
    "Call",
    "Cartesia",
    "Deepgram",
    "ElevenLabs",
    "Fault",
    "Groq",
    "Ollama",
    "OpenAI",
    "OpenAICompatible",
    "Provider",
]
