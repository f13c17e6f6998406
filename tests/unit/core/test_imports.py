import shutil
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.imports import RequestImport, import_entries, import_requests, open_source
from voicegw_mcp.errors import ConfigInvalid, Conflict, InvalidInput

DATA = Path(__file__).parents[2] / "data"
OLD, NEW = DATA / "voicegateway-0.4.0.db", DATA / "voicegateway-0.27.0.db"
SAMPLES = pytest.mark.parametrize("sample", [OLD, NEW], ids=["0.4.0", "0.27.0"])


@asynccontextmanager
async def opened(folder, yaml="", **environment):
    config = folder / "voicegw.yaml"
    if not config.exists():
        config.write_text(yaml)
    gateway = Gateway.open(
        str(config), door="cli", environment={"VOICEGW_DB_PATH": str(folder / "ours.db"), **environment}
    )
    try:
        yield gateway
    finally:
        await gateway.close()


def silent(_done, _total):
    """Show no progress."""


async def import_from(gateway, path, progress=silent):
    async with open_source(path) as source:
        return await import_requests(gateway, source, progress=progress)


def query(path, sql):
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def original_sums(path, column):
    """Count and cost in nano-USD per value of a column, straight from the source."""
    sums = query(path, f"SELECT {column}, COUNT(*), SUM(cost_usd) FROM requests GROUP BY 1 ORDER BY 1")
    return [(value, count, round(cost * 1e9)) for value, count, cost in sums]


def our_sums(path, column):
    joined = "requests JOIN series ON series.series_id = requests.series_id"
    return query(path, f"SELECT {column}, COUNT(*), SUM(cost_nanousd) FROM {joined} GROUP BY 1 ORDER BY 1")


def our_rollup(path):
    return query(path, "SELECT SUM(requests), SUM(cost_nanousd) FROM rollup GROUP BY grain_s")


@pytest.mark.unmeasured
@SAMPLES
async def test_totals_equal_sql_over_the_original_to_the_nano_dollar(tmp_path, sample):
    async with opened(tmp_path) as gateway:
        report = await import_from(gateway, sample)
    [(_, count, cost)] = original_sums(sample, "'all'")
    assert report == RequestImport(read=5000, added=5000, known=0, skipped={}, cost_nanousd=cost)
    ours = tmp_path / "ours.db"
    assert our_sums(ours, "'all'") == [("all", count, cost)]
    assert set(our_rollup(ours)) == {(count, cost)}
    for column in ("project", "provider", "model_id", "modality", "status"):
        assert our_sums(ours, column) == original_sums(sample, column)


@pytest.mark.unmeasured
@SAMPLES
async def test_units_and_latencies_of_a_sample_arrive_whole(tmp_path, sample):
    async with opened(tmp_path) as gateway:
        await import_from(gateway, sample)
    [theirs] = query(
        sample,
        "SELECT SUM(input_units * 60000) FILTER (WHERE modality = 'stt'), "
        "SUM(input_units) FILTER (WHERE modality = 'llm'), SUM(output_units) FILTER (WHERE modality = 'llm'), "
        "SUM(input_units) FILTER (WHERE modality = 'tts'), ROUND(SUM(ttfb_ms) * 1000), "
        "ROUND(SUM(total_latency_ms) * 1000), COUNT(DISTINCT session_id) FROM requests",
    )
    [ours] = query(
        tmp_path / "ours.db",
        "SELECT SUM(audio_ms), SUM(input_tokens), SUM(output_tokens), SUM(characters), SUM(ttfb_us), "
        "SUM(total_us), COUNT(DISTINCT session_id) FROM requests",
    )
    assert ours == theirs


@pytest.mark.unmeasured
@SAMPLES
async def test_a_second_run_adds_nothing(tmp_path, sample):
    async with opened(tmp_path) as gateway:
        first = await import_from(gateway, sample)
        second = await import_from(gateway, sample)
    assert second == RequestImport(
        read=5000, added=0, known=5000, skipped={}, cost_nanousd=first.cost_nanousd
    )
    assert set(our_rollup(tmp_path / "ours.db")) == {(5000, first.cost_nanousd)}


@pytest.mark.unmeasured
async def test_both_samples_go_into_one_store(tmp_path):
    async with opened(tmp_path) as gateway:
        reports = [await import_from(gateway, sample) for sample in (OLD, NEW)]
    assert [report.added for report in reports] == [5000, 5000]
    assert our_sums(tmp_path / "ours.db", "'all'") == [
        ("all", 10_000, sum(report.cost_nanousd for report in reports))
    ]


@pytest.mark.unmeasured
async def test_a_run_that_was_interrupted_is_completed_by_the_next_one(tmp_path):
    def interrupted(done, _total):
        if done == 4000:
            raise KeyboardInterrupt

    async with opened(tmp_path) as gateway:
        with pytest.raises(KeyboardInterrupt):
            await import_from(gateway, OLD, interrupted)
    assert [count for _, count, _ in our_sums(tmp_path / "ours.db", "'all'")] == [4000]
    async with opened(tmp_path) as gateway:
        report = await import_from(gateway, OLD)
    assert (report.added, report.known) == (1000, 4000)
    assert our_sums(tmp_path / "ours.db", "'all'") == original_sums(OLD, "'all'")
    assert set(our_rollup(tmp_path / "ours.db")) == {(5000, report.cost_nanousd)}


@pytest.mark.unmeasured
async def test_progress_counts_rows_from_none_to_all(tmp_path):
    seen = []
    async with opened(tmp_path) as gateway:
        await import_from(gateway, NEW, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 5000), (2000, 5000), (4000, 5000), (5000, 5000)]


@pytest.mark.unmeasured
async def test_rows_that_make_no_sense_are_counted_and_the_others_kept(tmp_path):
    source = tmp_path / "v.db"
    shutil.copyfile(OLD, source)
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        connection.execute("UPDATE requests SET cost_usd = -1 WHERE rowid = 7")
        connection.execute("UPDATE requests SET timestamp = 'soon' WHERE rowid IN (8, 4001)")
        connection.execute("UPDATE requests SET modality = 'video' WHERE rowid = 9")
    async with opened(tmp_path) as gateway:
        first = await import_from(gateway, source)
        second = await import_from(gateway, source)
    skipped = {"bad cost_usd": 1, "bad timestamp": 2, "unknown modality": 1}
    assert first == RequestImport(5000, 4996, 0, skipped, first.cost_nanousd)
    assert second == RequestImport(5000, 0, 4996, skipped, first.cost_nanousd)


async def test_a_zero_is_right_for_models_on_ones_own_machine_and_unpriced_for_others(tmp_path):
    source = tmp_path / "v.db"
    shutil.copyfile(OLD, source)
    free = [
        ("a", "ollama", "ollama/x"),
        ("b", "kokoro", "local/x"),
        ("c", "ollama-lab", "ollama-lab/x"),
        ("d", "piper", "p"),
    ]
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        connection.execute("DELETE FROM requests")
        for row in [*free, ("e", "deepgram", "deepgram/x"), ("f", "deepgram-eu", "deepgram-eu/x")]:
            connection.execute(
                "INSERT INTO requests (id, timestamp, modality, provider, model_id, input_units) VALUES (?, 1e9, 'tts', ?, ?, 5)",
                row,
            )
    async with opened(tmp_path) as gateway:
        await import_from(gateway, source)
    costs = dict(query(tmp_path / "ours.db", "SELECT id, cost_nanousd FROM requests"))
    assert costs == {"a": 0, "b": 0, "c": 0, "d": 0, "e": None, "f": None}


async def test_a_source_that_is_no_voicegateway_store_is_about_the_file(tmp_path):
    with pytest.raises(InvalidInput, match="does not exist"):
        async with open_source(tmp_path / "gone.db"):
            pass


@pytest.mark.unmeasured
async def test_a_broken_file_refuses_entries_and_takes_rows(tmp_path):
    async with opened(tmp_path, "providers: [") as gateway, open_source(OLD) as source:
        with pytest.raises(ConfigInvalid):
            await import_entries(gateway, source, dry_run=True)
        assert (await import_requests(gateway, source, progress=silent)).added == 5000


async def test_entries_shown_on_another_version_of_the_file_are_refused(tmp_path):
    async with opened(tmp_path) as gateway, open_source(OLD) as source:
        with pytest.raises(Conflict):
            await import_entries(gateway, source, dry_run=False, if_version="another")
    assert (tmp_path / "voicegw.yaml").read_bytes() == b""
