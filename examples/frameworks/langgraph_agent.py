"""A LangGraph agent that manages the gateway through MCP: it is asked in words, and calls our tools to answer.

    uv venv langgraph-env && uv pip install --python langgraph-env -r examples/frameworks/langgraph-requirements.txt
    export OPENAI_API_KEY=...            # OPENAI_BASE_URL and MODEL (default gpt-4o-mini) name another server or model
    langgraph-env/bin/python examples/frameworks/langgraph_agent.py "Which model cost most this week?"
    langgraph-env/bin/python examples/frameworks/langgraph_agent.py --url http://127.0.0.1:8080/mcp "..."

An environment of its own, because langchain-mcp-adapters needs mcp 1.x. Without --url it launches `voicegw-mcp`, which must be on
the PATH and takes its file from VOICEGW_CONFIG as ever; with it, the token is in VOICEGW_MCP_TOKEN.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

INSTRUCTIONS = (
    "You manage a voice-AI gateway with your tools. Answer in one sentence, with figures that they gave you."
)
QUESTION = "Which model cost most this week?"


def connection(url: str | None) -> Any:
    """Return how the gateway is reached: over HTTP with a token, or as a process over stdio."""
    if url is None:
        # The adapter hands on no variable by itself, and the gateway's file and keys are named by variables.
        return {"transport": "stdio", "command": "voicegw-mcp", "args": [], "env": dict(os.environ)}
    token = os.environ.get("VOICEGW_MCP_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {"transport": "streamable_http", "url": url, "headers": headers}


def make_agent(tools: list[BaseTool]) -> Any:
    """Return the graph: the model is asked, the tools it wants are called, until it wants none."""
    model = ChatOpenAI(model=os.environ.get("MODEL", "gpt-4o-mini")).bind_tools(tools)

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", ask)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile()


async def answer(question: str, url: str | None) -> None:
    """Print which tools were called with what, then the answer."""
    client = MultiServerMCPClient({"gateway": connection(url)})
    # One session for the whole conversation; the client's own get_tools() would launch a server for every call.
    async with client.session("gateway") as session:
        agent = make_agent(await load_mcp_tools(session))
        messages = [("system", INSTRUCTIONS), ("user", question)]
        said = (await agent.ainvoke({"messages": messages}))["messages"]
    for message in said:
        for call in getattr(message, "tool_calls", ()):
            print(f"tool: {call['name']} {call['args']}")
    print(f"answer: {said[-1].text}")


def main() -> None:
    """Ask what stands in the command line."""
    parser = argparse.ArgumentParser(description="Ask the gateway in words.")
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--url", help="the gateway's /mcp address; without it voicegw-mcp is launched")
    asked = parser.parse_args()
    if not os.environ.get("OPENAI_API_KEY"):
        sys.exit("Set OPENAI_API_KEY: the agent's own model needs it.")
    if not asked.url and not shutil.which("voicegw-mcp"):
        sys.exit("voicegw-mcp is not on the PATH: put the folder of its environment there, or say --url.")
    asyncio.run(answer(asked.question, asked.url))


if __name__ == "__main__":
    main()
