"""Where a project stands against its daily budget, and what that means for its next request.

May import ``domain``, ``errors``, ``core`` and nothing above.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from voicegw_mcp.core.periods import iso, next_midnight_ms
from voicegw_mcp.domain import to_nano_usd, to_usd
from voicegw_mcp.errors import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicegw_mcp.config.schema import BudgetAction
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.spending import Spending

logger = logging.getLogger(__name__)

BudgetStatus = Literal["ok", "warning", "exceeded"]
Verdict = Literal["allow", "warn", "throttle", "block"]

THROTTLE_STACK: Final = "local"
"""The stack of a throttled project that names none."""

_STEPS: Final[tuple[BudgetStatus, ...]] = ("ok", "warning", "exceeded")


def budget_status(spent_nanousd: int, budget_nanousd: int) -> BudgetStatus:
    """Return ``ok`` below 80 % of the budget, ``warning`` below 100 %, else ``exceeded``; a budget of 0 is none.

    The thresholds are VoiceGateway 0.4's. Both amounts are nano-USD for the same calendar day.
    """
    if not has_reached(spent_nanousd, budget_nanousd, 80):
        return "ok"
    return "exceeded" if has_reached(spent_nanousd, budget_nanousd, 100) else "warning"


def has_reached(spent_nanousd: int, budget_nanousd: int, percent: float) -> bool:
    """Say whether so much of a budget (nano-USD, of the same calendar day) is spent; of a budget of 0 nothing ever is.

    ``percent`` counts to the third decimal.
    """
    return budget_nanousd > 0 and spent_nanousd * 100_000 >= budget_nanousd * round(percent * 1000)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a project may spend on a calendar day of its zone, nano-USD, and what happens then."""

    project: str
    nanousd: int
    action: BudgetAction
    timezone: str
    throttle_stack: str


class Decision(NamedTuple):
    """What is to be done with a project's next request.

    ``warn`` lets it through, from 80 % on. ``spent_nanousd`` is of the present day, without the ``unpriced`` requests, which
    have no price; ``at_ms`` is when it was decided (UTC epoch ms).
    """

    verdict: Verdict
    status: BudgetStatus
    budget: Budget
    spent_nanousd: int
    unpriced: int
    at_ms: int

    @property
    def reset_at(self) -> str:
        """When the budget begins anew, ISO 8601 in the project's zone."""
        zone = self.budget.timezone
        return iso(next_midnight_ms(zone, self.at_ms), zone)

    def told(self) -> str:
        """Return the figures as a sentence."""
        part = self.spent_nanousd * 100 // self.budget.nanousd
        text = (
            f"Project {self.budget.project} has spent {usd_text(self.spent_nanousd)} of its {usd_text(self.budget.nanousd)} USD "
            f"for today ({part} %); the budget begins anew at {self.reset_at}."
        )
        if self.unpriced:
            requests = "1 request" if self.unpriced == 1 else f"{self.unpriced} requests"
            text += f" {requests} without a price counted 0."
        return text

    def refusal(self, reason: str = "") -> BudgetExceeded:
        """Return the error for a request that is refused.

        Args:
            reason: why it could not go elsewhere, when it should have.
        """
        return BudgetExceeded(
            f"{self.told()}{reason and ' '}{reason}",
            hint=f"Raise daily_budget of the project {self.budget.project}, set its budget_action to warn, or wait until then.",
            details={
                "project_id": self.budget.project,
                "spent_usd": to_usd(self.spent_nanousd),
                "daily_budget_usd": to_usd(self.budget.nanousd),
                "unpriced_requests": self.unpriced,
                "reset_at": self.reset_at,
            },
        )


def decide(budget: Budget, spent_nanousd: int, unpriced: int, at_ms: int) -> Decision:
    """Return what is to be done with a request of a project that has spent so much on the day of ``at_ms``."""
    status = budget_status(spent_nanousd, budget.nanousd)
    verdict: Verdict = "allow" if status == "ok" else "warn" if status == "warning" else budget.action
    return Decision(verdict, status, budget, spent_nanousd, unpriced, at_ms)


def budgets_of(catalog: Catalog) -> dict[str, Budget]:
    """Return the budgets of a configuration by project id."""
    return {
        entry.id: Budget(
            entry.id,
            to_nano_usd(entry.settings.daily_budget),
            entry.settings.budget_action,
            catalog.timezone_of(entry),
            entry.settings.throttle_stack or THROTTLE_STACK,
        )
        for entry in catalog.projects.values()
        if entry.settings.daily_budget and to_nano_usd(entry.settings.daily_budget)
    }


class Budgets:
    """Checks requests of one process against the budgets of the configuration as it is now.

    Args:
        spending: what projects spent.
        now_ms: the clock, UTC epoch ms.
    """

    def __init__(self, spending: Spending, now_ms: Callable[[], int]) -> None:
        self.spending = spending
        self._now_ms = now_ms
        self._catalog: Catalog | None = None
        self._budgets: dict[str, Budget] = {}
        self._told: dict[str, tuple[BudgetStatus, int]] = {}

    def find(self, catalog: Catalog, project: str) -> Budget | None:
        """Return the budget of a project, None when it has none; go by this configuration from now on."""
        self.go_by(catalog)
        return self._budgets.get(project)

    def go_by(self, catalog: Catalog) -> bool:
        """Go by this configuration from now on; say whether it has budgets."""
        if catalog is not self._catalog:
            budgets = budgets_of(catalog)
            if budgets or self._budgets:
                self.spending.follow({project: budget.timezone for project, budget in budgets.items()})
            self._budgets, self._catalog = budgets, catalog
        return bool(self._budgets)

    def check(self, catalog: Catalog, project: str) -> Decision | None:
        """Return what is to be done with a request of a project; None when it has no budget.

        It is told once, as a warning in the log, that a project comes to 80 % and to 100 %.
        """
        budget = self.find(catalog, project)
        if budget is None:
            return None
        now_ms = self._now_ms()
        decision = decide(budget, *self.spending.today(project, budget.timezone, now_ms), now_ms)
        if decision.status != "ok" or project in self._told:
            self._tell(decision)
        return decision

    def _tell(self, decision: Decision) -> None:
        """Write into the log when a step was taken upward on this day."""
        project, zone = decision.budget.project, decision.budget.timezone
        before, ends_ms = self._told.get(project, ("ok", 0))
        if decision.at_ms >= ends_ms:
            before, ends_ms = "ok", next_midnight_ms(zone, decision.at_ms)
        if decision.status != before:
            if _STEPS.index(decision.status) > _STEPS.index(before):
                logger.warning("%s", decision.told())
            self._told[project] = decision.status, ends_ms


def usd_text(nanousd: int) -> str:
    """Return nano-USD as USD, with the cents and as many more places as it takes."""
    whole, rest = divmod(nanousd, 10**9)
    places = f"{rest:09d}".rstrip("0")
    return f"{whole}.{places:0<2}"
