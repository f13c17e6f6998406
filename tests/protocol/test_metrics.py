"""/v1/metrics: what a scrape holds, that every parser takes it, and that no counter ever falls."""

import re
from contextlib import closing
from functools import partial

import anyio
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.factories import DAY, NOW, request_record
from tests.promtool import promtool
from tests.protocol.agents import ERAS
from tests.protocol.api_client import Site

from voicegw_mcp.core.label_sets import FIRST_RECORDED, OTHER, TTFB_S
from voicegw_mcp.core.repricing import reprice
from voicegw_mcp.domain import Modality, RequestStatus, Usage
from voicegw_mcp.store.repricing import Selection
from voicegw_mcp.store.retention import prune_batch
from voicegw_mcp.store.schema import connect

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 2.42 sends."""
KEYS = """
auth:
  api_keys:
    - {token: "${VIEW}", name: wall, role: viewer}
    - {token: "${BOUND}", name: theirs, role: viewer, projects: [outbound]}
"""
VIEW, BOUND = "fake-token-view", "fake-token-bound"
STT = {"project": "support-line", "provider": "deepgram", "model_id": "deepgram/nova-3"}
LLM = {
    "project": "outbound",
    "modality": Modality.LLM,
    "provider": "openai",
    "model_id": "openai/gpt-4.1-mini",
}
NOVA = {"project": "support-line", "modality": "stt", "provider": "deepgram", "model": "deepgram/nova-3"}


def heard(row_id, **fields):
    plain = {"usage": Usage(audio_ms=61_500), "cost_nanousd": 4_920_000, "ttfb_ms": 120.0, "total_ms": 480.0}
    return request_record(id=row_id, **{**STT, **plain, **fields})


class Scrape:
    """One scrape: its families by name, and its samples by name and labels."""

    def __init__(self, families):
        self.families = {family.name: family for family in families}
        found = [
            ((s.name, frozenset(s.labels.items())), s.value)
            for f in self.families.values()
            for s in f.samples
        ]
        self.samples = dict(found)
        assert len(self.samples) == len(found)
        assert all(value == value and value >= 0 for value in self.samples.values())  # noqa: PLR0124 - NaN is not
        for family in self.families.values():  # one label set, besides those of its buckets
            assert len({frozenset(s.labels) - {"le"} for s in family.samples}) == 1

    def value(self, sample, **labels):
        return self.samples[sample, frozenset(labels.items())]

    def total(self, sample, **labels):
        return sum(v for (name, own), v in self.samples.items() if name == sample and labels.items() <= own)

    def counters(self):
        kinds = {f.name: f.type for f in self.families.values()}
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
        names = {name + end for name, kind in kinds.items() for end in ends.get(kind, ())}
        return {key: value for key, value in self.samples.items() if key[0] in names}


async def scrape(site, **options):
    """Return a scrape, which both parsers read alike."""
    plain = await site.get("/v1/metrics", accept="text/plain", **options)
    marked = await site.get("/v1/metrics", accept=OPENMETRICS, **options)
    assert plain.status == marked.status == 200
    text, families = plain.body.decode(), openmetrics.text_string_to_metric_families(marked.body.decode())
    read, found = Scrape(text_string_to_metric_families(text)), Scrape(families)
    assert read.samples.keys() == found.samples.keys()
    passing = ("voicegw_uptime_seconds", "voicegw_store_size_bytes")
    assert {k: v for k, v in read.samples.items() if k[0] not in passing} == {
        k: v for k, v in found.samples.items() if k[0] not in passing
    }
    return found


def assert_none_falls(before, after):
    counters = after.counters()
    assert [key for key, value in before.counters().items() if counters.get(key, -1) < value] == []


@pytest.fixture
def tokens(house):
    house.secrets(VIEW=VIEW, BOUND=BOUND)
    house.write(house.text + KEYS)


@pytest.fixture
async def logged(house):
    await house.log(
        heard("r1"),
        heard("r2", timestamp_ms=NOW - 40 * DAY, ttfb_ms=800.0, total_ms=2500.0),
        heard("r3", status=RequestStatus.ERROR, cost_nanousd=None, ttfb_ms=None, total_ms=9000.0),
        heard("r4", status=RequestStatus.PROBE, cost_nanousd=80_000),
        request_record(
            id="r5",
            **LLM,
            usage=Usage(input_tokens=100, output_tokens=20, cached_tokens=60),
            cost_nanousd=72_000,
            status=RequestStatus.FALLBACK,
        ),
    )


@pytest.mark.usefixtures("logged")
async def test_counters_hold_all_that_was_ever_recorded(site):
    found = await scrape(site)
    counted = partial(found.value, "voicegw_requests_total", **NOVA)
    assert (counted(status="success"), counted(status="error")) == (2, 1)
    assert found.total("voicegw_requests_total", project="outbound", status="fallback") == 1
    assert found.total("voicegw_requests_total") == 4  # a probe is nobody's request, but it costs
    assert found.value("voicegw_cost_usd_total", **NOVA) == pytest.approx(0.00992)
    assert found.value("voicegw_unpriced_requests", **NOVA) == 1
    assert found.value("voicegw_units_total", **NOVA, unit="audio_seconds") == 4 * 61.5
    units = {
        unit: found.total("voicegw_units_total", project="outbound", unit=unit)
        for unit in ("input_tokens", "output_tokens", "cached_tokens")
    }
    assert units == {"input_tokens": 100, "output_tokens": 20, "cached_tokens": 60}


@pytest.mark.usefixtures("logged")
async def test_histograms_count_what_took_at_most_each_bound_without_what_failed(site):
    found = await scrape(site)
    name = "voicegw_request_ttfb_seconds"
    up_to = {bound: found.value(f"{name}_bucket", **NOVA, le=str(bound)) for bound in TTFB_S}
    assert up_to == {bound: (bound > 0.1) + (bound > 0.75) for bound in TTFB_S}
    assert found.value(f"{name}_bucket", **NOVA, le="+Inf") == found.value(f"{name}_count", **NOVA) == 2
    assert found.value(f"{name}_sum", **NOVA) == pytest.approx(0.92)
    assert found.value("voicegw_request_total_latency_seconds_sum", **NOVA) == pytest.approx(2.98)


@pytest.mark.usefixtures("logged")
async def test_gauges_tell_how_things_stand(site, house):
    found = await scrape(site)
    assert found.value("voicegw_spend_today_usd", project="support-line") == pytest.approx(0.005)
    assert found.value("voicegw_requests_today", project="outbound") == 1
    assert found.value("voicegw_daily_budget_usd", project="support-line") == 5
    assert found.value("voicegw_budget_used_ratio", project="support-line") == pytest.approx(0.001)
    assert found.total("voicegw_budget_status") == 1
    assert found.value("voicegw_budget_status", project="support-line", status="ok") == 1
    entries = [found.value(f"voicegw_{what}_configured") for what in ("providers", "models", "projects")]
    assert entries == [3, 4, 3]
    assert found.value("voicegw_config_info", version=site.gateway.catalog().configuration.version) == 1
    assert (found.value("voicegw_config_valid"), found.value("voicegw_config_problems")) == (1, 0)
    assert found.value("voicegw_store_up") == 1
    assert found.value("voicegw_store_size_bytes") >= house.database.stat().st_size
    await house.log(heard("r6", cost_nanousd=4_200_000_000))
    found = await scrape(site)
    assert found.value("voicegw_budget_status", project="support-line", status="warning") == 1
    await house.log(heard("r7", cost_nanousd=4_200_000_000))
    found = await scrape(site)
    assert found.value("voicegw_budget_status", project="support-line", status="exceeded") == 1
    assert found.value("voicegw_budget_used_ratio", project="support-line") > 1.6


async def test_tool_calls_are_counted_by_tool_and_outcome(house):
    async with house.agent() as agent:
        for _ in range(2):
            await agent.ok("get_health")
        await agent.refused("get_project", project_id="nobody")
        await agent.refused("get_costs", {"period": "fortnight"})
        await agent.refused("delete_project", project_id="outbound")
        site = Site(agent.gateway)
        found = await scrape(site)
    counted = {
        tuple(dict(labels)[name] for name in ("tool", "outcome")): value
        for (sample, labels), value in found.samples.items()
        if sample == "voicegw_mcp_tool_calls_total"
    }
    assert counted == {
        ("get_health", "ok"): 2,
        ("get_project", "PROJECT_NOT_FOUND"): 1,
        ("get_costs", "VALIDATION_ERROR"): 1,
        ("delete_project", "CONFIRMATION_REQUIRED"): 1,
    }


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_its_client_cancels_is_counted_as_that(house, era):
    async with house.agent(mode=era) as agent, anyio.create_task_group() as tasks:
        with anyio.fail_after(20):
            tasks.start_soon(agent.call, "get_logs", {"follow_seconds": 20})
            while not agent.gateway.followers.count():
                await anyio.lowlevel.checkpoint()
            found = await scrape(Site(agent.gateway))
            assert found.value("voicegw_log_followers") == 1
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                while not agent.gateway.tool_calls:
                    await anyio.lowlevel.checkpoint()
    assert agent.gateway.tool_calls == {("get_logs", "cancelled"): 1}


async def test_rows_that_were_lost_are_counted_by_reason_and_reasons_are_few(site, house):
    await house.log(heard("r1"))
    with closing(connect(house.database, timeout_s=5)) as connection:
        connection.executemany(
            "INSERT INTO lost VALUES (?, ?, 'host', 1, ?, 0, ?)",
            [
                ("a", "queue", 5, NOW),
                ("b", "queue", 2, NOW),
                ("c", "old", 9, NOW - 8 * DAY),
                *((f"f{n}", f"forged {n}", 1, NOW) for n in range(1000)),
            ],
        )
    found = await scrape(site)
    assert found.value("voicegw_dropped_requests", reason="queue") == 7
    assert found.total("voicegw_dropped_requests") == 1007
    assert len(found.families["voicegw_dropped_requests"].samples) == 21
    assert found.value("voicegw_dropped_requests", reason=OTHER) == 1007 - 7 - 19


@pytest.mark.usefixtures("logged", "tokens")
async def test_a_bound_key_sees_only_its_projects_and_a_viewer_everything(site):
    everything, own = await scrape(site, token=VIEW), await scrape(site, token=BOUND)
    projects = {dict(labels).get("project") for _, labels in own.samples} - {None}
    assert projects == {"outbound"}
    assert own.total("voicegw_requests_total") == 1
    assert own.value("voicegw_projects_configured") == 1
    hidden = {"voicegw_store_size_bytes", "voicegw_mcp_sessions", "voicegw_log_followers"}
    gone = {"voicegw_daily_budget_usd", "voicegw_budget_used_ratio", "voicegw_budget_status"}
    assert everything.families.keys() - own.families.keys() == hidden | gone
    assert (await site.get("/v1/metrics")).status == 401
    assert (await site.get("/v1/metrics", token="fake-token-none")).status == 401


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (PROMETHEUS, OPENMETRICS),
        (OPENMETRICS, OPENMETRICS),
        ("text/plain;version=0.0.4", "text/plain"),
        ("text/*", "text/plain"),
        ("*/*", "text/plain"),
        ("application/openmetrics-text;q=0.1, text/plain", "text/plain"),
    ],
)
async def test_the_client_chooses_the_format(site, accept, kind):
    answer = await site.get("/v1/metrics", accept=accept)
    assert answer.headers["content-type"].startswith(f"{kind}; version=")
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept", "no-store")
    assert answer.body.endswith(b"# EOF\n") == (kind == OPENMETRICS)


async def test_what_is_no_scrape_is_refused_in_the_one_shape(site):
    for accept in ("application/json", "text/plain;q=0", "application/vnd.google.protobuf"):
        refused = await site.get("/v1/metrics", accept=accept)
        assert (refused.status, refused.error["code"]) == (406, "VALIDATION_ERROR")
    assert (await site.get("/v1/metrics?name=x")).error["details"]["field"] == "name"
    assert (await site.get("/v1/metrics", method="POST")).status == 405
    assert (await site.get("/v1/metrics", host="evil.example")).status == 421


@pytest.mark.usefixtures("logged")
async def test_promtool_finds_nothing_to_say_about_a_scrape(site, house):
    await house.log(heard("q", project='quo"te', model_id="back\\slash\nline\u202e"))
    code, told = promtool("check", "metrics", text=(await site.get("/v1/metrics")).body)
    assert (code, told) == (0, "")


HOSTILE = [
    '"',
    "\\",
    "\n",
    "\r\n",
    '"} 1\nvoicegw_up 1',
    "\u202eabc",
    "",
    '{le="1"}',
    "x" * 5000,
    "# EOF",
    "\0",
]


async def test_hostile_ids_are_labels_and_nothing_else(site, house):
    await house.log(*(heard(f"h{n}", project=text, model_id=text) for n, text in enumerate(HOSTILE)))
    found = await scrape(site)
    assert found.total("voicegw_requests_total") == len(HOSTILE)
    assert "voicegw_up" not in found.families
    assert all(len(value) <= 200 for _, labels in found.samples for _, value in labels)
    code, told = promtool("check", "metrics", text=(await site.get("/v1/metrics")).body)
    assert (code, told) == (0, "")


async def test_a_project_with_an_odd_id_has_the_same_label_everywhere(site, house):
    house.write(house.text + '  "odd\\n\\u202e": {name: Odd, daily_budget: 1}\n')
    await house.log(heard("o", project="odd\n\u202e"))
    found = await scrape(site)
    shown = "odd\\n\\u202e"
    for sample in ("voicegw_requests_total", "voicegw_spend_today_usd", "voicegw_daily_budget_usd"):
        assert found.total(sample, project=shown) == 1 or sample.endswith("usd")
        assert any(name == sample and ("project", shown) in labels for name, labels in found.samples)


async def test_ten_thousand_forged_ids_leave_a_small_scrape_in_which_the_configured_have_their_labels(
    site, house
):
    await house.log(*(heard(f"f{n}", model_id=f"forged/{n}", project=f"p{n % 7}") for n in range(10_000)))
    await house.log(heard("late"))
    first = await site.get("/v1/metrics")
    assert len(first.body) < 1_500_000
    found = await scrape(site)
    assert found.total("voicegw_requests_total") == 10_001
    assert found.value("voicegw_requests_total", **NOVA, status="success") == 1
    models = {dict(labels).get("model") for _, labels in found.samples}
    assert len(models) == FIRST_RECORDED + len({None, OTHER, NOVA["model"]})
    assert found.total("voicegw_requests_total", model=OTHER) == 10_000 - FIRST_RECORDED
    # Most used or not: who has labels of his own keeps them, so nothing is taken out of `other`.
    await house.log(*(heard(f"g{n}", model_id="forged/9999", project="p3") for n in range(50)))
    after = await scrape(site)
    assert_none_falls(found, after)
    assert after.samples.keys() == found.samples.keys()


@pytest.mark.usefixtures("logged")
async def test_two_scrapes_differ_exactly_by_the_rows_written_between(site, house):
    before = await scrape(site)
    assert (await scrape(site)).counters() == before.counters()
    await house.log(heard("n1", ttfb_ms=250.0), heard("n2", status=RequestStatus.ERROR), heard("r1"))
    after = await scrape(site)
    risen = {
        (name, dict(labels).get("status") or dict(labels).get("le") or ""): round(
            value - before.samples[name, labels], 9
        )
        for (name, labels), value in after.counters().items()
        if value != before.samples[name, labels]
    }
    ttfb = "voicegw_request_ttfb_seconds"
    total = "voicegw_request_total_latency_seconds"
    assert {key: value for key, value in risen.items() if not key[0].startswith((ttfb, total))} == {
        ("voicegw_requests_total", "success"): 1,
        ("voicegw_requests_total", "error"): 1,
        ("voicegw_cost_usd_total", ""): 0.00984,
        ("voicegw_units_total", ""): 123,
    }
    above = [str(bound) for bound in TTFB_S if bound > 0.25] + ["+Inf"]
    assert {key[1]: value for key, value in risen.items() if key[0] == f"{ttfb}_bucket"} == dict.fromkeys(
        above, 1
    )
    assert (risen[f"{ttfb}_count", ""], risen[f"{ttfb}_sum", ""]) == (1, 0.25)


@pytest.mark.usefixtures("logged")
async def test_no_counter_falls_over_a_restart_or_when_old_rows_go(site, house):
    before = await scrape(site)
    store = await site.gateway.store()
    while await store.write(partial(prune_batch, before_ms=NOW - DAY)):
        pass
    with closing(connect(house.database, timeout_s=5)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM requests").fetchone() == (4,)
    assert (await scrape(site)).counters() == before.counters()
    again = house.gateway("http")
    try:
        assert (await scrape(Site(again))).counters() == before.counters()
    finally:
        await again.close()


async def test_lower_prices_take_nothing_off_the_counter_and_are_told_beside_it(site, house):
    # Priced at more than is known of it now, at less, and not at all.
    await house.log(
        heard("dear", cost_nanousd=9_000_000, price_version="1", price_terms="x"),
        heard("cheap", cost_nanousd=1_000_000, price_version="1", price_terms="x"),
        heard("unpriced", cost_nanousd=None),
    )
    before = await scrape(site)
    assert before.value("voicegw_unpriced_requests", **NOVA) == 1
    gateway = house.gateway("cli")
    await reprice(gateway, Selection(), imported=True, dry_run=False, progress=lambda *_: None)
    await gateway.close()
    after = await scrape(site)
    assert_none_falls(before, after)
    assert after.value("voicegw_unpriced_requests", **NOVA) == 0
    billed, credited = (after.value(f"voicegw_cost_{what}usd_total", **NOVA) for what in ("", "credited_"))
    report = await site.ok("/v1/costs?period=all")
    assert billed - credited == pytest.approx(report["total_usd"])
    price = report["total_usd"] / 3
    assert credited == pytest.approx(0.009 - price)
    again = house.gateway("http")
    try:
        assert (await scrape(Site(again))).counters() == after.counters()
    finally:
        await again.close()


@pytest.mark.usefixtures("logged")
async def test_no_counter_falls_when_what_it_counts_is_taken_out_of_the_file(site, house):
    before = await scrape(site)
    async with house.agent() as agent:
        await agent.ok("delete_project", project_id="outbound", confirm=True)
    house.write(re.sub(r"    openai/gpt-4.1-mini.*\n", "", house.text))
    assert_none_falls(before, await scrape(site))


@pytest.mark.usefixtures("logged")
async def test_a_store_that_cannot_be_read_is_told_and_the_rest_is_there(site, house):
    await scrape(site)
    await site.gateway.close()
    house.database.write_bytes(b"no store" * 100)
    found = await scrape(site)
    assert (found.value("voicegw_store_up"), found.value("voicegw_providers_configured")) == (0, 3)
    assert not any(name.startswith(("voicegw_requests", "voicegw_spend")) for name, _ in found.samples)
    code, told = promtool("check", "metrics", text=(await site.get("/v1/metrics")).body)
    assert (code, told) == (0, "")


async def test_a_broken_file_is_told_with_the_last_good_one_or_with_none(site, house):
    house.secrets(VOICEGW_MCP_TOKEN=VIEW)
    await house.log(heard("r1"))
    await scrape(site, token=VIEW)
    house.write("providers: [\n")
    found = await scrape(site, token=VIEW)
    assert (found.value("voicegw_config_valid"), found.value("voicegw_providers_configured")) == (0, 3)
    assert found.value("voicegw_config_problems") == 1
    fresh = house.gateway("http")
    try:
        none = await scrape(Site(fresh), token=VIEW)
    finally:
        await fresh.close()
    assert none.value("voicegw_config_valid") == 0
    assert "voicegw_providers_configured" not in none.families
    assert none.total("voicegw_requests_total") == 1


async def test_an_empty_store_gives_a_valid_scrape(site):
    found = await scrape(site)
    assert found.value("voicegw_store_up") == 1
    assert "voicegw_requests" not in found.families
    code, told = promtool("check", "metrics", text=(await site.get("/v1/metrics")).body)
    assert (code, told) == (0, "")
