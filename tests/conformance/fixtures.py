"""What the official conformance suite calls by name: tools, prompts and resources that no product would offer.

``serve.py`` puts them onto our own server; ``questions.py`` has those that ask the client for something.
"""

import base64
import io
import struct
import wave
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError

Context = ServerRequestContext[dict[str, Any]]
CallTool = Callable[[Context, types.CallToolRequestParams], Awaitable[Any]]
GetPrompt = Callable[[Context, types.GetPromptRequestParams], Awaitable[Any]]

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
PAUSE_S = 0.05
"""The suite wants to see that notices arrive while a tool runs."""


@dataclass
class Fixtures:
    """Tools and prompts by name, filled by the modules of this folder."""

    tools: dict[str, tuple[types.Tool, CallTool]] = field(default_factory=dict)
    prompts: dict[str, tuple[types.Prompt, GetPrompt]] = field(default_factory=dict)
    bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)

    def tool(self, name: str, schema: dict[str, Any] = NO_ARGUMENTS) -> Callable[[CallTool], CallTool]:
        """Register a tool; its docstring is its description."""

        def register(function: CallTool) -> CallTool:
            described = types.Tool(name=name, description=function.__doc__ or name, input_schema=schema)
            self.tools[name] = described, function
            return function

        return register

    def prompt(self, name: str, *arguments: str) -> Callable[[GetPrompt], GetPrompt]:
        """Register a prompt whose arguments are all needed; its docstring is its description."""

        def register(function: GetPrompt) -> GetPrompt:
            needed = [types.PromptArgument(name=argument, required=True) for argument in arguments]
            described = types.Prompt(name=name, description=function.__doc__ or name, arguments=needed)
            self.prompts[name] = described, function
            return function

        return register


FIXTURES = Fixtures()


def text(value: str) -> types.TextContent:
    return types.TextContent(type="text", text=value)


def answer(*content: types.ContentBlock, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=list(content), is_error=is_error)


def messages(*content: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(
        messages=[types.PromptMessage(role="user", content=part) for part in content]
    )


def embedded(uri: str, mime_type: str, value: str) -> types.EmbeddedResource:
    resource = types.TextResourceContents(uri=uri, mime_type=mime_type, text=value)
    return types.EmbeddedResource(type="resource", resource=resource)


def _png() -> str:
    """Return one red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")).decode()


def _wav() -> str:
    """Return one silent sample."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80")
    return base64.b64encode(buffer.getvalue()).decode()


PNG, WAV = _png(), _wav()
IMAGE = types.ImageContent(type="image", data=PNG, mime_type="image/png")


@FIXTURES.tool("test_simple_text")
async def simple_text(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Answer with a text."""
    return answer(text("A plain text."))


@FIXTURES.tool("test_image_content")
async def image_content(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Answer with an image."""
    return answer(IMAGE)


@FIXTURES.tool("test_audio_content")
async def audio_content(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Answer with a sound."""
    return answer(types.AudioContent(type="audio", data=WAV, mime_type="audio/wav"))


@FIXTURES.tool("test_embedded_resource")
async def embedded_resource(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Answer with a resource."""
    return answer(embedded("test://embedded-resource", "text/plain", "A resource inside an answer."))


@FIXTURES.tool("test_multiple_content_types")
async def several_contents(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Answer with a text, an image and a resource."""
    mixed = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return answer(text("Three kinds of content:"), IMAGE, mixed)


@FIXTURES.tool("test_error_handling")
async def failing(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Fail."""
    return answer(text("This tool always fails."), is_error=True)


async def _log(context: Context, what: str) -> None:
    await context.session.send_log_message("info", what, related_request_id=context.request_id)  # pyright: ignore[reportDeprecated]


@FIXTURES.tool("test_tool_with_logging")
async def logging_thrice(context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Send three log messages while at work."""
    for what in ("begun", "half way", "done"):
        await _log(context, what)
        await anyio.sleep(PAUSE_S)
    return answer(text("Logged three times."))


@FIXTURES.tool("test_logging_tool")
async def logging_once(context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Log a line, which only a client that asked for a level may see."""
    await _log(context, "one line")
    return answer(text("Logged."))


@FIXTURES.tool("test_tool_with_progress")
async def with_progress(context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Report progress three times."""
    for done in (0, 50, 100):
        await context.session.report_progress(done, 100, f"{done} of 100")
        await anyio.sleep(PAUSE_S)
    return answer(text("Progressed."))


@FIXTURES.tool("test_reconnection")
async def reconnection(context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """End the stream before the answer where streams can be resumed; ours cannot, so it answers on the same one."""
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    await anyio.sleep(PAUSE_S)
    return answer(text("Answered."))


@FIXTURES.tool("test_missing_capability")
async def needs_sampling(context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Refuse clients that cannot sample."""
    declared = context.session.client_capabilities
    if declared is None or declared.sampling is None:
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs a client that can sample.",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return answer(text("The client can sample."))


REGION = {"type": "string", "description": "Also sent as a header.", "x-mcp-header": "Region"}


@FIXTURES.tool("test_x_mcp_header", {"type": "object", "properties": {"region": REGION}})
async def with_header(_context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Take an argument that the client also sends as a header."""
    return answer(text(f"region {(params.arguments or {}).get('region', 'not given')}"))


DIALECT: dict[str, Any] = {  # every keyword that the suite looks for in the list
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        **{name: {"type": "string"} for name in ("phone", "email")},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@FIXTURES.tool("json_schema_2020_12_tool", DIALECT)
async def dialect(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Have a schema with all of JSON Schema 2020-12."""
    return answer(text("Listed."))


@FIXTURES.tool("test_trigger_tool_change")
async def change_tools(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Announce another list of tools."""
    await FIXTURES.bus.publish(ToolsListChanged())
    return answer(text("Announced."))


@FIXTURES.tool("test_trigger_prompt_change")
async def change_prompts(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
    """Announce another list of prompts."""
    await FIXTURES.bus.publish(PromptsListChanged())
    return answer(text("Announced."))


@FIXTURES.prompt("test_simple_prompt")
async def simple_prompt(_context: Context, _params: types.GetPromptRequestParams) -> types.GetPromptResult:
    """Be a prompt without arguments."""
    return messages(text("A plain prompt."))


@FIXTURES.prompt("test_prompt_with_arguments", "arg1", "arg2")
async def prompt_with_arguments(
    _context: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult:
    """Be a prompt with two arguments."""
    given = params.arguments or {}
    return messages(text(f"first {given.get('arg1')}, second {given.get('arg2')}"))


@FIXTURES.prompt("test_prompt_with_embedded_resource", "resourceUri")
async def prompt_with_resource(
    _context: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult:
    """Be a prompt that brings a resource."""
    uri = (params.arguments or {}).get("resourceUri", "test://example-resource")
    return messages(embedded(uri, "text/plain", "A resource inside a prompt."), text("Look at it."))


@FIXTURES.prompt("test_prompt_with_image")
async def prompt_with_image(
    _context: Context, _params: types.GetPromptRequestParams
) -> types.GetPromptResult:
    """Be a prompt that brings an image."""
    return messages(IMAGE, text("Look at it."))


RESOURCES = {
    "test://static-text": "text/plain",
    "test://static-binary": "image/png",
    "test://watched-resource": "text/plain",
}
TEMPLATE, PREFIX, SUFFIX = "test://template/{id}/data", "test://template/", "/data"


def contents_of(uri: str) -> types.TextResourceContents | types.BlobResourceContents | None:
    """Return a fixture's contents, None for what is none."""
    if uri.startswith(PREFIX) and uri.endswith(SUFFIX):
        found = uri.removeprefix(PREFIX).removesuffix(SUFFIX)
        return types.TextResourceContents(uri=uri, mime_type="application/json", text=f'{{"id":"{found}"}}')
    mime_type = RESOURCES.get(uri)
    if mime_type == "image/png":
        return types.BlobResourceContents(uri=uri, mime_type=mime_type, blob=PNG)
    return mime_type and types.TextResourceContents(uri=uri, mime_type=mime_type, text="A text.")
