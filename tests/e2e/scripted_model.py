"""A language model that goes by a script: it asks a gateway's tool for the costs, and makes its answer of what the tool said.

Everything else is the loopback server of OpenAI's protocol: its key, its faults, its list of calls.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.loopback import OpenAI
from tests.loopback.openai import text_of
from tests.loopback.server import send_json

if TYPE_CHECKING:
    from aiohttp import web
    from tests.loopback.faults import Call

ARGUMENTS = {"period": "week", "group_by": "model"}


class ScriptedModel(OpenAI):
    """api.openai.com with a model that calls ``get_costs`` once, then says which model cost most, and how much.

    ``asked`` holds what it was asked, request by request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    async def _chat(self, request: web.Request, call: Call) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        call.model = asked["model"]
        last = asked["messages"][-1]
        if last["role"] == "tool":
            message, finish = {"content": _answer_from(text_of(last["content"]))}, "stop"
        else:
            # Some frameworks put the server's name before a tool's.
            names = [tool["function"]["name"] for tool in asked["tools"]]
            (name,) = [name for name in names if name.endswith("get_costs")]
            function = {"name": name, "arguments": json.dumps(ARGUMENTS)}
            calls = [{"id": f"call_{call.number}", "type": "function", "function": function}]
            message, finish = {"content": None, "tool_calls": calls}, "tool_calls"
        choice = {
            "index": 0,
            "message": {"role": "assistant", **message},
            "logprobs": None,
            "finish_reason": finish,
        }
        body = {
            "id": f"chatcmpl-{call.number}",
            "object": "chat.completion",
            "created": 0,
            "model": call.model,
            "choices": [choice],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        return await send_json(request, call, body)


def _answer_from(result: str) -> str:
    """Return a sentence with the figures of a tool's answer, or what was answered instead."""
    try:
        said = json.loads(result)
        model, costs = max(said["by_model"].items(), key=lambda item: item[1]["cost"])
    except (ValueError, KeyError):
        return f"I was told: {result}"
    return f"{model} cost most this week: {costs['cost']} of {said['total_usd']} USD."
