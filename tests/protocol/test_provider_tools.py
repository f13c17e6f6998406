import json

import pytest
from tests.fake_providers import KEY, answering, provider, serving
from tests.protocol.agents import FILE

from voicegw_mcp.config.secrets import Secrets


async def test_adding_a_provider_writes_its_entry_and_a_journal_row_and_leaves_every_other_line(agent, house):
    answer = await agent.ok("add_provider", provider_id="cartesia", provider_type="cartesia")
    version = answer.pop("config_version")
    assert answer == {
        "change_id": answer["change_id"],
        "diff": answer["diff"],
        "file": str(house.file),
        "provider_id": "cartesia",
        "provider_type": "cartesia",
        "api_key_masked": "${CARTESIA_API_KEY}",
        "base_url": answer["base_url"],
        "source": "yaml",
        "created": True,
        "updated": False,
    }
    added = [line for line in house.lines if line not in FILE.splitlines()]
    assert added == ["  cartesia:", '    api_key: "${CARTESIA_API_KEY}"']
    assert [line for line in house.lines if line not in added] == FILE.splitlines()
    assert [line[1:] for line in answer["diff"].splitlines() if line.startswith("+ ")] == added
    ((change_id, state, tool, summary, actor, door, diff, _),) = house.journal()
    assert (change_id, state, tool, door) == (answer["change_id"], "applied", "add_provider", "test")
    assert summary == "Add provider cartesia"
    assert actor
    assert diff == answer["diff"]
    assert (await agent.ok("list_providers"))["config_version"] == version


async def test_a_dry_run_answers_the_diff_of_the_real_call_and_writes_nothing(agent, house):
    before = house.state()
    arguments = {"provider_id": "cartesia", "provider_type": "cartesia", "options": {"speed": 1.5}}
    planned = await agent.ok("add_provider", **arguments, dry_run=True)
    assert house.state() == before
    assert "change_id" not in planned
    done = await agent.ok("add_provider", **arguments, if_version=planned["config_version"])
    assert done["diff"] == planned["diff"]
    assert (done["created"], planned["created"]) == (True, True)


async def test_a_stale_if_version_is_a_conflict_that_names_the_current_version(agent, house):
    before = house.state()
    error = await agent.refused(
        "add_provider", provider_id="cartesia", provider_type="cartesia", if_version="000000000000"
    )
    current = (await agent.ok("list_providers"))["config_version"]
    assert (error["code"], error["details"]["config_version"]) == ("CONFLICT", current)
    assert current in error["message"]
    assert house.state() == before


async def test_a_taken_id_is_refused_with_its_place_and_on_conflict_update_changes_only_what_was_given(
    agent, house
):
    arguments = {"provider_id": "deepgram", "provider_type": "deepgram"}
    error = await agent.refused("add_provider", **arguments)
    assert error["code"] == "PROVIDER_ALREADY_EXISTS"
    assert "voicegw.yaml:6" in error["message"]
    same = await agent.ok("add_provider", **arguments, on_conflict="update")
    assert (same["created"], same["updated"], same["diff"]) == (False, True, "")
    assert "change_id" not in same
    url = "https://api.eu.deepgram.com/v1"
    changed = await agent.ok("add_provider", **arguments, base_url=url, on_conflict="update")
    assert changed["base_url"] == url
    assert [line for line in house.lines if line not in FILE.splitlines()] == [f"    base_url: {url}"]
    assert not set(FILE.splitlines()) - set(house.lines)


async def test_on_conflict_update_adds_a_provider_that_is_not_there(agent):
    answer = await agent.ok("add_provider", provider_id="groq", provider_type="groq", on_conflict="update")
    assert (answer["created"], answer["updated"]) == (True, False)


async def test_options_and_own_references_are_kept_and_a_local_type_gets_no_key(agent):
    await agent.ok(
        "add_provider",
        provider_id="house",
        provider_type="openai_compatible",
        api_key="${file:/run/secrets/house}",
        base_url="https://llm.example.com/v1",
        options='{"timeout": 30, "headers": {"X-Team": "voice"}}',
    )
    await agent.ok("add_provider", provider_id="kokoro", provider_type="kokoro")
    shown = await agent.ok("get_provider", provider_id="house")
    assert shown["api_key_masked"] == "${file:/run/secrets/house}"
    assert shown["type"] == "cloud"
    local = await agent.ok("get_provider", provider_id="kokoro")
    assert (local["type"], local["api_key_masked"]) == ("local", "")
    data = (await agent.resource("voicegw://config"))["data"]["providers"]
    assert (data["house"]["timeout"], data["house"]["headers"]) == (30, {"X-Team": "voice"})
    assert data["kokoro"] in (None, {})


async def test_a_provider_is_shown_with_models_projects_file_and_line(agent, house):
    answer = await agent.ok("get_provider", provider_id="openai")
    assert answer["models"] == ["openai/gpt-4.1-mini", "openai/tts-1"]
    assert answer["projects"] == ["support-line"]
    assert answer["file"] == str(house.file)
    assert house.lines[answer["line"] - 1].strip() == "openai:"
    assert answer["model_count"] == 2
    assert answer["enabled"] is True


async def test_an_unknown_provider_is_not_found_with_near_names(agent):
    error = await agent.refused("get_provider", provider_id="depgram")
    assert error["code"] == "PROVIDER_NOT_FOUND"
    assert error["details"] == {"field": "provider_id", "nearest": ["deepgram"]}
    assert "deepgram" in error["hint"]


async def test_status_says_what_is_missing_and_the_command_to_run(house):
    house.environment["OPENAI_API_KEY"] = "fake-key-0001"
    async with house.agent() as agent:
        answer = await agent.ok("get_provider_status")
        one = await agent.ok("get_provider_status", provider_id="openai")
        none = await agent.ok("get_provider_status", provider_id="nobody")
    by_id = answer["providers"]
    assert by_id["openai"] == {
        "configured": True,
        "type": "cloud",
        "model_count": 2,
        "has_api_key": True,
        "key_reference": "${OPENAI_API_KEY}",
    }
    assert by_id["deepgram"]["configured"] is False
    assert by_id["deepgram"]["reason"].endswith("run: voicegw secrets set DEEPGRAM_API_KEY")
    assert by_id["ollama"] == {"configured": True, "type": "local", "model_count": 1, "has_api_key": False}
    assert answer["missing"] == []
    assert one["providers"] == {"openai": by_id["openai"]}
    assert (none["providers"], none["missing"]) == ({}, ["nobody"])


async def test_status_tells_disabled_and_unknown_types(agent, house):
    house.write("providers:\n  openai: {enabled: false}\n  depgram: {api_key: '${X}'}\n")
    found = (await agent.ok("get_provider_status"))["providers"]
    assert "disabled" in found["openai"]["reason"]
    assert "unknown provider type" in found["depgram"]["reason"]


async def test_a_key_set_while_running_counts_at_the_next_call(agent, house):
    assert not (await agent.ok("get_provider_status"))["providers"]["openai"]["configured"]
    Secrets(house.folder / "secrets.env", {}).set("OPENAI_API_KEY", "fake-key-0001")
    assert (await agent.ok("get_provider_status"))["providers"]["openai"]["configured"]


DELETED = {
    "models_affected": ["openai/gpt-4.1-mini", "openai/tts-1"],
    "projects_affected": ["support-line"],
    "stacks_affected": ["standard"],
    "fallbacks_affected": ["llm"],
}


async def test_deleting_a_provider_tells_the_whole_impact_before_it_does_anything(agent, house):
    before = house.state()
    error = await agent.refused("delete_provider", provider_id="openai")
    version = (await agent.ok("list_providers"))["config_version"]
    assert error["code"] == "CONFIRMATION_REQUIRED"
    assert error["details"] == {**DELETED, "config_version": version}
    assert "confirm=true" in error["message"]
    used = await agent.refused("delete_provider", provider_id="openai", confirm=True, if_version=version)
    assert used["code"] == "CONFLICT"
    assert used["details"] == DELETED
    assert "cascade=true" in used["hint"]
    assert house.state() == before


async def test_a_cascade_takes_out_exactly_the_provider_its_models_and_their_mentions(agent, house):
    planned = await agent.ok(
        "delete_provider", provider_id="openai", confirm=True, cascade=True, dry_run=True
    )
    answer = await agent.ok("delete_provider", provider_id="openai", confirm=True, cascade=True)
    assert {key: answer[key] for key in DELETED} == DELETED
    assert (answer["action"], answer["provider_id"]) == ("deleted", "openai")
    assert planned["diff"] == answer["diff"]
    gone = [line.strip() for line in FILE.splitlines() if line not in house.lines]
    assert gone == [
        "openai:",
        'api_key: "${OPENAI_API_KEY}"',
        "openai/gpt-4.1-mini: {provider: openai, model: gpt-4.1-mini}",
        *["tts:", "openai/tts-1:", "provider: openai", "model: tts-1", "enabled: false"],
        *["llm: openai/gpt-4.1-mini", "tts: openai/tts-1"],
        "llm: [openai/gpt-4.1-mini, ollama/qwen3]  # local last",
    ]
    new = [line for line in house.lines if line not in FILE.splitlines()]
    assert "  llm: [ollama/qwen3]  # local last" in new
    health = await agent.ok("get_health")
    assert (health["provider_count"], health["model_count"], health["status"]) == (2, 2, "ok")
    assert not [text for text in health["warnings"] if "does not exist" in text]
    assert (await agent.refused("get_provider", provider_id="openai"))["code"] == "PROVIDER_NOT_FOUND"
    assert (await agent.refused("delete_provider", provider_id="openai"))["code"] == "PROVIDER_NOT_FOUND"


async def test_a_provider_nobody_uses_needs_confirm_only(agent, house):
    await agent.ok("add_provider", provider_id="groq", provider_type="groq")
    error = await agent.refused("delete_provider", provider_id="groq")
    assert "Nothing else is affected" in error["message"]
    await agent.ok(
        "delete_provider", provider_id="groq", confirm=True, if_version=error["details"]["config_version"]
    )
    assert house.text == FILE


@pytest.fixture
def loopback(house):
    """Allows the loopback address for cloud types, by hand as a user would, and sets the fakes' key."""
    house.environment["OPENAI_API_KEY"] = KEY
    house.write(FILE + "security:\n  allow_private_hosts: [127.0.0.1]\n")
    return house


async def test_add_provider_with_test_writes_only_what_the_provider_answers_well_to(loopback):
    house = loopback
    with serving(provider("openai")) as server:
        arguments = {"provider_id": "mine", "provider_type": "openai", "base_url": f"{server.url}/v1"}
        async with house.agent() as agent:
            before = house.state()
            checked = await agent.ok("add_provider", **arguments, test=True, dry_run=True)
            assert house.state() == before
            assert len(server.requests) == 1
            done = await agent.ok("add_provider", **arguments, test=True)
            assert (done["created"], done["diff"]) == (True, checked["diff"])
        house.environment["OPENAI_API_KEY"] = "fake-key-0001"
        async with house.agent() as agent:
            before = house.state()
            error = await agent.refused("add_provider", **{**arguments, "provider_id": "other"}, test=True)
            assert error["code"] == "PROVIDER_TEST_FAILED"
            assert error["details"] == {"reason": "bad_key", "http_status": 401}
            assert "Nothing was written" in error["message"]
            assert "fake-key-0001" not in str(error)
            assert house.state() == before


async def test_add_provider_with_test_refuses_a_stale_version_and_a_missing_key_before_it_asks(loopback):
    with serving(provider("openai")) as server:
        arguments = {"provider_id": "mine", "provider_type": "openai", "base_url": server.url, "test": True}
        async with loopback.agent() as agent:
            error = await agent.refused("add_provider", **arguments, if_version="000000000000")
            assert error["code"] == "CONFLICT"
            error = await agent.refused("add_provider", **arguments, api_key="${NOBODY_SET_THIS}")
            assert error["details"]["reason"] == "not_configured"
            assert "voicegw secrets set NOBODY_SET_THIS" in error["message"]
        assert server.requests == []


@pytest.mark.parametrize(
    ("respond", "reason", "status"),
    [
        (provider("openai"), "ok", 200),
        (answering(401), "bad_key", 401),
        (answering(404), "wrong_url", 404),
        (answering(429), "rate_limited", 429),
        (answering(503), "provider_down", 503),
    ],
)
async def test_test_provider_says_why_a_provider_does_not_answer_well(loopback, respond, reason, status):
    with serving(respond) as server:
        loopback.write(
            f"providers:\n  openai: {{base_url: '{server.url}/v1'}}\n"
            "security: {allow_private_hosts: [127.0.0.1]}\n"
        )
        async with loopback.agent() as agent:
            answer = await agent.ok("test_provider", provider_id="openai", timeout_seconds=5)
    assert (answer["reason"], answer["http_status"]) == (reason, status)
    assert answer["status"] == ("ok" if reason == "ok" else "failed")
    assert answer["message"]
    assert answer["latency_ms"] >= 0
    assert KEY not in str(answer)


async def test_test_provider_without_a_key_names_the_command_and_asks_nobody(agent):
    answer = await agent.ok("test_provider", provider_id="deepgram")
    assert (answer["status"], answer["reason"]) == ("failed", "not_configured")
    assert "voicegw secrets set DEEPGRAM_API_KEY" in answer["message"]
    assert "http_status" not in answer


async def test_test_provider_refuses_a_type_it_does_not_know(agent, house):
    house.write("providers:\n  depgram: {}\n")
    error = await agent.refused("test_provider", provider_id="depgram")
    assert error["code"] == "VALIDATION_ERROR"
    assert "unknown type" in error["message"]


async def test_a_key_that_is_an_ordinary_word_hides_itself_and_nothing_else(agent, house):
    house.file.write_text(
        "providers:\n  ollama:\n    api_key: ollama  # what Ollama's SDK wants\nmodels: {}\n"
    )
    answer = await agent.ok("register_model", modality="llm", provider_id="ollama", model_name="qwen3")
    assert "+  llm:\n+    ollama/qwen3:\n+      provider: ollama\n" in answer["diff"]
    assert "api_key: ollama" not in answer["diff"]
    ((*_, edits),) = house.journal()
    (edit,) = json.loads(edits)
    assert edit["before"]["path"] == ["models", "llm", "ollama/qwen3"]
    assert "provider: ollama" in edit["after"]


async def test_another_type_takes_neither_key_nor_address_of_the_old_one_along(agent, house):
    house.file.write_text(
        "providers:\n  main:\n    type: openai\n    api_key: ${OPENAI_API_KEY}\n    base_url: https://a.example/v1\n    tier: x\n"
    )
    await agent.ok("add_provider", provider_id="main", provider_type="groq", on_conflict="update")
    assert house.lines == [
        "providers:",
        "  main:",
        "    type: groq",
        "    api_key: ${GROQ_API_KEY}",
        "    tier: x",
    ]


@pytest.mark.parametrize(
    "base_url", ["https://h.example/v1?api_key=fake-key-0001", "https://fake-key-0001@h.example/v1"]
)
async def test_an_address_holds_no_key(agent, house, base_url):
    before = house.state()
    failed, answer = await agent.call(
        "add_provider", {"provider_id": "x", "provider_type": "openai_compatible", "base_url": base_url}
    )
    assert failed
    assert answer["error"]["details"]["field"] == "base_url"
    assert "fake-key-0001" not in str(answer)
    assert house.state() == before
