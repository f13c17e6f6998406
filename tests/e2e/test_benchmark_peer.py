"""The comparison with VoiceGateway is fair where that can be seen without it: same rows, compared answers, told failures."""

import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from voicegw_mcp.domain import IMPORTED
from voicegw_mcp.store.voicegateway import VoiceGatewayStore

ROOT = Path(__file__).resolve().parents[2]
END_MS = 1_795_168_800_000
ROWS = 2_000
COSTS = {
    "total_usd": 3.0,
    "by_provider": {"a": {"cost": 1.0, "requests": 4}, "b": {"cost": 2.0, "requests": 5}},
    "by_model": {},
    "by_project": {},
}


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    """Let the modules of the benchmark be imported by name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def ours(tmp_path):
    from stores import make_store

    make_store(tmp_path / "ours.db", ROWS, end_ms=END_MS)
    return tmp_path / "ours.db"


def empty_store_of(version, path):
    """Return a store that this version of VoiceGateway made, without its requests."""
    shutil.copy(ROOT / "tests" / "data" / f"voicegateway-{version}.db", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM requests")
    return path


def records_of(path):
    with VoiceGatewayStore.open(path) as source:
        batch = source.read_requests(None, lambda _provider, _model_id: False, limit=ROWS + 1)
    assert not batch.skipped
    return batch.records


@pytest.mark.parametrize(("version", "counts_cached"), [("0.4.0", False), ("0.27.0", True)])
def test_voicegateway_gets_our_rows_as_it_would_have_written_them(tmp_path, ours, version, counts_cached):
    from peer_setup import copy_rows
    from stores import SEED
    from traffic import Calls

    theirs = empty_store_of(version, tmp_path / "theirs.db")
    assert copy_rows(ours, theirs) == ROWS
    written = [
        replace(
            record,
            # What their rows have no column for.
            error_kind=None,
            price_version=IMPORTED,
            price_model="",
            price_terms="",
            usage=record.usage if counts_cached else replace(record.usage, cached_tokens=0),
            # Stored as whole microseconds.
            ttfb_ms=None if record.ttfb_ms is None else round(record.ttfb_ms * 1000) / 1000,
            total_ms=round(record.total_ms * 1000) / 1000,
        )
        for record in Calls(ROWS, end_ms=END_MS, seed=SEED)
    ]
    differing = [pair for pair in zip(records_of(theirs), written, strict=True) if pair[0] != pair[1]]
    assert differing[:1] == []


def test_a_store_that_has_some_rows_already_is_refused(tmp_path, ours):
    from peer_setup import copy_rows

    theirs = empty_store_of("0.4.0", tmp_path / "theirs.db")
    copy_rows(ours, theirs)
    with pytest.raises(sqlite3.IntegrityError):
        copy_rows(ours, theirs)


def test_its_configuration_has_our_entries_and_none_of_the_keys_it_refuses():
    from peer_setup import configuration
    from traffic import voicegw_yaml

    ours, theirs = yaml.safe_load(voicegw_yaml()), yaml.safe_load(configuration())
    assert theirs.keys() == {"providers", "models", "projects"}
    assert (theirs["providers"], theirs["models"]) == (ours["providers"], ours["models"])
    assert theirs["projects"].keys() == ours["projects"].keys()
    assert all(project.keys() == {"name", "daily_budget"} for project in theirs["projects"].values())


@pytest.mark.parametrize(
    ("theirs", "usd", "requests"),
    [
        (COSTS, 0, 0),
        ({**COSTS, "total_usd": 3.5}, 0.5, 0),
        ({**COSTS, "by_provider": {**COSTS["by_provider"], "b": {"cost": 2.25, "requests": 7}}}, 0.25, 2),
        ({**COSTS, "by_provider": {"a": COSTS["by_provider"]["a"]}}, 2.0, 5),
        ({**COSTS, "by_project": {"new": {"cost": 0.125, "requests": 1}}}, 0.125, 1),
    ],
)
def test_every_difference_of_two_cost_reports_is_found(theirs, usd, requests):
    from peer import compare_costs

    assert compare_costs(COSTS, theirs) == compare_costs(theirs, COSTS) == (usd, requests)


def test_percentiles_are_compared_by_the_exact_ones_and_a_missing_one_is_no_match():
    from peer import compare_percentiles

    assert compare_percentiles({"p50": 101.0, "p99": 390.0}, {"p50": 100.0, "p99": 400.0}) == pytest.approx(
        2.5
    )
    assert compare_percentiles({"p50": 101.0}, {"p50": 100.0, "p99": 400.0}) == float("inf")


@pytest.mark.parametrize(
    "text", ['{"error": {"code": "UNKNOWN_TOOL"}}', '{\n  "error": {\n    "code": "UNKNOWN_TOOL"\n  }\n}']
)
def test_an_error_that_voicegateway_answers_as_a_success_is_no_answer(tmp_path, text):
    from client import LineClient
    from peer_setup import ask

    answer = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"text": text}], "isError": False}}
    program = (
        f"import json, sys; sys.stdin.readline(); print(json.dumps({answer!r}), flush=True); sys.stdin.read()"
    )
    with (
        LineClient([sys.executable, "-c", program], {}, tmp_path / "stderr.log") as client,
        pytest.raises(RuntimeError, match="UNKNOWN_TOOL"),
    ):
        ask(client, "get_costs", {})


def test_an_installation_that_fails_says_why_and_does_not_count_as_one(tmp_path):
    from peer_setup import Peer

    peer = Peer("0.0.0", (str(tmp_path / "no-such-package"),))
    with pytest.raises(RuntimeError, match="no-such-package"):
        peer.install(tmp_path)
    assert list(tmp_path.rglob("installed.txt")) == []
