import pytest
from tests.factories import NOW

from voicegw_mcp.config.file import ConfigFile
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.core.gateway import Gateway


@pytest.fixture
def configuration(tmp_path):
    """Makes the configuration that a text of voicegw.yaml means."""

    def make(text):
        path = tmp_path / "voicegw.yaml"
        path.write_text(text)
        return ConfigFile(path, Secrets(tmp_path / "secrets.env", {})).load()

    return make


@pytest.fixture
async def gateway(tmp_path):
    """A gateway in an empty folder, with a clock that stands still."""
    environment = {"VOICEGW_DB_PATH": str(tmp_path / "voicegw.db")}
    gateway = Gateway.open(
        str(tmp_path / "voicegw.yaml"), door="test", environment=environment, now_ms=lambda: NOW
    )
    yield gateway
    await gateway.close()
