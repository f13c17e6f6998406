"""Costs worked out anew, against an oracle that adds up decimals by figures written down here."""

# Seeded generators make the same rows in every run.
# ruff: noqa: S311

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.repricing import reprice
from voicegw_mcp.domain import Modality, RequestStatus, Usage
from voicegw_mcp.errors import InvalidInput, NotFound
from voicegw_mcp.store import repricing as log
from voicegw_mcp.store.audit import agrees, inspect_span, spans
from voicegw_mcp.store.repair import repair_store
from voicegw_mcp.store.repricing import Selection, read_runs
from voicegw_mcp.store.requests import LogFilter, insert_requests, read_log
from voicegw_mcp.store.retention import prune_batch, pruned_before

STT, LLM, TTS = Modality.STT, Modality.LLM, Modality.TTS
CHANGE_AT = NOW // DAY * DAY - 5 * DAY
"""The first moment of the day from which the second price of the house's model holds."""
FILE = f"""
providers:
  deepgram: {{api_key: "${{DEEPGRAM_API_KEY}}"}}
  cartesia: {{api_key: "${{CARTESIA_API_KEY}}"}}
  house: {{type: openai_compatible, base_url: "http://10.0.0.5:8000/v1"}}
  ollama: {{}}
models:
  llm:
    house/llama: {{provider: house, model: llama-3.3}}
    ollama/qwen: {{provider: ollama, model: qwen}}
pricing:
  house/llama:
    - {{per_million_input_tokens: 0.3, per_million_output_tokens: 0.7}}
    - {{effective: {datetime.fromtimestamp(CHANGE_AT / 1000, UTC).date()}, per_million_input_tokens: 0.2, per_million_output_tokens: 0.6, per_million_cached_tokens: 0.05}}
"""
SERIES = [
    (STT, "deepgram", "deepgram/nova-3"),
    (STT, "cartesia", "cartesia/ink-whisper"),
    (TTS, "cartesia", "cartesia/sonic-3"),
    (LLM, "house", "house/llama"),
    (LLM, "house", "house/other"),
    (LLM, "ollama", "ollama/qwen"),
]


def oracle(model_id, usage, at_ms):
    """Return what a request costs in nano-USD, None where nobody knows; by the published and the file's figures."""
    if usage == Usage():
        return 0
    usd = {
        "deepgram/nova-3": Decimal(usage.audio_ms) / 60_000 * Decimal("0.0048"),
        "cartesia/ink-whisper": Decimal(usage.audio_ms) / 60_000 * Decimal("0.009"),
        "cartesia/sonic-3": Decimal(usage.characters) / 1000 * Decimal("0.05"),
        "ollama/qwen": Decimal(0),
        "house/other": None,
    }
    if model_id == "house/llama":
        new = at_ms >= CHANGE_AT
        tokens_in, out, cached = ("0.2", "0.6", "0.05") if new else ("0.3", "0.7", "0.3")
        usd[model_id] = (
            (usage.input_tokens - usage.cached_tokens) * Decimal(tokens_in)
            + usage.cached_tokens * Decimal(cached)
            + usage.output_tokens * Decimal(out)
        ) / 1_000_000
    found = usd[model_id]
    return None if found is None else int((found * 10**9).to_integral_value(ROUND_HALF_EVEN))


def made(count, seed=1):
    """Return rows of ten days whose costs are missing, wrong or right."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        modality, provider, model_id = rng.choice(SERIES)
        usage = {
            STT: Usage(audio_ms=rng.randrange(1, 90_000)),
            TTS: Usage(characters=rng.randrange(1, 900), audio_ms=rng.randrange(9_000)),
            LLM: Usage(
                input_tokens=500, cached_tokens=rng.randrange(400), output_tokens=rng.randrange(1, 300)
            ),
        }[modality]
        status = rng.choice([*RequestStatus, RequestStatus.SUCCESS, RequestStatus.SUCCESS])
        if status is RequestStatus.BLOCKED:
            usage = Usage()
        at_ms = NOW - rng.randrange(10 * DAY)
        right = oracle(model_id, usage, at_ms)
        cost = rng.choice([None, right, rng.randrange(10**8)]) if usage != Usage() else 0
        rows.append(
            request_record(
                id=f"r{number:06}",
                timestamp_ms=at_ms,
                project=f"p{rng.randrange(2)}",
                modality=modality,
                provider=provider,
                model_id=model_id,
                status=status,
                usage=usage,
                cost_nanousd=cost,
                price_source="override" if cost else "",
                price_terms="per_minute=9" if cost else "",
                total_ms=rng.uniform(0, 9000),
                error_message=f"{number} failed" if status is RequestStatus.ERROR else None,
            )
        )
    return rows


def quiet(_done, _total):
    pass


@pytest.fixture
async def desk(tmp_path):
    """A gateway of FILE, with its store."""
    file = tmp_path / "voicegw.yaml"
    file.write_text(FILE)
    environment = {"VOICEGW_DB_PATH": str(tmp_path / "voicegw.db")}
    gateway = Gateway.open(str(file), door="test", environment=environment, now_ms=lambda: NOW)
    yield gateway
    await gateway.close()


async def put(gateway, rows):
    await (await gateway.store()).write(partial(insert_requests, records=rows))


async def rows_of(gateway, **query):
    reader = await gateway.reader()
    return await reader.ask(read_log, LogFilter(order="oldest", **query), limit=100_000)


def run(gateway, selection=None, *, imported=False, dry_run=False, progress=quiet):
    return reprice(gateway, selection or Selection(), imported=imported, dry_run=dry_run, progress=progress)


def assert_sums_agree(path):
    with closing(sqlite3.connect(path)) as connection:
        assert agrees(connection)
        horizon = pruned_before(connection)
        assert [each for span in spans(connection) for each in inspect_span(connection, span, horizon)] == []


async def test_every_row_costs_what_the_oracle_says_and_a_second_run_changes_nothing(
    desk, tmp_path, monkeypatch
):
    monkeypatch.setattr(log, "BATCH_ROWS", 70)
    monkeypatch.setattr(log, "READ_ROWS", 200)
    rows = made(1500)
    await put(desk, rows)
    wrong = [row for row in rows if row.cost_nanousd != oracle(row.model_id, row.usage, row.timestamp_ms)]
    told = []
    done = await run(desk, progress=lambda at, of: told.append((at, of)))
    assert told[0] == (0, 1500)
    assert told[-1] == (1500, 1500)
    assert done.examined == 1500
    # Of a model nobody has a price of, what an override said that is gone is taken back.
    assert done.total().after_nanousd - done.total().before_nanousd == sum(
        (oracle(row.model_id, row.usage, row.timestamp_ms) or 0) - (row.cost_nanousd or 0) for row in wrong
    )
    for row in await rows_of(desk):
        assert row.cost_nanousd == oracle(row.model_id, row.usage(), row.timestamp_ms), row
    assert_sums_agree(tmp_path / "voicegw.db")
    report = done.models["cartesia/ink-whisper"]
    assert report.unpriced_after == 0 < report.unpriced_before
    again = await run(desk)
    assert (again.total().requests, dict(again.models)) == (0, {})
    assert again.unpriced == done.unpriced
    assert {row.model_id for row in await rows_of(desk) if row.cost_nanousd is None} == {"house/other"}


async def test_a_dry_run_tells_the_same_and_changes_nothing(desk):
    await put(desk, made(300))
    before = await rows_of(desk)
    dry = await run(desk, dry_run=True)
    assert await rows_of(desk) == before
    assert await (await desk.reader()).ask(read_runs, limit=9) == []
    assert dry.run == ""
    done = await run(desk)
    assert done.models == dry.models


async def test_a_run_is_recorded_by_model_with_who_and_when(desk):
    await put(desk, made(300))
    done = await run(desk)
    runs = await (await desk.reader()).ask(read_runs, limit=9)
    assert {each.run for each in runs} == {done.run}
    assert {each.model_id: each.after_nanousd for each in runs} == {
        model_id: sums.after_nanousd for model_id, sums in done.models.items()
    }
    assert {(each.first_ms, each.last_ms, each.actor) for each in runs} == {(NOW, NOW, desk.caller.actor)}


async def test_only_what_is_asked_for_is_priced_anew(desk, tmp_path):
    rows = made(600)
    await put(desk, rows)
    model = "deepgram/nova-3"
    selection = Selection(NOW - 3 * DAY, NOW - DAY, model, unpriced_only=True)
    done = await run(desk, selection)
    wanted = {
        row.id
        for row in rows
        if row.model_id == model
        and row.cost_nanousd is None
        and NOW - 3 * DAY <= row.timestamp_ms < NOW - DAY
    }
    before = {row.id: row.cost_nanousd for row in rows}
    assert {row.id for row in await rows_of(desk) if row.cost_nanousd != before[row.id]} == wanted
    assert done.examined == len(wanted) > 5
    assert_sums_agree(tmp_path / "voicegw.db")
    with pytest.raises(NotFound):
        await run(desk, Selection(model_id="deepgram/nova-4"))


async def test_the_price_of_a_row_is_kept_with_it(desk):
    plain = {"modality": STT, "usage": Usage(audio_ms=60_000)}
    await put(
        desk,
        [
            request_record(
                id="whole", provider="deepgram", model_id="deepgram/nova-3", price_batch=True, **plain
            ),
            request_record(id="relative", provider="cartesia", model_id="cartesia/ink-whisper", **plain),
        ],
    )
    await run(desk)
    whole, relative = sorted(await rows_of(desk), key=lambda row: row.id, reverse=True)
    assert (whole.cost_nanousd, whole.price_source, whole.price_terms) == (
        4_300_020,
        "voice-prices",
        "per_minute=0.00430002",
    )
    assert (relative.price_source, relative.price_terms) == (
        "voice-prices (family ink-2)",
        "per_minute=0.009",
    )
    assert whole.price_version.count(".") == 2
    from voicegw_mcp.core.costs import costs
    from voicegw_mcp.domain import Window

    window = Window("custom", NOW // 900_000 * 900_000, NOW // 900_000 * 900_000 + 900_000, "UTC")
    found = await (await desk.reader()).ask(costs, window)
    assert (found.family_priced_requests, found.unpriced_requests) == (1, 0)


async def test_imported_costs_are_left_alone_unless_asked_for(desk):
    plain = {
        "modality": STT,
        "provider": "deepgram",
        "model_id": "deepgram/nova-3",
        "usage": Usage(audio_ms=60_000),
    }
    await put(
        desk,
        [
            request_record(
                id="a", cost_nanousd=7, price_source="voice-prices", price_version="imported", **plain
            ),
            request_record(id="b", price_version="imported", **plain),
            request_record(id="c", cost_nanousd=9, price_source="voice-prices", **plain),
            request_record(id="d", **plain),
        ],
    )
    done = await run(desk)
    assert (done.imported, done.total().requests) == (3, 1)
    assert sorted((row.id, row.cost_nanousd) for row in await rows_of(desk)) == [
        ("a", 7),
        ("b", None),
        ("c", 9),
        ("d", 4_800_000),
    ]
    done = await run(desk, imported=True)
    assert (done.imported, done.total().requests) == (0, 3)
    assert {row.cost_nanousd for row in await rows_of(desk)} == {4_800_000}


async def test_a_cost_stays_when_no_price_is_known_any_more(desk):
    plain = {"modality": LLM, "provider": "gone", "model_id": "gone/m", "usage": Usage(input_tokens=9)}
    await put(
        desk,
        [
            request_record(
                id="library", cost_nanousd=5, price_source="genai-prices", price_terms="x=1", **plain
            ),
            request_record(
                id="override", cost_nanousd=5, price_source="override", price_terms="x=1", **plain
            ),
        ],
    )
    done = await run(desk)
    assert done.kept == 1
    assert {row.id: row.cost_nanousd for row in await rows_of(desk)} == {"library": 5, "override": None}


async def test_pruned_requests_are_told_and_stay_in_the_totals(desk, tmp_path):
    rows = [replace(row, status=RequestStatus.SUCCESS) for row in made(600)]
    await put(desk, rows)
    store, horizon = await desk.store(), NOW // DAY * DAY - 4 * DAY
    # In the middle of a quarter hour: a run of pruning that is not at its end.
    gone = sum(row.timestamp_ms < horizon for row in rows) // 2
    await store.write(lambda connection: prune_batch(connection, horizon, most=gone))
    done = await run(desk)
    assert (done.pruned, done.pruned_before_ms) == (gone, horizon)
    assert (await run(desk, Selection(start_ms=NOW - DAY))).pruned == 0
    assert_sums_agree(tmp_path / "voicegw.db")
    model = Selection(model_id="cartesia/sonic-3")
    unpriced = Selection(model_id="cartesia/sonic-3", unpriced_only=True)
    assert (await run(desk, unpriced)).pruned < (await run(desk, model)).pruned < gone


async def test_costly_failed_requests_are_found_by_their_new_cost(desk, tmp_path):
    usage = Usage(audio_ms=60_000_000)
    plain = {"modality": STT, "provider": "deepgram", "model_id": "deepgram/nova-3", "usage": usage}
    error = {"status": RequestStatus.ERROR, "error_message": "connection refused"}
    await put(
        desk,
        [
            request_record(id=f"e{n}", cost_nanousd=None if n else 3, price_terms="x", **plain, **error)
            for n in range(3)
        ],
    )
    await run(desk)
    found = await rows_of(desk, search="refused", min_cost_nanousd=4_000_000_000)
    assert {row.id for row in found} == {"e0", "e1", "e2"}
    done = repair_store(tmp_path / "voicegw.db", tmp_path / "saved.db", dry_run=True, progress=quiet)
    assert done.is_clean()


async def test_rows_that_somebody_changed_meanwhile_are_left_alone(desk):
    await put(desk, made(50))
    store = await desk.store()
    rows = await store.ask(log.read_rows, Selection(), first=1, last=50)
    stale = [log.Repriced(row, 1, ("override", "", "", "m", "t", False)) for row in rows[:10]]
    apply = partial(log.apply, changes=stale, run="r", actor="a", now_ms=NOW)
    assert len(await store.write(apply)) == 10
    assert await store.write(apply) == []


async def test_a_price_that_makes_a_request_absurdly_costly_is_refused(desk):
    await put(
        desk,
        [
            request_record(
                modality=LLM, provider="house", model_id="house/llama", usage=Usage(input_tokens=10**12)
            )
        ],
    )
    desk.config_file.path.write_text("pricing:\n  house/llama: {per_million_input_tokens: 1e9}\n")
    with pytest.raises(InvalidInput, match="nano-USD"):
        await run(desk)
    assert [row.cost_nanousd for row in await rows_of(desk)] == [None]


KILLED = """
import sys, anyio
from pathlib import Path
from voicegw_mcp.core import repricing
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.store.repricing import Selection

apply, turns = repricing.log.apply, []

def stopping(connection, **given):
    done = apply(connection, **given)
    turns.append(done)
    if len(turns) == 4:
        print("in the middle", flush=True)
        sys.stdin.read()  # inside the transaction; it never comes
    return done

repricing.log.apply, repricing.log.BATCH_ROWS = stopping, 100

async def main():
    gateway = Gateway.open(sys.argv[1], door="test", environment={"VOICEGW_DB_PATH": sys.argv[2]})
    await repricing.reprice(gateway, Selection(), imported=False, dry_run=False, progress=lambda *_: None)

anyio.run(main)
"""
RECORDING = """
import sys
from pathlib import Path
from voicegw_mcp.domain import Modality, RequestRecord, Usage
from voicegw_mcp.store.recorder import Recorder

recorder = Recorder(Path(sys.argv[1]))
print("ready", flush=True)
for number, _ in enumerate(sys.stdin):
    for part in range(10):
        recorder.record(RequestRecord(f"new-{number}-{part}", 1_795_000_000_000 - part, "p0", Modality.STT, "deepgram",
            "deepgram/nova-3", usage=Usage(audio_ms=60_000), cost_nanousd=4_800_000, price_source="voice-prices",
            price_model="nova-3", price_terms="per_minute=0.0048"))
recorder.close()
"""


def started(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_one_that_was_killed_beside_a_recording_process_is_finished_by_the_next(desk, tmp_path):
    rows = made(1200, seed=2)
    await put(desk, rows)
    path = tmp_path / "voicegw.db"
    with started(RECORDING, path) as recording, started(KILLED, tmp_path / "voicegw.yaml", path) as killed:
        assert recording.stdout.readline() == "ready\n"
        for _ in range(40):
            recording.stdin.write("\n")
            recording.stdin.flush()
        assert killed.stdout.readline() == "in the middle\n"
        killed.kill()
        killed.wait(timeout=60)
        assert_sums_agree(path)
        costs = {row.id: row.cost_nanousd for row in rows}
        changed = [
            row for row in await rows_of(desk) if row.id in costs and row.cost_nanousd != costs[row.id]
        ]
        (total,) = [sum(each.requests for each in await (await desk.reader()).ask(read_runs, limit=9))]
        # Three batches are there, the fourth is not; a few of a batch got another price of the same cost.
        assert 200 < len(changed) <= total == 300
        done = await run(desk)
        recording.communicate("\n" * 5, timeout=60)
        assert recording.returncode == 0
    assert done.total().requests > 0
    found = await rows_of(desk)
    assert len(found) == 1200 + 450
    for row in found:
        assert row.cost_nanousd == oracle(row.model_id, row.usage(), row.timestamp_ms), row
    assert_sums_agree(path)
    assert (await run(desk)).total().requests == 0
