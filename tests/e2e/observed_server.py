"""The HTTP server with a low limit on sessions; tells on SIGUSR1 how many tasks and sessions it has.

Arguments: the limit, and for how many seconds an idle session is kept when there are too many.
"""

import asyncio
import gc
import json
import os
import signal
import sys

from mcp.server.connection import Connection

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.server import build_server
from voicegw_mcp.transports import sessions as limits
from voicegw_mcp.transports.http import listen, serve_http
from voicegw_mcp.web.app import build_app
from voicegw_mcp.web.hosts import Hosts
from voicegw_mcp.web.identities import Identities


def write_line(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main():
    gateway = Gateway.open(door="http", environment=os.environ)
    bound = listen("127.0.0.1", 0)
    loop = asyncio.get_running_loop()

    def tell():
        gc.collect()
        sessions = sum(isinstance(item, Connection) for item in gc.get_objects())
        write_line(json.dumps({"tasks": len(asyncio.all_tasks(loop)), "sessions": sessions}))

    loop.add_signal_handler(signal.SIGUSR1, tell)
    app = build_app(
        build_server(gateway),
        gateway,
        Hosts.of("127.0.0.1"),
        Identities(gateway),
        open_without_token=True,
        max_sessions=int(sys.argv[1]),
    )
    limits.KEPT_S = float(sys.argv[2])
    try:
        await serve_http(app, bound, lambda: write_line(bound.getsockname()[1]))
    finally:
        await gateway.close()


asyncio.run(main())
