"""The tool of ``bare_server.py`` over HTTP: the SDK's own transports under uvicorn, and nothing around them.

What ``http_load.py`` measures ``voicegw serve`` against: no token, no Host or Origin check, no limits of its own. Says on
standard output where it listens.
"""

from __future__ import annotations

import socket
from typing import Any

import anyio
import uvicorn
from bare_server import call_tool, list_tools
from mcp.server.lowlevel import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager


def build_app() -> Any:
    """Return ``/mcp``, ``/sse`` and ``/messages/`` as one ASGI application, told apart by a comparison."""
    server: Server[Any] = Server("bare", version="0", on_list_tools=list_tools, on_call_tool=call_tool)
    sessions = StreamableHTTPSessionManager(server)
    events = SseServerTransport("/messages/")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with sessions.run():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"] == "/mcp":
            await sessions.handle_request(scope, receive, send)
        elif scope["path"] == "/sse":
            async with events.connect_sse(scope, receive, send) as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
        else:
            await events.handle_post_message(scope, receive, send)

    return app


async def main() -> None:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it an answer in two writes takes 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen(2048)
    config = uvicorn.Config(
        build_app(), http="h11", ws="none", lifespan="on", log_config=None, access_log=False
    )
    print(f"http://127.0.0.1:{bound.getsockname()[1]}/mcp", flush=True)
    await uvicorn.Server(config).serve(sockets=[bound])


if __name__ == "__main__":
    anyio.run(main)
