"""The least a Python MCP server can be on the same SDK: a low-level server over stdio with one tool that does nothing.

What ``run.py`` measures voicegw-mcp against. It imports what such a server needs, and nothing else.
"""

from __future__ import annotations

from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

TOOL = types.Tool(
    name="noop",
    description="Do nothing.",
    input_schema={"type": "object", "properties": {}, "additionalProperties": False},
)


async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[TOOL])


async def call_tool(_context: Any, _params: Any) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text="{}")], structured_content={}, is_error=False
    )


async def main() -> None:
    server = Server("bare", version="0", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
