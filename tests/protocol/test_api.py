"""The JSON API: what each address answers, to whom, and what it refuses."""

import pytest
from tests.factories import DAY, NOW, request_record

from voicegw_mcp.core.alerts import Alerting
from voicegw_mcp.domain import Modality, RequestStatus
from voicegw_mcp.web.api import routes

ADDRESSES = (
    "/v1/status",
    "/v1/providers",
    "/v1/models",
    "/v1/projects",
    "/v1/projects/support-line",
    "/v1/costs",
    "/v1/latency",
    "/v1/logs",
    "/v1/changes",
    "/v1/alerts",
    "/v1/openapi.json",
)
LASTING = {"/v1/providers", "/v1/models", "/v1/openapi.json"}
KEYS = """
auth:
  api_keys:
    - {token: "${VIEW}", name: wall, role: viewer}
    - {token: "${BOUND}", name: theirs, role: admin, projects: [outbound]}
"""
VIEW, BOUND = "fake-token-view", "fake-token-bound"


def spoken(**fields):
    plain = {"project": "support-line", "provider": "deepgram", "model_id": "deepgram/nova-3"}
    return request_record(
        **{**plain, "cost_nanousd": 4_300_000, "ttfb_ms": 120.0, "total_ms": 480.0, **fields}
    )


@pytest.fixture
async def logged(house):
    """Four requests of today, of two projects, and one of yesterday."""
    thought = {"modality": Modality.LLM, "provider": "openai", "model_id": "openai/gpt-4.1-mini"}
    await house.log(
        spoken(id="r1"),
        spoken(id="r2", timestamp_ms=NOW - 1, session_id="s-1", **thought),
        spoken(
            id="r3", timestamp_ms=NOW - 2, status=RequestStatus.ERROR, error_message="=cmd", cost_nanousd=None
        ),
        spoken(id="r4", timestamp_ms=NOW - 3, project="outbound", **thought),
        spoken(id="r5", timestamp_ms=NOW - DAY),
    )


@pytest.fixture
def tokens(house):
    house.secrets(VIEW=VIEW, BOUND=BOUND)
    house.write(house.text + KEYS)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.usefixtures("logged")
async def test_every_address_answers_get_and_head_and_no_other_method(site, address):
    answer = await site.get(address)
    assert (answer.status, answer.whole) == (200, True)
    assert answer.json
    head = await site.get(address, method="HEAD")
    assert head.status == 200
    if address != "/v1/status":  # which tells how long it has been up
        assert head.headers == answer.headers
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        refused = await site.get(address, method=method)
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
        assert refused.error["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("address", ADDRESSES)
async def test_what_changes_with_the_configuration_alone_may_be_kept_and_nothing_else(site, address):
    answer = await site.get(address)
    if address not in LASTING:
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
        return
    tag = answer.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await site.get(address, if_none_match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert (await site.get(address, if_none_match='"other"')).status == 200


async def test_the_tag_is_another_after_a_change(site, house):
    before = (await site.get("/v1/models")).headers["etag"]
    house.write(house.text.replace("default_language: en", "default_language: de"))
    assert (await site.get("/v1/models", if_none_match=before)).status == 200


async def test_status_has_what_voicegateway_s_has_and_what_get_health_tells(site):
    found = await site.ok("/v1/status")
    assert found["providers"]["ollama"] == {
        "configured": True,
        "type": "local",
        "model_count": 1,
        "has_api_key": False,
    }
    assert found["providers"]["deepgram"]["configured"] is False
    assert (found["model_count"], found["project_count"], found["status"]) == (4, 3, "ok")
    assert set(found["pricing"]) == {"stt", "llm", "tts"}
    assert found["pricing"]["llm"]["source"].startswith("genai-prices@")
    assert found["pricing"]["stt"]["source"].startswith("voice-prices@")


async def test_providers_are_a_list_and_models_go_by_id(site):
    providers = (await site.ok("/v1/providers"))["providers"]
    assert {"provider_id", "source", "api_key_masked", "base_url"} <= set(providers[0])
    assert [entry["provider_id"] for entry in providers] == ["deepgram", "openai", "ollama"]
    found = await site.ok("/v1/models")
    nova = found["models"]["deepgram/nova-3"]
    assert (nova["modality"], nova["provider"], nova["model"]) == ("stt", "deepgram", "nova-3")
    assert found["count"] == len(found["models"]) == 4


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("project=outbound", {"ollama/qwen3"}),
        ("project=support-line", {"deepgram/nova-3", "openai/gpt-4.1-mini", "openai/tts-1"}),
        ("modality=stt", {"deepgram/nova-3"}),
        ("provider_id=openai&enabled_only=true", {"openai/gpt-4.1-mini"}),
    ],
)
async def test_models_can_be_chosen(site, query, expected):
    found = await site.ok(f"/v1/models?{query}")
    assert set(found["models"]) == expected
    assert found.get("project") == (query.removeprefix("project=") if query.startswith("project") else None)


@pytest.mark.usefixtures("logged")
async def test_projects_come_with_their_figures_of_today(site):
    found = await site.ok("/v1/projects")
    assert {entry["id"] for entry in found["projects"]} == set(found["stats"])
    assert found["stats"]["support-line"] == {
        "project": "support-line",
        "requests_today": 3,
        "cost_today": 0.0086,
        "avg_ttfb_ms": 120.0,
        "avg_latency_ms": 480.0,
    }
    one = await site.ok("/v1/projects/support-line")
    assert one["today"] == found["stats"]["support-line"]
    assert (one["today_spend"], one["budget_status"]) == (0.0086, "ok")
    assert one["costs_today"]["total_usd"] == 0.0086
    assert set(one["costs_today"]["by_project"]) == {"support-line"}


@pytest.mark.usefixtures("logged")
async def test_costs_are_those_of_the_tool_with_voicegateway_s_keys(site, house):
    found = await site.ok("/v1/costs?period=week&group_by=provider&timezone=Asia/Kolkata")
    async with house.agent() as agent:
        told = await agent.ok("get_costs", period="week", group_by="provider", timezone="Asia/Kolkata")
    assert found.pop("total") == told["total_usd"] > 0
    assert set(found.pop("pricing_sources")) == {"stt", "llm", "tts"}
    assert found == told


@pytest.mark.usefixtures("logged")
async def test_costs_leave_out_what_is_not_asked_for(site):
    found = await site.ok("/v1/costs?per_modality=false&include_pricing_source=false")
    assert found["by_modality"] == {}
    assert "pricing_sources" not in found
    assert found["by_model"]


@pytest.mark.usefixtures("logged")
async def test_latency_is_that_of_the_tool_and_each_model_stands_by_itself_too(site, house):
    found = await site.ok("/v1/latency?period=today&project=support-line")
    async with house.agent() as agent:
        told = await agent.ok("get_latency_stats", period="today", project="support-line")
    assert found == {**told["by_model"], **told}
    assert found["deepgram/nova-3"]["ttfb_percentiles"]["p95"] == pytest.approx(120, rel=0.02)


async def test_a_model_that_is_called_like_a_key_of_the_report_does_not_hide_it(site, house):
    await house.log(spoken(id="r", model_id="overall"), spoken(id="q", model_id="period"))
    found = await site.ok("/v1/latency")
    assert found["overall"]["request_count"] == 2
    assert found["period"] == "today"
    assert set(found["by_model"]) == {"overall", "period"}


async def test_changes_are_paged(site, house):
    async with house.agent() as agent:
        made = [
            (await agent.ok("create_project", project_id=f"p{n}", name="P"))["change_id"] for n in range(3)
        ]
    first = await site.ok("/v1/changes?limit=2&detail=full")
    rest = await site.ok(f"/v1/changes?limit=2&detail=full&cursor={first['next_cursor']}")
    assert [row["id"] for row in (*first["changes"], *rest["changes"])] == made[::-1]
    assert "+  p2:" in first["changes"][0]["diff"]
    assert "next_cursor" not in rest


@pytest.mark.parametrize(
    ("target", "status", "code", "field"),
    [
        ("/v1/costs?period=fortnight", 400, "VALIDATION_ERROR", "period"),
        ("/v1/costs?timezone=Mars/Base", 400, "VALIDATION_ERROR", "timezone"),
        ("/v1/costs?perod=week", 400, "VALIDATION_ERROR", "perod"),
        ("/v1/costs?start=2026-13-01", 400, "VALIDATION_ERROR", "start"),
        ("/v1/costs?period=week&period=today", 400, "VALIDATION_ERROR", "period"),
        ("/v1/costs?project=suport-line", 404, "PROJECT_NOT_FOUND", "project"),
        ("/v1/costs?per_modality=perhaps", 400, "VALIDATION_ERROR", "per_modality"),
        ("/v1/latency?model_id=deepgram/nova-4", 404, "MODEL_NOT_FOUND", "model_id"),
        ("/v1/latency?modality=", 400, "VALIDATION_ERROR", "modality"),
        ("/v1/models?provider_id=nobody", 404, "PROVIDER_NOT_FOUND", "provider_id"),
        ("/v1/projects/nobody", 404, "PROJECT_NOT_FOUND", "project_id"),
        ("/v1/projects/support-line?project_id=outbound", 400, "VALIDATION_ERROR", "project_id"),
        ("/v1/projects/support-line/costs", 404, "PROJECT_NOT_FOUND", "project_id"),
        ("/v1/providers?limit=1", 400, "VALIDATION_ERROR", "limit"),
        ("/v1/logs?limit=0", 400, "VALIDATION_ERROR", "limit"),
        ("/v1/logs?limit=1001", 400, "VALIDATION_ERROR", "limit"),
        ("/v1/logs?limit=many", 400, "VALIDATION_ERROR", "limit"),
        ("/v1/logs?cursor=abc", 400, "VALIDATION_ERROR", "cursor"),
        ("/v1/logs?follow_seconds=1", 400, "VALIDATION_ERROR", "follow_seconds"),
        ("/v1/logs?status=lost", 400, "VALIDATION_ERROR", "status"),
        ("/v1/changes?cursor=%FF", 400, "VALIDATION_ERROR", None),
        ("/v1/costs?" + "&".join(f"p{n}=1" for n in range(60)), 400, "VALIDATION_ERROR", None),
        ("/v1/openapi.json?x=1", 400, "VALIDATION_ERROR", "x"),
    ],
)
async def test_what_does_not_hold_is_named(site, target, status, code, field):
    answer = await site.get(target)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.error.get("details", {}).get("field") == field
    assert answer.error["hint"]


@pytest.mark.usefixtures("logged")
async def test_a_cursor_of_another_query_is_refused_by_every_type(site):
    page = await site.get("/v1/logs?limit=1")
    link = page.headers["link"].removeprefix("<").partition(">")[0]
    for kind in ("application/json", "text/csv", "application/x-ndjson", "text/event-stream"):
        refused = await site.get(f"{link}&status=error", accept=kind)
        assert (refused.status, refused.error["details"]["field"]) == (400, "cursor")


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1/cost", "/v1/logs/", "/v1/sessions", "/v1/projects/", "/v1/costs/x"]
)
async def test_a_path_that_is_none_is_told_those_there_are(site, path):
    answer = await site.get(path)
    assert answer.status == 404
    assert all(address in answer.error["hint"] for address in routes.paths())


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/*;q=0.5, application/json;q=0.1", "text/csv"),
        ("text/csv;q=0.3, application/x-ndjson;q=0.9", "application/x-ndjson"),
        ("*/*;q=0.1, application/json;q=0", "text/csv"),
        ("", "application/json"),
    ],
)
async def test_the_type_that_is_liked_best_is_answered(site, accept, kind):
    answer = await site.get("/v1/logs", accept=accept)
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "text/csv;q=much", ";;,"])
async def test_a_type_that_there_is_not_is_refused(site, accept):
    for address in ("/v1/logs", "/v1/costs"):
        answer = await site.get(address, accept=accept)
        assert (answer.status, answer.error["details"]["field"]) == (406, "Accept")
        assert "application/json" in answer.error["details"]["offered"]


async def test_csv_of_costs_is_refused(site):
    assert (await site.get("/v1/costs", accept="text/csv")).status == 406


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.usefixtures("tokens", "logged")
async def test_a_token_is_asked_for_and_a_viewer_s_is_enough(site, address):
    for token, status in ((None, 401), ("fake-token-wrong", 401), (VIEW, 200)):
        answer = await site.get(address, token=token)
        assert answer.status == status
        if status != 200:
            assert answer.error["code"] == "FORBIDDEN"


@pytest.mark.usefixtures("tokens", "logged")
async def test_a_token_of_a_project_sees_no_row_entry_or_count_of_another(site):
    async def get(target, **headers):
        return await site.get(target, token=BOUND, **headers)

    assert set((await get("/v1/costs?period=all")).json["by_project"]) == {"outbound"}
    assert (await get("/v1/latency?period=all")).json["overall"]["request_count"] == 1
    assert [row["id"] for row in (await get("/v1/logs")).json] == ["r4"]
    for kind in ("text/csv", "application/x-ndjson"):
        assert b"support-line" not in (await get("/v1/logs", accept=kind)).body
    projects = (await get("/v1/projects")).json
    assert set(projects["stats"]) == {entry["id"] for entry in projects["projects"]} == {"outbound"}
    assert (await get("/v1/status")).json["project_count"] == 1
    unknown = await get("/v1/projects/support-lane")
    other = await get("/v1/projects/support-line")
    assert (other.status, unknown.status) == (404, 404)
    assert other.body.replace(b"support-line", b"support-lane") == unknown.body
    for name in ("costs", "latency", "logs", "models"):
        assert (await get(f"/v1/{name}?project=support-line")).status == 404
    changes = await get("/v1/changes")
    assert (changes.status, changes.error["code"]) == (403, "FORBIDDEN")
    for address in ("/v1/providers", "/v1/models", "/v1/status"):
        assert b"support-line" not in (await get(address)).body


@pytest.mark.usefixtures("tokens")
async def test_a_token_of_projects_is_shown_their_alerts_alone(site, house):
    alerts = "cost_tracking: {daily_budget_alert: 1}\nalerts: {webhook: {url: 'https://ops.example.com/x', secret: '${HOOK}'}}\n"
    house.write(house.text.replace("name: Outbound\n", "name: Outbound\n    daily_budget: 1\n") + alerts)
    for project in ("support-line", "outbound"):
        await house.log(spoken(id=project, project=project, cost_nanousd=6 * 10**9))
    gateway = house.gateway()
    try:
        await Alerting(gateway).go_round()
    finally:
        await gateway.close()
    whole = (await site.get("/v1/alerts", token=VIEW)).json
    assert [rule["rule"] for rule in whole["rules"]] == ["budget", "daily_total"]
    assert (len(whole["alerts"]), whole["webhook"]) == (7, "ops.example.com")
    assert (await site.get("/v1/alerts?limit=2", token=VIEW)).json["alerts"] == whole["alerts"][:2]
    answer = await site.get("/v1/alerts", token=BOUND)
    assert {alert["subject"] for alert in answer.json["alerts"]} == {"project:outbound"}
    (rule,) = answer.json["rules"]
    assert {over["subject"] for over in rule["over"]} == {"project:outbound"}
    assert b"support-line" not in answer.body
    assert b"ops.example" not in answer.body


async def test_a_file_that_was_never_good_is_told_with_line_and_column(site, house):
    house.write("providers: [\n")
    answer = await site.get("/v1/models")
    assert answer.status in {401, 503}
    assert answer.error["code"] in {"FORBIDDEN", "CONFIG_INVALID"}


async def test_a_store_that_cannot_be_read_says_when_to_come_again(site, house):
    house.database.write_bytes(b"no database at all" * 300)
    for accept in ("application/json", "text/csv", "text/event-stream"):
        answer = await site.get("/v1/logs", accept=accept)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.error["code"] == "STORE_UNAVAILABLE"


async def test_what_takes_too_long_is_ended(site, monkeypatch):
    monkeypatch.setattr(routes, "DEADLINE_S", 0)
    answer = await site.get("/v1/costs")
    assert (answer.status, answer.error["details"]) == (503, {"reason": "deadline"})


async def test_a_fault_of_ours_is_answered_with_a_reference_and_no_more(site, monkeypatch, caplog):
    def fail(_scope):
        raise RuntimeError("SELECT secret FROM table")

    monkeypatch.setattr(routes, "read_query", fail)
    answer = await site.get("/v1/costs")
    assert (answer.status, answer.error["code"]) == (500, "INTERNAL_ERROR")
    assert b"SELECT" not in answer.body
    assert answer.error["details"]["reference"] in caplog.text


@pytest.mark.usefixtures("tokens")
async def test_health_needs_no_token(site):
    answer = await site.get("/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
