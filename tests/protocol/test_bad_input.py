"""Every line of "Bad input": one error of the one shape, naming the field and what to do, and nothing written."""

import logging

import pytest

LONG = "x" * 100_000
SECRET = "fake-key-0001-not-a-reference"

PROVIDER = {"provider_id": "p1", "provider_type": "openai"}
MODEL = {"modality": "llm", "provider_id": "openai", "model_name": "m1"}
PROJECT = {"project_id": "p1", "name": "P"}

BAD_IDS = {
    "empty": "",
    "a path": "../../etc",
    "dots": "..",
    "a quote": 'a"b',
    "an apostrophe": "a'b",
    "a newline": "a\nb",
    "a newline at the end": "abc\n",
    "long": LONG,
    "zero": "a\0b",
    "a look-alike letter": "оpenai2",
    "a full-width digit": "p１",
    "a direction mark": "a\u202eb",
    "a blank": "a b",
    "a colon": "a: b",
    "an upper-case letter": "Ab ",
    "a surrogate": "a\ud800",
}
IDS = [
    ("add_provider", PROVIDER, "provider_id"),
    ("register_model", MODEL, "model_name"),
    ("register_model", MODEL, "model_id"),
    ("create_project", PROJECT, "project_id"),
]


async def refuse(agent, house, tool, arguments, code="VALIDATION_ERROR", field=None):
    """Make a call that must be refused and leave no trace; return the error."""
    before = house.state()
    error = await agent.refused(tool, arguments)
    assert error["code"] == code, error
    if field is not None:
        assert error["details"]["field"] == field, error
    assert error.get("hint") or field == "base_url", error  # of an address the message says what it must be
    assert house.state() == before
    return error


@pytest.mark.unmeasured
@pytest.mark.parametrize("value", BAD_IDS.values(), ids=BAD_IDS)
@pytest.mark.parametrize(
    ("tool", "arguments", "field"), IDS, ids=[f"{tool}.{field}" for tool, _, field in IDS]
)
async def test_an_id_outside_the_grammar_is_refused(agent, house, tool, arguments, field, value):
    error = await refuse(agent, house, tool, {**arguments, field: value}, field=field)
    assert len(error["message"]) < 400


@pytest.mark.unmeasured
@pytest.mark.parametrize("value", BAD_IDS.values(), ids=BAD_IDS)
@pytest.mark.parametrize(
    ("tool", "field", "code"),
    [
        ("get_provider", "provider_id", "PROVIDER_NOT_FOUND"),
        ("test_provider", "provider_id", "PROVIDER_NOT_FOUND"),
        ("delete_provider", "provider_id", "PROVIDER_NOT_FOUND"),
        ("list_models", "provider_id", "PROVIDER_NOT_FOUND"),
        ("delete_model", "model_id", "MODEL_NOT_FOUND"),
        ("get_project", "project_id", "PROJECT_NOT_FOUND"),
        ("delete_project", "project_id", "PROJECT_NOT_FOUND"),
        ("get_costs", "project", "PROJECT_NOT_FOUND"),
        ("get_costs", "model_id", "MODEL_NOT_FOUND"),
        ("get_logs", "provider_id", "PROVIDER_NOT_FOUND"),
        ("get_latency_stats", "project", "PROJECT_NOT_FOUND"),
    ],
)
async def test_no_odd_id_is_ever_found(agent, house, tool, field, code, value):
    await refuse(agent, house, tool, {field: value}, code)


CASES = [
    # An argument the tool does not have.
    ("get_health", {"verbose": True}, "VALIDATION_ERROR", "verbose", "takes: none"),
    ("get_costs", {"peroid": "week"}, "VALIDATION_ERROR", "peroid", "Did you mean period?"),
    ("get_logs", {"follow": 5}, "VALIDATION_ERROR", "follow", "Did you mean follow_seconds?"),
    ("add_provider", {**PROVIDER, "apikey": SECRET}, "VALIDATION_ERROR", "apikey", "Did you mean api_key?"),
    ("add_provider", {"id": "x"}, "VALIDATION_ERROR", "id", "takes"),
    ("get_health", {LONG: 1}, "VALIDATION_ERROR", None, "takes"),
    # A wrong type, or a value that is none of the choices.
    ("get_provider", {}, "VALIDATION_ERROR", "provider_id", "Pass provider_id"),
    ("get_provider", None, "VALIDATION_ERROR", "provider_id", "Pass provider_id"),
    ("get_provider", {"provider_id": 7}, "VALIDATION_ERROR", "provider_id", ""),
    ("get_provider", {"provider_id": ["openai"]}, "VALIDATION_ERROR", "provider_id", ""),
    ("get_provider", {"provider_id": None}, "VALIDATION_ERROR", "provider_id", ""),
    ("delete_project", {"project_id": "outbound", "confirm": "maybe"}, "VALIDATION_ERROR", "confirm", ""),
    ("create_project", {**PROJECT, "tags": "a"}, "VALIDATION_ERROR", "tags", ""),
    ("create_project", {**PROJECT, "tags": [1]}, "VALIDATION_ERROR", "tags.0", ""),
    ("create_project", {**PROJECT, "tags": [[["a"]]]}, "VALIDATION_ERROR", "tags.0", ""),
    ("create_project", {**PROJECT, "budget_action": "explode"}, "VALIDATION_ERROR", "budget_action", ""),
    ("create_project", {**PROJECT, "on_conflict": "merge"}, "VALIDATION_ERROR", "on_conflict", ""),
    ("register_model", {**MODEL, "modality": "video"}, "VALIDATION_ERROR", "modality", ""),
    ("register_model", {**MODEL, "enabled": "perhaps"}, "VALIDATION_ERROR", "enabled", ""),
    ("add_provider", {**PROVIDER, "options": "x"}, "VALIDATION_ERROR", "options", ""),
    ("add_provider", {**PROVIDER, "options": [1]}, "VALIDATION_ERROR", "options", ""),
    ("add_provider", {**PROVIDER, "options": "{broken"}, "VALIDATION_ERROR", "options", ""),
    ("add_provider", {**PROVIDER, "options": "[" * 100_000}, "VALIDATION_ERROR", "options", ""),
    ("add_provider", {**PROVIDER, "options": '{"a":' * 900 + "1" + "}" * 900}, "VALIDATION_ERROR", "options.a", ""),
    ("add_provider", {**PROVIDER, "options": {"a": {LONG: "${X}"}}}, "VALIDATION_ERROR", None, ""),
    ("create_project", {**PROJECT, "tags": "[" * 100_000}, "VALIDATION_ERROR", "tags", ""),
    ("get_costs", {"period": "7d"}, "VALIDATION_ERROR", "period", ""),
    ("get_costs", {"group_by": "week"}, "VALIDATION_ERROR", "group_by", ""),
    ("get_costs", {"start": "yesterday"}, "VALIDATION_ERROR", "start", "ISO 8601"),
    ("get_costs", {"start": "2026-11-22", "end": "2026-11-20"}, "VALIDATION_ERROR", "end", ""),
    ("get_costs", {"timezone": "Mars/Base"}, "VALIDATION_ERROR", "timezone", ""),
    ("get_costs", {"timezone": "../../etc/passwd"}, "VALIDATION_ERROR", "timezone", ""),
    ("get_logs", {"status": "ok"}, "VALIDATION_ERROR", "status", ""),
    ("get_logs", {"search": "x" * 201}, "VALIDATION_ERROR", "search", ""),
    ("get_logs", {"min_latency_ms": "NaN"}, "VALIDATION_ERROR", "min_latency_ms", ""),
    *(
        ("get_logs", {"follow_seconds": value}, "VALIDATION_ERROR", "follow_seconds", "")
        for value in (-1, 25.1, "NaN", "soon", True)
    ),
    ("get_logs", {"min_cost_usd": -1}, "VALIDATION_ERROR", "min_cost_usd", ""),
    ("test_provider", {"provider_id": "openai", "timeout_seconds": 0}, "VALIDATION_ERROR", "timeout_seconds", ""),
    ("test_provider", {"provider_id": "openai", "timeout_seconds": 31}, "VALIDATION_ERROR", "timeout_seconds", ""),
    ("test_provider", {"provider_id": "openai", "timeout_seconds": "NaN"}, "VALIDATION_ERROR", "timeout_seconds", ""),
    # Provider types, keys and addresses.
    ("add_provider", {**PROVIDER, "provider_type": "opnai"}, "VALIDATION_ERROR", "provider_type", "openai"),
    ("add_provider", {**PROVIDER, "provider_type": ""}, "VALIDATION_ERROR", "provider_type", ""),
    ("add_provider", {**PROVIDER, "provider_type": LONG}, "VALIDATION_ERROR", "provider_type", ""),
    ("add_provider", {**PROVIDER, "api_key": SECRET}, "VALIDATION_ERROR", "api_key", "voicegw secrets set OPENAI_API_KEY"),
    ("add_provider", {**PROVIDER, "api_key": f"${{X}}{SECRET}"}, "VALIDATION_ERROR", "api_key", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "api_key": "${}"}, "VALIDATION_ERROR", "api_key", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "api_key": "  "}, "VALIDATION_ERROR", "api_key", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "api_key": {"key": SECRET}}, "VALIDATION_ERROR", "api_key", ""),
    ("add_provider", {**PROVIDER, "options": {"api_key": SECRET}}, "VALIDATION_ERROR", "options.api_key", ""),
    ("add_provider", {**PROVIDER, "options": {"auth_token": SECRET}}, "VALIDATION_ERROR", "options.auth_token", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": {"a": {"client_secret": SECRET}}}, "VALIDATION_ERROR", "options.a", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": {"a": [{"password": SECRET}]}}, "VALIDATION_ERROR", "options.a", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": {"a": {"password": 12345678}}}, "VALIDATION_ERROR", "options.a", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": {"headers": {"Authorization": f"Bearer {SECRET}"}}}, "VALIDATION_ERROR", "options.headers", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": {"headers": {"X-Api-Key": SECRET}}}, "VALIDATION_ERROR", "options.headers", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": {"accessToken": SECRET}}, "VALIDATION_ERROR", "options.accessToken", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": {"private_key": SECRET}}, "VALIDATION_ERROR", "options.private_key", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": f'{{"api_key": "{SECRET}"'}, "VALIDATION_ERROR", "options", ""),
    ("register_model", {**MODEL, "config": {"token": SECRET}}, "VALIDATION_ERROR", "config.token", "voicegw secrets set"),
    ("add_provider", {**PROVIDER, "options": {"type": "groq"}}, "VALIDATION_ERROR", "options.type", "argument"),
    ("register_model", {**MODEL, "config": {"provider": "groq"}}, "VALIDATION_ERROR", "config.provider", "argument"),
    ("add_provider", {**PROVIDER, "options": {"a b": 1}}, "VALIDATION_ERROR", None, "A-Za-z"),
    ("add_provider", {**PROVIDER, "options": {"a\n\x1b[2J": 1}}, "VALIDATION_ERROR", None, "A-Za-z"),
    ("add_provider", {**PROVIDER, "options": {LONG: 1}}, "VALIDATION_ERROR", None, "A-Za-z"),
    ("add_provider", {**PROVIDER, "options": {f"o{n}": 1 for n in range(51)}}, "VALIDATION_ERROR", "options", ""),
    ("add_provider", {**PROVIDER, "options": {"a": LONG}}, "VALIDATION_ERROR", "options.a", ""),
    ("add_provider", {**PROVIDER, "options": {"a": {LONG: 1}}}, "VALIDATION_ERROR", None, ""),
    ("add_provider", {**PROVIDER, "options": {"a": {"b\0": 1}}}, "VALIDATION_ERROR", None, ""),
    ("add_provider", {**PROVIDER, "options": {f"o{n}": ["y" * 4000] * 20 for n in range(5)}}, "VALIDATION_ERROR", "options", ""),
    ("add_provider", {**PROVIDER, "options": '{"a": [NaN]}'}, "VALIDATION_ERROR", "options.a", ""),
    ("add_provider", {**PROVIDER, "options": '{"a": Infinity}'}, "VALIDATION_ERROR", "options.a", ""),
    ("add_provider", {**PROVIDER, "options": '{"a": "\\ud800"}'}, "VALIDATION_ERROR", "options", ""),
    ("add_provider", {**PROVIDER, "options": {"a": 10**5000}}, "VALIDATION_ERROR", "options", ""),
    ("add_provider", {**PROVIDER, "options": {"region": "${NOBODY_SET_THIS}"}}, "VALIDATION_ERROR", None, ""),
    *(
        ("add_provider", {**PROVIDER, "base_url": url}, "VALIDATION_ERROR", "base_url", "")
        for url in (
            "",
            "ftp://example.com",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "example.com",
            "https://",
            f"https://user:{SECRET}@example.com/v1",
            "https://user@example.com",
            "https://example.com/\r\nX-Evil: 1",
            "https://exa\tmple.com",
            "https://example.com/a b",
            "https://example.com/#x",
            "https://example.com:99999",
            "http://169.254.169.254/latest",
            "http://[fe80::1%25eth0]/",
            "https://example.com/${OPENAI_API_KEY}",
            f"https://example.com/{LONG}",
        )
    ),
    # References that lead nowhere, or are taken.
    ("register_model", {**MODEL, "provider_id": "opnai"}, "PROVIDER_NOT_FOUND", "provider_id", "openai"),
    ("register_model", {"modality": "stt", "provider_id": "openai", "model_name": "x", "model_id": "ollama/qwen3"}, "MODEL_ALREADY_EXISTS", "model_id", "on_conflict"),
    ("add_provider", {"provider_id": "openai", "provider_type": "openai"}, "PROVIDER_ALREADY_EXISTS", "provider_id", "on_conflict"),
    ("create_project", {"project_id": "outbound", "name": "X"}, "PROJECT_ALREADY_EXISTS", "project_id", "on_conflict"),
    ("create_project", {**PROJECT, "llm_model": "openai/gpt-4.1-min"}, "MODEL_NOT_FOUND", "llm_model", "openai/gpt-4.1-mini"),
    ("create_project", {**PROJECT, "llm_model": ""}, "MODEL_NOT_FOUND", "llm_model", "list_models"),
    ("create_project", {**PROJECT, "llm_model": "deepgram/nova-3"}, "VALIDATION_ERROR", "llm_model", "list_models modality=llm"),
    ("create_project", {**PROJECT, "default_stack": "standart"}, "VALIDATION_ERROR", "default_stack", "standard"),
    ("create_project", {**PROJECT, "default_stack": ""}, "VALIDATION_ERROR", "default_stack", ""),
    ("create_project", {**PROJECT, "default_stack": "standard", "llm_model": "ollama/qwen3"}, "VALIDATION_ERROR", "default_stack", "one by one"),
    # Numbers and texts.
    *(
        ("create_project", {**PROJECT, "daily_budget": budget}, "VALIDATION_ERROR", "daily_budget", "")
        for budget in (-1, "-0.01", "NaN", "Infinity", "-inf", "1e999", "five", [5])
    ),
    *(
        (tool, {"limit": limit}, "VALIDATION_ERROR", "limit", "")
        for tool in ("get_logs", "list_providers", "list_models", "list_projects")
        for limit in (0, -1, 1001, 99999, "abc", 1.5, 10**400)
    ),
    ("create_project", {**PROJECT, "description": "y" * 1_000_000}, "VALIDATION_ERROR", "description", "2,000"),
    ("create_project", {**PROJECT, "description": "a\x1b[2Jb"}, "VALIDATION_ERROR", "description", ""),
    ("create_project", {**PROJECT, "name": LONG}, "VALIDATION_ERROR", "name", ""),
    ("create_project", {**PROJECT, "name": "  "}, "VALIDATION_ERROR", "name", ""),
    ("create_project", {**PROJECT, "tags": [""]}, "VALIDATION_ERROR", "tags", ""),
    ("create_project", {**PROJECT, "tags": [LONG]}, "VALIDATION_ERROR", "tags", ""),
    ("create_project", {**PROJECT, "tags": ["a"] * 21}, "VALIDATION_ERROR", "tags", ""),
    ("create_project", {**PROJECT, "timezone": "Mars/Base"}, "VALIDATION_ERROR", "timezone", "Europe/Berlin"),
    ("create_project", {**PROJECT, "timezone": LONG}, "VALIDATION_ERROR", "timezone", "Europe/Berlin"),
    *(
        ("register_model", {**MODEL, field: value}, "VALIDATION_ERROR", field, "")
        for field in ("display_name", "default_language", "default_voice")
        for value in (LONG, "a\0b", "")
    ),
    # Cursors.
    *(
        (tool, {"cursor": cursor}, "VALIDATION_ERROR", "cursor", "cursor")
        for tool in ("get_logs", "list_providers", "list_models", "list_projects")
        for cursor in ("garbage", "%%%", "W10", "bnVsbA", "e30", "A" * 10_000_000, "a\ud800")
    ),
]  # fmt: skip


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("tool", "arguments", "code", "field", "hint"),
    CASES,
    ids=[f"{n}-{tool}-{field}" for n, (tool, _, _, field, _) in enumerate(CASES)],
)
async def test_bad_input_is_refused_and_leaves_no_trace(
    agent, house, caplog, tool, arguments, code, field, hint
):
    caplog.set_level(logging.DEBUG, "voicegw_mcp")
    before = house.state()
    failed, answer = await agent.call(tool, arguments)
    assert failed, answer
    error = await refuse(agent, house, tool, arguments or {}, code, field)
    assert hint in error.get("hint", "")
    assert house.state() == before
    assert SECRET not in str(answer) + str(error) + caplog.text + house.text + str(house.journal())


async def test_ten_thousand_unknown_arguments_get_a_short_answer(agent):
    error = await agent.refused("get_health", {f"a{n}": n for n in range(10_000)})
    assert "and 9999 more" in error["message"]


async def test_several_problems_are_told_at_once_the_unknown_name_first(agent):
    error = await agent.refused("register_model", {"modality": "video", "modelname": "x"})
    fields = [problem["field"] for problem in error["details"]["problems"]]
    assert fields[0] == "modelname"
    assert set(fields) == {"modality", "provider_id", "model_name", "modelname"}
    assert "(and 3 more)" in error["message"]


async def test_null_means_left_out_and_numbers_and_booleans_may_come_as_text(agent):
    listed = await agent.ok("list_models", limit="2", modality=None, enabled_only="false")
    assert listed["count"] == 2
    assert (await agent.call("get_health", None))[0] is False
    checked = await agent.ok("test_provider", provider_id="openai", timeout_seconds="2.5")
    assert checked["reason"] == "not_configured"


async def test_very_large_bounds_are_only_bounds(agent):
    for arguments in ({"min_cost_usd": 1e300}, {"min_latency_ms": 1e300}, {"min_latency_ms": 1.7e308}):
        assert (await agent.ok("get_logs", **arguments))["count"] == 0


async def test_a_very_large_budget_is_a_budget(agent):
    answer = await agent.ok("create_project", project_id="rich", name="Rich", daily_budget=1e308)
    assert answer["daily_budget"] == 1e308
    assert (await agent.ok("get_project", project_id="rich"))["budget_status"] == "ok"


async def test_odd_but_valid_text_survives_the_file(agent):
    description = "Ünïcode 😀: # not a comment, 'quotes' \"double\"\n- a second line: yes"
    await agent.ok(
        "create_project", project_id="odd", name="null", description=description, tags=["007", "no"]
    )
    shown = await agent.ok("get_project", project_id="odd")
    assert (shown["name"], shown["description"], shown["tags"]) == ("null", description, ["007", "no"])


@pytest.mark.parametrize(
    "project_id", ["off", "no", "null", "1", "007", "1e3", "0x1f", "2026-11-22", "1.5", "a.b", "y"]
)
async def test_an_id_that_yaml_could_take_for_something_else_stays_an_id(agent, project_id):
    await agent.ok("create_project", project_id=project_id, name="N")
    assert (await agent.ok("get_project", project_id=project_id))["id"] == project_id
    await agent.ok("delete_project", project_id=project_id, confirm=True)


async def test_a_deeply_nested_option_is_refused(agent, house):
    value = 1
    for _ in range(100):
        value = {"a": value}
    await refuse(agent, house, "add_provider", {**PROVIDER, "options": {"a": value}}, field="options.a")
    await refuse(
        agent, house, "add_provider", {**PROVIDER, "options": {"a": [[[[[[1]]]]]]}}, field="options.a"
    )


@pytest.mark.parametrize("many", [[1] * 20_000, [[[]] * 200] * 200, {str(n): n for n in range(20_000)}])
async def test_more_values_than_a_call_needs_are_refused_before_they_are_looked_at(agent, house, many):
    await refuse(agent, house, "create_project", {"project_id": "p", "name": "P", "tags": many})
    await refuse(agent, house, "add_provider", {**PROVIDER, "options": {"a": many}})


async def test_true_is_no_number(agent, house):
    before = house.state()
    for tool, arguments in (
        ("get_logs", {"limit": True}),
        ("create_project", {"project_id": "x", "name": "X", "daily_budget": False}),
    ):
        failed, answer = await agent.call(tool, arguments)
        assert failed
        assert answer["error"]["code"] == "VALIDATION_ERROR"
        assert "takes a number" in answer["error"]["message"]
    assert house.state() == before
