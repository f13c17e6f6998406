"""Subscribers hear of changes of resources, whoever makes them, and leave nothing behind."""

import asyncio
from contextlib import asynccontextmanager

import anyio
import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.subscriptions import ResourceUpdated
from tests.factories import request_record
from tests.protocol.agents import ERAS, Agent

from voicegw_mcp import notices
from voicegw_mcp.core.access import Access
from voicegw_mcp.core.alerts import Alerting
from voicegw_mcp.core.undo import undo_change
from voicegw_mcp.server import build_server

pytestmark = pytest.mark.filterwarnings(
    f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}"
)
BOUND_S = 20
URIS = ("voicegw://config", "voicegw://logs", "voicegw://changes", "voicegw://prices")


def watchers():
    return [task for task in asyncio.all_tasks() if task.get_name() == notices.TASK_NAME and not task.done()]


async def until(condition):
    with anyio.fail_after(BOUND_S):
        while not condition():  # noqa: ASYNC110 - tasks and files tell nobody
            await anyio.sleep(0.01)


class Ears:
    """What one client heard, in the order it came."""

    def __init__(self):
        self.heard = []

    async def __call__(self, message):
        if isinstance(message, types.ResourceUpdatedNotification):
            self.heard.append(str(message.params.uri))

    async def hear(self, *uris):
        await until(lambda: set(uris) <= set(self.heard))
        heard, self.heard = set(self.heard), []
        return heard


@asynccontextmanager
async def subscribed(gateway, era, *uris):
    """A client that is subscribed, in the way of its era."""
    ears = Ears()
    handler = ears if era == "legacy" else None
    async with Client(build_server(gateway), mode=era, message_handler=handler) as client:
        agent = Agent(client, gateway)
        if era == "legacy":
            for uri in uris:
                await client.subscribe_resource(uri)
            yield agent, ears
            return
        async with client.listen(resource_subscriptions=uris) as stream, anyio.create_task_group() as tasks:
            assert set(stream.honored.resource_subscriptions or ()) == set(uris)

            async def listen():
                async for event in stream:
                    assert isinstance(event, ResourceUpdated)
                    ears.heard.append(event.uri)

            tasks.start_soon(listen)
            yield agent, ears
            tasks.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(notices, "LOOK_EVERY_S", 0.2)


@pytest.fixture
async def gateway(house):
    gateway = house.gateway()
    yield gateway
    await gateway.close()


@pytest.mark.parametrize("era", ERAS)
async def test_capabilities_say_that_resources_can_be_subscribed_to(gateway, era):
    async with Client(build_server(gateway), mode=era) as client:
        assert client.server_capabilities.resources.subscribe is True


@pytest.mark.parametrize("era", ERAS)
async def test_changes_by_tools_editors_and_other_processes_are_heard(house, gateway, era):
    await house.log(request_record(id="old"))
    async with subscribed(gateway, era, *URIS) as (agent, ears):
        assert len(watchers()) == 1
        await agent.ok("add_provider", provider_id="groq", provider_type="groq")
        told = {"voicegw://changes", "voicegw://config"}
        assert await ears.hear(*told) == told
        house.write(
            house.text.replace("rotated monthly", "by hand").replace("api_key: ${DEEP", "api_key: ${D")
        )
        assert await ears.hear("voicegw://config") == {"voicegw://config"}
        replacement = house.folder / "new.yaml"
        replacement.write_text(house.text.replace("tts-1:", "tts-2:").replace("openai/tts-1", "openai/tts-2"))
        replacement.replace(house.file)  # as editors save
        told = {"voicegw://config", "voicegw://prices"}
        assert await ears.hear(*told) == told
        ears.heard.clear()  # a journal row may have been seen twice: begun, and done
        await house.log(*(request_record(id=str(number)) for number in range(5)))
        assert await ears.hear("voicegw://logs") == {"voicegw://logs"}
    await until(lambda: not watchers())


@pytest.mark.parametrize("era", ERAS)
async def test_only_what_was_subscribed_to_is_heard(house, gateway, era):
    async with subscribed(gateway, era, "voicegw://logs") as (agent, ears):
        await agent.ok("add_provider", provider_id="groq", provider_type="groq")
        await house.log(request_record(id="a"))
        assert await ears.hear("voicegw://logs") == {"voicegw://logs"}


@pytest.mark.parametrize("era", ERAS)
async def test_a_file_that_breaks_or_means_the_same_is_no_change_of_what_is_shown(house, gateway, era):
    text = house.text
    async with subscribed(gateway, era, "voicegw://config", "voicegw://logs") as (_, ears):
        house.write("providers: [")
        await house.log(request_record(id="a"))
        assert await ears.hear("voicegw://logs") == {"voicegw://logs"}
        house.write(text)
        await house.log(request_record(id="b"))
        assert await ears.hear("voicegw://logs") == {"voicegw://logs"}


@pytest.mark.parametrize("era", ERAS)
async def test_an_alert_is_heard(house, gateway, era):
    await house.log(request_record(id="a", project="support-line", cost_nanousd=6 * 10**9))
    async with subscribed(gateway, era, "voicegw://alerts") as (_, ears):
        await house.log(request_record(id="b"))  # no alert
        await Alerting(gateway).go_round()
        assert await ears.hear("voicegw://alerts") == {"voicegw://alerts"}


async def test_one_change_is_a_resource_of_its_own(house, gateway):
    async with house.agent() as agent:
        change = (await agent.ok("add_provider", provider_id="groq", provider_type="groq"))["change_id"]
    uri = f"voicegw://changes/{change}"
    async with subscribed(gateway, "legacy", uri, "voicegw://changes") as (agent, ears):
        await agent.ok("add_provider", provider_id="groq2", provider_type="groq")
        assert await ears.hear("voicegw://changes") == {"voicegw://changes"}
        await undo_change(gateway, change, tool="undo")
        assert await ears.hear(uri) >= {uri}


async def test_an_unsubscribed_client_hears_no_more_and_the_last_one_ends_the_looking(house, gateway):
    async with subscribed(gateway, "legacy", "voicegw://logs", "voicegw://config") as (agent, ears):
        await agent.client.unsubscribe_resource("voicegw://config")
        await agent.client.unsubscribe_resource("voicegw://prices")  # never subscribed to
        await agent.ok("add_provider", provider_id="groq", provider_type="groq")
        await house.log(request_record(id="a"))
        assert await ears.hear("voicegw://logs") == {"voicegw://logs"}
        await agent.client.unsubscribe_resource("voicegw://logs")
        await until(lambda: not watchers())
        await agent.client.subscribe_resource("voicegw://logs")
        await house.log(request_record(id="b"))
        assert await ears.hear("voicegw://logs") == {"voicegw://logs"}


async def test_many_clients_hear_and_one_that_goes_takes_only_its_own_along(house, gateway):
    server = build_server(gateway)
    ears = [Ears() for _ in range(4)]
    async with Client(server, mode="legacy", message_handler=ears[0]) as staying:
        await staying.subscribe_resource("voicegw://logs")
        for ear in ears[1:]:
            async with Client(server, mode="legacy", message_handler=ear) as going:
                await going.subscribe_resource("voicegw://logs")
                await house.log(request_record(id=str(id(ear))))
                await ear.hear("voicegw://logs")
                await ears[0].hear("voicegw://logs")
        assert len(watchers()) == 1
    await until(lambda: not watchers())


@pytest.mark.parametrize("uri", ["voicegw://nothing", "http://example.com", "voicegw://changes/none", ""])
async def test_what_cannot_be_read_cannot_be_subscribed_to(gateway, uri):
    async with Client(build_server(gateway), mode="legacy") as client:
        with pytest.raises(MCPError):
            await client.subscribe_resource(uri)
        assert watchers() == []
    async with (
        Client(build_server(gateway)) as client,
        client.listen(resource_subscriptions=[uri]) as stream,
    ):
        assert not stream.honored.resource_subscriptions
        assert watchers() == []


async def test_one_client_has_a_bounded_number_of_subscriptions(gateway, monkeypatch):
    monkeypatch.setattr(notices, "MOST_RESOURCES", 2)
    async with Client(build_server(gateway), mode="legacy") as client:
        for uri in URIS[:2] * 2:
            await client.subscribe_resource(uri)
        with pytest.raises(MCPError, match="may subscribe to 2"):
            await client.subscribe_resource(URIS[2])
    async with Client(build_server(gateway)) as client:
        with pytest.raises(MCPError, match="may subscribe to 2"):
            async with client.listen(resource_subscriptions=URIS):
                raise AssertionError
    monkeypatch.setattr(notices, "MOST_SUBSCRIBERS", 0)
    async with Client(build_server(gateway), mode="legacy") as client:
        with pytest.raises(MCPError, match="too many subscribers"):
            await client.subscribe_resource(URIS[0])
    await until(lambda: not watchers())


@pytest.mark.parametrize("era", ERAS)
async def test_who_is_bound_to_projects_hears_of_their_rows_only(house, gateway, era):
    bound = gateway.as_caller("x", Access(projects=frozenset({"support-line"})))
    async with Client(build_server(bound)) as client, client.listen(resource_subscriptions=URIS) as stream:
        assert "voicegw://config" not in stream.honored.resource_subscriptions
    async with subscribed(bound, era, "voicegw://logs") as (_, ears):
        async with subscribed(gateway, era, "voicegw://logs") as (_, all_ears):
            await house.log(request_record(id="a", project="outbound"))
            await all_ears.hear("voicegw://logs")
        await house.log(request_record(id="b", project="support-line"))
        assert await ears.hear("voicegw://logs") == {"voicegw://logs"}


async def test_a_look_that_fails_is_made_again(house, gateway, monkeypatch):
    async with subscribed(gateway, "legacy", "voicegw://logs") as (_, ears):
        store = await gateway.store()
        working, failures = store.ask, []

        async def failing(*arguments, **options):
            if len(failures) < 2:
                failures.append(1)
                raise notices.StoreUnavailable("locked") if len(failures) == 1 else RuntimeError("a bug")
            return await working(*arguments, **options)

        monkeypatch.setattr(store, "ask", failing)
        await house.log(request_record(id="a"))
        await ears.hear("voicegw://logs")
        assert len(failures) == 2
