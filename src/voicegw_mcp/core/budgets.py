"""Where a project stands against its daily budget. May import ``domain``, ``core`` and nothing above."""

from __future__ import annotations

from typing import Literal

BudgetStatus = Literal["ok", "warning", "exceeded"]


def budget_status(spent_nanousd: int, budget_nanousd: int) -> BudgetStatus:
    """Return ``ok`` below 80 % of the budget, ``warning`` below 100 %, else ``exceeded``; a budget of 0 is none.

    The thresholds are VoiceGateway 0.4's. Both amounts are nano-USD for the same calendar day.
    """
    if budget_nanousd <= 0 or spent_nanousd * 100 < budget_nanousd * 80:
        return "ok"
    return "warning" if spent_nanousd < budget_nanousd else "exceeded"
