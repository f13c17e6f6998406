import pytest

from voicegw_mcp.store.sqlite import Store


@pytest.fixture
async def store(tmp_path):
    opened = await Store.open(tmp_path / "voicegw.db")
    yield opened
    await opened.close()
