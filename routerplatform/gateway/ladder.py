"""A policy's ladder as the request path meets it: what is told of a step, and the steps that refuse.

The rules are `routing/domain/ladder.py`. A step never reaches a request that no budget applies to.
"""

from analytics.ledger.leases import Window
from routerplatform.gateway.errors import BudgetStepReached, resets_in_words

STEP_HEADER = "x-router-budget-step"
USED_HEADER = "x-router-budget-used"


def ladder_headers(step: str, budget_used: float) -> dict[str, str]:
    """Which step a request stands on, and why; nothing on none."""
    return {STEP_HEADER: step, USED_HEADER: share_text(budget_used)} if step else {}


def share_text(share: float) -> str:
    """“0.83”, rounded down: at 0.80 a step at 80 % is reached. The small part is what floats lose."""
    return f"{int(share * 100 + 1e-9) / 100:.2f}"


def cache_only(policy: str, budget_used: float) -> str:
    """Why a request without a kept answer is refused on this step."""
    return (
        f"{budget_used:.0%} of a budget is used, and from there on policy “{policy}” gives only answers that it has "
        "kept. There is none to this request."
    )


def step_refused(why: str, step: str, budget_used: float, window: Window | None) -> BudgetStepReached:
    """The refusal; `window` is that of the budget that is so full."""
    budget = (window.terms, window.span) if window is not None else None
    more = f" The budget is “{window.terms.name}”. {resets_in_words(window.span)}" if window is not None else ""
    return BudgetStepReached(why + more, headers=ladder_headers(step, budget_used), budget=budget)
