"""What is loaded by whom: LiveKit takes seconds, and an MCP server needs none of it."""

import subprocess
import sys


def loaded_after(program):
    """Run a program in a fresh interpreter and return the top-level packages it has loaded."""
    program += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def test_importing_inference_loads_neither_livekit_nor_a_parser_nor_a_server():
    heavy = {"pydantic", "yaml", "mcp", "starlette", "genai_prices", "voice_prices"}
    program = "from voicegw_mcp import inference\nassert 'livekit.agents' not in __import__('sys').modules"
    assert loaded_after(program) & heavy == set()


def test_a_server_that_answers_every_tool_loads_no_livekit():
    program = """
import anyio, os, tempfile
from mcp import Client
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.server import build_server
from voicegw_mcp.tools import TOOLS
folder = tempfile.mkdtemp()
os.environ["VOICEGW_DB_PATH"] = folder + "/voicegw.db"
async def main():
    gateway = Gateway.open(folder + "/voicegw.yaml", door="test")
    async with Client(build_server(gateway, TOOLS)) as client:
        await client.call_tool("add_provider", {"provider_id": "deepgram", "provider_type": "deepgram"})
        await client.call_tool("register_model", {"modality": "stt", "provider_id": "deepgram", "model_name": "nova-3"})
        for tool in (await client.list_tools()).tools:
            await client.call_tool(tool.name, {})
    await gateway.close()
anyio.run(main)
"""
    loaded = loaded_after(program)
    assert {"mcp", "voicegw_mcp", "yaml"} <= loaded
    assert not {"livekit", "openai", "aiohttp"} & loaded
