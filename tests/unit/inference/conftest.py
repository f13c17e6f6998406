"""A voicegw.yaml of one's own, and a clean context for each test."""

import pytest

from voicegw_mcp import inference
from voicegw_mcp.inference import context

KEYS = {
    name: f"fake-{name.lower()}"
    for name in ("DEEPGRAM", "OPENAI", "ANTHROPIC", "GROQ", "CARTESIA", "ELEVENLABS", "ASSEMBLYAI")
}


@pytest.fixture
def keys(monkeypatch):
    """Keys of all providers in the environment."""
    for name, key in KEYS.items():
        monkeypatch.setenv(f"{name}_API_KEY", key)


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Makes a text this process's voicegw.yaml; the store is beside it."""
    for name in ("VOICEGW_CONFIG", "VOICEGW_ACTIVE_PROJECT", "VOICEGW_OVERLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOICEGW_DB_PATH", str(tmp_path / "voicegw.db"))
    path = tmp_path / "voicegw.yaml"
    project, session = context._project.set(None), context._session.set(None)

    def write(text):
        path.write_text(text, encoding="utf-8")
        inference.configure(path)
        return path

    yield write
    inference.configure(None)
    context._project.reset(project)
    context._session.reset(session)
