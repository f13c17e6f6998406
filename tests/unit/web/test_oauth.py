"""Access tokens at the door, with an authorization server over real HTTP and real keys."""

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import RSAAlgorithm
from tests.unit.web import authorization
from tests.unit.web.authorization import (
    METADATA,
    RESOURCE,
    ec_key,
    ed_key,
    encoded,
    jwk,
    rsa_key,
    shared_secret_token,
)
from tests.unit.web.conftest import TOKEN, Clock, ask, bearer

from voicegw_mcp.core.access import Access
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import ConfigInvalid
from voicegw_mcp.transports.authorization import TokenVerifier
from voicegw_mcp.web import signing_keys
from voicegw_mcp.web.app import build_app
from voicegw_mcp.web.guard import FAILURES
from voicegw_mcp.web.hosts import Hosts
from voicegw_mcp.web.identities import Identities
from voicegw_mcp.web.oauth import JwtVerifier, describe_resource, metadata_url

PROTECTED = "/.well-known/oauth-protected-resource"


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(signing_keys, "time", clock)
    return clock


@pytest.fixture
def server():
    with authorization.authorization_server() as server:
        yield server


@pytest.fixture
def configure(gateway, server):
    """Writes auth.oauth, with settings changed or added; None takes one out."""

    def configure(**changed):
        settings = {
            "issuer": server.issuer,
            "resource": RESOURCE,
            "jwks_url": f"{server.issuer}/jwks",
            **changed,
        }
        settings = {name: value for name, value in settings.items() if value is not None}
        gateway.config_file.path.write_text(json.dumps({"auth": {"oauth": settings}}))

    configure()
    return configure


@pytest.fixture
def settings(gateway, configure):  # noqa: ARG001 - written first
    return gateway.catalog().settings.auth.oauth


async def status(guard, token, **request):
    return (await ask(guard, bearer(token), **request)).status


@pytest.mark.parametrize(
    ("scope", "role"),
    [
        ("voicegw.read", Role.VIEWER),
        ("voicegw.write", Role.OPERATOR),
        ("voicegw.admin", Role.ADMIN),
        ("openid voicegw.write profile voicegw.read", Role.OPERATOR),
        ("voicegw.read voicegw.admin voicegw.write", Role.ADMIN),
    ],
)
async def test_scopes_give_the_greatest_role_they_name(guard, inner, server, configure, scope, role):
    configure()
    assert await status(guard, server.token(scope=scope)) == 200
    (caller,) = inner.callers
    assert (caller.name, caller.access) == ("ada", Access(role))


@pytest.mark.parametrize(
    "claims", [{"scp": ["voicegw.write"]}, {"scp": "voicegw.write"}, {"scp": ["voicegw.write", 7]}]
)
async def test_older_servers_name_scopes_otherwise(guard, inner, server, configure, claims):
    configure()
    assert await status(guard, server.token(scope=None, **claims)) == 200
    assert inner.callers[0].access == Access(Role.OPERATOR)


@pytest.mark.parametrize(
    "scope", [None, "", "openid", "VOICEGW.READ", "voicegw.read2", 7, {"voicegw.read": 1}]
)
async def test_without_a_known_scope_a_good_token_is_forbidden(guard, inner, server, configure, scope):
    configure()
    answer = await ask(guard, bearer(server.token(scope=scope)))
    assert answer.status == 403
    challenge = answer.headers[b"www-authenticate"].decode()
    assert (
        challenge
        == f'Bearer realm="voicegw", error="insufficient_scope", resource_metadata="{RESOURCE}{PROTECTED}"'
    )
    assert answer.error["code"] == "FORBIDDEN"
    assert "voicegw.read" in answer.error["hint"]
    assert inner.came == []


async def test_scopes_of_one_s_own_replace_the_default_ones(guard, inner, server, configure):
    configure(scopes={"gateway:ops": "operator"})
    assert await status(guard, server.token(scope="voicegw.admin")) == 403
    assert await status(guard, server.token(scope="gateway:ops")) == 200
    assert inner.callers[0].access == Access(Role.OPERATOR)


async def test_a_claim_binds_a_token_to_projects(guard, inner, server, configure):
    configure(projects_claim="gw_projects")
    assert await status(guard, server.token(gw_projects=["support-line", "outbound"])) == 200
    assert await status(guard, server.token(gw_projects=[])) == 200
    assert [caller.access for caller in inner.callers] == [
        Access(Role.VIEWER, frozenset({"support-line", "outbound"})),
        Access(Role.VIEWER, frozenset()),
    ]
    for claim in (None, "support-line", [1], {"support-line": True}, True):
        answer = await ask(guard, bearer(server.token(gw_projects=claim)))
        assert answer.status == 403
        assert "gw_projects" in answer.error["message"]
    assert len(inner.came) == 2


KEYS = [
    ("RS256", rsa_key), ("RS512", rsa_key), ("PS256", rsa_key), ("EdDSA", ed_key), ("ES256", ec_key),
    ("ES384", lambda: ec_key(ec.SECP384R1)), ("ES512", lambda: ec_key(ec.SECP521R1)),
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "make"), KEYS, ids=[name for name, _ in KEYS])
async def test_signatures_by_a_key_pair_are_taken(guard, server, configure, algorithm, make):
    configure()
    server.keys = [jwk(make(), "pair")]
    assert await status(guard, server.token(make(), "pair", algorithm)) == 200


WRONG = {
    "another issuer": {"iss": "http://127.0.0.1:1"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "https://other.example.com"},
    "no audience": {"aud": None},
    "an empty audience": {"aud": []},
    "audiences without ours": {
        "aud": ["https://other.example.com", f"{RESOURCE}.evil.com", f"{RESOURCE}/mcp"]
    },
    "not yet": {"nbf": 32_503_680_000},
    "issued in the future": {"iat": 32_503_680_000},
    "never ending": {"exp": None},
    "an end that is no number": {"exp": "tomorrow"},
    "an end beyond numbers": {"exp": float("inf")},
    "nobody": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is no text": {"sub": 7},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG)
async def test_a_token_for_somebody_else_or_another_time_is_wrong(
    guard, inner, server, configure, caplog, claims
):
    configure()
    token = server.token(**claims)
    answer = await ask(guard, bearer(token))
    assert answer.status == 401
    assert b'error="invalid_token", resource_metadata=' in answer.headers[b"www-authenticate"]
    assert inner.came == []
    assert token.decode() not in caplog.text + answer.body.decode()


async def test_an_audience_may_be_one_of_several_and_end_in_a_slash(guard, server, configure):
    configure()
    for audience in ([RESOURCE, "https://other.example.com"], f"{RESOURCE}/"):
        assert await status(guard, server.token(aud=audience)) == 200


async def test_an_expired_token_is_no_guess(guard, server, configure):
    configure()
    for _ in range(2 * FAILURES):
        answer = await ask(guard, bearer(server.token(exp=1)))
        assert answer.status == 401
        assert "expired" in answer.error["message"]
        assert b"invalid_token" in answer.headers[b"www-authenticate"]
    assert await status(guard, server.token()) == 200


async def test_wrong_tokens_lock_the_address_out(guard, server, configure):
    configure()
    forged = server.token(rsa_key("another"))
    assert [await status(guard, forged) for _ in range(FAILURES + 1)] == [*[401] * FAILURES, 429]
    assert await status(guard, server.token()) == 429
    assert await status(guard, server.token(), client="10.0.0.2") == 200


def forged(server):
    """Tokens whose claims are right and whose signature is none of the issuer's."""
    good = server.token()
    head, claims, signature = good.split(b".")
    named = {"typ": "JWT", "kid": "one"}
    yield b".".join([encoded({**named, "alg": "none"}), claims, b""])
    yield b".".join([encoded({**named, "alg": "None"}), claims, signature])
    yield b".".join([encoded({**named, "alg": "RS256"}), claims, b""])
    yield b".".join([head, encoded(server.claims(scope="voicegw.admin")), signature])
    yield b".".join([head, claims, signature[:-4] + b"AAAA"])
    yield b".".join([head, claims])
    yield b".".join([head, claims, signature, signature])
    yield shared_secret_token(server.claims(), rsa_key())
    yield server.token(rsa_key("another"))
    yield server.token(rsa_key("another"), headers={"jwk": jwk(rsa_key("another"), "one")})
    yield server.token(
        rsa_key("another"), headers={"jku": f"{server.issuer}/mine", "x5u": "http://127.0.0.1:1/"}
    )
    yield server.token(ec_key(), algorithm="ES256")
    yield server.token(headers={"typ": "logout+jwt"})
    yield server.token(headers={"crit": ["exp2"], "exp2": 1})
    yield b".".join([encoded({**named, "alg": "RS256", "kid": ["one"]}), claims, signature])
    yield b".".join([encoded(b"[" * 6000), claims, signature])
    yield b".".join([head, encoded(b'{"iss":' + b"[" * 6000), signature])
    yield b".".join([encoded(b"[]"), encoded(b"7"), signature])
    yield good + b"A" * 20_000
    yield b"a.b.c"
    yield b"\xff.\xfe.\xfd"


async def test_no_forged_token_is_taken(guard, inner, server, configure):
    configure()
    for number, token in enumerate(forged(server)):
        assert await status(guard, token, client=f"10.0.1.{number}") == 401, number
    assert inner.came == []
    assert set(server.asked) <= {"/jwks"}
    assert await status(guard, server.token()) == 200


@pytest.mark.parametrize(
    "keys",
    [
        [{"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"}],
        [jwk(rsa_key(), "one", use="enc")],
        [jwk(rsa_key(), "one", alg="RSA-OAEP")],
        [{"kty": "RSA", "kid": "one"}, {"kty": "EC", "crv": "P-256", "x": "!", "y": "!", "kid": "one"}, 7],
        [{"kty": "EC", "crv": "secp256k1", "kid": "one"}],
        [json.loads(RSAAlgorithm.to_jwk(rsa_key())) | {"kid": "one"}],
        [],
        {"one": jwk(rsa_key(), "one")},
    ],
    ids=["shared", "encryption", "other algorithm", "broken", "odd curve", "private", "none", "no list"],
)
async def test_keys_that_are_not_for_signatures_are_none(guard, inner, server, configure, caplog, keys):
    configure()
    server.keys = keys
    assert await status(guard, server.token()) == 503
    assert "no public key for signatures" in caplog.text
    assert inner.came == []


async def test_a_short_key_opens_nothing(guard, inner, server, configure):
    configure()
    short = rsa_key("short", 1024)
    server.keys = [jwk(short, "one")]
    with pytest.warns(match="RSA key"):
        token = server.token(short)
    assert await status(guard, token) == 401
    assert inner.came == []


async def test_a_token_without_a_key_id_is_for_the_only_key(guard, server, configure):
    configure()
    assert await status(guard, server.token(key_id=None)) == 200
    configure(jwks_url=f"{server.issuer}/two")
    server.replies["/two"] = lambda _: {"keys": [jwk(rsa_key(), "one"), jwk(rsa_key("another"), "two")]}
    assert await status(guard, server.token(key_id=None)) == 401
    assert await status(guard, server.token()) == 200


async def test_two_keys_of_one_id_are_none(guard, server, configure):
    configure()
    server.keys = [jwk(rsa_key(), "one"), jwk(rsa_key("another"), "one")]
    assert await status(guard, server.token()) == 401


async def test_a_new_key_is_found_and_looked_for_only_now_and_then(guard, server, configure, clock):
    configure()
    rotated = server.token(rsa_key("another"), "two")
    assert await status(guard, server.token()) == 200
    assert [await status(guard, rotated, client=f"10.1.1.{n}") for n in range(5)] == [401] * 5
    server.keys = [jwk(rsa_key("another"), "two")]
    assert await status(guard, rotated) == 401
    assert server.asked == ["/jwks"]
    clock.now += signing_keys.UNKNOWN_S
    assert await status(guard, rotated) == 200
    assert server.asked == ["/jwks"] * 2
    assert await status(guard, server.token()) == 401  # its key was taken back


async def test_keys_are_fetched_anew_beside_the_requests(guard, server, configure, clock):
    configure()
    assert await status(guard, server.token()) == 200
    clock.now += signing_keys.FRESH_S
    fetched = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(_handler):
        server.released.wait(10)
        loop.call_soon_threadsafe(fetched.set)
        return {"keys": []}

    server.replies["/jwks"] = slowly
    assert [await status(guard, server.token()) for _ in range(3)] == [200] * 3  # none of them waited
    server.released.set()
    await asyncio.wait_for(fetched.wait(), 10)
    assert server.asked == ["/jwks"] * 2


async def test_while_keys_cannot_be_fetched_the_old_ones_are_used_for_a_while(
    guard, server, configure, clock, caplog
):
    configure()
    assert await status(guard, server.token()) == 200
    server.replies["/jwks"] = lambda _: (500, {})
    clock.now += signing_keys.USABLE_S - 1
    assert await status(guard, server.token()) == 200
    clock.now += 1
    assert await status(guard, server.token()) == 503
    clock.now += signing_keys.RETRY_S
    assert await status(guard, server.token()) == 503
    server.replies["/jwks"] = lambda _: {"keys": server.keys}
    assert await status(guard, server.token()) == 503  # asked again only after a while
    clock.now += signing_keys.RETRY_S
    assert await status(guard, server.token()) == 200
    assert "status 500" in caplog.text


ANSWERS = {
    "an error": lambda _: (500, {}),
    "nothing there": lambda _: (404, {}),
    "a redirect": lambda _: (302, {}),
    "no JSON": lambda _: b"<html>",
    "no object": lambda _: [1],
    "text that is no text": lambda _: b'{"keys": "\xff"}',
    "deep JSON": lambda _: b"[" * 100_000,
    "a large answer": lambda _: b'{"keys": [' + b" " * signing_keys.MAX_BYTES + b"]}",
    "a broken connection": lambda handler: handler.wfile.write(b"HTTP/9 nothing\r\n\r\n") and None,
}


@pytest.mark.parametrize("reply", ANSWERS.values(), ids=ANSWERS)
async def test_a_server_without_usable_keys_is_no_reason_for_401(
    guard, inner, server, configure, caplog, reply
):
    configure()
    server.replies["/jwks"] = reply
    server.replies["/elsewhere"] = lambda _: {"keys": server.keys}
    token = server.token()
    for _ in range(2 * FAILURES):  # none of these counts as a wrong token
        answer = await ask(guard, bearer(token))
        assert answer.status == 503
    assert answer.headers[b"retry-after"] == b"5"
    assert answer.error["code"] == "SERVER_UNREACHABLE"
    assert server.asked == ["/jwks"]
    assert len(caplog.records) == 1
    assert server.issuer in caplog.text
    assert token.decode() not in caplog.text
    assert inner.came == []


async def test_a_server_that_is_gone_is_no_reason_for_401(guard, server, configure, environment):
    configure(jwks_url="http://127.0.0.1:1/jwks")
    environment["VOICEGW_MCP_TOKEN"] = TOKEN
    assert await status(guard, server.token()) == 503
    assert await status(guard, TOKEN) == 200


async def test_a_slow_server_holds_up_nobody_else(guard, server, configure, environment, monkeypatch):
    monkeypatch.setattr(signing_keys, "FETCH_S", 0.2)
    configure()
    environment["VOICEGW_MCP_TOKEN"] = TOKEN
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def never(_handler):
        loop.call_soon_threadsafe(asked.set)
        server.released.wait(10)

    server.replies["/jwks"] = never
    waiting = [asyncio.create_task(status(guard, server.token())) for _ in range(5)]
    await asyncio.wait_for(asked.wait(), 10)
    assert await status(guard, TOKEN) == 200
    assert not any(task.done() for task in waiting)
    assert await asyncio.gather(*waiting) == [503] * 5
    assert server.asked == ["/jwks"]


async def test_who_leaves_does_not_end_the_look_of_the_others(guard, server, configure):
    configure()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(_handler):
        loop.call_soon_threadsafe(asked.set)
        server.released.wait(10)
        return {"keys": server.keys}

    server.replies["/jwks"] = slowly
    first, second = (asyncio.create_task(status(guard, server.token())) for _ in range(2))
    await asyncio.wait_for(asked.wait(), 10)
    first.cancel()
    server.released.set()
    assert await second == 200
    assert first.cancelled()
    assert server.asked == ["/jwks"]


async def test_the_issuer_tells_where_its_keys_are(guard, server, configure):
    configure(jwks_url=None)
    assert await status(guard, server.token()) == 200
    assert server.asked == [METADATA, "/jwks"]


async def test_openid_metadata_will_do_and_a_path_goes_behind_the_well_known_one(guard, server, configure):
    issuer = f"{server.issuer}/realms/ops"
    configure(jwks_url=None, issuer=issuer)
    server.replies["/realms/ops/.well-known/openid-configuration"] = lambda _: {
        **server.metadata(), "issuer": issuer
    }  # fmt: skip
    assert await status(guard, server.token(iss=issuer)) == 200
    assert server.asked == [f"{METADATA}/realms/ops", "/realms/ops/.well-known/openid-configuration", "/jwks"]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": "https://other.example.com"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"jwks_uri": None}, "no https address"),
        ({"jwks_uri": "http://id.example.com/jwks"}, "ValueError"),
        ({"jwks_uri": "file:///etc/passwd"}, "ValueError"),
    ],
)
async def test_metadata_that_does_not_fit_gives_no_keys(guard, server, configure, caplog, changed, why):
    configure(jwks_url=None)
    server.replies[METADATA] = lambda _: {**server.metadata(), **changed}
    server.replies["/.well-known/openid-configuration"] = server.replies[METADATA]
    assert await status(guard, server.token()) == 503
    assert why in caplog.text


async def test_settings_are_those_of_the_file_at_each_request(guard, lenient, gateway, server, configure):
    gateway.config_file.path.write_text("timezone: UTC\n")
    assert (await ask(lenient)).status == 200
    assert await status(guard, server.token()) == 401
    configure()
    assert (await ask(lenient)).status == 401
    assert await status(guard, server.token()) == await status(lenient, server.token()) == 200
    configure(resource="https://other.example.com")
    assert await status(guard, server.token()) == 401
    configure()
    assert await status(guard, server.token()) == 200
    gateway.config_file.path.write_text("timezone: UTC\n")
    assert await status(guard, server.token()) == 401
    assert (await ask(lenient)).status == 401


async def test_tokens_of_the_file_work_beside_and_ask_no_server(guard, inner, server, configure, environment):
    configure()
    environment["VOICEGW_MCP_TOKEN"] = TOKEN
    assert await status(guard, TOKEN) == await status(guard, server.token()) == 200
    assert [caller.name for caller in inner.callers] == ["token", "ada"]
    assert await status(guard, "no-token-at-all") == 401
    assert server.asked == ["/jwks"]


async def test_a_session_belongs_to_subject_and_client_not_to_the_token(guard, inner, server, configure):
    configure()
    for claims in (
        {},
        {"scope": "voicegw.admin", "iat": 1},
        {"sub": "bob"},
        {"client_id": "other"},
        {"client_id": None, "azp": "ci"},
    ):
        assert await status(guard, server.token(**claims)) == 200
    first, again, *others, same = [(caller.name, caller.fingerprint) for caller in inner.callers]
    assert first == again == same
    assert len({first, *others}) == 3


@pytest.mark.parametrize(
    ("subject", "name"), [("a\x1b[2Jb", "a\\x1b[2Jb"), ("a\u202eb", "a\\u202eb"), ("x" * 500, "x" * 79 + "…")]
)
async def test_the_name_in_the_journal_is_escaped_and_cut(guard, inner, server, configure, subject, name):
    configure()
    assert await status(guard, server.token(sub=subject)) == 200
    assert inner.callers[0].name == name


async def test_the_verifier_is_one_of_the_sdk_s(server, settings):
    verifier: TokenVerifier = JwtVerifier(settings)
    token = server.token(scope="a b").decode()
    found = await verifier.verify_token(token)
    assert (found.token, found.client_id, found.subject, found.scopes) == (token, "ci", "ada", ["a", "b"])
    assert found.claims["iss"] == server.issuer
    assert await verifier.verify_token("x") is None


async def test_metadata_is_there_for_all_who_call_by_the_right_name(gateway, server, configure, environment):
    configure(resource=f"{RESOURCE}/voice/mcp")
    environment["VOICEGW_MCP_TOKEN"] = TOKEN
    app = build_app(None, gateway, Hosts.of("127.0.0.1"), Identities(gateway))
    paths = [PROTECTED, f"{PROTECTED}/mcp", f"{PROTECTED}/sse", f"{PROTECTED}/voice/mcp"]
    for path in paths:
        answer = await ask(app, path=path, method="GET")
        assert answer.status == 200
        assert json.loads(answer.body) == {
            "resource": f"{RESOURCE}/voice/mcp",
            "authorization_servers": [server.issuer],
            "scopes_supported": ["voicegw.read", "voicegw.write", "voicegw.admin"],
            "bearer_methods_supported": ["header"],
            "resource_name": "voicegw-mcp",
        }
        assert (await ask(app, path=path)).status == 405  # POST
        assert (await ask(app, path=path, host=b"evil.com")).status == 421
        assert (await ask(app, path=path, headers=[(b"origin", b"null")])).status == 403
    for path in (
        f"{PROTECTED}/",
        f"{PROTECTED}/x",
        f"{PROTECTED}/mcp/",
        f"{PROTECTED}x",
        "/.well-known/",
        "/mcp",
    ):
        answer = await ask(app, path=path, method="GET")
        assert answer.status == 401
        assert (
            f'resource_metadata="{RESOURCE}{PROTECTED}/voice/mcp"'
            in answer.headers[b"www-authenticate"].decode()
        )
    gateway.config_file.path.write_text("timezone: UTC\n")
    assert [(await ask(app, path=path, method="GET")).status for path in paths] == [401] * 4
    assert (await ask(app, bearer(), path=PROTECTED, method="GET")).status == 404


@pytest.mark.parametrize(
    ("changed", "field", "what"),
    [
        ({"issuer": "http://id.example.com"}, "issuer", "https://"),
        ({"issuer": "ftp://localhost"}, "issuer", "https://"),
        ({"issuer": "id.example.com"}, "issuer", "URL"),
        ({"issuer": "https://id.example.com/?a=1"}, "issuer", "only"),
        ({"issuer": "https://id.example.com/#a"}, "issuer", "only"),
        ({"issuer": "https://me:pw@id.example.com"}, "issuer", "only"),
        ({"issuer": "https://[::1"}, "issuer", "URL"),
        ({"issuer": "https://id.example.com:99999"}, "issuer", "URL"),
        ({"issuer": None}, "issuer", "missing"),
        ({"resource": None}, "resource", "missing"),
        ({"resource": 'https://a"b.example.com'}, "resource", "only"),
        ({"jwks_url": "http://id.example.com/jwks"}, "jwks_url", "https://"),
        ({"scopes": {}}, "scopes", "at least 1"),
        ({"scopes": {"a b": "viewer"}}, "scopes", "scope"),
        ({"scopes": {"": "viewer"}}, "scopes", "scope"),
        ({"scopes": {"a": "root"}}, "scopes.a", "viewer"),
        ({"projects_claim": ""}, "projects_claim", "at least 1"),
        ({"issuerr": "x"}, "issuerr", "'issuer'"),
    ],
)  # fmt: skip
async def test_settings_that_do_not_fit_are_named_with_their_place(gateway, configure, changed, field, what):
    configure(**changed)
    with pytest.raises(ConfigInvalid) as caught:
        gateway.catalog()
    (problem,) = caught.value.details["problems"]
    assert problem["path"].startswith(f"auth.oauth.{field}")
    assert what in problem["message"] + problem.get("hint", "")


async def test_the_metadata_of_a_resource_at_the_root_is_at_the_root(settings):
    assert metadata_url(settings) == f"{RESOURCE}{PROTECTED}"
    assert describe_resource(settings)["resource"] == RESOURCE
