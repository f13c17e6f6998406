import json

import pytest
from pydantic import SecretStr
from tests.fake_providers import KEY, answering, serving

from voicegw_mcp.core.probe_answers import MAX_MESSAGE
from voicegw_mcp.core.probes import probe
from voicegw_mcp.core.provider_types import PROVIDER_TYPES


async def check(name, base_url, *, key=KEY):
    return await probe(
        PROVIDER_TYPES[name],
        base_url=base_url,
        api_key=None if key is None else SecretStr(key),
        timeout_s=10.0,
        options={},
        allow_private=True,
    )


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (204, "ok", "accepted"),
        (301, "wrong_url", "redirects"),
        (400, "wrong_url", "HTTP 400"),
        (401, "bad_key", "refused"),
        (402, "no_credit", "no credit"),
        (403, "bad_key", "refused"),
        (404, "wrong_url", "base URL"),
        (405, "wrong_url", "HTTP 405"),
        (429, "rate_limited", "key was accepted"),
        (500, "provider_down", "HTTP 500"),
        (503, "provider_down", "HTTP 503"),
    ],
)
async def test_each_status_has_its_reason(status, reason, words):
    with serving(answering(status)) as server:
        result = await check("deepgram", server.url + "/v1")
    assert (result.reason, result.http_status) == (reason, status)
    assert result.status == ("ok" if reason == "ok" else "failed")
    assert words in result.message


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        (
            "elevenlabs",
            401,
            b'{"detail": {"status": "missing_permissions", "message": "models_read is missing"}}',
        ),
        ("openai", 401, b'{"error": {"message": "Missing scopes: api.model.read"}}'),
        ("openai", 403, b'{"error": {"message": "Missing scopes: api.model.read"}}'),
    ],
)
async def test_a_restricted_key_is_valid(name, status, body):
    with serving(answering(status, body)) as server:
        result = await check(name, server.url)
    assert (result.status, result.reason, result.http_status) == ("ok", "ok", status)
    assert "restricted" in result.message


async def test_googles_other_400_is_no_bad_key():
    with serving(answering(400, b'{"error": {"message": "Bad page size"}}')) as server:
        result = await check("google", server.url)
    assert result.reason == "wrong_url"
    assert "Bad page size" in result.message


async def test_a_redirect_is_named_and_not_followed():
    with (
        serving(answering(200)) as other,
        serving(answering(302, Location=f"{other.url}/?k={KEY}")) as server,
    ):
        result = await check("openai", server.url)
    assert result.reason == "wrong_url"
    assert "to 127.0.0.1;" in result.message
    assert not other.requests


@pytest.mark.parametrize("location", ["http://[", "/elsewhere", "http://exa mple/"])
async def test_a_redirect_to_nowhere_readable_names_no_host(location):
    with serving(answering(302, Location=location)) as server:
        assert "(HTTP 302);" in (await check("openai", server.url)).message


@pytest.mark.parametrize("echoed", [KEY, KEY.upper(), KEY[4:], KEY[:-3], KEY[6:14]])
async def test_a_key_echoed_by_the_provider_is_hidden(echoed):
    body = json.dumps({"error": {"message": f"Incorrect key: {echoed}. Try again"}}).encode()
    with serving(answering(401, body)) as server:
        result = await check("openai", server.url)
    assert "Incorrect key: ***. Try again" in result.message
    assert echoed not in result.message


async def test_a_key_across_the_cut_or_short_or_changed_in_length_by_case_is_hidden_too():
    with serving(answering(401, b"." * (MAX_MESSAGE - 5) + KEY.encode())) as server:
        assert "sk-" not in (await check("openai", server.url)).message
    with serving(answering(401, "İ k3y k3 y".encode())) as server:
        assert "*** k3 y" in (await check("openai", server.url, key="k3y")).message
    with serving(answering(401, b"who are you")) as server:
        assert "who are you" in (await check("openai_compatible", server.url, key=None)).message


async def test_what_a_provider_says_is_cut_and_harmless():
    with serving(answering(500, ("a\x1b[31m\u202eb\u200bc" + "x" * 5000).encode())) as server:
        message = (await check("openai", server.url)).message
    assert message.isprintable()
    assert not {"\x1b", "\u202e", "\u200b"} & set(message)
    assert len(message) < MAX_MESSAGE + 100


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"message": "A"}', "A"),
        (b'{"detail": [{"message": "B"}]}', "B"),
        (b'{"err_msg": "C"}', "C"),
        (b'{"error": "D"}', "D"),
        (b'["E"]', "E"),
        (b'{"other": 1}', '{"other": 1}'),
        (b'{"error": 7}', '{"error": 7}'),
        (b"[]", "[]"),
        (b'{"error": {"error": {"error": {"error": {"error": "deep"}}}}}', "deep"),
        (b"plain", "plain"),
    ],
)
async def test_messages_are_found_in_the_usual_shapes(body, said):
    with serving(answering(500, body)) as server:
        assert said in (await check("openai", server.url)).message


@pytest.mark.parametrize("body", [b"", b"<html><body>gateway</body></html>"])
async def test_empty_bodies_and_web_pages_say_nothing(body):
    with serving(answering(500, body)) as server:
        assert "It said" not in (await check("openai", server.url)).message
