"""The small models, a voicegw.yaml that names them, and a store."""

import pytest
from tests.local_models.voices import make_kokoro, make_piper
from tests.local_models.whisper_model import make_whisper
from tests.metering.desk import Desk

from voicegw_mcp import inference
from voicegw_mcp.inference import runtime
from voicegw_mcp.inference.local import engine
from voicegw_mcp.inference.runtime import Runtime


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory):
    """A model that hears the same in everything."""
    return make_whisper(tmp_path_factory.mktemp("whisper") / "model")


@pytest.fixture
def kokoro_folder(tmp_path):
    """A model and two voices."""
    return make_kokoro(tmp_path / "kokoro")


@pytest.fixture
def piper_folder(tmp_path):
    """A voice of one speaker and one of two."""
    make_piper(tmp_path / "piper")
    return make_piper(tmp_path / "piper", "en_US-pair-low", speakers=("anna", "ben"))


@pytest.fixture
async def desk(tmp_path, monkeypatch):
    """A voicegw.yaml that `desk.configure` writes, a store, and no model loaded yet."""
    for name in ("VOICEGW_CONFIG", "VOICEGW_ACTIVE_PROJECT", "VOICEGW_OVERLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOICEGW_DB_PATH", str(tmp_path / "voicegw.db"))
    monkeypatch.setattr(Runtime, "catalog_lately", Runtime.catalog)
    monkeypatch.setattr(engine, "_ENGINES", {})
    async with LocalDesk(tmp_path) as desk:
        yield desk
        if runtime.current().recorder_in_use() is not None:
            desk.rows()  # what a test recorded is written before another one's file is opened


class LocalDesk(Desk):
    """A desk whose providers are what a test writes."""

    def configure(self, **providers):
        """Write the options of each provider; `whisper={"model_path": ...}`."""
        lines = [
            f"  {name}: {{{', '.join(f'{key}: {str(value)!r}' for key, value in options.items())}}}"
            for name, options in providers.items()
        ]
        self.path.write_text("providers:\n" + "\n".join(lines) + "\n", encoding="utf-8")
        inference.configure(self.path)
