"""What docs/alerts.md shows is what is sent, and its receiver verifies it."""

import json
import re
from pathlib import Path

import pytest
from tests.alert_scene import Scene
from tests.webhook_receiver import SECRET, receiving

PAGE = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text(encoding="utf-8")


@pytest.fixture
async def request_of_the_page(tmp_path):
    scene = Scene(tmp_path)
    with receiving() as receiver:
        scene.write(
            "projects: {support-line: {name: S, daily_budget: 10}}\nalerts:\n  budget: {percent: [80]}\n",
            receiver,
        )
        await scene.spend(8.125, "support-line")
        await scene.round()
    await scene.close()
    return receiver.received[0]


async def test_the_example_of_the_page_is_what_is_sent(request_of_the_page):
    (shown,) = re.findall(r"example: begin.*?```json\n(.*?)```", PAGE, re.DOTALL)
    event = request_of_the_page.event
    event["data"]["id"] = json.loads(shown)["data"]["id"]
    assert json.loads(shown) == event


@pytest.mark.parametrize("secret", [SECRET, "a plain secret of many characters"])
async def test_the_receiver_of_the_page_verifies_what_is_sent_and_nothing_else(tmp_path, monkeypatch, secret):
    scene = Scene(tmp_path, environment={"HOOK": secret})
    with receiving() as receiver:
        scene.write(
            "projects: {p0: {name: S, daily_budget: 10}}\nalerts:\n  budget: {percent: [80]}\n", receiver
        )
        await scene.spend(9)
        await scene.round()
    await scene.close()
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(code, names)  # noqa: S102 - the page's own code is what is tested
    verify = names["verify"]
    (request,) = receiver.received
    monkeypatch.setattr("time.time", lambda: scene.now / 1000)
    assert verify(secret, request.headers, request.body)
    assert not verify("another secret of characters", request.headers, request.body)
    assert not verify(secret, request.headers, request.body + b" ")
    assert not verify(secret, {**request.headers, "webhook-id": "other"}, request.body)
    monkeypatch.setattr("time.time", lambda: scene.now / 1000 + 301)
    assert not verify(secret, request.headers, request.body)


def test_the_configuration_of_the_page_is_valid(tmp_path):
    from voicegw_mcp.config.file import ConfigFile
    from voicegw_mcp.config.secrets import Secrets

    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "voicegw.yaml").write_text(text)
    settings = ConfigFile(tmp_path / "voicegw.yaml", Secrets(tmp_path / "secrets.env", {})).load().settings
    assert settings.alerts.ttfb.by == "model"
