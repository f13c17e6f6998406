"""Calls that their client cancels leave a server behind that answers the next ones with what is true now."""

import anyio
import pytest
from tests.factories import NOW, request_record
from tests.protocol.agents import ERAS


async def cancelled(agent, tool, steps):
    """Call a tool and cancel the call after so many turns of the event loop."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent.call, tool, {})
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", ["get_costs", "get_latency_stats"])
async def test_a_report_is_true_after_many_of_its_calls_were_cancelled(house, era, tool):
    await house.log(request_record(timestamp_ms=NOW - 1_000, cost_nanousd=10**9, total_ms=5.0, ttfb_ms=5.0))
    async with house.agent(mode=era) as agent:
        first = await agent.ok(tool)
        for steps in range(60):
            await cancelled(agent, tool, steps)
        assert await agent.ok(tool) == first
        await house.log(
            request_record(id="s", timestamp_ms=NOW - 500, cost_nanousd=10**9, total_ms=9.0, ttfb_ms=9.0)
        )
        assert await agent.ok(tool) != first
