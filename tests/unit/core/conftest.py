import pytest
from tests.factories import NOW

from voicegw_mcp.config.file import ConfigFile
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.undo import undo_change
from voicegw_mcp.errors import Conflict
from voicegw_mcp.tools import TOOLS

BY_NAME = {tool.name: tool for tool in TOOLS}
KEY = "sk-fake-0123456789abcdef"
ADD_PROVIDER = ("add_provider", {"provider_id": "groq", "provider_type": "groq"})
ADD_MODEL = ("register_model", {"modality": "llm", "provider_id": "ollama", "model_name": "phi"})
ADD_PROJECT = ("create_project", {"project_id": "new", "name": "New", "tags": ["a: b", "#c"]})


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


@pytest.fixture
def path(gateway):
    return gateway.config_file.path


@pytest.fixture
def call(gateway):
    """Calls a tool and returns the id of its change."""

    async def call(name, arguments, of=gateway):
        tool = BY_NAME[name]
        return (await tool.run(of, tool.parse(arguments))).change_id

    return call


@pytest.fixture
def undo(gateway):
    async def undo(change_id=None, **terms):
        return (await undo_change(gateway, change_id, tool="undo", **terms)).receipt.change_id

    return undo


async def refused(undo, path, change_id=None, *, error=Conflict):
    """Return the error of an undo that must leave the file as it is."""
    before = path.read_bytes()
    with pytest.raises(error) as caught:
        await undo(change_id)
    assert path.read_bytes() == before
    assert KEY not in str(caught.value.payload())
    return caught.value
