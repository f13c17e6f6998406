# ruff: noqa: ARG001 - a token that is set and a clock that stands still are what many tests are about
import json

import pytest
from tests.unit.web.conftest import TOKEN, Clock, ask, bearer, never

from voicegw_mcp.config.schema import ApiKey
from voicegw_mcp.core.access import Access
from voicegw_mcp.domain import Role
from voicegw_mcp.transports.http import MAX_BODY_BYTES
from voicegw_mcp.web import guard as module
from voicegw_mcp.web.identities import Identities, role_of

OTHER = "fake-token-0002"
WRONG = [
    "fake-token-0002", "fake-token-000", "fake-token-00011", "FAKE-TOKEN-0001", "${VOICEGW_MCP_TOKEN}", "x" * 10_000,
    b"\xff\xfe\xe4", "fäke".encode("latin-1"), "fäke-token".encode(), b"fake-token-0001\0", b"fake-token-0001\xa0",
    b"fake-token-0001 fake-token-0001", b"fake-token-0001,fake-token-0001", b'"fake-token-0001"', b"Bearer fake-token-0001",
    "fake‑token‑0001".encode(), b"ZmFrZS10b2tlbi0wMDAx",
]  # fmt: skip
NO_TOKEN = [
    (), (b"",), (b"Bearer",), (b"Bearer ",), (b"Bearer    ",), (b" Bearer fake-token-0001",), (b"Basic ZmFrZTpmYWtl",),
    (b"Token fake-token-0001",), (b"fake-token-0001",), (b"Bearer\tfake-token-0001",), (b"Bearer:fake-token-0001",),
    (b"Digest fake-token-0001",), (b"\xff",), (b"Bearerfake-token-0001",),
    (b"Bearer fake-token-0001", b"Bearer fake-token-0001"), (b"Bearer fake-token-0001", b"Bearer wrong-token"),
    (b"Basic eDp5", b"Bearer fake-token-0001"),
]  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def token(environment):
    environment["VOICEGW_MCP_TOKEN"] = TOKEN


async def statuses(guard, tokens, **request):
    return [(await ask(guard, bearer(token), **request)).status for token in tokens]


async def test_the_right_token_opens_the_door_and_names_its_caller(guard, inner, token):
    answer = await ask(guard, bearer())
    assert (answer.status, answer.body) == (200, b"in")
    (caller,) = inner.callers
    assert (caller.name, caller.access) == ("token", Access(Role.ADMIN))
    assert TOKEN not in repr(caller)


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"Bearer   "])
async def test_the_scheme_comes_in_any_case_and_distance(guard, token, scheme):
    assert (await ask(guard, scheme + TOKEN.encode())).status == 200


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
async def test_a_wrong_token_is_refused_with_a_challenge_and_not_repeated(guard, inner, token, caplog, wrong):
    answer = await ask(guard, bearer(wrong))
    assert answer.status == 401
    assert answer.headers[b"www-authenticate"] == b'Bearer realm="voicegw", error="invalid_token"'
    assert answer.headers[b"cache-control"] == b"no-store"
    assert answer.error["code"] == "FORBIDDEN"
    assert inner.came == []
    assert len(answer.body) < 1000
    assert [record.getMessage() for record in caplog.records] == ["a wrong token came from 10.0.0.1"]


@pytest.mark.parametrize("headers", NO_TOKEN, ids=range(len(NO_TOKEN)))
async def test_without_one_clear_token_the_door_asks_for_it(guard, inner, token, headers):
    answer = await ask(guard, *headers)
    assert answer.status == 401
    assert answer.headers[b"www-authenticate"] == b'Bearer realm="voicegw"'
    assert "bearer token is needed" in answer.error["message"]
    assert inner.came == []


async def test_after_ten_wrong_tokens_the_address_waits_whatever_it_sends(guard, inner, token, clock):
    assert await statuses(guard, [OTHER] * 10) == [401] * 10
    answer = await ask(guard, bearer())
    assert answer.status == 429
    assert answer.headers[b"retry-after"] == b"61"
    assert answer.error["code"] == "FORBIDDEN"
    assert await statuses(guard, [OTHER, TOKEN]) == [429, 429]
    assert (await ask(guard)).status == 429
    assert inner.came == []
    clock.now += 59.9
    assert (await ask(guard, bearer())).headers[b"retry-after"] == b"1"
    clock.now += 0.2
    assert await statuses(guard, [TOKEN, OTHER, TOKEN]) == [200, 401, 200]


async def test_another_address_is_not_locked_out(guard, token, clock):
    await statuses(guard, [OTHER] * 11)
    assert await statuses(guard, [TOKEN], client="10.0.0.2") == [200]
    assert await statuses(guard, [TOKEN], client=None) == [200]
    assert await statuses(guard, [TOKEN]) == [429]


async def test_a_right_token_and_a_quiet_minute_begin_the_count_anew(guard, token, clock):
    for _ in range(3):
        assert await statuses(guard, [*[OTHER] * 9, TOKEN]) == [*[401] * 9, 200]
    assert await statuses(guard, [OTHER] * 9) == [401] * 9
    clock.now += 60.1
    assert await statuses(guard, [*[OTHER] * 9, TOKEN]) == [*[401] * 9, 200]


async def test_requests_without_a_token_lock_nobody_out(guard, token, clock):
    for headers in (*NO_TOKEN, *NO_TOKEN):
        assert (await ask(guard, *headers)).status == 401
    assert await statuses(guard, [TOKEN]) == [200]


async def test_health_answers_a_locked_out_address(guard, token, clock):
    await statuses(guard, [OTHER] * 11)
    assert (await ask(guard, path="/health")).status == 200


async def test_the_lockout_remembers_so_many_addresses_and_no_more(monkeypatch, clock):
    monkeypatch.setattr(module, "MAX_ADDRESSES", 3)
    lockout = module.Lockout()
    for number in range(5):
        for _ in range(module.FAILURES):
            lockout.note(str(number))
    assert [lockout.wait_s(str(number)) > 0 for number in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    "length", [b"4194305", b"5242880", b"9" * 30, b"9" * 5000, b"-1", b"+1", b"", b"1.0", b"1e3", b"0x10", b"1, 1", b" 1", b"\xb2", "١".encode()]
)  # fmt: skip
async def test_a_large_or_odd_length_is_refused_before_the_token_is_asked_for(guard, inner, token, length):
    answer = await ask(guard, bearer(), headers=[(b"content-length", length)])
    assert answer.status == 413
    assert answer.error["code"] == "VALIDATION_ERROR"
    assert inner.came == []


@pytest.mark.parametrize("length", [b"0", b"1", b"%d" % MAX_BODY_BYTES])
async def test_a_length_within_the_bound_is_let_through(guard, token, length):
    assert (await ask(guard, bearer(), headers=[(b"content-length", length)])).status == 200


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/messages", "/health", "/", "/nothing"])
@pytest.mark.parametrize("host", [None, b"", b"evil.com", b"localhost.evil.com", b"localhost:x"])
async def test_a_foreign_host_gets_nothing_not_even_health(guard, inner, token, path, host):
    answer = await ask(guard, bearer(), path=path, host=host)
    assert answer.status == 421
    assert answer.error["code"] == "FORBIDDEN"
    assert inner.came == []


async def test_two_hosts_are_none(guard, inner, token):
    assert (await ask(guard, bearer(), headers=[(b"host", b"localhost")])).status == 421
    assert inner.came == []


@pytest.mark.parametrize(
    "origins", [[b"null"], [b""], [b"https://evil.com"], [b"http://localhost", b"http://localhost"], [b"http://localhost", b"null"]]
)  # fmt: skip
async def test_a_foreign_page_is_refused_everywhere(guard, lenient, inner, token, origins):
    headers = [(b"origin", origin) for origin in origins]
    for door in (guard, lenient):
        for path in ("/mcp", "/health"):
            answer = await ask(door, bearer(), path=path, headers=headers)
            assert answer.status == 403
            assert answer.error["code"] == "FORBIDDEN"
    assert inner.came == []


async def test_a_page_of_this_machine_may_call_with_a_token(guard, token):
    assert (await ask(guard, bearer(), headers=[(b"origin", b"http://localhost:6274")])).status == 200


async def test_health_alone_needs_no_token(guard, inner, token):
    assert (await ask(guard, path="/health")).status == 200
    for path in ("/", "/health/", "/HEALTH", "/health/../mcp", "//health", "/mcp/health", "/health\0", ""):
        assert (await ask(guard, path=path)).status == 401
    assert inner.came == ["/health"]


async def test_a_body_that_does_not_arrive_is_refused_in_the_end(guard, inner, token, monkeypatch):
    monkeypatch.setattr(module, "BODY_S", 0.0)
    answer = await ask(guard, bearer(), receive=never)
    assert answer.status == 408
    assert answer.headers[b"connection"] == b"close"
    assert answer.error["code"] == "VALIDATION_ERROR"
    assert inner.came == []


def giving(*messages):
    """Return a ``receive`` that gives these and then nothing more."""
    left = list(messages)

    async def receive():
        return left.pop(0) if left else await never()

    return receive


def part(body, *, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_that_stops_half_way_is_refused_in_the_end(guard, inner, token, monkeypatch):
    monkeypatch.setattr(module, "BODY_S", 0.0)
    assert (await ask(guard, bearer(), receive=giving(part(b"{")))).status == 408
    assert inner.came == []


async def test_nobody_answers_a_client_that_left_half_way(guard, inner, token):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/mcp", "client": None, "headers": [
        (b"host", b"localhost"), (b"authorization", bearer())
    ]}  # fmt: skip
    await guard(scope, giving(part(b"{"), {"type": "http.disconnect"}), send)
    assert (sent, inner.came) == ([], [])


async def test_a_body_in_parts_arrives_whole_and_then_the_client_may_stay(guard, token):
    received = []

    async def app(_scope, receive, _send):
        received.extend([await receive(), await receive()])

    guard._app = app
    leaving = {"type": "http.disconnect"}
    scope = {"type": "http", "method": "POST", "path": "/mcp", "client": None, "headers": [
        (b"host", b"localhost"), (b"authorization", bearer())
    ]}  # fmt: skip
    await guard(scope, giving(part(b'{"a"'), part(b":1}", more=False), leaving), never)
    assert received == [{"type": "http.request", "body": b'{"a":1}'}, leaving]


async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(guard, inner, token):
    blocks = [part(b" " * 1024 * 1024)] * 5
    answer = await ask(guard, bearer(), receive=giving(*blocks))
    assert answer.status == 413
    assert answer.error["code"] == "VALIDATION_ERROR"
    assert inner.came == []


@pytest.mark.parametrize("value", [b"0,", b"{},", b"[", b'{"a":'])
async def test_too_many_values_are_refused_before_they_are_parsed(guard, inner, token, value):
    body = part(value * (module.MAX_VALUES + 1), more=False)
    answer = await ask(guard, bearer(), receive=giving(body))
    assert answer.status == 413
    assert "10,000 values" in answer.error["message"]
    assert inner.came == []
    few = part(value * (module.MAX_VALUES // 2), more=False)
    assert (await ask(guard, bearer(), receive=giving(few))).status == 200


async def test_no_websocket_is_spoken_and_life_passes_through(guard, inner, token):
    await guard({"type": "websocket", "path": "/mcp", "headers": []}, never, never)
    assert inner.came == []
    await guard({"type": "lifespan"}, never, never)
    assert inner.came == ["lifespan"]


async def test_without_any_token_a_loopback_door_is_open_and_another_is_not(lenient, guard, inner):
    assert (await ask(lenient)).status == 200
    assert (await ask(lenient, bearer("whatever-it-is"))).status == 200
    assert inner.callers == [None, None]
    assert (await ask(guard)).status == 401


async def test_a_token_that_is_added_while_it_runs_closes_the_door(lenient, write, environment):
    write()
    assert (await ask(lenient)).status == 200
    environment["OPS_TOKEN"] = OTHER
    write({"token": "${OPS_TOKEN}", "name": "ops"})
    assert (await ask(lenient)).status == 401
    assert (await ask(lenient, bearer(OTHER))).status == 200


async def test_a_door_that_a_token_closed_stays_closed_without_one(lenient, write, environment):
    environment["OPS_TOKEN"] = OTHER
    write({"token": "${OPS_TOKEN}", "name": "ops", "role": "viewer"})
    assert (await ask(lenient, bearer(OTHER))).status == 200
    write()
    assert (await ask(lenient, path="/health")).status == 200
    assert await statuses(lenient, [OTHER, ""]) == [401, 401]
    assert (await ask(lenient)).status == 401


async def test_a_token_in_secrets_env_closes_the_door_too(lenient, secrets):
    assert (await ask(lenient)).status == 200
    secrets(VOICEGW_MCP_TOKEN=TOKEN)
    assert (await ask(lenient)).status == 401
    assert (await ask(lenient, bearer())).status == 200


async def test_a_token_that_stands_for_nothing_closes_the_door(lenient, write):
    write({"token": "${NOT_SET}", "name": "ops"})
    assert await statuses(lenient, ["", "${NOT_SET}", "NOT_SET", "None"]) == [401] * 4
    assert (await ask(lenient)).status == 401


@pytest.mark.parametrize("short", ["x", "1234567", "${OPS}"])
async def test_a_short_token_is_refused_and_closes_the_door(lenient, write, environment, short):
    environment["OPS_TOKEN"] = environment["VOICEGW_MCP_TOKEN"] = short
    write({"token": "${OPS_TOKEN}"})
    assert await statuses(lenient, [short, ""]) == [401, 401]


async def test_a_token_of_eight_characters_is_enough(guard, environment):
    environment["VOICEGW_MCP_TOKEN"] = "fake0001"
    assert await statuses(guard, ["fake0001"]) == [200]


@pytest.mark.parametrize("projects", [["support-line"], []])
async def test_a_token_is_bound_to_the_projects_that_are_named_even_to_none(
    guard, inner, write, environment, projects
):
    environment["OPS_TOKEN"] = OTHER
    write({"token": "${OPS_TOKEN}", "role": "viewer", "projects": projects})
    assert await statuses(guard, [OTHER]) == [200]
    assert inner.callers[-1].access == Access(Role.VIEWER, frozenset(projects))
    write({"token": "${OPS_TOKEN}", "role": "viewer"})
    assert await statuses(guard, [OTHER]) == [200]
    assert inner.callers[-1].access == Access(Role.VIEWER)


async def test_a_revoked_token_is_refused_at_the_next_request(guard, inner, write, environment, token):
    environment["OPS_TOKEN"] = OTHER
    write({"token": "${OPS_TOKEN}", "name": "ops", "role": "viewer"})
    assert await statuses(guard, [OTHER]) == [200]
    write()
    assert await statuses(guard, [OTHER, TOKEN]) == [401, 200]
    assert [caller.name for caller in inner.callers] == ["ops", "token"]


async def test_a_changed_role_holds_at_the_next_request(guard, inner, write, environment):
    environment["OPS_TOKEN"] = OTHER
    for role in ("admin", "viewer"):
        write({"token": "${OPS_TOKEN}", "role": role})
        await ask(guard, bearer(OTHER))
    assert [caller.access.role for caller in inner.callers] == [Role.ADMIN, Role.VIEWER]
    assert inner.callers[0].name == "api_keys[0]"


async def test_a_rotated_token_in_secrets_env_works_at_once_and_the_old_one_no_more(guard, inner, secrets):
    secrets(VOICEGW_MCP_TOKEN=TOKEN)
    assert await statuses(guard, [TOKEN, OTHER]) == [200, 401]
    secrets(VOICEGW_MCP_TOKEN=f"{OTHER}-rotated")
    assert await statuses(guard, [TOKEN, f"{OTHER}-rotated"]) == [401, 200]
    first, second = inner.callers
    assert first.fingerprint != second.fingerprint


async def test_a_file_that_broke_keeps_its_tokens(lenient, gateway, write, environment):
    environment["OPS_TOKEN"] = OTHER
    write({"token": "${OPS_TOKEN}"})
    assert await statuses(lenient, [OTHER]) == [200]
    gateway.config_file.path.write_text("auth: [broken\n")
    assert await statuses(lenient, [OTHER, "fake-wrong-one"]) == [200, 401]
    assert (await ask(lenient)).status == 401


async def test_of_two_entries_with_the_same_token_the_first_counts(gateway, write, environment):
    environment["OPS_TOKEN"] = OTHER
    write({"token": "${OPS_TOKEN}", "name": "a", "role": "viewer"}, {"token": "${OPS_TOKEN}", "name": "b"})
    found = Identities(gateway).find(OTHER.encode())
    assert (found.name, found.access.role) == ("a", Role.VIEWER)


@pytest.mark.parametrize(
    ("scopes", "role", "expected"),
    [
        (["*"], None, Role.ADMIN),
        (["admin"], None, Role.ADMIN),
        (["read", "admin"], None, Role.ADMIN),
        (["read", "write"], None, Role.OPERATOR),
        (["write"], None, Role.OPERATOR),
        (["read"], None, Role.VIEWER),
        ([], None, Role.VIEWER),
        (["WRITE"], None, Role.VIEWER),
        (["write:*", "*:admin"], None, Role.VIEWER),
        (["*"], "viewer", Role.VIEWER),
        (["read"], "admin", Role.ADMIN),
        (["*"], "operator", Role.OPERATOR),
    ],
)
def test_the_role_of_a_token_comes_before_its_scopes(scopes, role, expected):
    given = {"token": "${OPS_TOKEN}", "scopes": scopes, **({"role": role} if role else {})}
    assert role_of(ApiKey.model_validate_json(json.dumps(given))) is expected


def test_a_token_without_role_and_scopes_does_everything_as_in_voicegateway():
    assert role_of(ApiKey(token="${OPS_TOKEN}")) is Role.ADMIN


async def test_a_file_that_was_never_good_closes_the_door_because_it_may_name_tokens(gateway, lenient):
    gateway.config_file.path.write_text("auth: [")
    assert (await ask(lenient)).status == 401
