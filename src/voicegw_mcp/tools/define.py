"""A tool is a value: name, texts, hints, schemas and one async function. May import pydantic, ``core``, ``errors``.

``@tool`` makes the value from a function ``(gateway, arguments) -> answer``: the docstring is the description a model
reads on every call, the annotations are the schemas. Handlers raise; only the doors catch.
"""

from __future__ import annotations

import inspect
import json
import typing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from voicegw_mcp.config.redaction import is_secret_name
from voicegw_mcp.config.secrets import REFERENCE
from voicegw_mcp.config.values import is_list, is_map
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.changes import apply_change
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.errors import InvalidInput, nearest, quote
from voicegw_mcp.tools.json_schema import flat, terse
from voicegw_mcp.tools.wording import without

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from pydantic_core import ErrorDetails

    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.changes import Receipt
    from voicegw_mcp.core.drafts import Plan


UNKNOWN: Final = "is an unknown argument"
MAX_PROBLEMS: Final = 20
"""Problems that one answer lists; the message counts all."""
MOST_LEVELS: Final = 20
MAX_VALUES: Final = 10_000
"""Entries of lists and objects in the arguments of one call."""
PROJECT_ARGUMENTS: Final = ("project", "project_id")
"""What an argument is called that names a project."""


class Input(BaseModel):
    """Base of all arguments: unknown ones are refused, numbers sent as text are taken, null means left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class WriteInput(Input):
    """What every writing tool takes besides its own arguments."""

    dry_run: bool = Field(default=False, description="Return the diff, write nothing")
    if_version: str | None = Field(default=None, description="Refuse unless config_version is this")

    async def write(self, gateway: Gateway, tool_name: str, plan: Callable[[Catalog], Plan]) -> Receipt:
        """Make the change on these terms."""
        return await apply_change(
            gateway, plan, tool=tool_name, if_version=self.if_version, dry_run=self.dry_run
        )


class PageInput(Input):
    """What every tool that answers with pages takes."""

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, description="next_cursor of the previous page")


def _from_json(value: object) -> object:
    """Take an object or list that arrives as JSON text, as some models send it."""
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


JsonObject = Annotated[dict[str, Any], BeforeValidator(_from_json)]
Texts = Annotated[list[str], BeforeValidator(_from_json)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
OnConflict = Literal["error", "update"]


@dataclass(frozen=True)
class Tool:
    """One tool. The four hints are MCP's annotations (specification 2025-06-18, ToolAnnotations).

    ``project`` is the id of the one project it is for, when it is pinned to one.
    """

    name: str
    title: str
    description: str
    input_model: type[Input]
    output_model: type[Answer]
    run: Callable[[Gateway, Any], Awaitable[Answer]]
    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool
    project: str | None = None

    def pinned(self, project: str) -> Tool:
        """Return the same tool for one project: nobody names it in a call any more."""
        return replace(self, project=project)

    def speaking_without(self, missing: Collection[str]) -> Tool:
        """Return the same tool with a description that names no tool of ``missing``."""
        description = without(self.description, missing)
        return self if description == self.description else replace(self, description=description)

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The names of the arguments that a call may have."""
        return tuple(name for name in self.input_model.model_fields if name not in self._filled_in)

    @property
    def _filled_in(self) -> dict[str, str]:
        """The arguments that the server gives itself, with their values."""
        if self.project is None:
            return {}
        return {name: self.project for name in PROJECT_ARGUMENTS if name in self.input_model.model_fields}

    def parse(self, arguments: Mapping[str, Any] | None) -> Input:
        """Return validated arguments.

        Raises:
            InvalidInput: naming every field that does not hold; keys and tokens are not repeated.
        """
        given = {key: value for key, value in (arguments or {}).items() if value is not None}
        _refuse_many(self.name, given)
        for key, value in given.items():
            if isinstance(value, bool) and self._type_of(key) in {"integer", "number"}:
                raise InvalidInput(
                    f"{self.name}: {key} takes a number, not {value}.", field=key, hint="Pass a number."
                )
        filled_in = self._filled_in
        for key, value in filled_in.items():
            if given.get(key, value) != value:
                raise InvalidInput(
                    f"{self.name}: {key} {UNKNOWN}.",
                    field=key,
                    hint=f"This server is for one project; leave {key} out.",
                )
        try:
            parsed = self.input_model.model_validate(given | filled_in)
        except ValidationError as error:
            raise _invalid_input(self, error) from None
        if not self.read_only:
            _refuse_references(dict(parsed), "")
        return parsed

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON schema of the arguments: flat, without $ref, anyOf and null, which several hosts reject."""
        schema: dict[str, Any] = {**flat(self.input_model.model_json_schema()), "additionalProperties": False}
        properties: dict[str, Any] = schema["properties"]
        schema["properties"] = {name: properties[name] for name in self.arguments}
        required: list[str] = schema.get("required", [])
        schema["required"] = [name for name in required if name in self.arguments]
        return {key: value for key, value in schema.items() if key != "description" and value != []}

    def _type_of(self, argument: str) -> str:
        return str(self.input_schema["properties"].get(argument, {}).get("type", ""))

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        """JSON schema of the answer, as terse as a client can still validate with."""
        return terse(flat(self.output_model.model_json_schema(mode="serialization")))


def tool(
    title: str,
    *,
    read_only: bool,
    destructive: bool = False,
    idempotent: bool = True,
    open_world: bool = False,
) -> Callable[[Callable[[Gateway, Any], Awaitable[Answer]]], Tool]:
    """Turn ``async def verb_noun(gateway, arguments: Model) -> AnswerModel`` into a ``Tool``."""

    def define(function: Callable[[Gateway, Any], Awaitable[Answer]]) -> Tool:
        hints = typing.get_type_hints(function)
        _, arguments = inspect.signature(function).parameters
        return Tool(
            name=function.__name__,
            title=title,
            description=inspect.cleandoc(function.__doc__ or ""),
            input_model=hints[arguments],
            output_model=hints["return"],
            run=function,
            read_only=read_only,
            destructive=destructive,
            idempotent=idempotent,
            open_world=open_world,
        )

    return define


def _refuse_many(tool_name: str, given: Mapping[str, Any]) -> None:
    """Refuse more values than any call needs: pydantic makes an error of a kilobyte of each that is wrong."""
    left: list[object] = [given]
    count = 0
    while left:
        value = left.pop()
        inside = list(value.values()) if is_map(value) else value if is_list(value) else ()
        count += len(inside)
        if count > MAX_VALUES:
            raise InvalidInput(
                f"{tool_name}: the arguments hold more than {MAX_VALUES:,} values.", hint="Send less."
            )
        left.extend(inside)


def _refuse_references(value: object, path: str, name: str = "", depth: int = 0) -> None:
    """Refuse ``${...}`` outside keys: written into a text, it would be expanded there and show a secret to everyone."""
    if isinstance(value, str):
        if REFERENCE.search(value) and not is_secret_name(name):
            field = quote(path)[1:-1]
            raise InvalidInput(
                f"{field} holds a reference; only keys take references.",
                field=field,
                hint="Write the value itself.",
            )
    elif depth > MOST_LEVELS:
        return  # the core refuses what is nested too deeply
    elif is_map(value):
        for key, item in value.items():
            _refuse_references(item, f"{path}.{key}" if path else key, key, depth + 1)
    elif is_list(value):
        for item in value:
            _refuse_references(item, path, name, depth + 1)


def _invalid_input(tool: Tool, error: ValidationError) -> InvalidInput:
    problems = [_problem(tool, item) for item in error.errors(include_url=False, include_context=False)]
    # A misspelt name explains why another one is missing: it comes first.
    problems.sort(key=lambda problem: problem["message"] != UNKNOWN)
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidInput(
        f"{tool.name}: {first['field']} {first['message']}{more}.",
        field=first["field"],
        hint=first.get("hint") or f"Correct {first['field']} and call again.",
        details={"problems": problems[:MAX_PROBLEMS]},
    )


def _problem(tool: Tool, item: ErrorDetails) -> dict[str, str]:
    field = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        valid = sorted(tool.arguments)
        near = nearest(field, valid, count=1)
        hint = (
            f"Did you mean {near[0]}? " if near else ""
        ) + f"{tool.name} takes: {', '.join(valid) or 'none'}."
        return {"field": quote(field)[1:-1], "message": UNKNOWN, "hint": hint}
    if item["type"] == "missing":
        return {"field": field, "message": "is required", "hint": f"Pass {field}."}
    message = item["msg"].removeprefix("Value error, ")
    secret = is_secret_name(field) or field.partition(".")[0] in {"options", "config"}
    shown = (
        "" if secret or not isinstance(item["input"], str | int | float) else f" (got {quote(item['input'])})"
    )
    return {"field": field, "message": f"{message[:1].lower()}{message[1:]}{shown}"}
