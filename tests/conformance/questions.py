"""The fixtures that ask the client for something: a request of their own up to 2025-11-25, an unfinished answer since.

May import ``fixtures``, which collects them.
"""

import json
from typing import Any

import mcp_types as types
from tests.conformance.fixtures import FIXTURES, Context, answer, messages, text

CALL = types.CallToolRequestParams


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


NAME, COLOUR, OK, CONTEXT = (
    _object(name={"type": "string"}),
    _object(color={"type": "string"}),
    _object(ok={"type": "boolean"}),
    _object(context={"type": "string"}),
)
DEFAULTS = _object(
    name={"type": "string", "default": "John Doe"},
    age={"type": "integer", "default": 30},
    score={"type": "number", "default": 95.5},
    status={**_one_of("active", "inactive", "pending"), "default": "active"},
    verified={"type": "boolean", "default": True},
)
TITLED = [{"const": "value1", "title": "First"}, {"const": "value2", "title": "Second"}]
ENUMS = _object(
    untitledSingle=_one_of("option1", "option2"),
    titledSingle={"type": "string", "oneOf": TITLED},
    legacyEnum={**_one_of("opt1", "opt2"), "enumNames": ["One", "Two"]},
    untitledMulti={"type": "array", "items": _one_of("option1", "option2")},
    titledMulti={"type": "array", "items": {"anyOf": TITLED}},
)


def _form(message: str, schema: dict[str, Any]) -> types.ElicitRequest:
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(prompt: str) -> types.CreateMessageRequest:
    said = types.SamplingMessage(role="user", content=text(prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[said], max_tokens=100)
    )


def _unfinished(state: str | None = None, /, **requests: Any) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=requests, request_state=state)


def _field(response: Any, name: str) -> Any:
    """Return a field of what a person filled in, None without it."""
    return (response.content or {}).get(name) if isinstance(response, types.ElicitResult) else None


async def _ask(context: Context, message: str, schema: dict[str, Any]) -> types.CallToolResult:
    told = await context.session.elicit_form(message, schema, related_request_id=context.request_id)
    return answer(text(f"{told.action}: {json.dumps(told.content)}"))


@FIXTURES.tool("test_elicitation", _object(message={"type": "string"}))
async def elicitation(context: Context, params: CALL) -> types.CallToolResult:
    """Ask the person something during the call."""
    schema = _object(username={"type": "string"}, email={"type": "string"})
    return await _ask(context, (params.arguments or {})["message"], schema)


@FIXTURES.tool("test_elicitation_sep1034_defaults")
async def elicitation_with_defaults(context: Context, _params: CALL) -> types.CallToolResult:
    """Ask with a default for every kind of field."""
    return await _ask(context, "Who are you?", DEFAULTS)


@FIXTURES.tool("test_elicitation_sep1330_enums")
async def elicitation_with_enums(context: Context, _params: CALL) -> types.CallToolResult:
    """Ask with every form of a choice."""
    return await _ask(context, "Choose.", ENUMS)


@FIXTURES.tool("test_sampling", _object(prompt={"type": "string"}))
async def sampling(context: Context, params: CALL) -> types.CallToolResult:
    """Ask the client's model during the call."""
    said = types.SamplingMessage(role="user", content=text((params.arguments or {})["prompt"]))
    told = await context.session.create_message(  # pyright: ignore[reportDeprecated]
        [said], max_tokens=100, related_request_id=context.request_id
    )
    return answer(text(f"The model said: {told.content}"))


@FIXTURES.tool("test_streaming_elicitation")
async def streaming_elicitation(context: Context, params: CALL) -> Any:
    """Report progress, then ask: the question is the answer, never a request on the stream."""
    await context.session.report_progress(1, 2)
    return await input_elicitation(context, params)


@FIXTURES.tool("test_input_required_result_elicitation")
async def input_elicitation(_context: Context, params: CALL) -> Any:
    """Ask for a name."""
    name = _field((params.input_responses or {}).get("user_name"), "name")
    return (
        _unfinished(user_name=_form("Your name?", NAME)) if name is None else answer(text(f"Hello, {name}!"))
    )


@FIXTURES.tool("test_input_required_result_sampling")
async def input_sampling(_context: Context, params: CALL) -> Any:
    """Ask the client's model."""
    told = (params.input_responses or {}).get("capital_question")
    if not isinstance(told, types.CreateMessageResult):
        return _unfinished(capital_question=_sample("What is the capital of France?"))
    return answer(text(f"The model said: {told.content}"))


@FIXTURES.tool("test_input_required_result_list_roots")
async def input_roots(_context: Context, params: CALL) -> Any:
    """Ask for the client's folders."""
    told = (params.input_responses or {}).get("client_roots")
    if not isinstance(told, types.ListRootsResult):
        return _unfinished(client_roots=types.ListRootsRequest())
    return answer(text(f"Folders: {', '.join(str(root.uri) for root in told.roots)}"))


@FIXTURES.tool("test_input_required_result_request_state")
async def input_with_state(_context: Context, params: CALL) -> Any:
    """Ask, and want its own note back."""
    if params.request_state == "asked" and "confirm" in (params.input_responses or {}):
        return answer(text("state-ok"))
    return _unfinished("asked", confirm=_form("Sure?", OK))


@FIXTURES.tool("test_input_required_result_tampered_state")
async def input_with_sealed_state(context: Context, params: CALL) -> Any:
    """Ask; a note that was changed on the way never gets here."""
    return await input_with_state(context, params)


@FIXTURES.tool("test_input_required_result_multiple_inputs")
async def input_several(_context: Context, params: CALL) -> Any:
    """Ask three things at once."""
    asked = {
        "user_name": _form("Your name?", NAME),
        "greeting": _sample("Greet me."),
        "client_roots": types.ListRootsRequest(),
    }
    if asked.keys() <= (params.input_responses or {}).keys():
        return answer(text("All three came."))
    return _unfinished("several", **asked)


@FIXTURES.tool("test_input_required_result_multi_round")
async def input_in_rounds(_context: Context, params: CALL) -> Any:
    """Ask for a name, then for a colour."""
    told, note = params.input_responses or {}, params.request_state or ""
    name, colour = _field(told.get("step1"), "name"), _field(told.get("step2"), "color")
    if note == "step1" and name is not None:
        return _unfinished(f"step2 {name}", step2=_form("Your colour?", COLOUR))
    if note.startswith("step2 ") and colour is not None:
        return answer(text(f"{note.removeprefix('step2 ')} likes {colour}."))
    return _unfinished("step1", step1=_form("Your name?", NAME))


@FIXTURES.tool("test_input_required_result_capabilities")
async def input_by_capability(context: Context, _params: CALL) -> Any:
    """Ask only for what the client says it can do."""
    can = context.session.client_capabilities
    asked: dict[str, Any] = {}
    if can is not None and can.sampling is not None:
        asked["sample"] = _sample("Say hello.")
    if can is not None and can.elicitation is not None:
        asked["ask"] = _form("Your name?", NAME)
    return _unfinished("by capability", **asked)


@FIXTURES.prompt("test_input_required_result_prompt")
async def input_prompt(_context: Context, params: types.GetPromptRequestParams) -> Any:
    """Be a prompt that asks first."""
    found = _field((params.input_responses or {}).get("user_context"), "context")
    if found is None:
        return _unfinished(user_context=_form("What about?", CONTEXT))
    return messages(text(f"About {found}."))
