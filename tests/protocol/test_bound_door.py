"""What the door tells a caller who is bound to a project, beside the tools: completions, prompts, resources, notices."""

import base64
import json
from contextlib import asynccontextmanager

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import PromptReference, ResourceTemplateReference
from tests.factories import request_record
from tests.protocol.agents import ERAS, Agent

from voicegw_mcp.core.access import Access
from voicegw_mcp.domain import Role
from voicegw_mcp.server import build_server

MINE = "support-line"
OTHER = "outbound"
OF_ALL = ("voicegw://config", "voicegw://changes")


@asynccontextmanager
async def bound(house, era="auto", role=Role.VIEWER):
    gateway = house.gateway()
    try:
        caller = gateway.as_caller("bound", Access(role, frozenset({MINE})))
        async with Client(build_server(caller), mode=era) as client:
            yield Agent(client, caller)
    finally:
        await gateway.close()


@pytest.mark.parametrize("era", ERAS)
async def test_completions_hold_no_other_project_and_no_change(house, era):
    async with house.agent() as everybody:
        change = (await everybody.ok("create_project", project_id="new", name="New"))["change_id"]
    async with bound(house, era) as agent:
        for prompt in ("review_costs", "triage_errors"):
            reference = PromptReference(type="ref/prompt", name=prompt)
            for typed in ("", OTHER, "new", "o"):
                found = await agent.client.complete(reference, {"name": "project", "value": typed})
                assert found.completion.values == ([MINE] if not typed else [])
                assert found.completion.total == len(found.completion.values)
        reference = ResourceTemplateReference(type="ref/resource", uri="voicegw://changes/{id}")
        for typed in ("", change[:4]):
            with pytest.raises(MCPError) as caught:
                await agent.client.complete(reference, {"name": "id", "value": typed})
            assert caught.value.error.data["error"]["code"] == "FORBIDDEN"
            assert change not in str(caught.value.error)


@pytest.mark.parametrize("era", ERAS)
async def test_a_change_that_is_there_is_refused_like_one_that_is_not(house, era):
    async with house.agent() as everybody:
        change = (await everybody.ok("create_project", project_id="new", name="New"))["change_id"]
    async with bound(house, era, Role.ADMIN) as agent:
        told = []
        for uri in (f"voicegw://changes/{change}", "voicegw://changes/01m82a4qdr89myckkkq5", *OF_ALL):
            with pytest.raises(MCPError) as caught:
                await agent.client.read_resource(uri)
            told.append(caught.value.error.data["error"])
        assert told[0] == told[1]
        assert {error["code"] for error in told} == {"FORBIDDEN"}
        assert OTHER not in json.dumps(told)


async def test_only_of_what_he_may_read_is_he_told(house):
    uris = (*OF_ALL, "voicegw://logs")
    async with bound(house) as agent, agent.client.listen(resource_subscriptions=uris) as stream:
        await house.log(request_record(id="other", project=OTHER))
        house.write(house.text.replace("name: Outbound", "name: Renamed"))
        await house.log(request_record(id="mine", project=MINE))
        with anyio.fail_after(20):
            assert (await anext(aiter(stream))).uri == "voicegw://logs"


@pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}")
@pytest.mark.parametrize("uri", OF_ALL)
async def test_he_cannot_subscribe_to_what_is_of_all_projects(house, uri):
    async with bound(house, "legacy") as agent:
        with pytest.raises(MCPError) as caught:
            await agent.client.subscribe_resource(uri)
    assert caught.value.error.data["error"]["code"] == "FORBIDDEN"


async def test_a_cursor_made_up_of_another_s_row_is_answered_like_one_of_no_row(house):
    await house.log(request_record(id="other", project=OTHER), request_record(id="mine", project=MINE))
    async with bound(house) as agent:
        following = (await agent.ok("get_logs", follow_seconds=0))["next_cursor"]
        mark = json.loads(_decoded(following))[0]
        told = []
        for row in ("other", "nobody"):
            cursor = _encoded([mark, "after", row])
            told.append(await agent.refused("get_logs", cursor=cursor, follow_seconds=0))
            page = _encoded([mark, request_record().timestamp_ms + 1, row])
            told.append((await agent.ok("get_logs", cursor=page))["logs"])
    assert told[:2] == told[2:]
    assert [row["id"] for row in told[1]] == ["mine"]


def _decoded(cursor):
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def _encoded(parts):
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")
