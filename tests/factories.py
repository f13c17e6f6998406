"""Rows of the request log for tests."""

from dataclasses import replace

from voicegw_mcp.domain import Modality, RequestRecord

NOW = 1_795_000_000_000
DAY = 86_400_000


def request_record(**fields):
    """Return a successful request at ``NOW`` with the given fields changed."""
    plain = RequestRecord(
        id="r", timestamp_ms=NOW, project="p0", modality=Modality.STT, provider="v0", model_id="v0/m"
    )
    return replace(plain, **fields)
