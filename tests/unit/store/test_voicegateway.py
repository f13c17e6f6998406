import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.factories import VOICEGATEWAY_ROW, VOICEGATEWAY_SCHEMA

from voicegw_mcp.domain import Modality, RequestRecord, Usage
from voicegw_mcp.errors import InvalidInput, StoreUnavailable
from voicegw_mcp.store.sqlite import Store
from voicegw_mcp.store.voicegateway import ManagedModel, ManagedProject, ManagedProvider, VoiceGatewayStore

DATA = Path(__file__).parents[2] / "data"
SAMPLES = [DATA / "voicegateway-0.4.0.db", DATA / "voicegateway-0.27.0.db"]

FIRST_SCHEMA = """
CREATE TABLE requests (
    id TEXT PRIMARY KEY, timestamp REAL NOT NULL, modality TEXT NOT NULL, model_id TEXT NOT NULL,
    provider TEXT NOT NULL, input_units REAL DEFAULT 0, output_units REAL DEFAULT 0, cost_usd REAL DEFAULT 0,
    ttfb_ms REAL, total_latency_ms REAL, status TEXT DEFAULT 'success', fallback_from TEXT, error_message TEXT,
    metadata TEXT
)
"""


def is_free(_provider, model_id):
    return model_id.startswith("local/")


def make(path, schema=VOICEGATEWAY_SCHEMA, rows=(), journal_mode="delete"):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.executescript(schema)
        add(connection, rows)
    return path


def add(connection, rows):
    for row in rows:
        names = ", ".join(row)
        connection.execute(
            f"INSERT INTO requests ({names}) VALUES ({', '.join('?' for _ in row)})", tuple(row.values())
        )


def read_all(path, limit=2000):
    with VoiceGatewayStore.open(path) as source:
        batches, last = [], None
        while (batch := source.read_requests(last, is_free, limit=limit)).rows:
            batches.append(batch)
            last = batch.last
    return batches


def test_text_that_is_no_utf8_stays_apart_and_readable(tmp_path):
    path = make(tmp_path / "v.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        add(connection, [VOICEGATEWAY_ROW, VOICEGATEWAY_ROW | {"id": "r2"}])
        connection.execute("UPDATE requests SET id = CAST(x'61ff' AS TEXT) WHERE id = 'r2'")
    (batch,) = read_all(path)
    assert [record.id for record in batch.records] == ["r1", "a\\xff"]


def test_a_store_of_the_first_releases_is_read_with_defaults_for_what_it_lacks(tmp_path):
    later = {"project", "pricing_source", "session_id", "cached_input_units"}
    row = {name: value for name, value in VOICEGATEWAY_ROW.items() if name not in later}
    path = make(tmp_path / "old.db", FIRST_SCHEMA, [row, row | {"id": "r2", "cost_usd": 0.0}])
    (batch,) = read_all(path)
    assert batch.records[0] == RequestRecord(
        id="r1",
        timestamp_ms=1792738806570,
        project="default",
        modality=Modality.LLM,
        provider="openai",
        model_id="openai/gpt-4o",
        usage=Usage(input_tokens=120, output_tokens=30),
        cost_nanousd=620_000,
        price_version="imported",
        ttfb_ms=210.5,
        total_ms=890.25,
    )
    assert batch.records[1].cost_nanousd is None
    with VoiceGatewayStore.open(path) as source:
        assert (source.managed_providers(), source.managed_models(), source.managed_projects()) == (
            [],
            [],
            [],
        )


def test_the_least_a_store_must_have_gets_defaults_for_the_rest(tmp_path):
    schema = "CREATE TABLE requests (id, timestamp, modality, model_id, provider)"
    row = {name: VOICEGATEWAY_ROW[name] for name in ("id", "timestamp", "modality", "model_id", "provider")}
    (batch,) = read_all(make(tmp_path / "least.db", schema, [row]))
    (record,) = batch.records
    assert (record.project, record.status, record.usage, record.cost_nanousd) == (
        "default",
        "success",
        Usage(),
        None,
    )


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_batches_of_any_size_give_all_rows_of_a_sample_once(sample):
    batches = read_all(sample, limit=999)
    assert [batch.rows for batch in batches] == [999] * 5 + [5]
    assert len({record.id for batch in batches for record in batch.records}) == 5000
    with VoiceGatewayStore.open(sample) as source:
        assert source.count_requests() == 5000


def test_a_row_added_behind_the_reading_is_still_read(tmp_path):
    path = make(tmp_path / "v.db", rows=[VOICEGATEWAY_ROW | {"id": "a"}, VOICEGATEWAY_ROW | {"id": "b"}])
    with VoiceGatewayStore.open(path) as source:
        first = source.read_requests(None, is_free, limit=2)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            add(connection, [VOICEGATEWAY_ROW | {"id": "c", "timestamp": 1.0}])
        rest = source.read_requests(first.last, is_free, limit=2)
    assert [record.id for record in rest.records] == ["c"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_managed_entries_of_a_sample_are_read_as_they_are(sample):
    with VoiceGatewayStore.open(sample) as source:
        assert source.managed_providers() == [
            ManagedProvider("deepgram-eu", "deepgram", False, "https://api.eu.deepgram.com", "{}", ""),
            ManagedProvider("ollama-lab", "ollama", False, "http://127.0.0.1:11434", "{}", ""),
        ]
        assert source.managed_models() == [
            ManagedModel(
                "deepgram-eu/nova-3", "stt", "deepgram-eu", "nova-3", "Nova 3 (EU)", "de", "", "{}", True
            ),
            ManagedModel(
                "ollama-lab/qwen2.5:3b",
                "llm",
                "ollama-lab",
                "qwen2.5:3b",
                "",
                "",
                "",
                '{"temperature": 0.2}',
                False,
            ),
        ]
        assert source.managed_projects() == [
            ManagedProject(
                "clinic",
                'Clinic "Nord"',
                "Termine: Mo–Fr",
                "block",
                "",
                "deepgram-eu/nova-3",
                "ollama-lab/qwen2.5:3b",
                "",
                '["prod","de"]',
                12.5,
            ),
            ManagedProject(
                "default", "Default", "Auto-created on first run.", "warn", "", "", "", "", "[]", 0.0
            ),
        ]


def test_of_a_stored_key_only_its_presence_is_read(tmp_path):
    path = tmp_path / "v.db"
    shutil.copyfile(SAMPLES[0], path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE managed_providers SET api_key_encrypted = 'gAAAA' WHERE provider_id = 'deepgram-eu'"
        )
    with VoiceGatewayStore.open(path) as source:
        assert [provider.has_key for provider in source.managed_providers()] == [True, False]
        assert "gAAAA" not in repr(source.managed_providers())


def test_managed_tables_that_lack_columns_are_read_with_empty_ones(tmp_path):
    schema = VOICEGATEWAY_SCHEMA + (
        ";CREATE TABLE managed_providers (provider_id, provider_type)"
        ";CREATE TABLE managed_models (model_id, modality)"
        ";CREATE TABLE managed_projects (name)"
        ";INSERT INTO managed_providers VALUES ('a', 'openai')"
        ";INSERT INTO managed_models VALUES ('a/b', 'llm')"
        ";INSERT INTO managed_projects VALUES ('no id column')"
    )
    with VoiceGatewayStore.open(make(tmp_path / "v.db", schema)) as source:
        assert source.managed_providers() == [ManagedProvider("a", "openai", False, "", "", "")]
        assert source.managed_models() == [ManagedModel("a/b", "llm", "", "", "", "", "", "", True)]
        assert source.managed_projects() == []


def test_rows_still_in_a_write_ahead_log_are_read_and_the_log_is_left_alone(tmp_path):
    path = make(tmp_path / "v.db", rows=[VOICEGATEWAY_ROW], journal_mode="wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        add(writer, [VOICEGATEWAY_ROW | {"id": "r2"}])
        wal = path.with_name("v.db-wal")
        before = (path.read_bytes(), wal.read_bytes())
        (batch,) = read_all(path)
        assert [record.id for record in batch.records] == ["r1", "r2"]
        assert (path.read_bytes(), wal.read_bytes()) == before


def test_a_log_that_a_crash_left_behind_is_read_too(tmp_path):
    path = make(tmp_path / "v.db", rows=[VOICEGATEWAY_ROW], journal_mode="wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        add(writer, [VOICEGATEWAY_ROW | {"id": "r2"}])
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("v.db", "v.db-wal"):
            shutil.copyfile(tmp_path / name, crashed / name)
    wal = (crashed / "v.db-wal").read_bytes()
    (batch,) = read_all(crashed / "v.db")
    assert [record.id for record in batch.records] == ["r1", "r2"]
    assert (crashed / "v.db-wal").read_bytes() == wal


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_nothing_appears_beside_a_store_nobody_has_open(tmp_path, journal_mode):
    path = make(tmp_path / "v.db", rows=[VOICEGATEWAY_ROW], journal_mode=journal_mode)
    before = path.read_bytes()
    with VoiceGatewayStore.open(path) as source:
        source.read_requests(None, is_free)
        assert [file.name for file in tmp_path.iterdir()] == ["v.db"]
    assert path.read_bytes() == before


def test_a_store_that_another_program_holds_is_unavailable(tmp_path):
    path = make(tmp_path / "v.db", rows=[VOICEGATEWAY_ROW])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable) as refused:
            VoiceGatewayStore.open(path, busy_timeout_ms=0)
    assert refused.value.details["reason"] == "locked"


def test_a_store_without_permission_is_unavailable(tmp_path, monkeypatch):
    path = make(tmp_path / "v.db", rows=[VOICEGATEWAY_ROW])

    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(StoreUnavailable) as refused:
        VoiceGatewayStore.open(path)
    assert refused.value.details["reason"] == "permission"


def refusal(path):
    with pytest.raises(InvalidInput) as refused:
        read_all(path)
    assert refused.value.details == {"field": "file"}
    assert "SELECT" not in str(refused.value.payload())
    return refused.value.message.removeprefix(f"{path} ")


def test_a_file_that_is_no_voicegateway_store_is_refused_in_one_sentence(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("not a database, and longer than a SQLite header by some way")
    empty = tmp_path / "empty.db"
    empty.touch()
    view = make(
        tmp_path / "view.db",
        "CREATE VIEW requests AS SELECT 1 id, 2 timestamp, 'llm' modality, 'a' model_id, 'b' provider",
    )
    no_rowid = make(
        tmp_path / "norowid.db",
        VOICEGATEWAY_SCHEMA.rstrip().replace("id,", "id PRIMARY KEY,", 1) + " WITHOUT ROWID",
    )
    assert refusal(tmp_path / "gone.db") == "does not exist."
    assert refusal(tmp_path) == "is not a file."
    assert refusal(text) == "is not a SQLite file."
    assert refusal(empty) == "is not a SQLite file."
    assert (
        refusal(make(tmp_path / "other.db", "CREATE TABLE notes (id)"))
        == "is a SQLite file, but no VoiceGateway store."
    )
    assert refusal(view) == "is a SQLite file, but no VoiceGateway store."
    assert refusal(no_rowid) == "is a SQLite file, but no VoiceGateway store."


async def test_one_of_our_own_stores_is_refused_as_such(tmp_path):
    path = tmp_path / "ours.db"
    await (await Store.open(path)).close()
    assert refusal(path) == "is a store of voicegw-mcp itself, not one of VoiceGateway."


@pytest.mark.parametrize("kept", [100, 5_000, 200_000])
def test_a_truncated_store_is_refused_as_damaged(tmp_path, kept):
    path = tmp_path / "cut.db"
    path.write_bytes(SAMPLES[1].read_bytes()[:kept])
    assert refusal(path) == "is damaged or cut off."


def test_a_store_overwritten_in_the_middle_is_refused_as_damaged(tmp_path):
    whole = bytearray(SAMPLES[0].read_bytes())
    whole[8192:-8192] = b"\xa5" * (len(whole) - 16384)
    path = tmp_path / "bad.db"
    path.write_bytes(whole)
    assert refusal(path) == "is damaged or cut off."


def test_a_closed_source_is_unavailable_and_closing_twice_is_fine(tmp_path):
    path = make(tmp_path / "v.db", rows=[VOICEGATEWAY_ROW])
    source = VoiceGatewayStore.open(path)
    source.close()
    source.close()
    with pytest.raises(StoreUnavailable):  # the module's own error, which carries no code of SQLite
        source.count_requests()
