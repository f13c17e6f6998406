"""The OpenAPI 3.1 document of the API, made of the very models that check arguments and make answers.

May import ``web.api`` and ``tools``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp import __version__
from voicegw_mcp.core.log_pages import LogEntry
from voicegw_mcp.tools.json_schema import flat
from voicegw_mcp.web.api.endpoints import ENDPOINTS
from voicegw_mcp.web.api.logs import CSV, JSON, LOGS, NDJSON, PATH
from voicegw_mcp.web.api.metrics import EXPOSITIONS, METRICS
from voicegw_mcp.web.api.streams import EVENTS

if TYPE_CHECKING:
    from pydantic import BaseModel

    from voicegw_mcp.tools.define import Tool

DOCUMENT: Final = "/v1/openapi.json"

_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": "string", "description": "What to do next"},
                "details": {"type": "object"},
            },
            "required": ["code", "message"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
_FAILURES: Final = {
    "400": "A parameter does not hold",
    "401": "A token is needed, or is not accepted",
    "403": "The token does not allow it",
    "404": "There is no such path, provider, model or project",
    "405": "Another method than GET and HEAD",
    "406": "No answer of an accepted type",
    "429": "Too many wrong tokens",
    "503": "The configuration or the store cannot be read now; Retry-After says when to come again",
    "default": "Any other failure",
}


def describe() -> dict[str, Any]:
    """Return the document."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    found: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        content = {JSON: {"schema": _named(schemas, endpoint.tool.output_model)}}
        found[endpoint.template] = _path(endpoint.tool, content, inside=endpoint.parameter)
    row = _named(schemas, LogEntry)
    found[PATH] = _path(
        LOGS,
        {
            JSON: {"schema": {"type": "array", "items": row}},
            CSV: {"schema": {"type": "string"}},
            NDJSON: {"schema": {"type": "string"}},
            EVENTS: {"schema": {"type": "string"}},
        },
    )
    found[PATH]["get"]["parameters"].append(
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": f"Id of the last event; {EVENTS} only",
            "schema": {"type": "string"},
        }
    )
    found[PATH]["get"]["responses"]["200"]["headers"] = {
        "Link": {
            "description": f'The next page, rel="next"; {JSON} only',
            "schema": {"type": "string"},
        }
    }
    written = {kind: {"schema": {"type": "string"}} for kind in EXPOSITIONS}
    told = "Give counters, histograms and gauges as Prometheus text or OpenMetrics."
    found[METRICS] = _operation(METRICS, "Metrics", told, [], written)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "voicegw-mcp",
            "version": __version__,
            "description": "Reads of a voice gateway: status, configuration, costs, latency, log and changes.",
        },
        "paths": found,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],  # without a token where none is asked for
    }


def _named(schemas: dict[str, Any], model: type[BaseModel]) -> dict[str, str]:
    """Put the schema of an answer among the others, and return a reference to it."""
    schemas[model.__name__] = flat(model.model_json_schema(mode="serialization"))
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _path(asked: Tool, content: dict[str, Any], inside: str = "") -> dict[str, Any]:
    """Return what an address answers; ``inside`` is the argument that is a part of the path."""
    schema = asked.input_schema
    parameters: list[dict[str, Any]] = []
    for name, described in schema["properties"].items():
        about = {key: value for key, value in described.items() if key != "description"}
        parameter: dict[str, Any] = {"name": name, "in": "path" if name == inside else "query"}
        if "description" in described:
            parameter["description"] = described["description"]
        if name in schema.get("required", ()):
            parameter["required"] = True
        parameters.append({**parameter, "schema": about})
    return _operation(asked.name, asked.title, asked.description, parameters, content)


def _operation(
    address: str, title: str, description: str, parameters: list[dict[str, Any]], content: dict[str, Any]
) -> dict[str, Any]:
    failure = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    responses: dict[str, Any] = {"200": {"description": title, "content": content}}
    responses |= {status: {"description": text, **failure} for status, text in _FAILURES.items()}
    operation = {
        "operationId": address.strip("/").translate(str.maketrans("/", "_", "{}")),
        "summary": title,
        "description": description,
        "parameters": parameters,
        "responses": responses,
    }
    return {"get": operation}
