"""Asks the client's person during a call, in both protocol eras. May import ``core``, ``errors`` and mcp.

Up to 2025-11-25 a question is a request to the client in the middle of the call. From 2026-07-28 on it is the call's answer,
and the client repeats the call with the reply: the tool then runs again from its beginning.
"""

from __future__ import annotations

import hashlib
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from voicegw_mcp.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.context import ServerRequestContext

    from voicegw_mcp.core.conversation import Ask, Question, Reply

    Context = ServerRequestContext[dict[str, Any]]

PATIENCE_S: Final = 300.0
"""How long a person may think while a call waits; it does not count as time of the tool."""

NO_FIELDS: Final[dict[str, Any]] = {"type": "object", "properties": {}}
"""The form: accepting it is the yes."""

_KEY: Final = "confirm"


class Unanswered(Exception):
    """A tool needs a reply before it can go on; ``result`` asks for it."""

    def __init__(self, result: types.InputRequiredResult) -> None:
        super().__init__()
        self.result = result


def asking(
    context: Context,
    params: types.CallToolRequestParams,
    deadline: anyio.CancelScope,
    require_standing: Callable[[], Awaitable[None]] | None = None,
) -> Ask | None:
    """Return what asks the person at the other end of a call, None when the client does not offer that.

    Args:
        context: of the call.
        params: of the call; a repeated one holds the reply.
        deadline: of the tool; it stands still while a person thinks.
        require_standing: refuses a caller who may no longer do what he might when the call began.
    """
    offered = context.session.client_capabilities
    forms = offered.elicitation if offered is not None else None
    if forms is None or (forms.form is None and forms.url is not None):
        return None
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return partial(_ask_by_answer, params)
    if not context.session.can_send_request:
        return None
    return partial(_ask_by_request, context, deadline, require_standing)


async def _ask_by_request(
    context: Context,
    deadline: anyio.CancelScope,
    require_standing: Callable[[], Awaitable[None]] | None,
    question: Question,
) -> Reply:
    left = deadline.deadline - anyio.current_time()
    deadline.deadline = math.inf
    try:
        with anyio.move_on_after(PATIENCE_S):
            reply = await context.session.elicit_form(question.text, NO_FIELDS, context.request_id)
            if require_standing is not None:
                await require_standing()  # minutes may have passed; a repeated call shows its token anyway
            return reply.action
    except (MCPError, ValidationError):
        pass  # the client cannot ask after all, or says something else
    finally:
        deadline.deadline = anyio.current_time() + left
    return "unanswered"


async def _ask_by_answer(params: types.CallToolRequestParams, question: Question) -> Reply:
    asked = hashlib.sha256(f"{question.version} {question.text}".encode()).hexdigest()
    reply = (params.input_responses or {}).get(_KEY)
    if not isinstance(reply, types.ElicitResult):
        form = types.ElicitRequestFormParams(message=question.text, requested_schema=NO_FIELDS)
        requests: types.InputRequests = {_KEY: types.ElicitRequest(params=form)}
        raise Unanswered(types.InputRequiredResult(input_requests=requests, request_state=asked))
    # The client could have made the state up, but then it could have made the reply up as well.
    if reply.action == "accept" and params.request_state != asked:
        raise Conflict(
            "The configuration was changed while the person was asked.",
            hint="Nothing was written. Read it again, then repeat the call.",
            details={"config_version": question.version},
        )
    return reply.action
