"""The only place where a tool meets MCP: tools, resources and prompts as handlers of a low-level SDK server.

May import ``tools``, ``core``, ``errors`` and mcp. It validates arguments, turns every exception into the one error shape,
and knows no transport. Facts on mcp 2.3: the low-level ``Server`` advertises schemas without applying them, and answers
an exception with an opaque -32603.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic_core import to_json

from voicegw_mcp import __version__
from voicegw_mcp.core.tracing import find_tracer
from voicegw_mcp.errors import GatewayError, InternalError, InvalidInput, StoreUnavailable, nearest, quote
from voicegw_mcp.message_spans import MessageSpans
from voicegw_mcp.notices import Notices
from voicegw_mcp.questions import Unanswered, asking
from voicegw_mcp.tools import TOOLS
from voicegw_mcp.tools.offered import choose_prompts, instruct
from voicegw_mcp.tools.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable, Sequence

    from mcp.server.context import ServerRequestContext

    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.tools.define import Tool

    Context = ServerRequestContext[dict[str, Any]]
    Page = types.PaginatedRequestParams | None

T = TypeVar("T")
logger = logging.getLogger(__name__)

LIST_TTL_MS: Final = 3_600_000
"""How long a client may keep the lists: they change only with the program."""

JSON_TYPE: Final = "application/json"
DEADLINE_S: Final = 30.0
"""How long a tool may take. Clients give up after 60 s; a change that has begun is finished all the same."""

IDENTITY: Final = "voicegw.identity"
"""The key of a request's ASGI scope under which a door that asks for tokens puts who calls."""

STANDING: Final = "voicegw.standing"
"""The key under which it puts what tells whether he still may what he might."""

MAX_COMPLETIONS: Final = 100
"""MCP's limit on the values of one completion (specification 2025-06-18, completion/complete)."""


def build_server(gateway: Gateway, tools: Sequence[Tool] = TOOLS) -> Server[dict[str, Any]]:
    """Return a server that offers ``tools`` on ``gateway``; a transport runs it.

    Args:
        gateway: opened by the command, shared by all sessions.
        tools: in the order they are listed.
    """
    door = _Door(gateway, tools)
    server: Server[dict[str, Any]] = Server(
        "voicegw-mcp",
        version=__version__,
        title="Voice gateway",
        instructions=instruct(tools),
        on_list_tools=door.list_tools,
        on_list_resources=door.list_resources,
        on_list_resource_templates=door.list_resource_templates,
        on_read_resource=door.read_resource,
        on_subscribe_resource=door.subscribe_resource,
        on_unsubscribe_resource=door.unsubscribe_resource,
        on_subscriptions_listen=door.listen,
        on_list_prompts=door.list_prompts,
        on_get_prompt=door.get_prompt,
        on_completion=door.complete,
        # Otherwise the SDK asks for the whole list at every call of the newest protocol.
        get_tool_input_schema=door.input_schema_of,
    )
    server.add_request_handler("tools/call", types.CallToolRequestParams, door.call_tool)
    server.middleware.clear()  # it makes spans: for nobody, or with what was said
    tracer = find_tracer()
    if tracer is not None:
        server.middleware.append(MessageSpans(tracer, gateway.caller.door, door.names()))
    return server


class _Door:
    """The handlers. Each answers one method of the protocol."""

    def __init__(self, gateway: Gateway, tools: Sequence[Tool]) -> None:
        self._gateway = gateway
        self._notices = Notices(gateway)
        self._tools = {tool.name: tool for tool in tools}
        self._prompts = {prompt.name: prompt for prompt in choose_prompts(tools)}

    def names(self) -> dict[str, Collection[str]]:
        """Return what can be called by name, by method."""
        return {"tools/call": self._tools, "prompts/get": self._prompts}

    def _caller(self, context: Context) -> Gateway:
        """Return the gateway as this caller may use it: over HTTP by his token, else by what his client is called."""
        identity = _of_request(context, IDENTITY)
        if identity is None:
            return self._gateway.as_caller(_client_name(context))
        return self._gateway.as_caller(identity.name, identity.access)

    def _in_call(
        self, context: Context, params: types.CallToolRequestParams, deadline: anyio.CancelScope
    ) -> Gateway:
        """Return the caller's gateway, by which a tool may report to his client and ask his person."""

        async def report(progress: float, message: str) -> None:
            await context.session.report_progress(progress, None, message)

        session = partial(_session, context)
        standing, identity = _of_request(context, STANDING), _of_request(context, IDENTITY)
        ask = asking(context, params, deadline, None if standing is None else standing.require)
        if identity is None:
            return self._gateway.as_caller(_client_name(context), report=report, ask=ask, session=session)
        # The door has looked at the file for this very request.
        return self._gateway.as_caller(
            identity.name, identity.access, catalog=identity.catalog, report=report, ask=ask, session=session
        )

    async def list_tools(self, _context: Context, _page: Page) -> types.ListToolsResult:
        listed = [_listed(tool) for tool in self._tools.values()]
        return types.ListToolsResult(tools=listed, ttl_ms=LIST_TTL_MS, cache_scope="private")

    def input_schema_of(self, tool_name: str) -> dict[str, Any] | None:
        tool = self._tools.get(tool_name)
        return None if tool is None else tool.input_schema

    async def call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> dict[str, Any] | types.InputRequiredResult:
        tool = self._tools.get(params.name)
        if tool is None:
            raise _unknown("tool", params.name, self._tools)
        standing = _of_request(context, STANDING)
        outcome = "cancelled"
        try:
            with anyio.move_on_after(DEADLINE_S) as deadline:
                if standing is not None:
                    standing.begin(deadline.cancel)
                gateway = self._in_call(context, params, deadline)
                answer = await tool.run(gateway, tool.parse(params.arguments))
                text, data = answer.model_dump_json(exclude_none=True), answer.fields()
                outcome = "ok"
                return _result(text, data)
            failure: GatewayError = getattr(standing, "refusal", None) or overdue(tool.name)
            outcome = failure.error_code
        except Unanswered as question:
            outcome = "asked"
            return question.result
        except GatewayError as error:
            failure, outcome = error, error.error_code
        except Exception as error:  # noqa: BLE001 - the door: whatever went wrong is answered in the one shape
            failure = logged(tool.name, error)
            outcome = failure.error_code
        finally:
            if standing is not None:
                standing.over()
            self._gateway.tool_calls[tool.name, outcome] += 1
        payload = failure.payload()
        return _result(_compact(payload), payload, is_error=True)

    async def list_resources(self, _context: Context, _page: Page) -> types.ListResourcesResult:
        listed = [
            types.Resource(uri=item.uri, name=item.name, description=item.description, mime_type=JSON_TYPE)
            for item in RESOURCES
            if not item.parameter
        ]
        return types.ListResourcesResult(resources=listed, ttl_ms=LIST_TTL_MS, cache_scope="private")

    async def list_resource_templates(
        self, _context: Context, _page: Page
    ) -> types.ListResourceTemplatesResult:
        listed = [
            types.ResourceTemplate(
                uri_template=item.template, name=item.name, description=item.description, mime_type=JSON_TYPE
            )
            for item in RESOURCES
            if item.parameter
        ]
        return types.ListResourceTemplatesResult(
            resource_templates=listed, ttl_ms=LIST_TTL_MS, cache_scope="private"
        )

    async def read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        for item in RESOURCES:
            argument = item.argument_of(params.uri)
            if argument is not None:
                read = _in_time(item.read(self._caller(context), argument), item.name)
                text = _compact(await _guarded(read, item.name))
                contents = types.TextResourceContents(uri=params.uri, mime_type=JSON_TYPE, text=text)
                return types.ReadResourceResult(contents=[contents], ttl_ms=0, cache_scope="private")
        unknown = _unknown("resource", params.uri, [item.uri for item in RESOURCES]).error
        raise MCPError(unknown.code, unknown.message, {**unknown.data, "uri": params.uri})

    async def subscribe_resource(
        self, context: Context, params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        await _guarded(self._notices.subscribe(context, self._caller(context), params.uri), "subscribing")
        return types.EmptyResult()

    async def unsubscribe_resource(
        self, context: Context, params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        self._notices.unsubscribe(context, params.uri)
        return types.EmptyResult()

    async def listen(
        self, context: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        return await _guarded(self._notices.listen(context, self._caller(context), params), "listening")

    async def list_prompts(self, _context: Context, _page: Page) -> types.ListPromptsResult:
        listed = [
            types.Prompt(
                name=item.name,
                title=item.title,
                description=item.description,
                arguments=[
                    types.PromptArgument(name=part.name, description=part.description, required=part.required)
                    for part in item.arguments
                ],
            )
            for item in self._prompts.values()
        ]
        return types.ListPromptsResult(prompts=listed, ttl_ms=LIST_TTL_MS, cache_scope="private")

    async def get_prompt(
        self, _context: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        prompt = self._prompts.get(params.name)
        if prompt is None:
            raise _unknown("prompt", params.name, self._prompts)
        try:
            text = prompt.render(params.arguments or {})
        except InvalidInput as error:
            raise _protocol_error(error) from None
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
        return types.GetPromptResult(description=prompt.description, messages=[message])

    async def complete(self, context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        values: list[str] = []
        gateway = self._caller(context)
        if isinstance(params.ref, types.PromptReference):
            prompt = self._prompts.get(params.ref.name)
            argument = prompt.argument(params.argument.name) if prompt else None
            if argument is not None:
                values = await _guarded(argument.complete(gateway, params.argument.value), "completion")
        else:
            for item in RESOURCES:
                if item.complete is not None and item.template == params.ref.uri:
                    values = await _guarded(item.complete(gateway, params.argument.value), "completion")
        shown = values[:MAX_COMPLETIONS]
        more = len(values) > len(shown)
        return types.CompleteResult(
            completion=types.Completion(values=shown, total=len(values), has_more=more)
        )


def _listed(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=types.ToolAnnotations(
            read_only_hint=tool.read_only,
            destructive_hint=tool.destructive,
            idempotent_hint=tool.idempotent,
            open_world_hint=tool.open_world,
        ),
    )


def _result(text: str, data: dict[str, Any], *, is_error: bool = False) -> dict[str, Any]:
    """Return the same object as compact text and as structured content: hosts show a model one or the other.

    In the wire's form (specification 2026-07-28, CallToolResult), which the SDK checks and trims to the client's revision;
    a model of it would be dumped into the same form first. What ``data`` holds of pydantic's models the SDK dumps then.
    """
    return {
        "content": [{"type": "text", "text": text}],
        "structuredContent": data,
        "isError": is_error,
        "resultType": "complete",
    }


def _compact(data: Any) -> str:
    return to_json(data).decode()


def _of_request(context: Context, key: str) -> Any:
    """Return what the door that asks for tokens put into the request's ASGI scope; None at other doors."""
    return getattr(context.request, "scope", {}).get(key)


def _session(context: Context) -> str:
    """Return what tells a client from others: its session; its token where there are none (from 2026-07-28 on)."""
    if context.request is None:  # one client has the whole server
        return ""
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return getattr(_of_request(context, IDENTITY), "fingerprint", "")
    request = context.request
    return request.headers.get("mcp-session-id") or request.query_params.get("session_id", "")


def _client_name(context: Context) -> str:
    """Return what the client calls itself, for the journal."""
    client = context.session.client_params
    return quote(client.client_info.name)[1:-1] if client else ""


async def _in_time(work: Awaitable[T], what: str) -> T:
    with anyio.move_on_after(DEADLINE_S):
        return await work
    raise overdue(what)


async def _guarded(work: Awaitable[T], what: str) -> T:
    """Await what is not a tool: its failures are protocol errors that carry the same error object."""
    try:
        return await work
    except GatewayError as error:
        raise _protocol_error(error) from None
    except Exception as error:  # noqa: BLE001 - the door, as in call_tool
        raise _protocol_error(logged(what, error)) from None


def _protocol_error(error: GatewayError) -> MCPError:
    code = types.INVALID_PARAMS if error.http_status < 500 else types.INTERNAL_ERROR
    return MCPError(code, f"{error.message} {error.hint}".strip(), error.payload())


def _unknown(what: str, name: str, known: Iterable[str]) -> MCPError:
    near = nearest(name, known)
    hint = f"Did you mean {', '.join(near)}?" if near else ""
    return _protocol_error(
        InvalidInput(f"Unknown {what} {quote(name)}.", hint=hint, details={"nearest": near})
    )


def overdue(tool_name: str) -> StoreUnavailable:
    """Return the failure of what took longer than ``DEADLINE_S``."""
    return StoreUnavailable(
        f"{tool_name} took longer than {DEADLINE_S:.0f} seconds and was ended.",
        hint="Ask for less (a shorter period, fewer rows), or try again.",
        details={"reason": "deadline"},
    )


def logged(what: str, failure: Exception) -> InternalError:
    """Log an exception under a reference id; arguments are not logged."""
    error = InternalError()
    logger.error("%s failed (reference %s)", what, error.reference, exc_info=failure)
    return error
