"""`voicegw alerts` and `voicegw alerts test`, with a real receiver."""

import time

import anyio
import pytest
from tests.webhook_receiver import SECRET, receiving

from voicegw_mcp.core.alerts import Alerting
from voicegw_mcp.core.gateway import Gateway

TWO = """\
projects:
  p0: {name: P, daily_budget: 10}
  p1: {name: Q, daily_budget: 10}
cost_tracking: {daily_budget_alert: 1000}
alerts:
  error_rate: {by: all}
  ttfb: {window_minutes: 30}
"""


def hook(port):
    return (
        f"alerts:\n  webhook: {{url: 'http://127.0.0.1:{port}/hook', secret: '${{HOOK}}'}}\n"
        "security: {allow_private_hosts: [127.0.0.1]}\n"
    )


def go_round(path):
    async def work():
        gateway = Gateway.open(str(path), door="test")
        try:
            await Alerting(gateway).go_round()
        finally:
            await gateway.close()

    anyio.run(work)


def test_the_rules_are_listed_with_what_is_over(voicegw, config, log, request_row):
    path = config(TWO)
    empty = voicegw("alerts")
    assert empty.code == 0
    assert "budget: 50, 80, 100 % of the daily budget, 2 projects" in empty.out
    assert "daily_total: 1000.00 USD a day, all projects together" in empty.out
    assert (
        "error_rate: over 10 % of requests fail within 15 minutes, all together, 20 requests or more"
        in empty.out
    )
    assert "ttfb: over 500 ms time to first byte (95th percentile) within 30 minutes, each model" in empty.out
    assert "webhook: none" in empty.out
    assert "No alert yet." in empty.out
    now_ms = time.time_ns() // 1_000_000
    log(request_row(project="p1", cost_nanousd=9 * 10**9, timestamp_ms=now_ms))
    go_round(path)
    found = voicegw("alerts")
    assert found.out.count("over: project:p1 since 20") == 2
    assert "80 % of a budget is reached." in found.out
    answer = voicegw("alerts", "-n", "1", "--json").json
    assert [rule["rule"] for rule in answer["rules"]] == ["budget", "daily_total", "error_rate", "ttfb"]
    assert [over["subject"] for over in answer["rules"][0]["over"]] == ["project:p1"] * 2
    (alert,) = answer["alerts"]
    assert (alert["event"], alert["delivery"], alert["attempts"]) == ("firing", "none", 0)


def test_it_says_so_when_there_is_nothing_to_tell_of(voicegw, config):
    config("alerts: {budget: {percent: []}}\nprojects: {p: {name: P, daily_budget: 1}}\n")
    assert "There is nothing to tell of" in voicegw("alerts").out
    config("alerts: {enabled: false}\n")
    assert "Alerts are off" in voicegw("alerts").out


@pytest.mark.parametrize("as_json", [True, False])
def test_a_test_event_is_sent_and_the_answer_told(voicegw, config, monkeypatch, as_json):
    monkeypatch.setenv("HOOK", SECRET)
    with receiving(204) as receiver:
        config(hook(receiver.port))
        found = voicegw("alerts", "test", *["--json"] * as_json)
        assert found.code == 0
        if as_json:
            assert found.json == {"sent": True, "status": 204, "message": "The webhook answered 204."}
        else:
            assert found.out == "The webhook answered 204.\n"
        (request,) = receiver.received
        request.verify()
        assert request.event["type"] == "alert.test"
        assert request.event["data"]["id"] == request.id
        shown = voicegw("alerts")
        assert "webhook: 127.0.0.1\n" in shown.out
        assert SECRET not in shown.out


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (400, "answered 400"),
        (500, "answered 500"),
        ((302, {"Location": "http://169.254.169.254/"}), "redirects are not followed"),
    ],
)
def test_a_test_event_that_is_not_taken_ends_with_1(voicegw, config, monkeypatch, answer, words):
    monkeypatch.setenv("HOOK", SECRET)
    with receiving(answer) as receiver:
        config(hook(receiver.port))
        found = voicegw("alerts", "test", "--json")
    assert found.code == 1
    assert found.json["error"]["code"] == "SERVER_UNREACHABLE"
    assert words in found.json["error"]["message"]
    assert found.json["error"]["details"]["webhook_id"] == receiver.received[0].id
    closed = voicegw("alerts", "test")
    assert closed.code == 1
    assert "refused the connection" in closed.err


def test_without_webhook_or_secret_nothing_is_sent(voicegw, config):
    config("{}")
    none = voicegw("alerts", "test")
    assert none.code == 2
    assert "There is no webhook" in none.err
    config(hook(9))
    unset = voicegw("alerts", "test")
    assert unset.code == 2
    assert "voicegw secrets set HOOK" in unset.err


def test_options_in_front_of_test_are_refused(voicegw, config):
    path = config("{}")
    assert voicegw("alerts", "-c", path, "test").code == 2
    assert voicegw("alerts", "--json", "test").code == 2


def test_check_names_a_url_into_a_metadata_range(voicegw, config):
    config("alerts:\n  webhook: {url: 'http://169.254.169.254/x', secret: 'fake-secret-0001'}\n")
    found = voicegw("check")
    assert found.code == 2
    assert "alerts.webhook.url: cannot be used: The host '169.254.169.254'" in found.out
    assert "alerts.webhook.secret: is not a reference" in found.out
    assert "fake-secret" not in found.out
