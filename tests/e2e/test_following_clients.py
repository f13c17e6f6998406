"""How many calls of one client may follow the log, over every HTTP transport: the others are not counted."""

from contextlib import suppress

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from tests.e2e.conftest import WAIT_S
from tests.e2e.test_http import OTHER, TOKEN, TWO_KEYS, call, connected, serve as serve, stop as stop  # noqa: PLC0414 - fixtures
from tests.protocol.agents import ERAS

from voicegw_mcp.core.followers import MOST_OF_A_SESSION


@pytest.mark.parametrize("mode", [*ERAS, "sse"])
async def test_who_follows_with_too_many_calls_is_refused_and_nobody_else(serve, stop, config, mode):
    config.write_text(config.read_text() + TWO_KEYS)
    server = serve(VOICEGW_MCP_TOKEN=TOKEN, OPS_TOKEN=OTHER, VIEW_TOKEN="fake-token-0003")
    # Without sessions (2026-07-28) only their tokens tell clients apart.
    another = OTHER if mode == "auto" else TOKEN
    async with connected(server, mode, TOKEN) as client, connected(server, mode, another) as other:
        refused, told = anyio.Event(), []

        async def follow():
            with suppress(MCPError):  # it is cancelled in the end
                told.append((await call(client, "get_logs", follow_seconds=25))["error"])
                refused.set()

        async with anyio.create_task_group() as tasks:
            for _ in range(MOST_OF_A_SESSION + 1):
                tasks.start_soon(follow)
            with anyio.fail_after(WAIT_S):
                await refused.wait()
            (error,) = told
            assert (error["code"], error["details"]) == ("VALIDATION_ERROR", {"field": "follow_seconds"})
            assert (await call(other, "get_logs", follow_seconds=0.01))["new_count"] == 0
            assert "logs" in await call(client, "get_logs", follow_seconds=0)
            tasks.cancel_scope.cancel()
    assert stop(server) == 0
