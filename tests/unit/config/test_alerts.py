"""What is wrong with ``alerts:`` is told with its place, before anything goes by it."""

import pytest

from voicegw_mcp.config.parse import problems_in
from voicegw_mcp.errors import ConfigInvalid

HOOK = "alerts:\n  webhook:\n    url: {url}\n    secret: {secret}\n"


def broken(configuration, text):
    with pytest.raises(ConfigInvalid) as caught:
        configuration(text)
    return caught.value, problems_in(caught.value)


@pytest.fixture
def configuration(tmp_path):
    from voicegw_mcp.config.file import ConfigFile
    from voicegw_mcp.config.secrets import Secrets

    def make(text):
        path = tmp_path / "voicegw.yaml"
        path.write_text(text)
        return ConfigFile(path, Secrets(tmp_path / "secrets.env", {"URL": "http://10.0.0.9/x"})).load()

    return make


def test_without_the_section_budgets_are_told_of_at_50_80_and_100_percent(configuration):
    alerts = configuration("{}").settings.alerts
    assert (alerts.enabled, alerts.check_every_seconds) == (True, 30)
    assert alerts.budget.percent == [50, 80, 100]
    assert (alerts.error_rate, alerts.ttfb, alerts.webhook) == (None, None, None)


def test_thresholds_are_taken_in_order_and_once(configuration):
    assert configuration("alerts: {budget: {percent: [100, 12.5, 100]}}").settings.alerts.budget.percent == [
        12.5,
        100,
    ]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("alerts: {budget: {percent: [0]}}", "alerts.budget.percent.0"),
        ("alerts: {budget: {percent: [50, -1]}}", "alerts.budget.percent.1"),
        ("alerts: {budget: {percent: [.nan]}}", "alerts.budget.percent.0"),
        ("alerts: {budget: {percent: [yes]}}", "alerts.budget.percent.0"),
        ("alerts: {budget: {percent: ['80 %']}}", "alerts.budget.percent.0"),
        ("alerts: {budget: {percent: [1000.5]}}", "alerts.budget.percent.0"),
        (f"alerts: {{budget: {{percent: {list(range(1, 23))}}}}}", "alerts.budget.percent"),
        ("alerts: {error_rate: {percent: 101}}", "alerts.error_rate.percent"),
        ("alerts: {error_rate: {window_minutes: 5}}", "alerts.error_rate.window_minutes"),
        ("alerts: {error_rate: {least_requests: 0}}", "alerts.error_rate.least_requests"),
        ("alerts: {ttfb: {by: modle}}", "alerts.ttfb.by"),
        ("alerts: {check_every_seconds: 1}", "alerts.check_every_seconds"),
        ("alerts: {budgets: {}}", "alerts.budgets"),
        ("alerts: {webhook: {url: 'https://ops.example.com'}}", "alerts.webhook.secret"),
    ],
)
def test_a_value_outside_its_range_is_named_with_its_place(configuration, text, path):
    error, problems = broken(configuration, text)
    assert [problem.path for problem in problems] == [path]
    assert path in error.message


@pytest.mark.parametrize("rule", ["budget", "error_rate", "ttfb"])
def test_a_project_that_does_not_exist_is_named_with_the_nearest_one(configuration, rule):
    text = f"projects:\n  support: {{name: S}}\nalerts:\n  {rule}:\n    projects: [default, suport]\n"
    _, (problem,) = broken(configuration, text)
    assert (problem.path, problem.line) == (f"alerts.{rule}.projects.1", 5)
    assert "'suport'" in problem.message
    assert problem.hint == "Did you mean support?"


def test_a_project_like_no_other_is_named_too(configuration):
    _, (problem,) = broken(configuration, "alerts: {budget: {projects: [zzz]}}")
    assert "'zzz'" in problem.message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://169.254.169.254/latest/meta-data/", "'169.254.169.254'"),
        ("http://metadata.google.internal/", "'metadata.google.internal'"),
        ("https://[fd00:ec2::254]/", "'fd00:ec2::254'"),
        ("https://[::ffff:169.254.169.254]/", "a9fe:a9fe"),
        ("http://2852039166/", "'2852039166'"),
        ("http://10.0.0.9/hook", "'10.0.0.9'"),
        ("http://127.0.0.1:9/hook", "'127.0.0.1'"),
        ("${URL}", "'10.0.0.9'"),
        ("ftp://ops.example.com/", "http"),
        ("https://user:hunter2@ops.example.com/", "password"),
        ("ops.example.com", "http"),
        ("'https://[::1'", "valid"),
    ],
)
def test_a_url_that_is_never_connected_to_is_refused_with_its_host(configuration, url, words):
    error, (problem,) = broken(configuration, HOOK.format(url=url, secret="${S}"))
    assert (problem.path, problem.line) == ("alerts.webhook.url", 3)
    assert words in problem.message
    assert "hunter2" not in str(error.payload())


def test_a_private_host_is_fine_once_it_is_listed_and_metadata_never_is(configuration):
    listed = "security: {{allow_private_hosts: [10.0.0.9, 169.254.169.254]}}\n" + HOOK
    assert configuration(listed.format(url="http://10.0.0.9/hook", secret="${S}")).settings.alerts.webhook
    _, (problem,) = broken(configuration, listed.format(url="http://169.254.169.254/", secret="${S}"))
    assert problem.path == "alerts.webhook.url"
    assert problem.hint == ""


def test_a_key_in_the_path_of_a_url_is_the_receivers_business(configuration):
    url = "https://hooks.example.com/services/sk-live-0123456789abcdefghij"
    assert configuration(HOOK.format(url=url, secret="${S}")).settings.alerts.webhook.url == url


@pytest.mark.parametrize("secret", ["fake-secret-0001", "whsec_ZmFrZQ==", "x${S}", "''"])
def test_a_secret_that_stands_in_the_file_is_refused_and_not_repeated(configuration, secret):
    error, (problem,) = broken(configuration, HOOK.format(url="https://ops.example.com/", secret=secret))
    assert problem.path == "alerts.webhook.secret"
    assert "voicegw secrets set" in problem.hint
    assert secret == "''" or secret not in str(error.payload())


def test_the_secret_stays_a_reference(configuration):
    settings = configuration(HOOK.format(url="https://ops.example.com/", secret="${URL}")).settings
    assert settings.alerts.webhook.secret == "${URL}"
