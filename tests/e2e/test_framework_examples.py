"""Agents of LangGraph and CrewAI, each in an environment of its own, answer from the figures that a real gateway's tools give them."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import anyio
import pytest
from tests.e2e.conftest import BIN
from tests.e2e.scripted_model import ARGUMENTS, ScriptedModel
from tests.e2e.test_http import serve as serve  # noqa: PLC0414 - a fixture
from tests.factories import request_record

from voicegw_mcp.domain import Modality
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.sqlite import Store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "frameworks"
FRAMEWORKS = ("langgraph", "crewai")
INSTALL_S = 300
RUN_S = 120
TOKEN = "fake-token-0001"
COSTS = {"openai/gpt-4o-mini": 1_250_000_000, "deepgram/nova-3": 75_000_000}
"""What each model cost, nano-USD."""
ANSWER = "answer: openai/gpt-4o-mini cost most this week: 1.25 of 1.325 USD."


def uv(*arguments):
    """Run uv; its failure is the test's."""
    program = BIN / "uv"
    assert program.exists(), "uv is not installed; `make test` installs it with the test group."
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    assert done.returncode == 0, (
        f"uv {arguments[0]} could not make the environment of an example; it needs the package registry:\n{done.stderr}"
    )


@pytest.fixture(scope="module")
def python_of(tmp_path_factory):
    """Makes a framework's environment when it is first asked for; returns its Python. Removed afterwards: CrewAI's takes 0.8 GB."""
    made = {}

    def python_of(framework):
        if framework not in made:
            made[framework] = folder = tmp_path_factory.mktemp(framework)
            uv("venv", "--python", sys.executable, folder / "env")
            requirements = EXAMPLES / f"{framework}-requirements.txt"
            uv("pip", "install", "--python", folder / "env", "--requirements", requirements)
        return made[framework] / "env" / "bin" / "python"

    yield python_of
    for folder in made.values():
        shutil.rmtree(folder)


@pytest.fixture
async def model():
    async with ScriptedModel() as model:
        yield model


@pytest.fixture
async def proxy():
    """A proxy that lets nothing through; ``proxy.asked`` holds what wanted to leave the machine."""

    async def refuse(reader, writer):
        server.asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    server.asked = []
    async with server:
        yield server
        assert server.asked == []


@pytest.fixture
async def spent(environment):
    """Requests of a moment ago."""
    records = [
        request_record(
            id=model_id,
            timestamp_ms=int(time.time() * 1000) - 1000,
            modality=Modality.LLM,
            provider=model_id.split("/")[0],
            model_id=model_id,
            cost_nanousd=cost,
        )
        for model_id, cost in COSTS.items()
    ]
    store = await Store.open(Path(environment["VOICEGW_DB_PATH"]))
    try:
        await store.write(partial(insert_requests, records=records))
    finally:
        await store.close()


@pytest.fixture
def ask(python_of, environment, tmp_path, model, proxy):
    """Runs an example as a user would, with a proxy between it and everything but loopback."""
    outside = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"

    async def ask(framework, *arguments, **variables):
        python = await anyio.to_thread.run_sync(python_of, framework)
        with anyio.fail_after(RUN_S):
            return await anyio.run_process(
                [str(python), str(EXAMPLES / f"{framework}_agent.py"), *arguments],
                env={
                    **environment,
                    "PATH": f"{BIN}{os.pathsep}{environment['PATH']}",
                    "OPENAI_API_KEY": model.key,
                    "OPENAI_BASE_URL": model.base_url,
                    "HTTPS_PROXY": outside,
                    "HTTP_PROXY": outside,
                    "NO_PROXY": "127.0.0.1",
                    "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
                    **variables,
                },
                cwd=tmp_path,
                check=False,
            )

    return ask


def calls_shown(text):
    return [line for line in text.splitlines() if line.startswith("tool: ")]


def tools_offered(model):
    return {tool["function"]["name"] for tool in model.asked[0]["tools"]}


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_an_agent_answers_from_what_a_tool_says_over_stdio(ask, model, framework):
    done = await ask(framework, "Which model cost most this week?")
    shown, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, shown + errors
    assert ANSWER in shown
    (call,) = calls_shown(shown)
    assert "get_costs" in call
    assert all(value in call for value in ARGUMENTS.values())
    assert len(tools_offered(model)) >= 17
    assert "Which model cost most this week?" in str(model.asked[0]["messages"])
    assert len(model.calls) == 2
    assert model.key not in shown + errors


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_an_agent_answers_over_http_with_a_token(ask, serve, framework):
    gateway = await anyio.to_thread.run_sync(partial(serve, VOICEGW_MCP_TOKEN=TOKEN))
    url = gateway.sse if framework == "crewai" else gateway.mcp  # the example says why
    done = await ask(framework, "--url", url, VOICEGW_MCP_TOKEN=TOKEN)
    shown, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, shown + errors
    assert ANSWER in shown
    assert TOKEN not in shown + errors


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("OPENAI_API_KEY", "Set OPENAI_API_KEY: the agent's own model needs it."),
        (
            "PATH",
            "voicegw-mcp is not on the PATH: put the folder of its environment there, or say --url.",
        ),
    ],
)
async def test_what_is_missing_is_said_in_one_line(ask, framework, variable, said):
    done = await ask(framework, **{variable: ""})
    assert done.returncode == 1
    assert done.stderr.decode().strip() == said
