"""A request's bill, as the gateway hands it to the ledger and as the journal keeps it until it is in the database."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from analytics.domain.decisions import KeptDecision

ESCALATED = "escalated"  # the “failure” of an attempt whose answer was not good enough, so that another one was asked


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One try at a provider. `failure` is a FailureKind, empty when it answered; times are milliseconds."""

    deployment: str
    provider: str
    key_last4: str
    started_ms: float  # after the request came in
    latency_ms: float
    failure: str = ""
    http_status: int | None = None
    message: str = ""
    billed_nano: int | None = None  # what the vendor bills for an attempt that is not the record's answer
    vendor_request_id: str = ""  # what the vendor's support asks for


class BudgetUse(Struct, frozen=True, omit_defaults=True):
    """What budgets did to a request: the most that was held for it at once, the answer length they left (None: as
    asked), and the ids of the shadow windows that would have refused it."""

    hold_nano: int = 0
    max_tokens: int | None = None
    would_refuse: tuple[int, ...] = ()


class UsageEntry(Struct, frozen=True):
    """All of one usage record; field for field the columns of `analytics.models.UsageRecord`, but for `kept`: what its
    decision was made from, which goes into a table of its own.

    Times are seconds since the epoch, money is nano-USD, `cost_nano` None is an unknown price. `decision` says why the
    route was chosen, `price` is a copy of the rates used; both hold JSON values only. `charges` is what each budget
    window that applies is charged, by its id: usually the cost, of a model alias's window the part that it served.
    """

    request_id: str
    started_at: float
    door: str
    team_id: int
    team_name: str
    key_id: int
    key_name: str
    key_prefix: str
    requested_model: str
    config_revision: int
    is_stream: bool = False
    persona: str = ""
    policy: str = ""
    finished_at: float = 0.0
    state: str = "open"
    http_status: int = 0
    error_code: str = ""
    provider: str = ""
    deployment: str = ""
    model: str = ""
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0  # part of those written to the cache
    usage_source: str = "none"
    cost_nano: int | None = 0
    price: dict[str, Any] | None = None
    charges: dict[int, int] | None = None
    budget: BudgetUse | None = None
    attempts: tuple[Attempt, ...] = ()
    decision: dict[str, Any] = {}
    ttft_ms: float | None = None
    latency_ms: float = 0.0
    overhead_ms: float = 0.0
    cache: str = ""  # "hit": answered before, and kept; "miss": it was asked for and kept
    saved_nano: int | None = 0  # what a hit would have cost
    policy_version: int = 0
    arm: str = ""
    task_type: str = ""
    rule: str = ""
    tag: str = ""
    kept: KeptDecision | UnsetType = UNSET


class Dispatch(Struct, frozen=True):
    """What is journaled before an attempt's first byte leaves: enough to bill the request, should the gateway die.

    `bound_nano` is the dearest that this attempt can cost, `billed_nano` what the attempts before it have cost; either
    is None when a price is unknown. `charges` is what the budget windows are charged then, by their ids.
    """

    request_id: str
    deployment: str
    provider: str
    model: str
    input_tokens_bound: int
    output_tokens_bound: int
    bound_nano: int | None
    price: dict[str, Any] | None
    billed_nano: int | None = 0
    charges: dict[int, int] | None = None
