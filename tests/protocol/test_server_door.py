"""What the door does with failures: unknown names, exceptions of handlers, and secrets that must not get out."""

import logging

import pytest
from mcp.shared.exceptions import MCPError
from tests.protocol.agents import ERAS, FILE

from voicegw_mcp.core.answers import Answer
from voicegw_mcp.tools.define import Input, tool
from voicegw_mcp.tools.resources import RESOURCES

KEY = "fake-key-0001"


class Nothing(Input):
    """No arguments."""


class Count(Answer):
    """One number."""

    count: int


@tool("Break", read_only=True)
async def break_down(gateway, args: Nothing) -> Count:
    """Raise what nobody expected.

    Use when testing.
    """
    message = f"SELECT secret FROM keys WHERE key = '{KEY}' in {gateway.config_file.path} {args}"
    raise RuntimeError(message)


@tool("Answer wrongly", read_only=True)
async def answer_wrongly(gateway, args: Nothing) -> Count:  # noqa: ARG001
    """Answer what cannot be sent.

    Use when testing.
    """
    return Count.model_construct(count=object())


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("get_cost", "Did you mean get_costs"),
        ("add_providers", "add_provider"),
        ("x" * 100_000, "Unknown tool"),
        ("", "Unknown tool"),
        ("a\nb", "Unknown tool"),
    ],
)
async def test_an_unknown_tool_is_a_protocol_error_with_near_names(house, era, name, words):
    async with house.agent(mode=era) as agent:
        with pytest.raises(MCPError) as caught:
            await agent.client.call_tool(name, {})
    assert caught.value.error.code == -32602
    assert words in caught.value.error.message
    assert len(caught.value.error.message) < 300


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("broken", [break_down, answer_wrongly], ids=lambda broken: broken.name)
async def test_an_unexpected_exception_answers_a_reference_that_stands_in_the_log_and_nothing_else(
    house, caplog, era, broken
):
    async with house.agent(mode=era, tools=[broken]) as agent:
        error = await agent.refused(broken.name)
    reference = error["details"]["reference"]
    assert error["code"] == "INTERNAL_ERROR"
    assert reference in error["message"]
    for leak in (KEY, "SELECT", "Traceback", "RuntimeError", str(house.folder)):
        assert leak not in str(error)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert reference in record.getMessage()
    assert record.exc_info


async def test_an_unexpected_exception_of_a_resource_is_a_protocol_error_with_a_reference(agent, monkeypatch):
    async def fail(*_):
        raise RuntimeError(KEY)

    monkeypatch.setitem(RESOURCES[0].__dict__, "read", fail)
    with pytest.raises(MCPError) as caught:
        await agent.client.read_resource("voicegw://config")
    assert caught.value.error.code == -32603
    assert caught.value.error.data["error"]["code"] == "INTERNAL_ERROR"
    assert KEY not in str(caught.value.error)


@pytest.fixture
def literal(house):
    """A file into which someone wrote keys by hand, one over several lines."""
    house.write(
        FILE.replace("${DEEPGRAM_API_KEY}", KEY).replace('"${OPENAI_API_KEY}"', f"'{KEY}-\"2'")
        + "  # own\n  own:\n    name: Own\n    providers:\n      openai:\n        api_key: |\n"
        + "          fake-begin-0003\n          fake-end-0004\n"
        + "clickhouse: {dsn: 'ch://u:fake-pass-0005@db/x'}\n"
    )
    return house


LEAKS = (KEY, "fake-begin-0003", "fake-end-0004", "fake-pass-0005")


async def test_keys_in_the_file_appear_in_no_answer_no_diff_no_journal_and_no_log(literal, caplog):
    caplog.set_level(logging.DEBUG)
    async with literal.agent() as agent:
        shown = []
        for name, arguments in (
            ("get_health", {}),
            ("get_provider_status", {}),
            ("list_providers", {}),
            ("get_provider", {"provider_id": "deepgram"}),
            ("test_provider", {"provider_id": "ollama", "timeout_seconds": 1}),
            (
                "add_provider",
                {
                    "provider_id": "deepgram",
                    "provider_type": "deepgram",
                    "base_url": "https://example.com",
                    "on_conflict": "update",
                },
            ),
            ("create_project", {"project_id": "own", "name": "Renamed", "on_conflict": "update"}),
            (
                "create_project",
                {"project_id": "own", "name": "Renamed", "default_stack": "nope", "on_conflict": "update"},
            ),
            (
                "add_provider",
                {
                    "provider_id": "openai",
                    "provider_type": "openai",
                    "api_key": "${OPENAI_API_KEY}",
                    "on_conflict": "update",
                },
            ),
            ("delete_project", {"project_id": "own", "confirm": True}),
            ("delete_provider", {"provider_id": "deepgram", "confirm": True, "cascade": True}),
        ):
            shown.append((await agent.call(name, arguments))[1])
        shown += [await agent.resource(uri) for uri in ("voicegw://config", "voicegw://changes")]
        for change in shown[-1]["changes"]:
            shown.append(await agent.resource(f"voicegw://changes/{change['id']}"))
    assert len(literal.journal()) == 5
    everything = str(shown) + str(literal.journal()) + caplog.text
    for leak in LEAKS:
        assert leak not in everything, leak
    assert "(a literal key in the file)" in everything
    assert "providers.deepgram.api_key holds a key itself" in everything


async def test_a_value_behind_a_reference_never_gets_out_through_what_answers_show(house, caplog):
    house.environment["OPENAI_API_KEY"] = KEY
    reference = "${OPENAI_API_KEY}"
    async with house.agent() as agent:
        before = house.state()
        for name, arguments, field in (
            ("create_project", {"project_id": "p", "name": reference}, "name"),
            ("create_project", {"project_id": "p", "name": "P", "description": f"x {reference}"}, "description"),
            ("create_project", {"project_id": "p", "name": "P", "tags": [reference]}, "tags"),
            ("register_model", {"modality": "llm", "provider_id": "openai", "model_name": "m", "display_name": reference}, "display_name"),
            ("register_model", {"modality": "llm", "provider_id": "openai", "model_name": "m", "default_voice": reference}, "default_voice"),
            ("add_provider", {"provider_id": "p", "provider_type": "openai", "base_url": f"https://example.com/{reference}"}, "base_url"),
            ("add_provider", {"provider_id": "p", "provider_type": "azure", "options": {"region": reference}}, "options.region"),
        ):  # fmt: skip
            error = await agent.refused(name, arguments)
            assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", field)
            assert KEY not in str(error)
        assert house.state() == before
        answer = await agent.ok(
            "add_provider",
            provider_id="p",
            provider_type="openai_compatible",
            base_url="https://example.com",
            options={"headers": {"Authorization": f"Bearer {reference}"}, "auth_token": reference},
        )
        assert KEY not in str(answer) + house.text + str(await agent.resource("voicegw://config"))
        error = await agent.refused(
            "add_provider",
            provider_id="q",
            provider_type="openai",
            options={"headers": {"Authorization": "Bearer ${NOBODY_SET_THIS}"}},
        )
        assert error["code"] == "VALIDATION_ERROR"
        assert "NOBODY_SET_THIS is not set" in error["message"]
    assert KEY not in caplog.text


async def test_a_password_in_an_address_of_the_file_is_not_shown(agent, house):
    house.write(f"providers: {{openai: {{base_url: 'https://user:{KEY}@example.com/v1'}}}}\n")
    assert (await agent.ok("get_provider", provider_id="openai"))["base_url"] == "https://***@example.com/v1"
    tested = await agent.ok("test_provider", provider_id="openai", timeout_seconds=1)
    assert KEY not in str(tested) + str(await agent.ok("list_providers"))
