"""Anthropic's messages, as a stream of events with the counts of its prompt cache."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from tests.loopback import formulas
from tests.loopback.server import Answer, Door, Provider, send_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web
    from tests.loopback.faults import Call

VERSION = "2023-06-01"

_ERRORS = {
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low."),
    404: ("not_found_error", "The model does not exist."),
    408: ("timeout_error", "The request took too long."),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    500: ("api_error", "Internal server error"),
    503: ("overloaded_error", "Overloaded"),
}


def blocks_of(content: Any) -> list[dict[str, Any]]:
    """Return a content as blocks: it may be a plain string."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])


class Anthropic(Provider):
    """api.anthropic.com.

    Words of system blocks that are marked for the cache count as read from it, words of messages that are marked as
    written to it, all others as plain input.
    """

    name: ClassVar[str] = "anthropic"

    def doors(self) -> Iterable[Door]:
        """Return messages and the list of models."""
        return [
            Door("messages", "POST", "/v1/messages", self._messages),
            Door("models", "GET", "/v1/models", self._models),
        ]

    def key_in(self, request: web.Request) -> str | None:
        """Return ``x-api-key``; nothing counts without the version of the protocol."""
        return (
            request.headers.get("x-api-key") if request.headers.get("anthropic-version") == VERSION else None
        )

    def error_body(self, status: int) -> Any:
        """Return ``error`` with type and message."""
        kind, message = _ERRORS.get(status, ("api_error", "Internal server error"))
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}

    async def _models(self, request: web.Request, call: Call) -> web.StreamResponse:
        model = {
            "type": "model",
            "id": "claude-sonnet-4-6",
            "display_name": "Claude",
            "created_at": "2026-01-01T00:00:00Z",
        }
        body = {"data": [model], "has_more": False, "first_id": model["id"], "last_id": model["id"]}
        return await send_json(request, call, body)

    async def _messages(self, request: web.Request, call: Call) -> web.StreamResponse:
        asked = await request.json()
        call.model = asked["model"]
        said = [(message["role"], blocks_of(message["content"])) for message in asked["messages"]]
        plain = 0
        for role, blocks in [("system", blocks_of(asked.get("system"))), *said]:
            for block in blocks:
                words = formulas.count_words(block.get("text", ""))
                if "cache_control" not in block:
                    plain += words
                elif role == "system":
                    call.cached_tokens += words
                else:
                    call.written_tokens += words
        call.input_tokens = plain + call.cached_tokens + call.written_tokens
        question = next((blocks for role, blocks in reversed(said) if role == "user"), [])
        reply = formulas.reply_to(" ".join(block.get("text", "") for block in question))
        call.output_tokens = len(reply)
        message = {
            "id": f"msg_{call.number}",
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": plain,
                "cache_creation_input_tokens": call.written_tokens,
                "cache_read_input_tokens": call.cached_tokens,
                "output_tokens": 0,
            },
        }

        answer = Answer(request, call, "text/event-stream")

        async def event(kind: str, **fields: Any) -> None:
            await answer.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())

        await event("message_start", message=message)
        await event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for index, word in enumerate(reply):
            text = word if index == 0 else f" {word}"
            await event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
        await event("content_block_stop", index=0)
        await event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": call.output_tokens},
        )
        await event("message_stop")
        return await answer.end()
