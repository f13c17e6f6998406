"""What a budget means for the next request of its project."""

from contextlib import contextmanager

import pytest
from hypothesis import given, strategies as st
from tests.factories import request_record

from voicegw_mcp.core import spending as module
from voicegw_mcp.core.budgets import Budget, Budgets, budget_status, budgets_of, decide
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.periods import next_midnight_ms
from voicegw_mcp.core.spending import REFRESH_S, Spending
from voicegw_mcp.domain import NANO
from voicegw_mcp.store.spend import Spent

EVENING = 1_795_388_400_000  # 2026-11-22T23:00Z, midnight in Berlin


def budget(action="block", usd=1, zone="UTC"):
    return Budget("shop", usd * NANO, action, zone, "local")


@given(st.integers(0, 3 * NANO), st.integers(1, 2 * NANO), st.sampled_from(["warn", "throttle", "block"]))
def test_below_80_percent_is_allowed_below_100_told_and_then_the_action_holds(spent, limit, action):
    verdict = decide(Budget("shop", limit, action, "UTC", "local"), spent, 0, EVENING).verdict
    if spent / limit >= 1:
        assert verdict == action
    elif spent * 5 >= limit * 4:
        assert verdict == "warn"
    else:
        assert verdict == "allow"
    assert (verdict == "allow") == (budget_status(spent, limit) == "ok")


def test_a_refusal_tells_what_was_spent_when_it_ends_and_what_to_do():
    error = decide(budget(zone="Europe/Berlin"), 1_020_000_001, 2, EVENING).refusal("There is no other way.")
    assert error.message == (
        "Project shop has spent 1.020000001 of its 1.00 USD for today (102 %); the budget begins anew at "
        "2026-11-24T00:00:00+01:00. 2 requests without a price counted 0. There is no other way."
    )
    assert error.hint == (
        "Raise daily_budget of the project shop, set its budget_action to warn, or wait until then."
    )
    assert error.payload()["error"]["code"] == "BUDGET_EXCEEDED"
    assert error.details == {
        "project_id": "shop",
        "spent_usd": 1.020000001,
        "daily_budget_usd": 1.0,
        "unpriced_requests": 2,
        "reset_at": "2026-11-24T00:00:00+01:00",
    }
    assert "1 request without" in decide(budget(), NANO, 1, EVENING).refusal().message
    assert decide(budget(), NANO, 0, EVENING).refusal().message.endswith("T00:00:00+00:00.")


class Shop:
    """A project with a file, a clock, and rows of another process."""

    def __init__(self, folder):
        self.path = folder / "voicegw.yaml"
        self.now, self.seconds, self.elsewhere = EVENING, 0.0, 0
        self.gateway = Gateway.open(str(self.path), door="test", environment={}, now_ms=lambda: self.now)
        self.spending = Spending(
            self.state, lambda: self.now, seconds=lambda: self.seconds, start=lambda _: None
        )
        self.budgets = Budgets(self.spending, lambda: self.now)
        self.count = 0

    @contextmanager
    def state(self):
        yield self

    def spent(self, _project, start_ms, end_ms):
        return Spent(self.elsewhere if start_ms <= EVENING < end_ms else 0, 0)

    def present(self, _ids):
        return set()

    def write(self, **project):
        lines = "".join(f"    {name}: {value}\n" for name, value in project.items())
        self.path.write_text(
            f"timezone: Europe/Berlin\nprojects:\n  shop:\n    name: Shop\n{lines}", encoding="utf-8"
        )

    def check(self):
        found = self.budgets.check(self.gateway.catalog(), "shop")
        self.spending.work_off()
        return found and found.verdict

    def spend(self, nanousd):
        self.budgets.find(self.gateway.catalog(), "shop")  # as when an instance is made
        self.count += 1
        row = request_record(id=f"r{self.count}", project="shop", timestamp_ms=self.now, cost_nanousd=nanousd)
        self.spending.note("shop", lambda: row, recorded=True)
        self.spending.work_off()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A project without a budget yet."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0)
    shop = Shop(tmp_path)
    shop.write()
    return shop


def test_none_and_0_are_no_budget(shop):
    assert shop.check() is None
    shop.write(daily_budget=0)
    assert shop.check() is None
    shop.write(daily_budget=0.0000000001)  # less than a nano-dollar
    assert budgets_of(shop.gateway.catalog()) == {}


def test_a_budget_that_is_set_or_changed_in_the_file_holds_for_the_next_request(shop):
    assert shop.check() is None
    shop.elsewhere = NANO
    shop.write(daily_budget=1, budget_action="block")
    shop.check()
    assert shop.check() == "block"
    shop.write(daily_budget=1, budget_action="throttle", throttle_stack="cheap")
    assert shop.check() == "throttle"
    assert budgets_of(shop.gateway.catalog())["shop"].throttle_stack == "cheap"
    shop.write(daily_budget=2, budget_action="block")
    assert shop.check() == "allow"
    shop.write()
    assert shop.check() is None


def test_each_step_is_told_once_and_again_on_the_next_day(shop, caplog):
    shop.write(daily_budget=1, budget_action="warn")
    for nanousd in (NANO // 2, NANO * 3 // 10, 0, NANO // 5, NANO, NANO):
        shop.spend(nanousd)
        assert shop.check() in {"allow", "warn"}
    assert ["80 %" in text or "100 %" in text for text in caplog.messages] == [True, True]
    shop.now = next_midnight_ms("Europe/Berlin", shop.now)
    shop.spend(2 * NANO)
    assert shop.check() == "warn"
    assert len(caplog.messages) == 3
    assert "200 %" in caplog.messages[-1]


def test_a_raised_budget_is_told_of_anew_when_it_is_spent_too(shop, caplog):
    shop.write(daily_budget=1)
    shop.spend(NANO)
    shop.check()
    shop.write(daily_budget=10)
    shop.check()
    shop.spend(9 * NANO)
    shop.check()
    assert ["100 %" in text for text in caplog.messages] == [True, True]


def test_it_begins_anew_at_midnight_of_its_zone_and_a_clock_put_back_brings_the_day_back(shop):
    shop.write(daily_budget=1, budget_action="block")
    shop.elsewhere = 0
    shop.spend(NANO)
    assert shop.check() == "block"
    midnight = next_midnight_ms("Europe/Berlin", shop.now)
    shop.now = midnight - 1
    assert shop.check() == "block"
    shop.now = midnight
    assert shop.check() == "allow"
    shop.now = midnight - 1
    assert shop.check() == "block"


def test_a_change_of_the_zone_changes_the_day(shop):
    shop.write(daily_budget=1, budget_action="block")
    shop.now -= 1  # the 22nd in Berlin, for a moment
    shop.spend(NANO)
    assert shop.check() == "block"
    shop.now += 1
    assert shop.check() == "allow"
    shop.write(daily_budget=1, budget_action="block", timezone="UTC")
    shop.check()
    assert shop.check() == "block"


def test_a_throttle_stack_and_a_limited_provider_that_do_not_exist_are_told(shop):
    shop.write(daily_budget=1, budget_action="throttle", throttle_stack="cheap")
    shop.path.write_text(shop.path.read_text() + "rate_limits: {opnai: {requests_per_minute: 5}}\n")
    assert [(problem.path, problem.message) for problem in shop.gateway.catalog().warnings] == [
        ("rate_limits.opnai", "names the provider 'opnai', which does not exist"),
        ("projects.shop.throttle_stack", "names the stack 'cheap', which does not exist"),
    ]


@given(data=st.data())
def test_no_more_is_let_through_than_what_was_under_way_and_what_others_spent_meanwhile(
    data, tmp_path_factory
):
    module.FIRST_WAIT_S = 0
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.write(daily_budget=1, budget_action="block")
    shop.check()
    under_way, own, unseen, most = [], 0, 0, 0
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from(["ask", "ask", "end", "other", "wait"]))
        if step == "ask":
            if shop.check() != "block":
                under_way.append(data.draw(st.integers(1, NANO // 4)))
                # What this one may add is beside what nobody could know of when it was let through.
                assert own + shop.elsewhere - unseen < NANO
                most = max(most, NANO + sum(under_way) + unseen)
        elif step == "end" and under_way:
            cost = under_way.pop(0)
            own += cost
            shop.spend(cost)
        elif step == "other":
            cost = data.draw(st.integers(1, NANO // 4))
            shop.elsewhere += cost
            unseen += cost
        elif step == "wait":
            shop.seconds += REFRESH_S
            shop.check()
            unseen = 0
    assert own <= most
