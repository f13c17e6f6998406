import pytest
from tests.factories import DAY, NOW, request_record
from tests.protocol.agents import House

from voicegw_mcp import __version__
from voicegw_mcp.domain import Modality, RequestStatus, Usage

CENT = 10_000_000


@pytest.fixture
async def log(house):
    """Six requests: two projects, three modalities, one failed, one unpriced, one of a model nobody configured."""
    await house.log(
        request_record(id="1", project="support-line", provider="deepgram", model_id="deepgram/nova-3", cost_nanousd=CENT, usage=Usage(audio_ms=60_000), ttfb_ms=100.0, total_ms=300.0, session_id="s1"),
        request_record(id="2", project="support-line", provider="openai", model_id="openai/gpt-4.1-mini", modality=Modality.LLM, cost_nanousd=2 * CENT, timestamp_ms=NOW - 1, total_ms=900.0, session_id="s1"),
        request_record(id="3", project="outbound", provider="ollama", model_id="ollama/qwen3", modality=Modality.LLM, cost_nanousd=0, timestamp_ms=NOW - 2),
        request_record(id="4", project="outbound", provider="openai", model_id="openai/tts-1", modality=Modality.TTS, cost_nanousd=None, timestamp_ms=NOW - 3),
        request_record(id="5", project="outbound", provider="openai", model_id="openai/tts-1", modality=Modality.TTS, status=RequestStatus.ERROR, error_kind="quota", error_message="over\nquota \x1b[31m", timestamp_ms=NOW - 4),
        request_record(id="6", project="gone", provider="oldvendor", model_id="oldvendor/x", cost_nanousd=4 * CENT, timestamp_ms=NOW - DAY),
    )  # fmt: skip


@pytest.mark.usefixtures("log")
async def test_health_counts_what_there_is(agent, house):
    answer = await agent.ok("get_health")
    assert (answer["version"], answer["status"], answer["db_configured"]) == (__version__, "ok", True)
    assert (answer["provider_count"], answer["model_count"], answer["project_count"]) == (3, 4, 3)
    assert answer["observability"] == {
        "latency_tracking": True,
        "cost_tracking": True,
        "request_logging": True,
    }
    assert answer["config"]["path"] == str(house.file)
    assert answer["config"]["overlay"] is False
    assert "error" not in answer["config"]
    assert answer["store"]["kind"] == "sqlite"
    assert answer["store"]["path"] == str(house.database)
    assert answer["store"]["rows"] == 6
    assert answer["store"]["size_bytes"] > 0
    assert answer["instance_id"] == agent.gateway.instance_id
    house.now -= DAY  # how long it has been up is no matter of the clock
    assert 0 <= answer["uptime_seconds"] <= (await agent.ok("get_health"))["uptime_seconds"]


async def test_health_warns_of_missing_keys_dangling_references_and_unknown_types(agent, house):
    house.write(
        "providers:\n  openai: {}\n  depgram: {}\n  idle: {type: openai, enabled: false}\n"
        "models:\n  llm:\n    a: {provider: opnai}\n"
        "stacks:\n  s: {stt: a, llm: b}\n"
        "projects:\n  p: {name: P, default_stack: t, llm_model: c}\ndefault_project: q\nlivekit: {}\n"
    )
    answer = await agent.ok("get_health")
    text = "\n".join(answer["warnings"])
    assert answer["status"] == "ok"
    for line in (
        "voicegw.yaml:3: providers.depgram unknown provider type 'depgram'. Did you mean deepgram?",
        "voicegw.yaml:7: models.llm.a.provider names the provider 'opnai', which does not exist. Did you mean openai?",
        "voicegw.yaml:9: stacks.s.stt 'a' is a model of llm, not stt",
        "voicegw.yaml:9: stacks.s.llm names the model 'b'",
        "voicegw.yaml:11: projects.p.default_stack names the stack 't'",
        "voicegw.yaml:12: default_project names the project 'q'",
        "voicegw.yaml:13: livekit is a VoiceGateway 0.27 section",
        "Provider openai is not configured: OPENAI_API_KEY is not set",
    ):
        assert line in text
    assert "Provider idle" not in text


async def test_health_shows_twenty_warnings_and_says_how_many_more_there_are(agent, house):
    house.write("providers:\n" + "".join(f"  unknown-{n}: {{}}\n" for n in range(30)))
    warnings = (await agent.ok("get_health"))["warnings"]
    assert len(warnings) == 21
    assert warnings[-1] == "... and 10 more; `voicegw check` lists all."


@pytest.mark.usefixtures("log")
async def test_costs_are_summed_under_the_keys_of_voicegateway(agent):
    answer = await agent.ok("get_costs")
    assert (answer["period"], answer["timezone"]) == ("today", "UTC")
    assert answer["start"] == "2026-11-18T00:00:00+00:00"
    assert answer["total_usd"] == 0.03
    assert answer["by_provider"]["deepgram"] == {
        "cost": 0.01,
        "requests": 1,
        "units": {"audio_seconds": 60.0},
    }
    assert answer["by_project"]["support-line"]["cost"] == 0.03
    assert answer["by_modality"]["llm"] == {"cost": 0.02, "requests": 2, "units": {}}
    assert answer["by_model"]["openai/tts-1"]["requests"] == 2
    assert answer["unpriced_requests"] == 2
    assert "groups" not in answer
    assert "previous" not in answer


@pytest.mark.usefixtures("log")
async def test_costs_take_filters_groups_zones_and_a_comparison(agent):
    answer = await agent.ok(
        "get_costs",
        period="week",
        modality="llm",
        provider_id="openai",
        group_by="project",
        compare_to="previous",
        timezone="America/New_York",
    )
    assert answer["groups"] == [{"key": "support-line", "cost": 0.02, "requests": 1}]
    assert answer["timezone"] == "America/New_York"
    assert answer["previous"] == {"total_usd": 0.0}
    yesterday = await agent.ok("get_costs", start="2026-11-17", end="2026-11-17")
    assert (yesterday["period"], yesterday["total_usd"]) == ("custom", 0.04)
    assert (await agent.ok("get_costs", period="all"))["total_usd"] == 0.07


@pytest.mark.usefixtures("log")
async def test_a_filter_on_an_id_only_the_log_knows_is_fine_and_a_typo_is_not_found(agent):
    assert (await agent.ok("get_costs", period="all", project="gone"))["total_usd"] == 0.04
    assert (await agent.ok("get_logs", provider_id="oldvendor"))["count"] == 1
    assert (await agent.ok("get_latency_stats", period="all", model_id="oldvendor/x"))["overall"][
        "request_count"
    ] == 1
    for tool in ("get_costs", "get_latency_stats", "get_logs"):
        for field, typo, code, nearest in (
            ("project", "outbund", "PROJECT_NOT_FOUND", "outbound"),
            ("provider_id", "opnai", "PROVIDER_NOT_FOUND", "openai"),
            ("model_id", "openai/tts1", "MODEL_NOT_FOUND", "openai/tts-1"),
        ):
            error = await agent.refused(tool, {field: typo})
            assert (error["code"], error["details"]["field"]) == (code, field)
            assert error["details"]["nearest"][0] == nearest


@pytest.mark.usefixtures("log")
async def test_latency_counts_of_overall_are_the_sum_of_the_models(agent):
    answer = await agent.ok("get_latency_stats", group_by="modality")
    assert answer["overall"]["request_count"] == 5
    assert answer["overall"]["error_count"] == 1
    assert sum(entry["request_count"] for entry in answer["by_model"].values()) == 5
    nova = answer["by_model"]["deepgram/nova-3"]
    assert (nova["avg_ttfb_ms"], nova["avg_latency_ms"]) == (100.0, 300.0)
    assert set(nova["ttfb_percentiles"]) == {"p50", "p95", "p99"}
    assert nova["latency_percentiles"]["p50"] == pytest.approx(300, rel=answer["relative_error"])
    assert {group["key"] for group in answer["groups"]} == {"stt", "llm", "tts"}
    only = await agent.ok("get_latency_stats", project="outbound", modality="tts")
    assert (only["project"], only["modality"], only["overall"]["request_count"]) == ("outbound", "tts", 2)


@pytest.mark.usefixtures("log")
async def test_latency_answers_the_percentiles_that_the_file_asks_for(agent, house):
    house.write(house.text + "latency: {percentiles: [50, 99.9]}\n")
    answer = await agent.ok("get_latency_stats", period="all")
    assert set(answer["overall"]["ttfb_percentiles"]) == {"p50", "p99.9"}


@pytest.mark.usefixtures("log")
async def test_logs_are_filtered_and_ordered(agent):
    async def ids(**arguments):
        return "".join(entry["id"] for entry in (await agent.ok("get_logs", **arguments))["logs"])

    assert await ids() == "123456"
    assert await ids(order="oldest") == "654321"
    assert await ids(project="outbound") == "345"
    assert await ids(status="error") == "5"
    assert await ids(session_id="s1") == "12"
    assert await ids(modality="llm") == "23"
    assert await ids(model_id="openai/tts-1") == "45"
    assert await ids(min_latency_ms=500) == "2"
    assert await ids(min_cost_usd="0.02") == "26"
    assert await ids(search="QUOTA") in {"5", ""}
    assert await ids(search="quota") == "5"
    assert await ids(start="2026-11-18") == "12345"
    assert await ids(end="2026-11-17") == "6"
    assert await ids(limit=2) == "12"
    # Times are exact, unlike those of reports, whose sums are of quarter hours.
    assert await ids(start="2026-11-18T11:06:39.998Z") == "123"
    assert await ids(start="2026-11-18T12:06:39.997+01:00", end="2026-11-18T11:06:39.999Z") == "34"
    assert await ids(end="2026-11-18T11:06:39.996Z", order="oldest") == "6"


@pytest.mark.usefixtures("log")
async def test_text_of_others_in_the_log_is_shown_escaped(agent):
    (entry,) = (await agent.ok("get_logs", status="error", detail="full"))["logs"]
    assert entry["error_message"] == r"over\nquota \x1b[31m"
    assert (entry["error_kind"], entry["estimated"]) == ("quota", False)
    assert "units" in entry


async def test_an_empty_store_answers_zeros(agent):
    assert (await agent.ok("get_costs", period="all"))["total_usd"] == 0
    assert (await agent.ok("get_latency_stats", period="all"))["overall"]["request_count"] == 0
    logs = await agent.ok("get_logs")
    assert (logs["logs"], logs["count"]) == ([], 0)
    assert "next_cursor" not in logs


async def test_a_store_that_was_deleted_or_replaced_under_a_server_is_opened_anew(house):
    await house.log(request_record(id="old", cost_nanousd=10**9))
    other = House(house.folder.with_name("other"))
    other.folder.mkdir()
    await other.log(*(request_record(id=f"new-{n}", cost_nanousd=10**9) for n in range(3)))
    async with house.agent() as agent:
        assert (await agent.ok("get_costs", period="all"))["total_usd"] == 1
        for path in house.folder.glob("voicegw.db*"):
            path.unlink()
        assert (await agent.ok("get_costs", period="all"))["total_usd"] == 0
        written = await agent.ok("create_project", project_id="kept", name="Kept")
        assert [row[0] for row in house.journal()] == [written["change_id"]]
        for path in house.folder.glob("voicegw.db-*"):
            path.unlink()
        other.database.replace(house.database)
        assert (await agent.ok("get_costs", period="all"))["total_usd"] == 3
        assert {row["id"] for row in (await agent.ok("get_logs"))["logs"]} == {"new-0", "new-1", "new-2"}
        assert (await agent.ok("get_health"))["store"]["rows"] == 3
