"""What `alerts:` names in the file is guarded like the rest of it."""

from tests.protocol.agents import FILE

HOOK = "alerts: {webhook: {url: 'https://ops.example.com/x', secret: '${HOOK}'}}\n"


async def test_a_project_that_an_alert_names_is_not_deleted(house, agent):
    house.write(FILE + "alerts: {budget: {projects: [support-line]}}\n")
    before = house.state()
    error = await agent.refused("delete_project", project_id="support-line", confirm=True)
    assert error["code"] == "CONFLICT"
    assert "alerts.budget.projects" in error["message"]
    assert house.state()[0] == before[0]
    await agent.ok("delete_project", project_id="outbound", confirm=True)


async def test_no_provider_gets_the_secret_of_the_webhook_as_its_key(house, agent):
    house.write(FILE + HOOK)
    error = await agent.refused("add_provider", provider_id="x", provider_type="openai", api_key="${HOOK}")
    assert (error["code"], error["details"]["field"]) == ("VALIDATION_ERROR", "api_key")
    assert "of this gateway itself" in error["message"]
