"""Runs commands in this process, in an empty home, and reads what they print."""

import io
import json
import os
import time
from dataclasses import dataclass
from functools import partial

import anyio
import pytest

from voicegw_mcp.cli.app import main
from voicegw_mcp.domain import Modality, RequestRecord, RequestStatus, Usage
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.sqlite import Store


class Keyboard(io.StringIO):
    """Standard input that says it is a terminal."""

    def isatty(self):
        return True


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON document on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home that is the current folder as well, and a terminal of 100 columns without colours."""
    for name in list(os.environ):
        if name.startswith("VOICEGW_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def voicegw(home, monkeypatch, capsys):  # noqa: ARG001 - commands run in that home
    """Runs one command line and returns what became of it."""

    def run(*arguments, stdin="", typed=None):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin) if typed is None else Keyboard(typed))
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ran(ended.value.code, out, err)

    return run


@pytest.fixture
def config(home):
    """Writes ./voicegw.yaml."""

    def write(text):
        path = home / "voicegw.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def log(home):
    """Puts rows into the store that ./voicegw.yaml leads to."""

    def insert(*records):
        async def work():
            path = home / ".config" / "voicegateway" / "voicegw.db"
            store = await Store.open(path)
            try:
                await store.write(partial(insert_requests, records=records))
            finally:
                await store.close()

        anyio.run(work)

    return insert


@pytest.fixture
def request_row():
    """Makes a record of a moment ago; every one has an id of its own."""
    count = iter(range(10_000))

    def make(**fields):
        number = next(count)
        values = {
            "id": f"request-{number:04}",
            "timestamp_ms": int(time.time() * 1000) - 1000 - number,
            "project": "default",
            "modality": Modality.LLM,
            "provider": "openai",
            "model_id": "openai/gpt-4.1-mini",
            "status": RequestStatus.SUCCESS,
            "usage": Usage(input_tokens=1200, output_tokens=300),
            "cost_nanousd": 1_230_000,
            "price_source": "genai-prices",
            "ttfb_ms": 210.0,
            "total_ms": 1432.0,
            **fields,
        }
        return RequestRecord(**values)

    return make
