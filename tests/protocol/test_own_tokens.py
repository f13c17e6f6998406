"""Tools take no reference by which whoever may add a provider would send the gateway's own tokens or files to himself."""

import pytest
from tests.protocol.agents import FILE

AUTH = """\
auth:
  api_keys:
    - {token: "${ADMIN_TOKEN}", role: admin}
    - {token: "${file:tokens/ops}", role: operator}
    - {token: fake-token-0001, role: viewer}
"""
OWN = [
    "${VOICEGW_MCP_TOKEN}",
    "${ADMIN_TOKEN}",
    "${file:tokens/ops}",
    "${file:./tokens/../tokens/ops}",
    "${file:link}",
    "${file:secrets.env}",
    "${file:voicegw.yaml}",
]
ARGUMENTS = {
    "add_provider": {
        "provider_id": "x",
        "provider_type": "openai_compatible",
        "base_url": "https://other.example.com",
    },
    "register_model": {"modality": "llm", "provider_id": "ollama", "model_name": "phi"},
}


@pytest.fixture
def tokens(house):
    house.write(FILE + AUTH)
    (house.folder / "tokens").mkdir()
    (house.folder / "link").symlink_to("tokens/ops")


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("reference", OWN)
@pytest.mark.parametrize(
    ("tool", "field", "place"),
    [
        ("add_provider", "api_key", None),
        ("add_provider", "options", "auth_token"),
        ("register_model", "config", "auth_token"),
    ],
)
async def test_what_lets_callers_in_is_no_key_of_a_provider(house, agent, reference, tool, field, place):
    value = reference if place is None else {"nested": [{place: reference}]}
    before = house.state()
    for dry_run in (True, False):
        error = await agent.refused(tool, {**ARGUMENTS[tool], field: value, "dry_run": dry_run})
        assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", field)
        assert "of this gateway itself" in error["message"]
    assert house.state() == before


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize(("tool", "field"), [("add_provider", "options"), ("register_model", "config")])
async def test_options_refer_to_no_more_files_than_keys(agent, tool, field):
    for name in ("/etc/passwd", "../key"):
        error = await agent.refused(tool, {**ARGUMENTS[tool], field: {"auth_token": f"${{file:{name}}}"}})
        assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", field)
        assert "outside of" in error["message"]


async def test_keys_may_be_credentials_of_the_servers_own_unit_of_systemd(agent, monkeypatch, tmp_path):
    arguments = {**ARGUMENTS["add_provider"], "api_key": f"${{file:{tmp_path}/credentials/key}}"}
    error = await agent.refused("add_provider", arguments)
    assert "outside of" in error["message"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    await agent.ok("add_provider", **arguments)
    outside = {**arguments, "provider_id": "y", "api_key": f"${{file:{tmp_path}/credentials/../key}}"}
    assert "outside of" in (await agent.refused("add_provider", outside))["message"]


@pytest.mark.usefixtures("tokens")
async def test_other_references_are_taken_as_before_and_what_a_person_wrote_stays(house, agent):
    house.write(house.text.replace("${DEEPGRAM_API_KEY}", "${ADMIN_TOKEN}"))
    for reference in ("${OTHER_TOKEN}", "${file:tokens/other}", "${file:/run/secrets/x}"):
        arguments = {"api_key": reference, "options": {"auth_token": reference}, "on_conflict": "update"}
        await agent.ok("add_provider", **ARGUMENTS["add_provider"], **arguments)
    await agent.ok(
        "add_provider",
        provider_id="deepgram",
        provider_type="deepgram",
        options={"region": "eu"},
        on_conflict="update",
    )
    assert "api_key: ${ADMIN_TOKEN}" in house.text
