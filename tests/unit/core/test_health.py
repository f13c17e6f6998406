import pytest

from voicegw_mcp.core.health import health
from voicegw_mcp.errors import StoreUnavailable


async def test_an_empty_folder_is_healthy_and_says_what_makes_the_file(gateway):
    found = await health(gateway)
    assert (found.status, found.provider_count, found.model_count, found.project_count) == ("ok", 0, 0, 1)
    assert len(found.warnings) == 1
    assert "voicegw init" in found.warnings[0]


async def test_a_file_broken_from_the_start_hides_the_store_only_when_it_names_it(gateway):
    gateway.config_file.path.write_text("nonsense: 1")
    found = await health(gateway)
    assert found.status == "degraded"
    assert found.config.error.line == 1
    assert found.store.error is None
    assert found.observability.request_logging is True


async def test_a_store_that_cannot_be_opened_is_told_with_its_path(gateway, monkeypatch):
    async def refuse():
        raise StoreUnavailable("The store is locked.", hint="Try again.")

    monkeypatch.setattr(gateway.store_handle, "get", refuse)
    found = await health(gateway)
    assert (found.status, found.store.error) == ("degraded", "The store is locked. Try again.")
    assert found.store.path.endswith("voicegw.db")
    assert found.store.rows is None


@pytest.mark.parametrize("logging", [True, False])
async def test_observability_is_the_file_s(gateway, logging):
    gateway.config_file.path.write_text(f"observability: {{request_logging: {str(logging).lower()}}}")
    assert (await health(gateway)).observability.request_logging is logging


async def test_a_literal_key_is_warned_of_without_being_shown(gateway):
    gateway.config_file.path.write_text("providers: {openai: {api_key: fake-key-0001}}")
    (warning,) = (await health(gateway)).warnings
    assert "providers.openai.api_key holds a key itself" in warning
    assert "fake-key" not in warning
