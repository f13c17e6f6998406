"""Rows of the request log for tests, ours and VoiceGateway's."""

from dataclasses import replace

from voicegw_mcp.domain import Modality, RequestRecord

NOW = 1_795_000_000_000
DAY = 86_400_000

VOICEGATEWAY_SCHEMA = """
CREATE TABLE requests (
    id, timestamp, project, modality, model_id, provider, input_units, output_units, cached_input_units, cost_usd,
    pricing_source, ttfb_ms, total_latency_ms, status, fallback_from, error_message, session_id
)
"""
"""VoiceGateway's table of requests, with columns that take anything."""

VOICEGATEWAY_ROW = {
    "id": "r1",
    "timestamp": 1792738806.5695,
    "project": "clinic",
    "modality": "llm",
    "model_id": "openai/gpt-4o",
    "provider": "openai",
    "input_units": 120.0,
    "output_units": 30.0,
    "cached_input_units": 64.0,
    "cost_usd": 0.00062,
    "pricing_source": "voice-prices@0.6.0",
    "ttfb_ms": 210.5,
    "total_latency_ms": 890.25,
    "status": "success",
    "fallback_from": None,
    "error_message": None,
    "session_id": "s-1",
}


def request_record(**fields):
    """Return a successful request at ``NOW`` with the given fields changed."""
    plain = RequestRecord(
        id="r", timestamp_ms=NOW, project="p0", modality=Modality.STT, provider="v0", model_id="v0/m"
    )
    return replace(plain, **fields)
