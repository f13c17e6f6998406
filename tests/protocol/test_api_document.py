"""The OpenAPI document: valid, the golden one, and true of what the API answers."""

import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.factories import request_record

from voicegw_mcp.domain import RequestStatus
from voicegw_mcp.web.api import routes
from voicegw_mcp.web.api.document import describe

GOLDEN = Path(__file__).parents[1] / "golden" / "openapi.json"
TARGETS = {
    "/v1/status": "",
    "/v1/providers": "",
    "/v1/models": "",
    "/v1/projects": "",
    "/v1/projects/{project_id}": "",
    "/v1/costs": "?group_by=hour&compare_to=previous",
    "/v1/latency": "?group_by=model",
    "/v1/logs": "",
    "/v1/changes": "?detail=full",
    "/v1/alerts": "",
}


@pytest.mark.golden
async def test_the_document_is_the_golden_one(site):
    found = json.dumps(await site.ok("/v1/openapi.json"), indent=2) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8")


def test_the_document_is_valid_openapi():
    OpenAPIV31SpecValidator(describe()).validate()


def test_a_document_with_a_fault_would_be_found():
    document = describe()
    del document["paths"]["/v1/costs"]["get"]["responses"]
    document["paths"]["/v1/costs"]["get"]["parameters"].append({"name": "x"})
    assert not OpenAPIV31SpecValidator(document).is_valid()


def test_every_address_is_described():
    described = [*describe()["paths"], "/v1/openapi.json"]
    assert sorted(described) == sorted(routes.paths())
    operations = [path["get"]["operationId"] for path in describe()["paths"].values()]
    assert len(set(operations)) == len(operations)


@pytest.mark.parametrize("path", TARGETS)
async def test_answers_are_as_described(site, house, path):
    failed = {"status": RequestStatus.ERROR, "error_message": "no", "error_kind": "timeout"}
    named = {"project": "support-line", "cost_nanousd": 5, "ttfb_ms": 1.0, "total_ms": 2.0}
    await house.log(request_record(id="a", **named), request_record(id="b", session_id="s", **failed))
    async with house.agent() as agent:
        await agent.ok("create_project", project_id="new", name="New")
    document = describe()
    answer = await site.ok(path.replace("{project_id}", "support-line") + TARGETS[path])
    assert answer
    schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer)


async def test_refusals_are_as_described(site):
    document = describe()
    schema = document["components"]["schemas"]["Error"]
    for target in ("/v1/costs?period=x", "/v1/projects/nobody", "/v1/nothing"):
        Draft202012Validator(schema).validate((await site.get(target)).json)


async def test_parameters_that_are_described_are_taken_and_no_others(site):
    document = describe()
    for path, item in document["paths"].items():
        described = {part["name"] for part in item["get"]["parameters"] if part["in"] == "query"}
        answer = await site.get(path.replace("{project_id}", "support-line") + "?no-such=1")
        assert answer.status == 400
        takes = answer.error["hint"].partition("takes: ")[2].rstrip(".")
        assert described == set(takes.split(", ")) - {"none", "project_id"}
