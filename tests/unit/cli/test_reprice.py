import time

import pytest

from voicegw_mcp.domain import Usage

DAY = 86_400_000
FILE = """
providers:
  house: {type: openai_compatible, base_url: "http://10.0.0.5:8000/v1", api_key: x1}
models:
  llm:
    house/a: {provider: house}
    house/b: {provider: house}
pricing:
  house/a: {per_million_input_tokens: 1, per_million_output_tokens: 2}
"""


@pytest.fixture
def rows(log, request_row, config):
    """Five unpriced rows of each of two models, each of another day, one of them imported."""
    config(FILE)
    now = int(time.time() * 1000)
    plain = {"provider": "house", "cost_nanousd": None, "price_source": ""}
    made = [
        request_row(
            timestamp_ms=now - number % 5 * DAY - 1000,
            model_id="house/a" if number < 5 else "house/b",
            usage=Usage(input_tokens=1_000_000, output_tokens=500_000),
            price_version="imported" if number == 4 else "",
            **plain,
        )
        for number in range(10)
    ]
    log(*made)
    return made


def test_reprice_says_what_changed_what_did_not_and_why(voicegw, rows):
    dry = voicegw("reprice", "--dry-run")
    assert dry.code == 0
    assert "10 rows looked at, 4 would change: $0 -> $8.00" in dry.out
    assert voicegw("costs", "--period", "all", "--json").json["unpriced_requests"] == 10
    found = voicegw("reprice")
    assert found.code == 0
    for words in (
        "10 rows looked at, 4 changed: $0 -> $8.00",
        "house/a",
        "5 requests of house/b still have no price",
        "Rows left with the cost they were imported or stored with: 1; --imported prices them too",
    ):
        assert words in found.out
    costs = voicegw("costs", "--period", "all", "--json").json
    assert (costs["total_usd"], costs["unpriced_requests"]) == (8.0, 6)
    assert "0 changed" in voicegw("reprice").out
    assert len(rows) == 10


def test_reprice_as_json_and_its_record(voicegw, rows):
    assert rows
    assert "No run has changed a cost" in voicegw("reprice", "--runs").out
    found = voicegw("reprice", "--imported", "--since", "2020-01-01", "--unpriced-only", "--json").json
    sums = {
        "requests": 5,
        "before_usd": 0.0,
        "after_usd": 10.0,
        "unpriced_before": 5,
        "unpriced_after": 0,
    }
    assert found["by_model"] == {"house/a": sums}
    assert found["changed"] == sums
    assert found["still_unpriced"] == {"house/b": 5}
    assert (found["pruned"], found["imported_left"], found["dry_run"]) == (0, 0, False)
    (run,) = voicegw("reprice", "--runs", "--json").json["runs"]
    assert (run["run"], run["model_id"], run["after_usd"]) == (found["run"], "house/a", 10.0)
    assert "house/a" in voicegw("reprice", "--runs").out
    assert voicegw("reprice", "--json").json["run"] is None


def test_reprice_tells_of_pruned_rows_and_of_costs_that_stay(voicegw, rows, config):
    assert voicegw("reprice").code == 0
    config(FILE.replace("house/a: {per", "house/c: {per"))
    assert voicegw("prune", "--older-than", "2").code == 0
    found = voicegw("reprice", "--model", "house/a")
    assert "requests from before" in found.out
    assert "they stay in the totals with the cost they had" in found.out
    # The override that priced them is gone.
    assert voicegw("costs", "--period", "all", "--json").json["unpriced_requests"] > 6
    assert rows


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("--since", "yesterday-ish"), 2, "VALIDATION_ERROR"),
        (("--since", "2026-02-01", "--until", "2026-01-01"), 2, "VALIDATION_ERROR"),
        (("--model", ""), 2, "VALIDATION_ERROR"),
        (("--model", "house/aa"), 1, "MODEL_NOT_FOUND"),
    ],
)
def test_what_cannot_be_asked_for_is_told(voicegw, rows, arguments, code, kind):
    found = voicegw("reprice", *arguments, "--json")
    assert (found.code, found.json["error"]["code"]) == (code, kind), found
    assert arguments[0].removeprefix("--") in found.json["error"]["message"], "it is called as it was typed"
    assert rows


def test_reprice_without_a_store_has_nothing_to_do(voicegw, config):
    config("{}\n")
    found = voicegw("reprice")
    assert (found.code, "0 rows looked at" in found.out) == (0, True)
