"""Deletes ask the person where the client can: in addition to ``confirm``, never instead of it."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.session import ClientSession
from tests.factories import request_record
from tests.protocol.agents import ERAS, Agent

from voicegw_mcp import questions, server
from voicegw_mcp.server import build_server

PROVIDER = {"provider_id": "openai", "confirm": True, "cascade": True}
DELETES = {
    "delete_provider": (
        PROVIDER,
        "Delete provider openai? models affected: openai/gpt-4.1-mini, openai/tts-1; ",
    ),
    "delete_model": (
        {"model_id": "openai/tts-1", "confirm": True, "cascade": True},
        "Delete tts model openai/tts-1? ",
    ),
    "delete_project": (
        {"project_id": "support-line", "confirm": True},
        "Delete project support-line? total spend usd: 1.0; total requests: 1.",
    ),
}
BOUND_S = 20


class Person:
    """Answers questions, and keeps them."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.questions = []

    async def __call__(self, _context, params):
        assert params.mode == "form"
        assert params.requested_schema == {"type": "object", "properties": {}}
        self.questions.append(params.message)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = await answer()
        if isinstance(answer, types.ErrorData):
            return answer
        return types.ElicitResult(action=answer, content={} if answer == "accept" else None)


@asynccontextmanager
async def agent_of(house, era, person):
    gateway = house.gateway()
    try:
        async with Client(build_server(gateway), mode=era, elicitation_callback=person) as client:
            yield Agent(client, gateway)
    finally:
        await gateway.close()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", DELETES)
async def test_a_yes_deletes_what_was_asked_about_with_its_impact(house, era, tool):
    await house.log(request_record(project="support-line", cost_nanousd=10**9))
    arguments, question = DELETES[tool]
    person = Person("accept")
    async with agent_of(house, era, person) as agent:
        answer = await agent.ok(tool, **arguments)
    assert answer["action"] == "deleted"
    (asked,) = person.questions
    assert asked.startswith(question)
    assert [row[1] for row in house.journal("id, state")] == ["applied"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", DELETES)
@pytest.mark.parametrize("reply", ["decline", "cancel"])
async def test_a_no_is_a_refusal_that_tells_the_agent_not_to_repeat_it(house, era, tool, reply):
    arguments, _ = DELETES[tool]
    async with agent_of(house, era, Person(reply)) as agent:
        before = house.state()
        error = await agent.refused(tool, arguments)
        assert house.state() == before
    assert (error["code"], error["details"]["reason"]) == ("FORBIDDEN", reply)
    assert "Nothing was written" in error["message"]
    assert "Do not repeat" in error["hint"]
    assert ("voicegw call" in error["hint"]) == (reply == "cancel")


@pytest.mark.parametrize("era", ERAS)
async def test_nobody_is_asked_without_confirm_in_a_dry_run_or_when_it_is_refused_anyway(house, era):
    person = Person()
    async with agent_of(house, era, person) as agent:
        shown = await agent.refused("delete_provider", {**PROVIDER, "confirm": False})
        assert shown["code"] == "CONFIRMATION_REQUIRED"
        assert (await agent.ok("delete_provider", **PROVIDER, dry_run=True))["diff"]
        for change, code in (
            ({"cascade": False}, "CONFLICT"),
            ({"provider_id": "nobody"}, "PROVIDER_NOT_FOUND"),
            ({"if_version": "000000000000"}, "CONFLICT"),
        ):
            assert (await agent.refused("delete_provider", {**PROVIDER, **change}))["code"] == code
    assert person.questions == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_ask_is_not_asked(house, era):
    async with house.agent(mode=era) as agent:
        assert (await agent.ok("delete_provider", **PROVIDER))["action"] == "deleted"


@pytest.mark.parametrize("era", ERAS)
async def test_a_change_while_the_person_thinks_is_a_conflict(house, era):
    async def edit_then_accept():
        house.write(house.text.replace("rotated monthly", "rotated weekly"))
        return "accept"

    async with agent_of(house, era, Person(edit_then_accept)) as agent:
        error = await agent.refused("delete_provider", PROVIDER)
    assert error["code"] == "CONFLICT"
    assert "rotated weekly" in house.text
    assert "openai:" in house.text
    assert house.journal() == []


async def test_a_client_whose_question_fails_counts_as_no_answer(house):
    refusing = types.ErrorData(code=-32603, message="no window")
    async with agent_of(house, "legacy", Person(refusing)) as agent:
        error = await agent.refused("delete_provider", PROVIDER)
    assert (error["code"], error["details"]["reason"]) == ("FORBIDDEN", "unanswered")
    assert house.journal() == []


async def test_a_person_may_think_longer_than_a_tool_may_take(house, monkeypatch):
    async def think():
        loop = asyncio.get_running_loop()
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + 2 * server.DEADLINE_S)
        for _ in range(10):  # timers that are due go off
            await anyio.lowlevel.checkpoint()
        return "accept"

    async with agent_of(house, "legacy", Person(think)) as agent:
        assert (await agent.ok("delete_provider", **PROVIDER))["action"] == "deleted"


async def test_a_person_who_never_answers_ends_the_call(house, monkeypatch):
    monkeypatch.setattr(questions, "PATIENCE_S", 0.1)
    async with agent_of(house, "legacy", Person(anyio.sleep_forever)) as agent:
        error = await agent.refused("delete_provider", PROVIDER)
        assert (error["code"], error["details"]["reason"]) == ("FORBIDDEN", "unanswered")
        assert house.journal() == []
        assert "status" in await agent.ok("get_health")


async def test_a_call_cancelled_while_the_person_thinks_writes_nothing_and_holds_no_lock(house):
    asked = anyio.Event()

    async def think():
        asked.set()
        await anyio.sleep_forever()

    async with agent_of(house, "legacy", Person(think, "accept")) as agent:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent.call, "delete_provider", PROVIDER)
            with anyio.fail_after(BOUND_S):
                await asked.wait()
                # Meanwhile another change goes through: no lock is held.
                await agent.ok("add_provider", provider_id="groq", provider_type="groq")
            tasks.cancel_scope.cancel()
        assert [row[0] for row in house.journal("tool")] == ["add_provider"]
        assert (await agent.ok("delete_provider", **PROVIDER))["action"] == "deleted"


async def test_a_reply_to_another_question_is_no_yes(house):
    async with agent_of(house, "auto", Person()) as agent:
        ask = partial(agent.client.session.call_tool, allow_input_required=True)
        first = await ask("delete_provider", PROVIDER)
        yes = {key: types.ElicitResult(action="accept", content={}) for key in first.input_requests}
        model = {"model_id": "openai/tts-1", "confirm": True}
        for state in ("", "made-up", first.request_state):
            result = await ask("delete_model", model, input_responses=yes, request_state=state)
            assert result.structured_content["error"]["code"] == "CONFLICT"
        assert house.journal() == []
        done = await ask("delete_provider", PROVIDER, input_responses=yes, request_state=first.request_state)
        assert done.structured_content["action"] == "deleted"


@pytest.mark.parametrize(("form", "asked"), [(True, 1), (False, 0), (None, 1)])
async def test_only_a_client_that_shows_forms_is_asked(house, monkeypatch, form, asked):
    modes = types.ElicitationCapability(
        form=types.FormElicitationCapability() if form else None,
        url=None if form is None else types.UrlElicitationCapability(),
    )
    person = Person("accept")
    monkeypatch.setattr(
        ClientSession, "_build_capabilities", lambda *_: types.ClientCapabilities(elicitation=modes)
    )
    async with agent_of(house, "legacy", person) as agent:
        assert (await agent.ok("delete_provider", **PROVIDER))["action"] == "deleted"
    assert len(person.questions) == asked
