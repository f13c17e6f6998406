"""The benchmarks run, and what they show is what they found; how fast things are is judged by ``make bench`` alone."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WAIT_S = 180


def run(tmp_path, *arguments):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(store):
    with closing(sqlite3.connect(store)) as connection:
        return connection.execute("SELECT * FROM requests ORDER BY seq").fetchall()


def test_changes_are_measured(tmp_path):
    printed = run(tmp_path, BENCHMARKS / "run.py", "--only", "changes", "--rounds", "1", "--json", "-")
    figures = json.loads(printed)["changes"]["figures"]
    pairs = next(figure for figure in figures if figure["name"].startswith("register_model"))
    assert pairs["median"] > 0


def test_every_reading_tool_is_measured_on_every_store_and_the_store_is_kept(tmp_path):
    kept, file = tmp_path / "kept", tmp_path / "found.json"
    command = [BENCHMARKS / "run.py", "--only", "reading", "--short", "--sizes", "0", "2000"]
    printed = run(tmp_path, *command, "--stores", kept, "--json", file)
    figures = json.loads(file.read_text())["reading"]["figures"]
    calls = {}
    for figure in figures:
        assert all(value >= 0 for value in figure["values"])
        calls.setdefault((figure["table"], figure["name"]), set()).add(figure["column"])
    tables = {"get_costs": 45, "get_latency_stats": 35, "projects, lists and health": 7, "get_logs": 30}
    for table, least in tables.items():
        columns = [columns for (of, _), columns in calls.items() if of == table]
        assert len(columns) >= least
        assert all({"0", "2 k", "no-op, bare", "SQL alone, 2 k", "2 k / no-op"} == found for found in columns)
        assert f"\n{table}\n" in printed
    assert calls["", "store size per million rows, at 2 k"]
    assert calls["First call", "first get_costs of a server"] == {"0", "2 k"}
    (store,) = kept.glob("2000-*.db")
    assert len(rows_of(store)) == 2000


def test_stalls_are_measured_with_and_without_a_heavy_call(tmp_path):
    command = [
        BENCHMARKS / "run.py",
        "--only",
        "stall",
        "--short",
        "--sizes",
        "2000",
        "--stores",
        tmp_path / "kept",
    ]
    figures = json.loads(run(tmp_path, *command, "--json", "-"))["stall"]["figures"]
    stalls = {figure["name"]: figure for figure in figures if figure["column"] == "longest stall"}
    assert len(stalls) > 5
    assert all(figure["values"][0] > 0 for figure in figures)
    assert [name for name, figure in stalls.items() if figure["bar"] is None] == ["idle"]


def test_metering_is_measured_beside_the_bare_plugins_and_by_itself(tmp_path):
    printed = run(tmp_path, BENCHMARKS / "run.py", "--only", "metering", "--short", "--json", "-")
    figures = json.loads(printed)["metering"]["figures"]
    calls = [figure for figure in figures if figure["table"] == "What a meter adds to a call"]
    assert {figure["name"].split()[0] for figure in calls} == {"LLM", "TTS", "STT"}
    own = [figure["median"] for figure in calls if figure["column"] == "own code, p50"]
    assert len(own) == 6
    assert min(own) > 0
    assert {figure["bar"] for figure in calls if figure["column"] == "longer, p99"} == {400}
    stalls = {(figure["name"], figure["column"]) for figure in figures if "at once" in figure["table"]}
    assert {("metered", "over 20 ms late"), ("bare", "over 20 ms late")} <= stalls


def test_a_store_of_the_same_rows_and_seed_is_the_same_and_holds_rare_things(tmp_path):
    stores = [tmp_path / "a.db", tmp_path / "b.db"]
    for store in stores:
        run(tmp_path, BENCHMARKS / "stores.py", "--rows", "3000", "--end", "2026-11-20T10:00:00Z", store)
    rows = rows_of(stores[0])
    assert rows == rows_of(stores[1])
    with closing(sqlite3.connect(stores[0])) as connection:
        one = lambda sql: connection.execute(sql).fetchone()[0]
        assert one("SELECT COUNT(*) FROM requests") == 3000
        assert one("SELECT COUNT(*) FROM requests WHERE status = 'cancelled'") == 5
        assert one("SELECT COUNT(*) FROM requests WHERE error_message LIKE '%certificate has expired%'") == 3
        assert 30 < one("SELECT COUNT(*) FROM requests WHERE status = 'error'") < 100
        assert (
            one("SELECT COUNT(*) FROM requests NATURAL JOIN series WHERE model_id = 'openai/tts-1-hd'") == 50
        )
        assert one("SELECT COUNT(DISTINCT provider) * 100 + COUNT(DISTINCT model_id) FROM series") == 820
        times = [row[0] for row in connection.execute("SELECT timestamp_ms FROM requests ORDER BY seq")]
    assert times == sorted(times)
    assert (times[-1] - times[0]) / 86_400_000 > 29.5
    assert times[-1] < 1_795_168_800_000 < times[-1] + 12 * 3_600_000


def test_the_page_says_which_bars_are_missed_and_what_was_not_measured(tmp_path):
    program = """
import page, run
from figures import Figure
from results import Result, circumstances, from_json, to_json
figures = [
    Figure("rows recorded", "rows/s", (10.0, 30.0, 20.0), bar=25, at_least=True),
    *(Figure(name, "x", (value,), bar=5, table="get_logs", column="5 M / no-op") for name, value in found),
]
result = Result(circumstances(3), 61.0, figures)
again = from_json(to_json({"reading": result}))
print(page.document(again, {name: run.load_part(name) for name in ("reading", "peer")}))
"""
    missed = run(tmp_path, "-c", f"found = [('newest', 4.0), ('search | a', 6.0)]{program}")
    assert "| rows recorded, rows/s | >= 25 | 20.0 | **missed** |" in missed
    assert "worst of 2, search \\| a | <= 5 | 6.00 (typical 5.00) | **missed** by 1 of 2 |" in missed
    assert "2 of 2 are missed." in missed
    assert "Not measured here: `peer`" in missed
    held = run(
        tmp_path, "-c", f"found = [('newest', 4.0), ('search', 5.0)]{program.replace('bar=25', 'bar=2')}"
    )
    assert "All of them hold." in held


def test_the_api_is_measured_beside_an_address_that_does_nothing_and_so_are_scrapes(tmp_path):
    kept = tmp_path / "kept"
    command = [BENCHMARKS / "run.py", "--only", "api", "--short", "--sizes", "2000", "--stores", kept]
    figures = json.loads(run(tmp_path, *command, "--json", "-"))["api"]["figures"]
    assert all(value > 0 for figure in figures for value in figure["values"])
    assert len([figure for figure in figures if figure["name"].startswith("scrape, 200 series")]) == 5
    asked = {figure["name"]: figure["median"] for figure in figures if figure["column"] == "requests/s"}
    assert {"/health", "costs, today", "costs, month", "metrics"} <= set(asked)
    written = {figure["table"] for figure in figures if figure["column"] == "requests/s"}
    assert {table.partition(", ")[2] for table in written} == {"", "5 rows/s from one process"}
    assert all(figure["bar"] is None for figure in figures)  # of a store of another size nothing is asked
