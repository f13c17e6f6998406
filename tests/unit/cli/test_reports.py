from datetime import datetime

import pytest

from voicegw_mcp.domain import Modality, RequestStatus, Usage

CONFIG = """\
timezone: UTC
providers:
  openai:
    api_key: ${OPENAI_API_KEY}
  ollama: {}
models:
  llm:
    openai/gpt-4.1-mini: {provider: openai}
projects:
  support:
    name: "Support [red]line"
    description: Inbound
    daily_budget: 5
    llm_model: openai/gpt-4.1-mini
    tags: [a, b]
"""


@pytest.fixture
def gateway(config, log, request_row):
    """A file with one project, and a log with four requests."""
    config(CONFIG)
    log(
        request_row(project="support", session_id="call-1"),
        request_row(
            project="support", cost_nanousd=None, modality=Modality.STT, usage=Usage(audio_ms=90_000)
        ),
        request_row(estimated=True, fallback_from="openai/gpt-4.1"),
        request_row(
            status=RequestStatus.ERROR,
            error_kind="timeout",
            error_message="[red]no\x1b[2J answer",
            cost_nanousd=0,
            ttfb_ms=None,
        ),
    )


@pytest.mark.usefixtures("gateway")
def test_status_shows_file_store_and_what_providers_miss(voicegw):
    found = voicegw("status")
    assert (found.code, found.err) == (0, "")
    assert "voicegw.yaml" in found.out
    assert "4 requests" in found.out
    assert "2 providers, 1 models, 2 projects" in found.out
    assert "OPENAI_API_KEY is not set" in " ".join(found.out.split())


@pytest.mark.usefixtures("gateway")
def test_status_as_json_is_get_health_with_the_providers(voicegw):
    answer = voicegw("status", "--json").json
    assert answer["status"] == "ok"
    assert answer["store"]["rows"] == 4
    assert answer["providers"]["openai"]["configured"] is False
    assert answer["providers"]["ollama"]["type"] == "local"


def test_status_of_nothing_at_all_is_ok(voicegw):
    found = voicegw("status")
    assert found.code == 0
    assert "There is no" in found.out


def test_status_of_a_broken_file_ends_with_2_and_names_the_place(voicegw, config):
    config("providers: [\n")
    found = voicegw("status")
    assert found.code == 2
    assert "degraded" in found.out
    assert "voicegw.yaml" in found.out
    answer = voicegw("status", "--json")
    assert answer.code == 2
    assert answer.json["config"]["error"]["line"] >= 1


def test_status_with_a_damaged_store_ends_with_3(voicegw, home, monkeypatch):
    store = home / "damaged.db"
    store.write_bytes(b"not a store" * 100)
    monkeypatch.setenv("VOICEGW_DB_PATH", str(store))
    found = voicegw("status")
    assert found.code == 3
    assert "damaged.db" in found.out
    assert voicegw("logs").code == 3


@pytest.mark.usefixtures("gateway")
def test_costs_show_total_splits_and_what_is_not_in_them(voicegw):
    found = voicegw("costs", "--period", "last_24h", "--compare-to", "previous")
    assert found.code == 0
    assert "Total $0.00246  (before: $0)" in found.out
    assert "1 requests have no known price" in found.out
    assert "1 requests have an estimated cost" in found.out
    for word in ("Provider", "Model", "Project", "Modality", "support", "1.5 min audio"):
        assert word in found.out


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize("group", ["provider", "day", "hour", "session"])
def test_costs_by_group_show_the_groups_alone(voicegw, group):
    found = voicegw("costs", "--period", "last_24h", "--group-by", group, "--project", "support")
    assert found.code == 0
    assert f"\n{group.capitalize()}" in found.out
    assert "Modality" not in found.out
    assert "Costs of support" in found.out


@pytest.mark.usefixtures("gateway")
def test_costs_as_json_are_the_answer_of_the_tool(voicegw):
    answer = voicegw("costs", "--period", "last_24h", "--json").json
    assert answer["total_usd"] == 0.00246
    assert answer["unpriced_requests"] == 1


@pytest.mark.usefixtures("gateway")
def test_a_project_that_was_never_heard_of_is_refused_with_the_nearest(voicegw):
    found = voicegw("costs", "--project", "suport")
    assert found.code == 1
    assert found.err.startswith("voicegw: PROJECT_NOT_FOUND")
    assert "support" in found.err


@pytest.mark.usefixtures("gateway")
def test_logs_show_requests_with_their_errors_escaped(voicegw, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    found = voicegw("logs")
    assert found.code == 0
    assert len(found.out.splitlines()) == 5
    assert "[red]no\\x1b[2J answer" in found.out
    assert "1,432" in found.out
    full = voicegw("logs", "--detail", "full", "--status", "error")
    assert "request-0003" in full.out
    assert "success" not in full.out


@pytest.mark.usefixtures("gateway")
def test_logs_that_match_nothing_say_so(voicegw):
    assert voicegw("logs", "--session-id", "nobody").out == "No request matches.\n"


@pytest.mark.usefixtures("gateway")
def test_logs_go_on_with_their_cursor(voicegw):
    first = voicegw("logs", "--limit", "3", "--json").json
    rest = voicegw("logs", "--limit", "3", "--cursor", first["next_cursor"], "--json").json
    assert [first["count"], rest["count"]] == [3, 1]
    assert "next_cursor" not in rest
    assert "More: repeat with --cursor" in voicegw("logs", "-n", "1").out


def test_logs_go_on_following_from_the_cursor_of_the_answer(voicegw):
    first = voicegw("logs", "--follow-seconds", "0", "--json").json
    assert first["new_count"] == 0
    again = voicegw("logs", "--follow-seconds", "0", "--cursor", first["next_cursor"], "--json").json
    assert (again["count"], again["logs"]) == (0, [])
    assert voicegw("logs", "--follow-seconds", "26").code == 2


def test_logs_gather_pages_until_the_limit(voicegw, config, log, request_row):
    config("timezone: UTC\n")
    log(*(request_row(error_message="x" * 190, status=RequestStatus.ERROR) for _ in range(200)))
    answer = voicegw("logs", "--limit", "180", "--json").json
    assert answer["count"] == len({entry["id"] for entry in answer["logs"]}) == 180
    assert "next_cursor" in answer


def test_a_limit_out_of_range_is_refused(voicegw):
    for limit in ("0", "99999", "many"):
        found = voicegw("logs", "--limit", limit)
        assert found.code == 2
        assert "limit" in found.err


@pytest.mark.usefixtures("gateway")
def test_projects_are_listed_with_their_budgets(voicegw):
    found = voicegw("projects")
    assert found.code == 0
    assert "Support [red]line" in found.out
    assert "$5.00" in found.out
    answer = voicegw("projects", "--json").json
    assert [project["id"] for project in answer["projects"]] == ["default", "support"]


def test_all_projects_are_listed_however_many_there_are(voicegw, config):
    entries = "".join(f"  p{n:03}: {{name: P, description: {'d' * 150}}}\n" for n in range(150))
    config(f"projects:\n{entries}")
    assert voicegw("projects", "--json").json["count"] == 151


@pytest.mark.usefixtures("gateway")
def test_one_project_is_shown_in_detail(voicegw):
    found = voicegw("projects", "support")
    assert "$5.00 a day, then warn" in found.out
    assert "week, llm" in found.out
    assert "voicegw.yaml:10" in found.out
    assert voicegw("projects", "support", "--json").json["week_requests"] == 2
    assert "made automatically" in voicegw("projects", "default").out
    assert voicegw("projects", "suport").code == 1


def test_costs_that_were_cut_say_so(voicegw, config, log, request_row):
    config("timezone: UTC\n")
    log(*(request_row(model_id=f"openai/{'m' * 100}-{n}") for n in range(300)))
    found = voicegw("costs", "--period", "last_24h")
    assert "Some rows are left out" in found.out
    assert "(other)" in found.out


@pytest.mark.parametrize(
    ("zone", "start", "end", "keys"),
    [
        ("Europe/Berlin", "2026-10-25", "2026-10-25", ["02:00:00+02:00", "02:00:00+01:00", "03:00:00+01:00"]),
        ("Africa/Cairo", "2026-04-24", "2026-04-24", ["01:00:00+03:00", "02:00:00+03:00"]),
        ("Asia/Kathmandu", "2026-10-25T05:45:30", "2026-10-25T05:46", ["05:00:00+05:45"]),
    ],
)
def test_costs_are_of_the_hours_of_any_zone(voicegw, config, log, request_row, zone, start, end, keys):
    config("timezone: UTC\n")
    moments = [datetime.fromisoformat(f"{start[:10]}T{key}") for key in keys]
    log(
        *(
            request_row(timestamp_ms=int(at.timestamp() * 1000) + 46 * 60_000, cost_nanousd=10**9)
            for at in moments
        )
    )
    asked = ("--timezone", zone, "--start", start, "--end", end, "--group-by", "hour")
    found = voicegw("costs", *asked, "--json").json
    assert found["groups"] == [{"key": f"{start[:10]}T{key}", "cost": 1.0, "requests": 1} for key in keys]
    assert found["total_usd"] == len(keys)
    shown = voicegw("costs", *asked).out
    assert all(key in shown or key[:5] in shown for key in keys)
