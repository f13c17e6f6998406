"""Instances of the real plugins on loopback providers, and the rows their requests become."""

import pytest
from tests.metering.desk import Desk

from voicegw_mcp.inference.runtime import Runtime


@pytest.fixture
async def desk(tmp_path, monkeypatch):
    """Loopback providers, a voicegw.yaml that points at them, and a store."""
    for name in ("VOICEGW_CONFIG", "VOICEGW_ACTIVE_PROJECT", "VOICEGW_OVERLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOICEGW_DB_PATH", str(tmp_path / "voicegw.db"))
    monkeypatch.setattr(Runtime, "catalog_lately", Runtime.catalog)  # tests change files faster than people
    async with Desk(tmp_path) as desk:
        yield desk
