"""What is told reaches the webhook: signed, under one id, until it is taken; and nothing else is reached."""

import base64
import socket

import anyio
import pytest
from tests.alert_scene import Scene, together
from tests.factories import DAY
from tests.webhook_receiver import SECRET, receiving

from voicegw_mcp.core import webhooks
from voicegw_mcp.core.alerts import MOST_ATTEMPTS
from voicegw_mcp.core.webhooks import deliver, sign, signing_key
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.store import alerts as store_alerts

ONE = "projects: {p0: {name: P, daily_budget: 10}}\nalerts:\n  budget: {percent: [100]}\n"
MINUTE = 60_000


@pytest.fixture
async def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    await scene.close()


async def crossed(scene, receiver, text=ONE):
    """Go the round in which the budget is found to be spent."""
    scene.write(text, receiver)
    await scene.spend(12.5)
    await scene.round()


@pytest.mark.parametrize(
    ("secret", "event_id", "timestamp_s", "body", "signature"),
    [  # published with the specification of Standard Webhooks, and in the tests of its reference library
        (
            "plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            1731705121,
            b'{"event_type":"ping","data":{"success":true}}',
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
        (
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ],
)
def test_signatures_are_those_of_the_published_examples(secret, event_id, timestamp_s, body, signature):
    assert sign(base64.b64decode(secret), event_id, timestamp_s, body) == signature


async def test_an_alert_is_sent_signed_with_its_figures(scene):
    with receiving() as receiver:
        await crossed(scene, receiver)
        await scene.round()
    (request,) = receiver.received
    request.verify()
    assert request.headers["webhook-timestamp"] == str(scene.now // 1000)
    event = request.event
    assert event["type"] == "alert.firing"
    assert event["timestamp"] == "2026-11-18T11:06:40+00:00"
    (row,) = await scene.rows()
    assert event["data"] == {
        "id": request.id,
        "rule": "budget",
        "subject": {"kind": "project", "name": "p0"},
        "message": row.message,
        "threshold_percent": 100.0,
        "spent_usd": 12.5,
        "daily_budget_usd": 10.0,
        "reset_at": "2026-11-19T00:00:00+00:00",
    }
    assert (row.id, row.delivery, row.attempts) == (request.id, "sent", 1)
    assert row.outcome == "The webhook answered 200."


@pytest.mark.parametrize("answer", [500, 503, 429])
async def test_what_is_not_taken_is_sent_again_later_under_the_same_id(scene, answer):
    with receiving(answer, 200) as receiver:
        await crossed(scene, receiver)
        scene.now += 29_000
        await scene.round()
        assert len(receiver.received) == 1
        scene.now += 1_000
        await scene.round()
        await scene.round()
    first, second = receiver.received
    first.verify()
    second.verify()
    assert (first.id, first.body) == (second.id, second.body)
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    (row,) = await scene.rows()
    assert (row.delivery, row.attempts) == ("sent", 2)


@pytest.mark.parametrize("answer", [400, 401, 404, 410])
async def test_what_is_refused_is_not_sent_again(scene, answer, caplog):
    with receiving(answer) as receiver:
        await crossed(scene, receiver)
        scene.now += DAY
        await scene.round()
    assert len(receiver.received) == 1
    (row,) = await scene.rows()
    assert (row.delivery, row.outcome) == ("failed", f"The webhook answered {answer}.")
    assert "was not taken by the webhook" in caplog.text


async def test_the_receiver_says_how_long_to_wait(scene):
    with receiving((429, {"Retry-After": "600"}), (503, {"Retry-After": "soon"}), 200) as receiver:
        await crossed(scene, receiver)
        scene.now += 9 * MINUTE
        await scene.round()
        assert len(receiver.received) == 1
        scene.now += MINUTE
        await scene.round()
        assert len(receiver.received) == 2
        scene.now += MINUTE
        await scene.round()
        assert len(receiver.received) == 3


async def test_attempts_come_to_an_end(scene):
    with receiving(500) as receiver:
        await crossed(scene, receiver)
        waits = []
        while (await scene.rows())[0].delivery == "pending":
            before = len(receiver.received)
            waited = 0
            while len(receiver.received) == before and (await scene.rows())[0].delivery == "pending":
                scene.now += 30_000
                waited += 30
                await scene.round()
            waits.append(waited)
    assert len(receiver.received) == MOST_ATTEMPTS
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert {each.id for each in receiver.received} == {receiver.received[0].id}
    assert (await scene.rows())[0].delivery == "failed"


async def test_what_could_not_be_sent_for_a_day_is_given_up(scene):
    with receiving(500, 200) as receiver:
        await crossed(scene, receiver)
        scene.now += DAY + 1
        await scene.round()
    assert len(receiver.received) == 1
    (row,) = await scene.rows()
    assert row.delivery == "failed"
    assert row.outcome.startswith("Given up after a day.")


async def test_a_receiver_that_hangs_costs_an_attempt_and_nothing_else(scene, monkeypatch):
    monkeypatch.setattr(webhooks, "SEND_S", 0.2)
    with receiving(hang=True) as receiver:
        await crossed(scene, receiver)
        (row,) = await scene.rows()
        assert (row.delivery, row.outcome) == ("pending", "No complete answer within 0.2 s.")
        receiver.hang = False
        scene.now += MINUTE
        await scene.round()
    assert receiver.received[0].id == receiver.received[1].id
    assert (await scene.rows())[0].delivery == "sent"


async def test_a_closed_port_costs_an_attempt(scene):
    with receiving() as receiver:
        pass
    await crossed(scene, receiver)
    (row,) = await scene.rows()
    assert row.delivery == "pending"
    assert "refused the connection" in row.outcome


async def test_a_redirect_is_not_followed_wherever_it_leads(scene):
    with receiving() as inner, receiving((302, {"Location": inner.url})) as receiver:
        await crossed(scene, receiver)
    assert not inner.received
    (row,) = await scene.rows()
    assert (row.delivery, row.outcome) == (
        "failed",
        "The webhook answered 302; redirects are not followed.",
    )


async def test_a_redirect_into_a_metadata_range_connects_to_nothing(scene, monkeypatch):
    connected = []
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, to: (connected.append(to), connect(self, to))[1]
    )
    with receiving((307, {"Location": "http://169.254.169.254/latest/meta-data/"})) as receiver:
        await crossed(scene, receiver)
    assert (await scene.rows())[0].delivery == "failed"
    assert not any("169.254" in str(to) for to in connected)


def resolving_to(monkeypatch, *answers):
    """Let names resolve to one answer after the other; the last one again and again."""
    calls = []

    async def getaddrinfo(_host, port, **_):
        calls.append(_host)
        text = answers[min(len(calls), len(answers)) - 1]
        return [(socket.AF_INET, 1, 6, "", (text, port))]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    return calls


async def test_a_name_that_turns_to_a_forbidden_address_is_not_connected_to(scene, monkeypatch):
    with receiving() as receiver:
        rebinding = ONE.replace(
            "alerts:\n",
            f"security: {{allow_private_hosts: [other.example]}}\nalerts:\n"
            f"  webhook: {{url: 'http://rebind.example:{receiver.port}/hook', secret: '${{HOOK}}'}}\n",
        )
        scene.write(rebinding)
        calls = resolving_to(monkeypatch, "127.0.0.1", "169.254.169.254")
        await scene.spend(20)
        await scene.round()
        scene.now += MINUTE
        await scene.round()
        assert calls == ["rebind.example"] * 2
        assert not receiver.received
        (row,) = await scene.rows()
        assert (row.delivery, row.attempts) == ("pending", 2)
        assert "'rebind.example' of the URL is not one to connect to: link-local" in row.outcome
        # Listed it may be private; a metadata address it may never have.
        scene.write(rebinding.replace("other.example", "Rebind.example."))
        scene.now += 5 * MINUTE
        await scene.round()
        assert not receiver.received
        resolving_to(monkeypatch, "127.0.0.1")
        scene.now += 5 * MINUTE
        await scene.round()
        (request,) = receiver.received
        assert request.headers["host"] == f"rebind.example:{receiver.port}"


async def test_a_name_that_does_not_resolve_costs_an_attempt(scene, monkeypatch):
    async def getaddrinfo(*_, **__):
        raise socket.gaierror(-2, "unknown")

    scene.write(
        ONE.replace("alerts:\n", "alerts:\n  webhook: {url: 'https://none.example', secret: '${HOOK}'}\n")
    )
    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    await scene.spend(20)
    await scene.round()
    assert "does not resolve" in (await scene.rows())[0].outcome


async def test_two_processes_on_one_store_send_each_alert_once(scene):
    others = [scene.another() for _ in range(2)]
    try:
        with receiving() as receiver:
            scene.write(ONE.replace("[100]", "[20, 40, 60, 80, 100]"), receiver)
            await scene.spend(20)
            for _ in range(3):
                await together(*(each.round() for each in (scene, *others)))
        assert len(receiver.received) == 5
        assert len({each.id for each in receiver.received}) == 5
    finally:
        await together(*(each.close() for each in others))


async def test_what_a_process_was_sending_when_it_died_is_sent_by_another_one(scene, monkeypatch):
    with receiving() as receiver:
        scene.write(ONE, receiver)
        await scene.spend(20)

        async def die(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("voicegw_mcp.core.alerts.deliver", die)
            with pytest.raises(KeyboardInterrupt):
                await scene.round()
        other = scene.another()
        try:
            await other.round()
            assert not receiver.received  # it may still be on its way
            other.now += 15_000
            await other.round()
        finally:
            await other.close()
    (request,) = receiver.received
    assert request.id == (await scene.rows())[0].id


async def test_a_webhook_that_is_named_later_gets_no_old_alerts(scene):
    scene.write(ONE)
    await scene.spend(20)
    await scene.round()
    with receiving() as receiver:
        scene.write(ONE, receiver)
        await scene.round()
    assert not receiver.received
    assert (await scene.rows())[0].delivery == "none"


@pytest.mark.parametrize("secret", ["", "short", "whsec_not base64!", "whsec_c2hvcnQ="])
async def test_without_a_usable_secret_alerts_wait_and_it_is_told_once(scene, caplog, secret):
    with receiving() as receiver:
        scene.environment["HOOK"] = secret
        await crossed(scene, receiver)
        await scene.round()
        assert not receiver.received
        (row,) = await scene.rows()
        assert (row.delivery, row.attempts) == ("pending", 0)
        waiting = [record for record in caplog.records if "Alerts wait to be sent" in record.getMessage()]
        assert len(waiting) == 1
        assert "c2hvcnQ" not in caplog.text
        scene.environment["HOOK"] = SECRET
        await scene.round()
    receiver.received[0].verify()


async def test_a_secret_without_the_prefix_is_taken_as_it_is(scene):
    plain = "a plain secret of many characters"
    scene.environment["HOOK"] = plain
    with receiving() as receiver:
        await crossed(scene, receiver)
    receiver.received[0].verify(plain)


async def test_sending_ends_with_its_time_and_goes_on_in_the_next_round(scene):
    seconds = iter(range(0, 1000, 15))
    scene.alerting._seconds = lambda: next(seconds)
    with receiving() as receiver:
        await crossed(scene, receiver, ONE.replace("[100]", "[20, 40, 60]"))
        assert len(receiver.received) == 2
        await scene.round()
        assert len(receiver.received) == 3


async def test_alerts_go_after_90_days_and_pending_ones_stay(scene):
    scene.write(ONE)
    await scene.spend(20)
    await scene.round()
    scene.now += 91 * DAY
    await scene.spend(20)
    await scene.round()
    assert len(await scene.told()) == 1


async def test_an_address_is_judged_again_when_it_is_sent_to(scene):
    scene.write(ONE)
    hook = type("Hook", (), {"url": "http://169.254.169.254/x", "secret": "${HOOK}"})()
    key = signing_key(hook, scene.gateway.secrets)
    outcome = await deliver(hook, key, "id", "{}", now_ms=0, private_hosts=["169.254.169.254"])
    assert outcome.result == "again"
    assert "not one to connect to" in outcome.message


async def test_signing_says_what_to_run_without_a_secret(scene):
    hook = type("Hook", (), {"secret": "${NOT_SET}"})()
    with pytest.raises(InvalidInput) as caught:
        signing_key(hook, scene.gateway.secrets)
    assert caught.value.hint == "Run: voicegw secrets set NOT_SET"
    assert caught.value.details["field"] == "alerts.webhook.secret"


async def test_an_alert_that_was_settled_meanwhile_stays_so(scene):
    with receiving() as receiver:
        await crossed(scene, receiver)
    (row,) = await scene.rows()
    store = await scene.gateway.store_handle.get()
    await store.write(
        lambda connection: store_alerts.settle(connection, row.id, "pending", outcome="late", due_ms=0)
    )
    assert (await scene.rows())[0].delivery == "sent"
