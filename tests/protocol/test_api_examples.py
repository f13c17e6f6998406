"""Every command of docs/http-api.md answers what the page shows; UPDATE_GOLDEN=1 writes the page anew."""

import json
import os
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.factories import NOW, request_record

from voicegw_mcp.domain import Modality, RequestStatus, Usage
from voicegw_mcp.web.api import routes

PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"
EXAMPLE = re.compile(r"```console\n\$ (curl [^\n]*)\n(.*?)```", re.DOTALL)
TOKEN = "fake-token-0001"
VARYING = {
    *(
        "version",
        "uptime_seconds",
        "instance_id",
        "config_version",
        "path",
        "size_bytes",
        "file",
        "id",
        "created",
        "applied",
        "actor",
    ),
    *("source", "llm", "stt", "tts", "warnings"),
}
"""Keys whose values depend on the machine, the moment or the versions of libraries, where they are texts or numbers."""


@pytest.fixture
async def scene(house, site):
    house.secrets(VOICEGW_MCP_TOKEN=TOKEN)
    heard = {"project": "support-line", "provider": "deepgram", "model_id": "deepgram/nova-3"}
    thought = {"project": "support-line", "modality": Modality.LLM, "provider": "openai"}
    await house.log(
        request_record(
            id="heard",
            **heard,
            usage=Usage(audio_ms=60_000),
            cost_nanousd=4_800_000,
            ttfb_ms=120.0,
            total_ms=480.0,
        ),
        request_record(
            id="thought",
            timestamp_ms=NOW - 1000,
            **thought,
            model_id="openai/gpt-4.1-mini",
            status=RequestStatus.ERROR,
            error_kind="timeout",
            error_message="=timed out",
        ),
    )
    async with house.agent() as agent:
        await agent.ok("create_project", project_id="night-line", name="Night line")
    return site


def shown(text):
    """Return an answer as the page shows it."""
    try:
        data = json.loads(text)
    except ValueError:
        return text
    return json.dumps(masked(data), indent=2, ensure_ascii=False) + "\n"


def masked(data):
    if isinstance(data, dict):
        return {
            key: "..."
            if key in VARYING
            and not isinstance(value, dict)
            and value not in ("heard", "support-line", "night-line", "outbound", "default")
            else masked(value)
            for key, value in data.items()
        }
    return [masked(item) for item in data] if isinstance(data, list) else data


async def answer_of(site, command):
    words = shlex.split(command.replace("$AUTH", f"Authorization: Bearer {TOKEN}"))
    headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
    parts = urlsplit(words[-1])
    answer = await site.get(
        f"{parts.path}?{parts.query}", **{name.lower(): value for name, value in headers.items()}
    )
    return answer.body.decode().replace("\r\n", "\n")


@pytest.mark.golden
async def test_every_example_answers_what_the_page_shows(scene):
    page = PAGE.read_text(encoding="utf-8")
    found = page
    for command, _ in EXAMPLE.findall(page):
        body = await answer_of(scene, command)
        body = body if "ndjson" in command else shown(body)
        found = re.sub(
            rf"(\$ {re.escape(command)}\n).*?```",
            lambda match, body=body: f"{match[1]}{body}```",
            found,
            flags=re.DOTALL,
        )
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(found, encoding="utf-8")
    assert found == page or os.environ.get("UPDATE_GOLDEN")


def test_the_page_has_an_example_of_every_address():
    page = PAGE.read_text(encoding="utf-8")
    commands = " ".join(command for command, _ in EXAMPLE.findall(page))
    for address in (*routes.paths(), "/health"):
        assert f"`{address}`" in page
        assert address.replace("{project_id}", "support-line") in commands or address in {
            "/v1/openapi.json",
            "/v1/metrics",
        }
