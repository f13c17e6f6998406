"""What is in deploy/ for Prometheus and Grafana, and the table of docs/metrics.md, speak of metrics that there are."""

import json
import os
import re
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from tests.factories import NOW, request_record
from tests.promtool import promtool
from tests.protocol.api_client import Site
from tests.protocol.test_metrics import STT, scrape

from voicegw_mcp.domain import Usage
from voicegw_mcp.store.schema import connect
from voicegw_mcp.web.api.metrics import METRICS

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "voicegw.json"
PAGE = ROOT / "docs" / "metrics.md"
TABLE = re.compile(r"(<!-- families: begin [^\n]*\n).*?(<!-- families: end -->)", re.DOTALL)
NAME = re.compile(r"\bvoicegw_[a-z_]+")


@pytest.fixture
async def full(house):
    """A scrape with every family there is."""
    row = request_record(id="r", **STT, usage=Usage(audio_ms=1000), cost_nanousd=1, ttfb_ms=1.0, total_ms=2.0)
    await house.log(row)
    with closing(connect(house.database, timeout_s=5)) as connection:
        connection.execute("INSERT INTO lost VALUES ('a', 'queue', 'host', 1, 5, 0, ?)", (NOW,))
    async with house.agent() as agent:
        await agent.ok("get_health")
        yield await scrape(Site(agent.gateway))


def names_in(expressions):
    return {name for expression in expressions for name in NAME.findall(expression)}


def rules():
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text("utf-8"))["groups"]
    return group["rules"]


def dashboard():
    return json.loads(DASHBOARD.read_text("utf-8"))


async def test_every_metric_of_a_rule_is_in_a_scrape_with_the_labels_that_it_is_asked_by(full):
    samples = {name for name, _ in full.samples}
    asked = names_in(rule["expr"] for rule in rules())
    assert len(asked) > 7
    assert asked - samples == set()


async def test_every_metric_of_the_dashboard_is_in_a_scrape_and_every_label_is_one_of_it(full):
    labels = {}
    for name, own in full.samples:
        labels.setdefault(name, {"instance", "job"}).update(label for label, _ in own)
    board = dashboard()
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(expressions) > 20
    for expression in expressions:
        for name, matchers in re.findall(r"(voicegw_[a-z_]+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)(?:=~|!=|=)", matchers)) <= labels[name], expression
        for by in re.findall(r"by \(([^)]*)\)", expression):
            (name,) = {*names_in([expression])}
            assert {label.strip() for label in by.split(",")} <= labels[name], expression
    variables = [item["definition"] for item in board["templating"]["list"] if "definition" in item]
    assert names_in([*expressions, *variables]) <= labels.keys()
    wanted = {"spend_today", "budget_used", "requests_total", "ttfb_seconds_bucket", "dropped", "tool_calls"}
    assert [part for part in wanted if not any(part in name for name in names_in(expressions))] == []


def test_the_dashboard_is_one_that_grafana_can_import():
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells  # none lies on another
        cells |= own
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert {"datasource", "instance", "project"} == {item["name"] for item in board["templating"]["list"]}


def test_promtool_parses_every_expression_of_the_dashboard(tmp_path):
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    spoken = [text.replace("$__rate_interval", "1m") for text in expressions]
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(spoken)]
    (tmp_path / "board.yaml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    code, told = promtool("check", "rules", "board.yaml", folder=tmp_path)
    assert code == 0, told


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts.test.yaml"),
        ("check", "config", "--syntax-only", "prometheus.yaml"),
    ],
)
def test_promtool_finds_the_rules_good(arguments):
    code, told = promtool(*arguments, folder=PROMETHEUS)
    assert code == 0, told


def test_every_rule_is_tried_and_says_what_is_wrong():
    tried = {
        case["alertname"]
        for test in yaml.safe_load((PROMETHEUS / "alerts.test.yaml").read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tried == {rule["alert"] for rule in rules()}
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules())


def test_the_scrape_configuration_asks_the_right_address_with_a_token_from_a_file():
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    assert job["metrics_path"] == METRICS
    assert set(job["authorization"]) == {"credentials_file"}


@pytest.mark.golden
async def test_the_page_lists_the_families_of_a_scrape(full):
    lines = ["| metric | type | labels | what |", "|---|---|---|---|"]
    for family in full.families.values():
        ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels}
        shown = ", ".join(f"`{label}`" for label in sorted(labels))
        lines.append(f"| `{family.name}{ending}` | {family.type} | {shown} | {family.documentation} |")
    page = PAGE.read_text("utf-8")
    found = TABLE.sub(lambda match: f"{match[1]}{chr(10).join(lines)}\n{match[2]}", page)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(found, "utf-8")
    assert found == page or os.environ.get("UPDATE_GOLDEN")
