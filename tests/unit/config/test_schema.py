from pathlib import Path

import pytest
from pydantic import ValidationError

from voicegw_mcp.config import parse, schema
from voicegw_mcp.config.file import ConfigFile
from voicegw_mcp.config.secrets import Secrets
from voicegw_mcp.errors import ConfigInvalid


def problems(text):
    parsed = parse.parse(text)
    with pytest.raises(ValidationError) as caught:
        schema.validate(parsed.data, parsed)
    return [
        (item.path, item.line, item.message, item.hint) for item in schema.problems_of(caught.value, parsed)
    ]


def settings(text):
    parsed = parse.parse(text)
    return schema.validate(parsed.data, parsed)[0]


def test_an_empty_file_has_voicegateway_s_defaults():
    found = settings("")
    assert found.timezone == "UTC"
    assert found.latency.percentiles == [50.0, 95.0, 99.0]
    assert found.serve.port == 8080
    assert found.observability.request_logging is True


def test_a_section_or_entry_with_nothing_in_it_is_not_set():
    found = settings(
        "projects:\nproviders:\n  openai:\nmodels:\n  stt:\nfallbacks:\n  llm:\nstacks:\n  s:\nrate_limits:\n  openai:\n"
    )
    assert found.projects == {}
    assert found.providers["openai"].enabled is True
    assert found.models.stt == {}
    assert found.fallbacks.llm == []
    assert found.stacks["s"].stt is None
    assert found.rate_limits["openai"].requests_per_minute == 0


def test_unknown_keys_of_providers_and_models_are_options_of_the_plugin():
    found = settings("providers: {a: {region: eu}}\nmodels: {stt: {m: {provider: a, smart: true}}}\n")
    assert found.providers["a"].options() == {"region": "eu"}
    assert found.models.stt["m"].options() == {"smart": True}


def test_a_price_may_stand_alone_or_in_a_list():
    found = settings(
        "pricing:\n  a: {per_minute: 1}\n  b: [{per_minute: 1}, {effective: 2026-01-01, per_minute: 2}]\n"
    )
    assert [len(prices) for prices in found.pricing.values()] == [1, 2]


def test_sections_of_voicegateway_027_are_noted_and_ignored():
    parsed = parse.parse("timezone: UTC\nworkers: {n: 1}\npricing:\n  gate: {x: 1}\n")
    found, notes = schema.validate(parsed.data, parsed)
    assert found.pricing == {}
    assert [(note.path, note.line) for note in notes] == [("workers", 2), ("pricing.gate", 4)]


@pytest.mark.parametrize(
    ("text", "path", "line", "message", "hint"),
    [
        ("projcts: {}", "projcts", 1, "unknown key 'projcts'", "Did you mean 'projects'?"),
        ("zzz: {}", "zzz", 1, "unknown key 'zzz'", "Valid keys: alerts, auth, "),
        ("projects:\n  p: {name: x, tag: []}", "projects.p.tag", 2, "unknown key 'tag'", "'tags'"),
        ("auth:\n  api_keys:\n    - {token: '${T}', rol: viewer}", "auth.api_keys.0.rol", 3, "unknown key 'rol'", "'role'"),
        ("projects:\n  p:\n    name: x\n    tenant: {virtual_key_stale_day: 1}", "projects.p.tenant.virtual_key_stale_day", 4, "unknown key", "virtual_key_stale_days"),
        ("pricing:\n  m: {per_minut: 1}", "pricing.m.per_minut", 2, "unknown key 'per_minut'", "'per_minute'"),
        ("pricing:\n  m:\n    - {per_minut: 1}", "pricing.m.0.per_minut", 3, "unknown key 'per_minut'", "'per_minute'"),
        ("pricing:\n  m: {effective: 2026-01-01}", "pricing.m", 2, "names no price", ""),
        ("pricing:\n  m:\n    - {}", "pricing.m.0", 3, "names no price", ""),
        ("pricing:\n  m: {per_minute: -0.1}", "pricing.m.per_minute", 2, "greater than or equal to 0 (found", ""),
        ("pricing:\n  m: {per_minute: cheap}", "pricing.m.per_minute", 2, "valid number", ""),
        ("pricing:\n  m: {per_minute: yes}", "pricing.m.per_minute", 2, "is a truth value and no price", ""),
        ("pricing:\n  m:\n    - {per_minute: .nan}", "pricing.m.0.per_minute", 3, "greater than or equal to 0 (found nan)", ""),
        ("pricing:\n  m: {per_minute: .inf}", "pricing.m.per_minute", 2, "finite", ""),
        ("pricing:\n  m: {per_hour: 1}", "pricing.m.per_hour", 2, "unknown key 'per_hour'", "per_m"),
        ("pricing:\n  m: {per_minute: 1, effective: '2026-13-01'}", "pricing.m.effective", 2, "month", ""),
        ("pricing:\n  m: {per_minute: 1, effective: 20260101}", "pricing.m.effective", 2, "is no date: write YYYY-MM-DD (found", ""),
        ("pricing:\n  m: {per_minute: 1, effective: 2026-01-01 12:00:00}", "pricing.m.effective", 2, "is no date: write YYYY-MM-DD", ""),
        ("pricing:\n  m: {per_minute: 1, effective: 2300-01-01}", "pricing.m.effective", 2, "is no day of the years 1970 to 2199", ""),
        ("pricing:\n  m: {per_minute: 1, effective: soon}", "pricing.m.effective", 2, "is no date: write YYYY-MM-DD", ""),
        ("projects:\n  p: {daily_budget: 1}", "projects.p.name", 2, "name is missing", ""),
        ("projects:\n  p: {name: x, daily_budget: -2}", "projects.p.daily_budget", 2, "greater than or equal to 0 (found", ""),
        ("projects:\n  p: {name: x, daily_budget: .nan}", "projects.p.daily_budget", 2, "finite", ""),
        ("projects:\n  p: {name: x, budget_action: stop}", "projects.p.budget_action", 2, "(found 'stop')", ""),
        ("timezone: Mars/Base", "timezone", 1, "not an IANA time zone", ""),
        ("projects: 3", "projects", 1, "dictionary", ""),
        ("projects:\n  p: [x]", "projects.p", 2, "dictionary", ""),
        ("latency: {percentiles: [0]}", "latency.percentiles.0", 1, "greater than 0", ""),
        ("latency: {percentiles: [100]}", "latency.percentiles.0", 1, "less than 100", ""),
        ("serve: {port: 70000}", "serve.port", 1, "65535", ""),
        ("models: {stt: {m: {}}}", "models.stt.m.provider", 1, "provider is missing", ""),
        ("models: {video: {}}", "models.video", 1, "unknown key 'video'", ""),
        ("pricing: 3", "pricing", 1, "dictionary", ""),
    ],
)  # fmt: skip
def test_each_problem_has_path_line_and_what_to_do(text, path, line, message, hint):
    (found,) = problems(text)
    assert found[:2] == (path, line)
    assert message in found[2]
    assert hint in found[3]


@pytest.mark.parametrize(
    "text",
    [
        "providers: {a: {api_key: 12345678}}",
        "auth: {api_keys: [{token: 12345678}]}",
        "projects: {p: {name: x, providers: {o: {api_key: 12345678}}}}",
    ],
)
def test_the_value_of_a_key_is_not_repeated(text):
    for found in problems(text):
        assert "12345678" not in str(found)


def test_all_problems_are_reported_at_once():
    assert len(problems("projects: {a: {}, b: {nam: x}}\nserve: {port: x}\n")) == 4


def test_the_example_file_of_the_repository_is_valid():
    settings(Path(__file__, "../../../../voicegw.example.yaml").resolve().read_text())


@pytest.mark.parametrize("name", ["Mars/Base", "../../etc/passwd", "/etc/passwd", "\0", "x" * 100_000, "."])
def test_a_name_that_is_no_zone_is_a_value_error(name):
    with pytest.raises(ValueError, match="IANA"):
        schema.check_timezone(name)


def test_what_a_reference_stands_for_is_in_no_problem(tmp_path):
    file = tmp_path / "voicegw.yaml"
    file.write_text(
        'timezone: ${BUD}\nprojects:\n  a: {name: A, daily_budget: ${BUD}, tags: "${BUD}"}\n'.replace(
            "daily_budget: ${BUD}", 'daily_budget: "${BUD}"'
        )
    )
    config = ConfigFile(file, Secrets(tmp_path / "secrets.env", {"BUD": "fake-secret-value"}))
    with pytest.raises(ConfigInvalid) as caught:
        config.load()
    assert "fake-secret-value" not in str(caught.value.payload())
    assert [problem["path"] for problem in caught.value.details["problems"]] == [
        "timezone",
        "projects.a.daily_budget",
        "projects.a.tags",
    ]
    assert "${BUD}" in caught.value.message
