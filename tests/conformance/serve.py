"""A server for the conformance suite: the product's, with the suite's fixtures beside its own tools.

The handlers of a server that ``build_server`` made are wrapped: a fixture answers under its name, everything else goes to
the product. So the suite runs against our handlers, our guard, our application and our transports.

``python -m tests.conformance.serve FILE`` serves the gateway of that configuration on a free loopback port, prints the URL
of ``/mcp`` and ends on a signal.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import mcp_types as types
import tests.conformance.questions  # noqa: F401 - the import registers its tools
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import ListenHandler
from tests.conformance.fixtures import FIXTURES, RESOURCES, TEMPLATE, Context, contents_of

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.server import build_server
from voicegw_mcp.transports.http import listen, serve_http
from voicegw_mcp.web.app import build_app
from voicegw_mcp.web.hosts import Hosts
from voicegw_mcp.web.identities import Identities

LOOPBACK = "127.0.0.1"


def add_fixtures(server: Server[dict[str, Any]]) -> None:
    """Put the fixtures onto a server that has the product's handlers."""

    def ours(method: str) -> Callable[[Context, Any], Awaitable[Any]]:
        entry = server.get_request_handler(method)
        assert entry is not None, method
        return entry.handler

    list_tools, call_tool = ours("tools/list"), ours("tools/call")
    list_prompts, get_prompt = ours("prompts/list"), ours("prompts/get")
    list_resources, list_templates = ours("resources/list"), ours("resources/templates/list")
    read_resource, listen = ours("resources/read"), ours("subscriptions/listen")
    subscribe, unsubscribe = ours("resources/subscribe"), ours("resources/unsubscribe")
    listen_to_fixtures = ListenHandler(FIXTURES.bus)

    async def all_tools(context: Context, params: types.PaginatedRequestParams) -> types.ListToolsResult:
        listed = await list_tools(context, params)
        return listed.model_copy(
            update={"tools": [*listed.tools, *(tool for tool, _ in FIXTURES.tools.values())]}
        )

    known_schema = server.get_tool_input_schema
    assert known_schema is not None

    def any_schema(name: str) -> Any:
        found = FIXTURES.tools.get(name)
        return known_schema(name) if found is None else found[0].input_schema

    server.get_tool_input_schema = any_schema

    async def any_tool(context: Context, params: types.CallToolRequestParams) -> Any:
        _, function = FIXTURES.tools.get(params.name, (None, call_tool))
        return await function(context, params)

    async def all_prompts(context: Context, params: types.PaginatedRequestParams) -> types.ListPromptsResult:
        listed = await list_prompts(context, params)
        return listed.model_copy(
            update={"prompts": [*listed.prompts, *(prompt for prompt, _ in FIXTURES.prompts.values())]}
        )

    async def any_prompt(context: Context, params: types.GetPromptRequestParams) -> Any:
        _, function = FIXTURES.prompts.get(params.name, (None, get_prompt))
        return await function(context, params)

    async def all_resources(
        context: Context, params: types.PaginatedRequestParams
    ) -> types.ListResourcesResult:
        listed = await list_resources(context, params)
        more = [types.Resource(uri=uri, name=uri, mime_type=kind) for uri, kind in RESOURCES.items()]
        return listed.model_copy(update={"resources": [*listed.resources, *more]})

    async def all_templates(
        context: Context, params: types.PaginatedRequestParams
    ) -> types.ListResourceTemplatesResult:
        listed = await list_templates(context, params)
        more = types.ResourceTemplate(uri_template=TEMPLATE, name="template")
        return listed.model_copy(update={"resource_templates": [*listed.resource_templates, more]})

    async def any_resource(context: Context, params: types.ReadResourceRequestParams) -> Any:
        contents = contents_of(params.uri)
        if contents is None:
            return await read_resource(context, params)
        return types.ReadResourceResult(contents=[contents], ttl_ms=0, cache_scope="private")

    async def any_subscribe(context: Context, params: types.SubscribeRequestParams) -> Any:
        return types.EmptyResult() if params.uri in RESOURCES else await subscribe(context, params)

    async def any_unsubscribe(context: Context, params: types.UnsubscribeRequestParams) -> Any:
        return types.EmptyResult() if params.uri in RESOURCES else await unsubscribe(context, params)

    async def any_listen(context: Context, params: types.SubscriptionsListenRequestParams) -> Any:
        asked = params.notifications  # the product's lists never change, the fixtures' do
        lists = asked.tools_list_changed or asked.prompts_list_changed
        return await (listen_to_fixtures if lists else listen)(context, params)

    async def set_level(_context: Context, _params: types.SetLevelRequestParams) -> types.EmptyResult:
        return types.EmptyResult()

    page = types.PaginatedRequestParams
    server.add_request_handler("tools/list", page, all_tools)
    server.add_request_handler("tools/call", types.CallToolRequestParams, any_tool)
    server.add_request_handler("prompts/list", page, all_prompts)
    server.add_request_handler("prompts/get", types.GetPromptRequestParams, any_prompt)
    server.add_request_handler("resources/list", page, all_resources)
    server.add_request_handler("resources/templates/list", page, all_templates)
    server.add_request_handler("resources/read", types.ReadResourceRequestParams, any_resource)
    server.add_request_handler("resources/subscribe", types.SubscribeRequestParams, any_subscribe)
    server.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, any_unsubscribe)
    server.add_request_handler("subscriptions/listen", types.SubscriptionsListenRequestParams, any_listen)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)
    state = RequestStateSecurity.ephemeral()  # what a client sends back is checked before a fixture sees it
    server.middleware.append(RequestStateBoundary(state, default_audience=server.name))


async def serve(file: str) -> None:
    """Serve the gateway of ``file`` with the fixtures until a signal comes."""
    gateway = Gateway.open(file, door="http")
    server = build_server(gateway)
    add_fixtures(server)
    app = build_app(server, gateway, Hosts.of(LOOPBACK), Identities(gateway), open_without_token=True)
    bound = listen(LOOPBACK, 0)
    url = f"http://{LOOPBACK}:{bound.getsockname()[1]}/mcp"
    try:
        await serve_http(app, bound, lambda: print(url, flush=True))  # noqa: T201 - what it is asked for
    finally:
        with anyio.CancelScope(shield=True):
            await gateway.close()


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1])
