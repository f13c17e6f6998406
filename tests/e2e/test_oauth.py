"""A real server as an OAuth resource server: the official client finds it out and fetches a token by itself."""

# ruff: noqa: F811 - serve and stop are fixtures of another module

import json

import httpx2
import pytest
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from tests.e2e.conftest import WAIT_S
from tests.e2e.test_http import (  # noqa: F401 - serve and stop are fixtures
    ACCEPT,
    INITIALIZE,
    LIST_TOOLS,
    TOKEN,
    bearer,
    call,
    connected,
    event_stream,
    http,
    journal,
    serve,
    stop,
)
from tests.protocol.agents import ERAS
from tests.unit.web.authorization import CLIENT, authorization_server

WELL_KNOWN = "/.well-known/oauth-protected-resource"


class Storage:
    """Keeps what the client learns, as a host would."""

    def __init__(self):
        self.tokens = self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


@pytest.fixture
def issuer():
    with authorization_server() as issuer:
        yield issuer


@pytest.fixture
def configure(config, issuer):
    """Adds auth.oauth to the file, for a server whose port is known by now."""
    before = config.read_text()

    def configure(resource):
        issuer.resource = resource
        settings = json.dumps({"oauth": {"issuer": issuer.issuer, "resource": resource}})
        config.write_text(f"{before}\nauth: {settings}\n")

    return configure


@pytest.fixture
def token(issuer):
    """Makes tokens for the server that is running."""
    return lambda **claims: issuer.token(aud=issuer.resource, **claims).decode()


@pytest.mark.parametrize("mode", [*ERAS, "sse"])
async def test_the_official_client_finds_the_authorization_server_and_gets_in(
    serve,
    stop,
    issuer,
    configure,
    environment,
    mode,
):
    server = serve()
    configure(server.base)
    url, storage = (server.sse if mode == "sse" else server.mcp), Storage()
    provider = ClientCredentialsOAuthProvider(url, storage, *CLIENT, issuer=issuer.issuer)
    async with httpx2.AsyncClient(auth=provider, timeout=WAIT_S, trust_env=False) as client:
        if mode == "sse":
            transport = sse_client(url, timeout=WAIT_S, sse_read_timeout=WAIT_S, auth=provider)
        else:
            transport = streamable_http_client(url, http_client=client)
        async with Client(
            transport, mode="legacy" if mode == "sse" else mode, read_timeout_seconds=WAIT_S
        ) as agent:
            assert "status" in await call(agent, "get_health")
            await call(agent, "add_provider", provider_id="groq", provider_type="groq")
            await call(agent, "delete_provider", provider_id="groq", confirm=True)
    assert storage.tokens.scope == "voicegw.read voicegw.write voicegw.admin"
    assert issuer.asked.count("/token") == 1
    assert stop(server) == 0
    assert journal(environment) == [("add_provider", "ada", "http"), ("delete_provider", "ada", "http")]
    assert storage.tokens.access_token not in server.errors.read_text()


@pytest.mark.parametrize("mode", [*ERAS, "sse"])
async def test_scopes_bound_what_a_token_may_do(serve, stop, configure, token, mode):
    server = serve()
    configure(server.base)
    async with connected(server, mode, token(scope="voicegw.read")) as client:
        assert "status" in await call(client, "get_health")
        refused = await call(client, "add_provider", provider_id="groq", provider_type="groq")
        assert refused["error"]["details"] == {"role": "viewer", "needed": "operator"}
    async with connected(server, mode, token(scope="voicegw.write")) as client:
        await call(client, "add_provider", provider_id="groq", provider_type="groq")
        refused = await call(client, "delete_provider", provider_id="groq", confirm=True)
        assert refused["error"]["code"] == "FORBIDDEN"
    assert stop(server) == 0


def test_a_session_goes_on_with_the_next_token_of_the_same_person_and_with_no_other(serve, configure, token):
    server = serve(VOICEGW_MCP_TOKEN=TOKEN)
    configure(server.base)
    first, second = token(), token(scope="voicegw.admin", iat=1)
    with http() as client:
        opened = client.post(server.mcp, json=INITIALIZE, headers={**ACCEPT, **bearer(first)})
        session = {
            **ACCEPT,
            "mcp-session-id": opened.headers["mcp-session-id"],
            "mcp-protocol-version": "2025-06-18",
        }
        cases = (
            (second, 200),
            (first, 200),
            (token(sub="bob"), 404),
            (token(client_id="other"), 404),
            (TOKEN, 404),
        )
        for presented, status in cases:
            answer = client.post(server.mcp, json=LIST_TOOLS, headers={**session, **bearer(presented)})
            assert answer.status_code == status
        with event_stream(client, server.sse, first) as path:
            for presented, status in ((token(sub="bob"), 404), (TOKEN, 404), (second, 202)):
                answer = client.post(f"{server.base}{path}", json=INITIALIZE, headers=bearer(presented))
                assert answer.status_code == status


def test_the_door_tells_where_tokens_come_from_as_long_as_it_takes_them(
    serve, config, issuer, configure, token
):
    before = config.read_text()
    server = serve(VOICEGW_MCP_TOKEN=TOKEN)
    configure(server.base)
    with http() as client:
        asked = client.post(server.mcp, json=INITIALIZE, headers=ACCEPT)
        assert asked.status_code == 401
        assert f'resource_metadata="{server.base}{WELL_KNOWN}"' in asked.headers["www-authenticate"]
        for path in ("", "/mcp", "/sse"):
            told = client.get(f"{server.base}{WELL_KNOWN}{path}").json()
            assert (told["resource"], told["authorization_servers"]) == (server.base, [issuer.issuer])
        good = {**ACCEPT, **bearer(token())}
        assert client.post(server.mcp, json=INITIALIZE, headers=good).status_code == 200
        config.write_text(before)
        assert client.post(server.mcp, json=INITIALIZE, headers=good).status_code == 401
        assert client.get(f"{server.base}{WELL_KNOWN}").status_code == 401
        assert (
            client.post(server.mcp, json=INITIALIZE, headers={**ACCEPT, **bearer(TOKEN)}).status_code == 200
        )
