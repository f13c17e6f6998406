"""The contract of the list of tools: names, texts, hints, schemas, sizes."""

import json

import pytest
from tests.factories import request_record
from tests.protocol.agents import ERAS

from voicegw_mcp import __version__
from voicegw_mcp.tools import TOOLS

NAMES = [
    "get_health",
    "get_provider_status",
    "get_costs",
    "get_latency_stats",
    "get_logs",
    "list_providers",
    "get_provider",
    "test_provider",
    "add_provider",
    "delete_provider",
    "list_models",
    "register_model",
    "delete_model",
    "list_projects",
    "get_project",
    "create_project",
    "delete_project",
]
DESTRUCTIVE = {"delete_provider", "delete_model", "delete_project"}
WRITING = {"add_provider", "register_model", "create_project", *DESTRUCTIVE}
OPEN_WORLD = {"test_provider", "add_provider"}

WRITE = {"dry_run": ("boolean", False), "if_version": ("string", None)}
PAGE = {"limit": ("integer", 100), "cursor": ("string", None)}
REPORT = {
    "period": ("string", "today"),
    **dict.fromkeys(("start", "end", "project", "modality", "provider_id", "model_id"), ("string", None)),
}
TEXT = ("string", None)
REQUIRED = "required"

# The arguments of tools-contract.md, without those that later issues bring (follow_seconds).
ARGUMENTS = {
    "get_health": {},
    "get_provider_status": {"provider_id": TEXT},
    "get_costs": {**REPORT, "timezone": TEXT, "group_by": TEXT, "compare_to": TEXT},
    "get_latency_stats": {**REPORT, "group_by": TEXT},
    "get_logs": {
        **dict.fromkeys(("project", "modality", "model_id", "status", "cursor", "start", "end"), TEXT),
        **dict.fromkeys(("session_id", "provider_id", "search"), TEXT),
        "limit": ("integer", 50),
        "order": ("string", "newest"),
        "min_latency_ms": ("number", None),
        "min_cost_usd": ("number", None),
        "follow_seconds": ("number", None),
        "detail": ("string", "concise"),
    },
    "list_providers": PAGE,
    "get_provider": {"provider_id": ("string", REQUIRED)},
    "test_provider": {"provider_id": ("string", REQUIRED), "timeout_seconds": ("number", 10)},
    "add_provider": {
        "provider_id": ("string", REQUIRED),
        "provider_type": ("string", REQUIRED),
        "api_key": TEXT,
        "base_url": TEXT,
        "options": ("object", None),
        "on_conflict": ("string", "error"),
        "test": ("boolean", False),
        **WRITE,
    },
    "delete_provider": {
        "provider_id": ("string", REQUIRED),
        "confirm": ("boolean", False),
        "cascade": ("boolean", False),
        **WRITE,
    },
    "list_models": {
        "modality": TEXT,
        "provider_id": TEXT,
        "enabled_only": ("boolean", True),
        "detail": ("string", "concise"),
        **PAGE,
    },
    "register_model": {
        "modality": ("string", REQUIRED),
        "provider_id": ("string", REQUIRED),
        "model_name": ("string", REQUIRED),
        **dict.fromkeys(("display_name", "default_language", "default_voice", "model_id"), TEXT),
        "config": ("object", None),
        "enabled": ("boolean", None),
        "on_conflict": ("string", "error"),
        **WRITE,
    },
    "delete_model": {
        "model_id": ("string", REQUIRED),
        "confirm": ("boolean", False),
        "cascade": ("boolean", False),
        **WRITE,
    },
    "list_projects": PAGE,
    "get_project": {"project_id": ("string", REQUIRED)},
    "create_project": {
        "project_id": ("string", REQUIRED),
        "name": ("string", REQUIRED),
        "description": TEXT,
        "daily_budget": ("number", None),
        **dict.fromkeys(("budget_action", "stt_model", "llm_model", "tts_model", "default_stack"), TEXT),
        "tags": ("array", None),
        "timezone": TEXT,
        "on_conflict": ("string", "error"),
        **WRITE,
    },
    "delete_project": {"project_id": ("string", REQUIRED), "confirm": ("boolean", False), **WRITE},
}
PERIODS = "today yesterday week month this_month last_month last_24h last_7d last_30d all"
ENUMS = {
    ("get_costs", "period"): PERIODS,
    ("get_costs", "modality"): "stt llm tts",
    ("get_costs", "group_by"): "provider model project modality day hour session status",
    ("get_costs", "compare_to"): "previous",
    ("get_latency_stats", "period"): PERIODS,
    ("get_latency_stats", "modality"): "stt llm tts",
    ("get_latency_stats", "group_by"): "model provider project modality hour day",
    ("get_logs", "modality"): "stt llm tts",
    ("get_logs", "status"): "success error fallback cancelled blocked probe idle",
    ("get_logs", "order"): "newest oldest",
    ("get_logs", "detail"): "concise full",
    ("add_provider", "on_conflict"): "error update",
    ("list_models", "modality"): "stt llm tts",
    ("list_models", "detail"): "concise full",
    ("register_model", "modality"): "stt llm tts",
    ("register_model", "on_conflict"): "error update",
    ("create_project", "budget_action"): "warn throttle block",
    ("create_project", "on_conflict"): "error update",
}
WRITTEN = "change_id config_version diff file"
PROJECT = (
    "id name description daily_budget budget_action budget_status today_spend today_requests tags default_stack"
    " source reset_at"
)
PROVIDER = "provider_id provider_type source enabled api_key_masked base_url type model_count"
LATENCY = "avg_ttfb_ms avg_latency_ms request_count error_count ttfb_percentiles latency_percentiles"
ANSWERS = {
    "get_health": "version uptime_seconds status db_configured project_count provider_count model_count observability"
    " config store instance_id warnings observability.latency_tracking observability.cost_tracking"
    " observability.request_logging config.path config.version config.overlay config.error store.kind store.path"
    " store.rows store.size_bytes store.error",
    "get_provider_status": "providers missing config_version "
    + " ".join(
        f"providers.*.{key}"
        for key in ["configured", "type", "model_count", "has_api_key", "reason", "key_reference"]
    ),
    "get_costs": "period project start end timezone total_usd by_provider by_model by_project by_modality groups"
    " unpriced_requests estimated_requests previous previous.total_usd previous.change_pct by_model.*.cost"
    " by_model.*.requests by_model.*.units",
    "get_latency_stats": "period project modality overall by_model relative_error "
    + " ".join(f"overall.{key} by_model.*.{key}" for key in LATENCY.split()),
    "get_logs": "logs count next_cursor truncated",
    "list_providers": "providers count next_cursor config_version "
    + " ".join(f"providers.[].{key}" for key in PROVIDER.split()),
    "get_provider": f"{PROVIDER} models projects file line config_version",
    "test_provider": "status latency_ms message reason http_status",
    "add_provider": f"provider_id provider_type api_key_masked base_url source created updated {WRITTEN}",
    "delete_provider": f"action provider_id models_affected projects_affected {WRITTEN}",
    "list_models": "models count next_cursor config_version "
    + " ".join(
        f"models.[].{key}"
        for key in [
            "model_id",
            "modality",
            "provider_id",
            "model_name",
            "default_voice",
            "display_name",
            "default_language",
            "source",
            "enabled",
            "price",
            "price.date",
        ]
    ),
    "register_model": "model_id modality provider_id model_name display_name default_voice default_language source"
    f" created price {WRITTEN}",
    "delete_model": f"action model_id projects_affected stacks_affected fallbacks_affected {WRITTEN}",
    "list_projects": "projects count next_cursor config_version "
    + " ".join(f"projects.[].{key}" for key in PROJECT.split()),
    "get_project": f"{PROJECT} week_spend week_requests stt_model llm_model tts_model by_modality file line"
    " config_version",
    "create_project": "project_id name description daily_budget budget_action default_stack stt_model llm_model"
    f" tts_model tags source created created_at {WRITTEN}",
    "delete_project": f"action project_id total_spend_usd total_requests {WRITTEN}",
}


@pytest.fixture
async def tools(agent):
    return (await agent.client.list_tools()).tools


def schemas_in(node):
    """Yield every schema inside a schema."""
    yield node
    for inner in node.get("properties", {}).values():
        yield from schemas_in(inner)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from schemas_in(node[key])


def at(schema, dotted):
    for part in dotted.split("."):
        if part == "[]":
            schema = schema["items"]
        elif part == "*":
            schema = schema["additionalProperties"]
        else:
            schema = schema["properties"][part]
    return schema


@pytest.mark.parametrize("era", ERAS)
async def test_seventeen_tools_are_listed_in_a_fixed_order_by_a_server_that_gives_its_own_version(house, era):
    async with house.agent(mode=era) as agent:
        listed = await agent.client.list_tools()
        assert [tool.name for tool in listed.tools] == NAMES
        assert listed.next_cursor is None
        assert agent.client.server_info.version == __version__
        assert agent.client.server_info.name == "voicegw-mcp"
        assert 3 <= len(agent.client.instructions.splitlines()) <= 5


async def test_the_instructions_name_the_order_of_work_and_that_keys_are_references(agent):
    text = agent.client.instructions
    places = [text.index(name) for name in ("add_provider", "register_model", "create_project")]
    assert places == sorted(places)
    assert "never send a key" in text


async def test_every_description_begins_with_a_short_line_and_says_when_to_use_it(tools):
    for tool in tools:
        first, *rest = tool.description.splitlines()
        assert 0 < len(first) <= 80, tool.name
        assert first.endswith("."), tool.name
        assert [line for line in rest if line.startswith("Use when")], tool.name
        assert tool.title, tool.name


async def test_all_four_hints_of_every_tool_are_set_and_right(tools):
    for tool in tools:
        hints = tool.annotations
        assert hints.read_only_hint is (tool.name not in WRITING), tool.name
        assert hints.destructive_hint is (tool.name in DESTRUCTIVE), tool.name
        assert hints.idempotent_hint is (tool.name not in WRITING), tool.name
        assert hints.open_world_hint is (tool.name in OPEN_WORLD), tool.name


async def test_schemas_are_flat_objects_and_inputs_are_closed(tools):
    for tool in tools:
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False, tool.name
        for schema in (tool.input_schema, tool.output_schema):
            text = json.dumps(schema)
            for forbidden in ('"$ref"', '"$defs"', '"anyOf"', '"oneOf"', '"allOf"', '"null"'):
                assert forbidden not in text, (tool.name, forbidden)
            assert all(isinstance(inner.get("type", "string"), str) for inner in schemas_in(schema))


@pytest.mark.parametrize("name", NAMES)
async def test_the_arguments_are_those_of_the_contract_and_no_others(tools, name):
    schema = next(tool for tool in tools if tool.name == name).input_schema
    wanted = ARGUMENTS[name]
    assert set(schema["properties"]) == set(wanted)
    assert set(schema.get("required", [])) == {key for key, (_, rest) in wanted.items() if rest is REQUIRED}
    for key, (kind, default) in wanted.items():
        found = schema["properties"][key]
        assert found["type"] == kind, key
        assert found.get("default") == (None if default is REQUIRED else default), key
        assert set(found.get("enum", [])) | ({found["const"]} if "const" in found else set()) == set(
            ENUMS.get((name, key), "").split()
        ), key


async def test_ranges_of_numbers_are_in_the_schemas(tools):
    by_name = {tool.name: tool.input_schema["properties"] for tool in tools}
    for name in ("get_logs", "list_providers", "list_models", "list_projects"):
        assert (by_name[name]["limit"]["minimum"], by_name[name]["limit"]["maximum"]) == (1, 1000)
    timeout = by_name["test_provider"]["timeout_seconds"]
    assert (timeout["minimum"], timeout["maximum"]) == (1, 30)
    assert by_name["create_project"]["daily_budget"]["minimum"] == 0


@pytest.mark.parametrize("name", NAMES)
async def test_the_answer_has_the_keys_of_the_contract(tools, name):
    schema = next(tool for tool in tools if tool.name == name).output_schema
    for dotted in ANSWERS[name].split():
        assert at(schema, dotted), dotted


@pytest.mark.filterwarnings("ignore:open_binary is deprecated:DeprecationWarning")  # bpe_openai's own import
async def test_the_list_costs_a_model_at_most_3000_tokens_and_6000_with_answer_schemas(tools):
    from bpe_openai import get_encoding

    encoding = get_encoding("o200k_base")

    def tokens(*fields):
        listed = [tool.model_dump(mode="json", by_alias=True, include=set(fields)) for tool in tools]
        return len(encoding.encode(json.dumps(listed, ensure_ascii=False, separators=(",", ":"))))

    asked = ("name", "description", "input_schema")
    assert tokens(*asked) <= 3_000
    assert tokens(*asked, "output_schema") <= 6_000


async def test_the_list_is_the_same_text_in_every_session(house):
    texts = []
    for era in (*ERAS, *ERAS):
        async with house.agent(mode=era) as agent:
            tools = (await agent.client.list_tools()).tools
            texts.append(json.dumps([tool.model_dump(mode="json") for tool in tools]))
    assert texts[:2] == texts[2:]
    # Between the eras the SDK orders the keys of a schema differently; the meaning is one.
    assert json.loads(texts[0]) == json.loads(texts[1])


ARGUMENTS_OF_READS = {
    "get_provider": {"provider_id": "openai"},
    "test_provider": {"provider_id": "openai", "timeout_seconds": 1},
    "get_project": {"project_id": "support-line"},
    "list_models": {"detail": "full"},
    "get_costs": {"group_by": "session", "compare_to": "previous"},
}


async def test_a_tool_marked_read_only_leaves_file_store_and_journal_untouched(agent, house):
    await house.log(request_record(project="support-line"))
    await agent.ok("get_health")
    before, rows = house.state(), house.database.read_bytes()
    for tool in TOOLS:
        if tool.read_only:
            await agent.ok(tool.name, **ARGUMENTS_OF_READS.get(tool.name, {}))
            assert house.state() == before, tool.name
            assert house.database.read_bytes() == rows, tool.name
    assert {tool.name for tool in TOOLS if not tool.read_only} == WRITING
