"""Read what was used: for the pages, the API and the admin. Every selector has a constant number of queries.

`team_ids` limits what is seen to these teams; None is all teams, an empty collection is none. Days are UTC days and
ranges include both ends. Costs are nano-USD and do not contain requests of unknown price (`unpriced` counts those).
"""

from analytics.selectors.budgets import BudgetState, budgets_with_spend
from analytics.selectors.keys import KeyUse, keys_use
from analytics.selectors.providers import CheckMark, ProviderState, provider_states
from analytics.selectors.requests import RequestFilters, RequestPage, names_used, request_detail, requests_page
from analytics.selectors.spend import Dimension, spend_by, spend_by_team_day, spend_totals

__all__ = [
    "BudgetState",
    "CheckMark",
    "Dimension",
    "KeyUse",
    "ProviderState",
    "RequestFilters",
    "RequestPage",
    "budgets_with_spend",
    "keys_use",
    "names_used",
    "provider_states",
    "request_detail",
    "requests_page",
    "spend_by",
    "spend_by_team_day",
    "spend_totals",
]
