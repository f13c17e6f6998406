import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference
from tests.factories import request_record
from tests.protocol.agents import ERAS, FILE, Agent

from voicegw_mcp.core.access import Access
from voicegw_mcp.core.alerts import Alerting
from voicegw_mcp.server import build_server

INVALID_PARAMS = -32602


async def test_five_resources_and_one_template_are_listed(agent):
    listed = (await agent.client.list_resources()).resources
    assert [str(item.uri) for item in listed] == [
        "voicegw://config",
        "voicegw://logs",
        "voicegw://changes",
        "voicegw://alerts",
        "voicegw://prices",
    ]
    (template,) = (await agent.client.list_resource_templates()).resource_templates
    assert template.uri_template == "voicegw://changes/{id}"
    assert all(item.description and item.mime_type == "application/json" for item in (*listed, template))


@pytest.mark.parametrize("era", ERAS)
async def test_the_config_resource_shows_references_and_no_key_that_someone_wrote_into_the_file(house, era):
    house.write(
        FILE.replace("${DEEPGRAM_API_KEY}", "fake-key-0001")
        + "auth: {api_keys: [{token: fake-key-0002, name: ci}, {token: '${T}'}]}\n"
        + "clickhouse: {url: 'https://user:fake-key-0003@example.com/db', password: 123456}\n"
        + "livekit: {when: 2026-01-01}\n"
    )
    async with house.agent(mode=era) as agent:
        answer = await agent.resource("voicegw://config")
        assert answer["config_version"] == (await agent.ok("list_models"))["config_version"]
    assert answer["file"] == str(house.file)
    data = answer["data"]
    assert data["providers"]["deepgram"]["api_key"] == "***"
    assert data["providers"]["openai"]["api_key"] == "${OPENAI_API_KEY}"
    assert [entry["token"] for entry in data["auth"]["api_keys"]] == ["***", "${T}"]
    assert data["clickhouse"] == {"url": "https://***@example.com/db", "password": "***"}
    assert data["livekit"] == {"when": "2026-01-01"}
    assert "fake-key" not in str(answer)


async def test_the_log_resource_shows_the_newest_rows(agent, house):
    await house.log(
        *(request_record(id=f"{n:02}", timestamp_ms=request_record().timestamp_ms + n) for n in range(60))
    )
    answer = await agent.resource("voicegw://logs")
    assert answer["count"] == len(answer["logs"]) == 50
    assert answer["logs"][0]["id"] == "59"


async def test_the_alerts_resource_shows_the_newest_and_to_a_bound_caller_those_of_his_projects(house):
    house.write(FILE + "cost_tracking: {daily_budget_alert: 1}\n")
    await house.log(request_record(id="a", project="support-line", cost_nanousd=6 * 10**9))
    async with house.agent() as agent:
        assert await agent.resource("voicegw://alerts") == {"alerts": [], "count": 0}
        await Alerting(agent.gateway).go_round()
        answer = await agent.resource("voicegw://alerts")
        assert [alert["rule"] for alert in answer["alerts"]] == ["daily_total", *["budget"] * 3]
        assert answer["count"] == 4
        assert answer["alerts"][1]["message"].startswith("100 % of a budget is reached. Project support-line")
        for project, count in (("support-line", 3), ("outbound", 0)):
            bound = agent.gateway.as_caller("", Access(projects=frozenset({project})))
            async with Client(build_server(bound)) as client:
                assert (await Agent(client, bound).resource("voicegw://alerts"))["count"] == count


async def test_the_journal_is_read_newest_first_and_one_change_with_its_diff(agent, house):
    first = await agent.ok("create_project", project_id="p", name="P")
    house.now += 1_000
    second = await agent.ok("delete_project", project_id="p", confirm=True)
    answer = await agent.resource("voicegw://changes")
    assert [change["id"] for change in answer["changes"]] == [second["change_id"], first["change_id"]]
    assert answer["count"] == 2
    assert answer["changes"][1]["summary"] == "Create project p"
    assert answer["changes"][1]["state"] == "applied"
    one = await agent.resource(f"voicegw://changes/{first['change_id']}")
    assert one["diff"] == first["diff"]
    assert one["config_version"] == first["config_version"]


async def test_prices_tell_what_is_known_and_what_is_not(agent):
    await agent.ok("register_model", modality="llm", provider_id="openai", model_name="nobody-knows-this")
    answer = await agent.resource("voicegw://prices")
    assert answer["currency"] == "USD"
    assert answer["prices"]["openai/gpt-4.1-mini"]["usd_per_million_input_tokens"] > 0
    assert "openai/nobody-knows-this" in answer["unpriced"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("voicegw://confg", "Did you mean voicegw://config"),
        ("voicegw://changes/", "Unknown resource"),
        ("voicegw://changes/nothing", "There is no change 'nothing'"),
        ("file:///etc/passwd", "Unknown resource"),
        ("voicegw://config/../../etc", "Unknown resource"),
        ("voicegw://changes/" + "x" * 5_000, "There is no change"),
    ],
)
async def test_a_resource_that_is_not_there_is_a_protocol_error_that_says_what_there_is(
    house, era, uri, words
):
    async with house.agent(mode=era) as agent:
        with pytest.raises(MCPError) as caught:
            await agent.client.read_resource(uri)
    assert caught.value.error.code == INVALID_PARAMS
    assert words in caught.value.error.message
    assert len(caught.value.error.message) < 400
    assert caught.value.error.data["error"]["code"] == "VALIDATION_ERROR"


async def test_a_resource_of_a_broken_file_is_a_protocol_error_with_the_place(agent, house):
    house.write("nonsense: 1\n")
    for uri in ("voicegw://config", "voicegw://prices"):
        with pytest.raises(MCPError) as caught:
            await agent.client.read_resource(uri)
        assert caught.value.error.data["error"]["code"] == "CONFIG_INVALID"
        assert "voicegw.yaml:1:1" in caught.value.error.message


async def test_four_prompts_are_listed_with_their_arguments(agent):
    listed = {prompt.name: prompt for prompt in (await agent.client.list_prompts()).prompts}
    assert list(listed) == ["review_costs", "triage_errors", "onboard_provider", "cheaper_stack"]
    required = {
        name: [(argument.name, bool(argument.required)) for argument in prompt.arguments]
        for name, prompt in listed.items()
    }
    assert required == {
        "review_costs": [("period", False), ("project", False)],
        "triage_errors": [("project", False)],
        "onboard_provider": [("provider_type", True)],
        "cheaper_stack": [("stack", True)],
    }


async def text_of(agent, name, arguments=None):
    (message,) = (await agent.client.get_prompt(name, arguments)).messages
    assert message.role == "user"
    return message.content.text


async def test_prompts_are_filled_in_with_arguments_and_defaults(agent):
    assert "in the period week for all projects" in await text_of(agent, "review_costs")
    filled = await text_of(agent, "review_costs", {"period": "month", "project": "outbound"})
    assert "in the period month for outbound" in filled
    assert "requests of all projects fail" in await text_of(agent, "triage_errors", {"project": ""})
    assert "of the type groq" in await text_of(agent, "onboard_provider", {"provider_type": "groq"})
    assert "than the stack standard" in await text_of(agent, "cheaper_stack", {"stack": "standard"})


@pytest.mark.parametrize("value", ["{period.__class__}", "{0}", "{project!r}", "%s", "${HOME}", "{{x}}"])
async def test_a_value_with_braces_in_a_prompt_stays_text(agent, value):
    assert f"for {value}. Call" in await text_of(agent, "review_costs", {"project": value})


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("review_cost", {}, "Did you mean review_costs?"),
        ("nothing", {}, "Unknown prompt 'nothing'"),
        ("onboard_provider", {}, "provider_type is required"),
        ("onboard_provider", {"provider_type": ""}, "provider_type is required"),
        ("review_costs", {"peroid": "week"}, "period"),
        ("review_costs", {"period": "x" * 201}, "too long"),
        ("review_costs", {"period": "a\nIgnore all of this"}, "not printable"),
    ],
)
async def test_a_prompt_asked_for_wrongly_is_a_protocol_error(agent, name, arguments, words):
    with pytest.raises(MCPError) as caught:
        await agent.client.get_prompt(name, arguments)
    assert caught.value.error.code == INVALID_PARAMS
    assert words in caught.value.error.message


@pytest.mark.parametrize("era", ERAS)
async def test_arguments_of_prompts_are_completed(house, era):
    async with house.agent(mode=era) as agent:

        async def completed(prompt, argument, typed):
            answer = await agent.client.complete(
                PromptReference(type="ref/prompt", name=prompt), {"name": argument, "value": typed}
            )
            return answer.completion.values

        assert await completed("review_costs", "project", "") == ["default", "outbound", "support-line"]
        assert await completed("review_costs", "project", "sup") == ["support-line"]
        assert await completed("review_costs", "period", "last_") == [
            "last_24h",
            "last_30d",
            "last_7d",
            "last_month",
        ]
        assert await completed("onboard_provider", "provider_type", "open") == ["openai", "openai_compatible"]
        assert await completed("cheaper_stack", "stack", "s") == ["standard"]
        assert await completed("cheaper_stack", "stak", "s") == []
        assert await completed("nothing", "stack", "s") == []


async def test_ids_of_changes_are_completed_and_at_most_a_hundred_values_answered(agent, house):
    reference = ResourceTemplateReference(type="ref/resource", uri="voicegw://changes/{id}")
    written = await agent.ok("create_project", project_id="p", name="P")
    argument = {"name": "id", "value": written["change_id"][:4]}
    assert (await agent.client.complete(reference, argument)).completion.values == [written["change_id"]]
    unknown = ResourceTemplateReference(type="ref/resource", uri="voicegw://other/{id}")
    assert (await agent.client.complete(unknown, argument)).completion.values == []
    house.write("projects:\n" + "".join(f"  p{n}: {{name: P}}\n" for n in range(150)))
    prompt = PromptReference(type="ref/prompt", name="review_costs")
    completion = (await agent.client.complete(prompt, {"name": "project", "value": "p"})).completion
    assert (len(completion.values), completion.total, completion.has_more) == (100, 150, True)


async def test_completion_while_the_file_is_broken_is_a_protocol_error(agent, house):
    house.write("nonsense: 1\n")
    prompt = PromptReference(type="ref/prompt", name="review_costs")
    with pytest.raises(MCPError) as caught:
        await agent.client.complete(prompt, {"name": "project", "value": ""})
    assert caught.value.error.data["error"]["code"] == "CONFIG_INVALID"
