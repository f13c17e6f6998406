import sqlite3
from contextlib import closing

import pytest
from tests.factories import VOICEGATEWAY_ROW, VOICEGATEWAY_SCHEMA

from voicegw_mcp.domain import Modality, RequestRecord, RequestStatus, Usage
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.sqlite import Store
from voicegw_mcp.store.voicegateway import VoiceGatewayStore


def read_one(tmp_path, **changes):
    """Write one row into a store whose columns take anything; return its record, or the reason why it is none."""
    row = VOICEGATEWAY_ROW | changes
    with closing(sqlite3.connect(tmp_path / "one.db", isolation_level=None)) as connection:
        connection.executescript(f"DROP TABLE IF EXISTS requests; {VOICEGATEWAY_SCHEMA}")
        connection.execute(
            f"INSERT INTO requests ({', '.join(row)}) VALUES ({', '.join('?' for _ in row)})",
            tuple(row.values()),
        )
    with VoiceGatewayStore.open(tmp_path / "one.db") as source:
        batch = source.read_requests(None, lambda _provider, model_id: model_id.startswith("local/"))
    return batch.records[0] if batch.records else dict(batch.skipped)


def test_a_row_becomes_a_record_with_every_column_in_our_units(tmp_path):
    assert read_one(tmp_path) == RequestRecord(
        id="r1",
        timestamp_ms=1792738806570,  # ...569.5 rounds to the even neighbour
        project="clinic",
        modality=Modality.LLM,
        provider="openai",
        model_id="openai/gpt-4o",
        status=RequestStatus.SUCCESS,
        usage=Usage(input_tokens=120, output_tokens=30, cached_tokens=64),
        cost_nanousd=620_000,
        price_source="voice-prices",
        price_date="0.6.0",
        price_version="imported",
        ttfb_ms=210.5,
        total_ms=890.25,
        session_id="s-1",
    )


def test_units_are_minutes_for_stt_and_characters_for_tts(tmp_path):
    stt = read_one(tmp_path, modality="stt", input_units=2.5 / 60)
    tts = read_one(tmp_path, modality="tts", input_units=522.0)
    assert stt.usage == Usage(audio_ms=2500)
    assert tts.usage == Usage(characters=522)


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        ({"cost_usd": None}, None),
        ({"cost_usd": 0.0, "pricing_source": ""}, None),
        ({"cost_usd": 0.0, "pricing_source": None}, None),
        ({"cost_usd": 0.0, "pricing_source": "voice-prices-unrated"}, None),
        ({"cost_usd": 0.0, "pricing_source": "", "status": "fallback"}, None),
        ({"cost_usd": 0.0, "pricing_source": "", "model_id": "local/kokoro"}, 0),
        ({"cost_usd": 0.0, "pricing_source": "voice-prices@0.6.0"}, 0),
        (
            {
                "cost_usd": 0.0,
                "pricing_source": "",
                "input_units": 0,
                "output_units": 0,
                "cached_input_units": 0,
            },
            0,
        ),
        ({"cost_usd": 0.5, "pricing_source": ""}, 500_000_000),
        ({"cost_usd": 0.1}, 100_000_000),
        ({"cost_usd": 1e-10}, 0),
    ],
)
def test_a_zero_that_voicegateway_stored_for_an_unknown_price_is_unpriced(tmp_path, changes, cost):
    assert read_one(tmp_path, **changes).cost_nanousd == cost


def test_a_pricing_source_without_a_date_is_a_source_alone(tmp_path):
    record = read_one(tmp_path, pricing_source="bench")
    assert (record.price_source, record.price_date) == ("bench", "")


@pytest.mark.parametrize("status", ["success", "error", "fallback", "cancelled"])
def test_known_statuses_stay(tmp_path, status):
    record = read_one(tmp_path, status=status, error_message="boom", fallback_from="a/b")
    assert (record.status, record.error_kind, record.error_message, record.fallback_from) == (
        status,
        None,
        "boom",
        "a/b",
    )


@pytest.mark.parametrize("status", ["timeout", None, b"\xff", 7])
def test_any_other_status_is_an_error_of_its_own_kind(tmp_path, status):
    record = read_one(tmp_path, status=status)
    assert (record.status, record.error_kind) == (RequestStatus.ERROR, "unknown_status")
    assert record.error_message.startswith("VoiceGateway stored the status ")
    assert read_one(tmp_path, status=status, error_message="boom").error_message == "boom"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"modality": "video"}, "unknown modality"),
        ({"modality": None}, "unknown modality"),
        ({"modality": b"llm"}, "unknown modality"),
        ({"id": None}, "bad id"),
        ({"id": ""}, "bad id"),
        ({"id": "x" * 513}, "bad id"),
        ({"id": b"\x00"}, "bad id"),
        ({"project": b"\x00"}, "bad project"),
        ({"provider": None}, "bad provider"),
        ({"model_id": ""}, "bad model_id"),
        ({"timestamp": None}, "bad timestamp"),
        ({"timestamp": "yesterday"}, "bad timestamp"),
        ({"timestamp": -1.0}, "bad timestamp"),
        ({"timestamp": float("inf")}, "bad timestamp"),
        ({"timestamp": 1792738806569.5}, "bad timestamp"),
        ({"timestamp": 7_258_118_400.0}, "bad timestamp"),
        ({"input_units": "many"}, "bad input_units"),
        ({"input_units": -1}, "bad input_units"),
        ({"input_units": float("-inf")}, "bad input_units"),
        ({"output_units": 1e13}, "bad output_units"),
        ({"cached_input_units": b"1"}, "bad cached_input_units"),
        ({"cost_usd": -0.01}, "bad cost_usd"),
        ({"cost_usd": float("inf")}, "bad cost_usd"),
        ({"cost_usd": 1e4}, "bad cost_usd"),
        ({"cost_usd": 1e300}, "bad cost_usd"),
        ({"cost_usd": "nan"}, "bad cost_usd"),
        ({"cost_usd": "free"}, "bad cost_usd"),
    ],
)
def test_a_row_that_makes_no_sense_is_counted_by_reason(tmp_path, changes, reason):
    assert read_one(tmp_path, **changes) == {reason: 1}


@pytest.mark.parametrize("latency", [None, -1.0, "fast", b"", float("inf")])
def test_a_latency_that_makes_no_sense_is_not_measured(tmp_path, latency):
    record = read_one(tmp_path, ttfb_ms=latency, total_latency_ms=latency)
    assert (record.ttfb_ms, record.total_ms) == (None, None)


def test_empty_cells_get_what_voicegateway_meant_by_them(tmp_path):
    record = read_one(
        tmp_path, project=None, session_id="", input_units=None, output_units=None, error_message=b"a\xff"
    )
    assert record.project == "default"
    assert record.session_id is None
    assert record.usage == Usage(cached_tokens=64)
    assert record.error_message == "a\\xff"


async def test_the_largest_values_that_are_read_are_ones_the_log_takes(tmp_path):
    record = read_one(
        tmp_path,
        timestamp=7_258_118_399.9999,
        input_units=10**13 - 1,
        output_units=0,
        cached_input_units=0,
        cost_usd=9_999.0,
        project="é" * 512,
    )
    store = await Store.open(tmp_path / "ours.db")
    assert await store.write(lambda connection: insert_requests(connection, [record])) == 1
    await store.close()
