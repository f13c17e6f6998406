"""What becomes of answers when the server stops, and of the memory of those that are over."""

import asyncio
import gc
import json
import weakref

import pytest

from voicegw_mcp.transports import http
from voicegw_mcp.transports.http import LET_GO

BOUND_S = 20
START = {"type": "http.response.start", "status": 200, "headers": []}
LISTENS = [(b"mcp-method", b"subscriptions/listen")]


class Client:
    """One request to ``app``, which holds its scope as uvicorn's does; remembers what it was sent."""

    def __init__(self, app, method="GET", headers=()):
        self.sent = []
        self.scope = {"type": "http", "method": method, "path": "/", "headers": list(headers)}
        self.task = asyncio.create_task(app(self.scope, self.receive, self.send))

    async def receive(self):
        await asyncio.Event().wait()

    async def send(self, message):
        self.sent.append(message)

    async def ended(self):
        await asyncio.wait_for(self.task, BOUND_S)
        return self.sent


class Waiting:
    """An application that sends these messages, then waits."""

    def __init__(self, *messages):
        self.messages = messages
        self.waits = asyncio.Event()

    async def __call__(self, _scope, _receive, send):
        for message in self.messages:
            await send(message)
        self.waits.set()
        await asyncio.Event().wait()


async def stopped(app, **request):
    door = http._LettingGo(app)
    client = Client(door, **request)
    await app.waits.wait()
    door.stop()
    return client


@pytest.mark.parametrize(
    "messages", [[START], [START, {"type": "http.response.body", "body": b"a", "more_body": True}]]
)
@pytest.mark.parametrize("request_of", [{}, {"method": "POST", "headers": LISTENS}], ids=["get", "listen"])
async def test_a_stream_is_ended_as_a_whole_answer(messages, request_of):
    client = await stopped(Waiting(*messages), **request_of)
    assert await client.ended() == [*messages, {"type": "http.response.body", "body": b""}]


async def test_an_answer_of_which_half_is_none_stays_incomplete():
    class Export(Waiting):
        async def __call__(self, scope, receive, send):
            scope[http.WHOLE] = True
            await super().__call__(scope, receive, send)

    messages = [START, {"type": "http.response.body", "body": b"a", "more_body": True}]
    assert await (await stopped(Export(*messages))).ended() == messages


async def test_who_has_got_nothing_yet_is_told_to_come_again():
    start, body = await (await stopped(Waiting())).ended()
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"5")
    assert json.loads(body["body"])["error"]["hint"] == "Try again in 5 seconds."


async def test_to_a_whole_answer_nothing_is_added():
    messages = [START, {"type": "http.response.body", "body": b"a"}]
    assert await (await stopped(Waiting(*messages))).ended() == messages


async def test_an_answer_that_is_no_stream_has_a_while_longer(monkeypatch):
    monkeypatch.setattr(http, "LET_GO_S", 0.0)
    client = await stopped(Waiting(START), method="POST")
    assert not client.task.cancelling()
    assert len(await client.ended()) == 2


async def test_a_stream_is_ended_once(monkeypatch):
    monkeypatch.setattr(http, "LET_GO_S", 0.0)
    client = await stopped(Waiting(START))
    client.scope[LET_GO]()
    assert client.task.cancelling() == 1
    assert len(await client.ended()) == 2


@pytest.mark.parametrize("ended", [False, True])
async def test_a_cancellation_from_elsewhere_is_passed_on(ended):
    app = Waiting(START)
    client = Client(http._LettingGo(app))
    await app.waits.wait()
    if ended:
        client.scope[LET_GO]()
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.ended()
    assert client.sent == [START]


async def test_of_a_stream_that_is_over_nothing_waits_for_the_garbage_collector():
    app = Waiting(START)
    client = Client(http._LettingGo(app))
    await app.waits.wait()
    client.scope[LET_GO]()
    await client.ended()
    known = weakref.ref(client)
    gc.disable()
    try:
        del client
        assert known() is None
    finally:
        gc.enable()
