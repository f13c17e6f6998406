"""What is open is ended when its token is no longer what it was, and by nothing else."""

import anyio
import pytest
from tests.unit.web.conftest import TOKEN

from voicegw_mcp.errors import Forbidden, ServerUnreachable
from voicegw_mcp.web import revocation
from voicegw_mcp.web.identities import Identities
from voicegw_mcp.web.oauth import InsufficientScope, TokenExpired
from voicegw_mcp.web.revocation import OpenRequests, Standing

BOUND_S = 20
KEY = {"token": "${OPS_TOKEN}", "name": "ops", "role": "operator"}


@pytest.fixture
def identities(gateway, environment, write, monkeypatch):
    monkeypatch.setattr(revocation, "LOOK_EVERY_S", 0.01)
    environment["OPS_TOKEN"] = TOKEN
    write(KEY)
    return Identities(gateway)


@pytest.fixture
async def standing(identities):
    token = TOKEN.encode()
    return Standing(OpenRequests(identities), token, await identities.identify(token))


class Looks:
    """Stands in for ``identify``: raises, and tells when it was asked so often."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.asked = anyio.Event()

    async def __call__(self, _token):
        if len(self.errors) == 1:
            self.asked.set()
        raise self.errors[0] if len(self.errors) == 1 else self.errors.pop(0)


async def ended(standing):
    """Watch a request until it is ended; return why."""
    over = anyio.Event()
    standing.begin(over.set)
    with anyio.fail_after(BOUND_S):
        await over.wait()
    return standing.refusal


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ([], "The token was revoked"),
        ([{**KEY, "role": "viewer"}], "What the token may do was changed"),
        ([{**KEY, "projects": ["a"]}], "What the token may do was changed"),
        ([{**KEY, "name": "another"}], "What the token may do was changed"),
    ],
)
async def test_a_changed_token_ends_what_it_opened_and_says_why(standing, write, keys, why):
    await standing.require()
    write(*keys)
    refusal = await ended(standing)
    assert refusal.message.startswith(why)
    assert refusal.details == {"reason": "token"}
    with pytest.raises(Forbidden, match=why):
        await standing.require()


@pytest.mark.parametrize("error", [TokenExpired(), InsufficientScope("This token has no scope.")])
async def test_an_access_token_that_no_longer_counts_ends_what_it_opened(
    standing, identities, monkeypatch, error
):
    monkeypatch.setattr(identities, "identify", Looks(error))
    assert isinstance(await ended(standing), Forbidden)
    with pytest.raises(Forbidden):
        await standing.require()


async def test_a_token_that_cannot_be_looked_up_ends_nothing_that_is_open_and_lets_nothing_be_done(
    standing, identities, monkeypatch, caplog
):
    looks = Looks(RuntimeError("boom"), ServerUnreachable("The issuer does not answer."))
    monkeypatch.setattr(identities, "identify", looks)
    called = []
    standing.begin(lambda: called.append(1))
    with anyio.fail_after(BOUND_S):
        await looks.asked.wait()
    with pytest.raises(ServerUnreachable):
        await standing.require()
    standing.over()
    assert called == []
    assert "looking up the token of an open request failed" in caplog.text


async def test_what_is_over_is_not_ended_and_nobody_looks_any_more(standing, write):
    called = []
    standing.begin(lambda: called.append(1))
    looking = standing._requests._looking
    standing.over()
    standing.over()
    write()
    with anyio.fail_after(BOUND_S):
        await looking
    assert (called, standing.refusal, standing._requests._looking) == ([], None, None)


async def test_of_many_with_one_token_all_are_ended_by_one_look_but_those_that_the_first_took_along(
    identities, write
):
    token, requests, called = TOKEN.encode(), OpenRequests(identities), []
    identity = await identities.identify(token)
    first, second, third = (Standing(requests, token, identity) for _ in range(3))
    first.begin(lambda: (called.append("first"), second.over()))
    second.begin(lambda: called.append("second"))
    write()
    await ended(third)
    assert called == ["first"]
    assert second.refusal is None


async def test_without_a_token_it_ends_once_one_is_asked_for(identities, write):
    write()
    standing = Standing(OpenRequests(identities), None, None)
    await standing.require()
    write(KEY)
    assert (await ended(standing)).message.startswith("A token came to be asked for")
