"""Run loopback providers in a process of their own: ``python -m tests.loopback [NAME ...]``.

Prints one line of JSON, name -> {"base_url", "origin", "key"}, and serves until its input ends. Under each origin
``GET /_loopback/calls`` tells what came, ``POST /_loopback/faults`` takes ``{"fault": {"status": 503}, "times": 2, "door": "chat"}``,
``POST /_loopback/key`` takes ``{"key": ...}``.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from tests.loopback import PROVIDERS


async def main(names: list[str]) -> None:
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(PROVIDERS[name]()) for name in names or PROVIDERS]
        where = {
            provider.name: {"base_url": provider.base_url, "origin": provider.origin, "key": provider.key}
            for provider in running
        }
        sys.stdout.write(json.dumps(where) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
