"""A CrewAI agent that manages the gateway through MCP: it is asked in words, and calls our tools to answer.

    uv venv crewai-env && uv pip install --python crewai-env -r examples/frameworks/crewai-requirements.txt
    export OPENAI_API_KEY=...            # OPENAI_BASE_URL and MODEL (default openai/gpt-4o-mini) name another server or model
    crewai-env/bin/python examples/frameworks/crewai_agent.py "Which model cost most this week?"
    crewai-env/bin/python examples/frameworks/crewai_agent.py --url http://127.0.0.1:8080/sse "..."

An environment of its own, because CrewAI needs mcp 1.x. Without --url it launches `voicegw-mcp`, which must be on the PATH and takes
its file from VOICEGW_CONFIG as ever; with it, the token is in VOICEGW_MCP_TOKEN. The address /mcp does as well from Python 3.12 on: on
3.11 CrewAI 1.15 loses what a tool said when it closes such a connection.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import Any

# CrewAI reports its use to its makers, and offers to show what was done, unless it is told not to before it is imported.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")

from crewai import LLM, Agent
from crewai.events import ToolUsageFinishedEvent, crewai_event_bus
from crewai.mcp import MCPServerHTTP, MCPServerSSE, MCPServerStdio

INSTRUCTIONS = "Answer in one sentence, with figures that your tools gave you."
QUESTION = "Which model cost most this week?"


def connection(url: str | None) -> MCPServerHTTP | MCPServerSSE | MCPServerStdio:
    """Return how the gateway is reached: over HTTP with a token, or as a process over stdio."""
    if url is None:
        # CrewAI hands on hardly any variable by itself, and the gateway's file and keys are named by variables.
        return MCPServerStdio(command="voicegw-mcp", env=dict(os.environ))
    token = os.environ.get("VOICEGW_MCP_TOKEN")
    server = MCPServerSSE if url.endswith("/sse") else MCPServerHTTP
    return server(url=url, headers={"Authorization": f"Bearer {token}"} if token else None)


def make_agent(url: str | None) -> Agent:
    """Return an agent with all tools of the gateway."""
    return Agent(
        role="Operator of a voice-AI gateway",
        goal="Answer questions about the gateway, and change it when asked to.",
        backstory=INSTRUCTIONS,
        llm=LLM(model=os.environ.get("MODEL", "openai/gpt-4o-mini")),
        mcps=[connection(url)],
        verbose=False,
    )


def show(_source: Any, event: ToolUsageFinishedEvent) -> None:
    """Print a call of a tool."""
    print(f"tool: {event.tool_name} {event.tool_args}")


def main() -> None:
    """Ask what stands in the command line."""
    parser = argparse.ArgumentParser(description="Ask the gateway in words.")
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--url", help="the gateway's address; without it voicegw-mcp is launched")
    asked = parser.parse_args()
    if not os.environ.get("OPENAI_API_KEY"):
        sys.exit("Set OPENAI_API_KEY: the agent's own model needs it.")
    if not asked.url and not shutil.which("voicegw-mcp"):
        sys.exit("voicegw-mcp is not on the PATH: put the folder of its environment there, or say --url.")
    crewai_event_bus.on(ToolUsageFinishedEvent)(show)
    answer = make_agent(asked.url).kickoff(asked.question)
    crewai_event_bus.flush()
    print(f"answer: {answer}")


if __name__ == "__main__":
    main()
