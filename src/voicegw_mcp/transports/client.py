"""The client's end: starts a server or reaches one by its address, and calls one tool.

May import mcp, httpx2, ``errors`` and ``core.untrusted``; the first two are imported when a call is made.
"""

from __future__ import annotations

import contextlib
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from voicegw_mcp import __version__
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.errors import GatewayError, ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import httpx2
    from mcp.client import Client

ANSWER_S: Final = 60.0
"""How long a client waits for one answer; no tool takes half of it."""

CONNECT_S: Final = 10.0
MAX_PAGES: Final = 100
MAX_REFUSAL_BYTES: Final = 65_536
"""How much of a refusal is read to find out why."""
MAX_SAID: Final = 300
"""Characters of a server's own words that are repeated."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A server to start, and to talk to over its standard input and output; its standard error is ours."""

    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """A running server: Streamable HTTP, or HTTP+SSE when the path of ``url`` ends in ``/sse``."""

    url: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """What a tool answered: structured content, or the JSON (else the text) of its first text block."""

    data: Any
    is_error: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP status of 400 or more, and what the server said with it: the texts of our error shape, "" without one."""

    status: int
    message: str = ""
    hint: str = ""
    retry_after: str = ""


async def call_tool(
    server: Launch | Address, name: str, prepare: Callable[[Mapping[str, Mapping[str, Any]]], dict[str, Any]]
) -> CallAnswer:
    """Call one tool of a server and return what it answered.

    Args:
        server: started and ended here, or reached by URL.
        name: the tool's name.
        prepare: gets the input schemas of all tools by name and returns the arguments, or raises.

    Raises:
        ServerUnreachable: it does not start or answer, refuses the token, or speaks no MCP.
    """
    import httpx2  # noqa: PLC0415 - see the module docstring
    from mcp.shared.exceptions import MCPError  # noqa: PLC0415 - likewise

    failure: Exception | None = None
    refusals: list[Refusal] = []
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(await _client(server, stack, refusals))
            try:
                arguments = prepare(await _input_schemas(client))
                return _answer(await client.call_tool(name, arguments))
            except (GatewayError, MCPError) as error:  # for below: task groups on the way out would wrap it
                failure = error
    except (OSError, ValueError, MCPError, httpx2.HTTPError, httpx2.InvalidURL, ExceptionGroup) as error:
        failure = error
    if isinstance(failure, GatewayError):
        raise failure
    data = failure.error.data if isinstance(failure, MCPError) else None
    if isinstance(data, dict) and "error" in data:  # our servers put the error object into protocol errors
        return CallAnswer(data, is_error=True)
    raise _unreachable(server, failure or EOFError(), refusals) from failure


async def _client(server: Launch | Address, stack: AsyncExitStack, refusals: list[Refusal]) -> Client:
    from mcp.client import Client  # noqa: PLC0415 - see the module docstring
    from mcp_types import Implementation  # noqa: PLC0415 - likewise

    return Client(
        await _transport(server, stack, refusals),
        client_info=Implementation(name="voicegw", version=__version__),
        read_timeout_seconds=ANSWER_S,
        cache=None,
    )


async def _transport(server: Launch | Address, stack: AsyncExitStack, refusals: list[Refusal]) -> Any:
    """Return the SDK's transport to a server; what it needs is closed by ``stack``.

    What the server refuses is added to ``refusals``: the SDK's errors tell neither status nor reason.
    """
    if isinstance(server, Launch):
        from mcp.client.stdio import StdioServerParameters, stdio_client  # noqa: PLC0415 - see the module docstring

        return stdio_client(
            StdioServerParameters(
                command=server.command, args=list(server.arguments), env=dict(server.environment)
            ),
            errlog=sys.stderr,
        )
    import httpx2  # noqa: PLC0415 - see the module docstring
    from mcp.client.sse import sse_client  # noqa: PLC0415 - likewise
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415 - likewise

    async def note(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            refusals.append(await _refusal(response))

    def connection(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers=headers, timeout=timeout, auth=auth, event_hooks={"response": [note]}
        )

    headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    if urlsplit(server.url).path.endswith("/sse"):
        return sse_client(server.url, headers, CONNECT_S, ANSWER_S, httpx_client_factory=connection)
    http = await stack.enter_async_context(connection(headers, httpx2.Timeout(CONNECT_S, read=ANSWER_S)))
    return streamable_http_client(server.url, http_client=http)


async def _input_schemas(client: Client) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found |= {tool.name: tool.input_schema for tool in page.tools}
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _answer(result: Any) -> CallAnswer:
    if result.structured_content is not None:
        return CallAnswer(result.structured_content, bool(result.is_error))
    texts = [block.text for block in result.content if block.type == "text"]
    try:
        data = json.loads(texts[0])
    except (IndexError, ValueError):
        data = {"content": [block.model_dump(mode="json", exclude_none=True) for block in result.content]}
    return CallAnswer(data, bool(result.is_error))


async def _refusal(response: httpx2.Response) -> Refusal:
    """Return why a request was refused, as far as the server says it in a short JSON body."""
    import httpx2  # noqa: PLC0415 - see the module docstring

    retry_after = response.headers.get("retry-after", "")
    retry_after = retry_after if retry_after.isascii() and retry_after.isdigit() else ""
    said: Any = None
    length = response.headers.get("content-length", "")
    is_json = response.headers.get("content-type", "").lower().startswith("application/json")
    if (
        is_json
        and length.isascii()
        and length.isdigit()
        and len(length) <= 5
        and int(length) <= MAX_REFUSAL_BYTES
    ):
        with contextlib.suppress(httpx2.HTTPError, ValueError, RecursionError):
            said = json.loads(await response.aread())
    message, hint = "", ""
    match said:
        case {"error": {"message": str(message), **rest}}:
            hint = str(rest.get("hint", ""))
        case _:
            pass
    return Refusal(
        response.status_code,
        escape_untrusted(message, MAX_SAID),
        escape_untrusted(hint, MAX_SAID),
        retry_after[:6],
    )


def _unreachable(
    server: Launch | Address, error: BaseException, refusals: list[Refusal]
) -> ServerUnreachable:
    where = f"at {server.url}" if isinstance(server, Address) else f"from {server.command}"
    if refusals and isinstance(server, Address):
        return _refused(server, refusals[-1])
    cause = next(_leaves(error))
    reason = f"{type(cause).__name__}: {cause}".rstrip(": ")[:300]
    hint = "Is it running, and is the URL right (http://HOST:PORT/mcp)?"
    if isinstance(server, Launch):
        hint = "What it wrote to standard error says why."
    return ServerUnreachable(f"No answer of an MCP server {where} ({reason}).", hint=hint)


def _refused(server: Address, refusal: Refusal) -> ServerUnreachable:
    """Return the answer of a server that is there and lets nobody in, in its own words where it has some."""
    later = f"Try again in {refusal.retry_after} seconds." if refusal.retry_after else "Try again later."
    told, hint = {
        401: (
            "wants another token" if server.token else "wants a token",
            "Name the environment variable that holds it: --token-env VOICEGW_MCP_TOKEN",
        ),
        403: ("does not let this caller in", "Use another token, or ask who runs it."),
        404: ("has nothing at that address", "Is the path right? It is /mcp or /sse."),
        421: (
            "does not answer under that name",
            "Call it by the name it was started with, or start it with --allowed-host NAME.",
        ),
        429: ("answers nobody at this address for now: too many wrong tokens", later),
        503: ("has no room for another session", later),
    }.get(refusal.status, ("refuses", "Its log says why."))
    said = f": {refusal.message}" if refusal.message else "."
    details: dict[str, Any] = {"http_status": refusal.status}
    if refusal.retry_after:
        details["retry_after_s"] = int(refusal.retry_after)
    return ServerUnreachable(
        f"The server at {server.url} {told} (HTTP {refusal.status}){said}",
        # What to do with a token is said in words of ours: the server does not know how it is given here.
        hint=hint if refusal.status in {401, 429, 503} or not refusal.hint else refusal.hint,
        details=details,
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions inside groups, one by one, those that caused others first."""
    if isinstance(error, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(part)
        return
    if error.__cause__ is not None:
        yield from _leaves(error.__cause__)
    yield error
