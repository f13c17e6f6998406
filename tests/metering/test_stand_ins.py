"""What a throttled project needs is loaded before it is throttled, and beside the event loop."""

import subprocess
import sys

import pytest

GATEWAY = """\
providers: {openai: {api_key: a-key}, anthropic: {api_key: a-key}}
projects: {shop: {name: Shop, daily_budget: 5, budget_action: throttle, throttle_stack: small}}
stacks: {small: {llm: anthropic/claude-haiku-4-5}}
"""

BESIDE = """
import asyncio, sys
from voicegw_mcp import inference

PLUGIN = "livekit.plugins.anthropic"
ready = lambda: hasattr(sys.modules.get(PLUGIN), "LLM") and not sys.modules[PLUGIN].__spec__._initializing


async def main():
    inference.configure(sys.argv[1])
    await inference.preload("openai")
    model = inference.LLM("openai/gpt-4o-mini")
    assert not ready(), "the loop was held"
    inference.set_project("shop")
    turns = 0
    async with asyncio.timeout(60):
        while not ready():
            await asyncio.sleep(0.001)
            turns += 1
    assert turns > 5, turns


asyncio.run(main())
"""

NOW = """
import sys
from voicegw_mcp import inference

inference.configure(sys.argv[1])
model = inference.LLM("openai/gpt-4o-mini")
assert hasattr(sys.modules["livekit.plugins.anthropic"], "LLM")
"""


@pytest.mark.cover_processes
@pytest.mark.parametrize("program", [BESIDE, NOW], ids=["beside the loop", "where none runs"])
def test_the_plugin_of_a_throttle_stack_is_loaded_when_an_instance_is_made(tmp_path, program):
    file = tmp_path / "voicegw.yaml"
    file.write_text(f"{GATEWAY}cost_tracking: {{db_path: '{tmp_path / 'voicegw.db'}'}}\n")
    done = subprocess.run(
        [sys.executable, "-c", program, file], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
