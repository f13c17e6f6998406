"""What VoiceGateway 0.4 has at addresses of its own: the answer says where it is here."""

import pytest


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/sessions", "/v1/costs?group_by=session"),
        ("/v1/sessions/s-1", "/v1/logs?session_id=ID"),
        ("/v1/audit-log", "/v1/changes"),
    ],
)
async def test_who_looks_where_voicegateway_has_something_is_told_where_it_is(site, path, place):
    answer = await site.get(path)
    assert answer.status == 404
    assert place in answer.error["hint"].partition(" There are: ")[0]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v1/models/openai/tts-1?confirm=true"),
        ("PATCH", "/v1/providers/openai"),
        ("POST", "/v1/providers/openai/test"),
    ],
)
async def test_voicegateway_s_addresses_for_changes_say_what_changes_things_here(site, method, path):
    refused = await site.get(path, method=method)
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert f"got {method} {path.partition('?')[0]}" in refused.error["message"]
    assert "tools" in refused.error["hint"]
