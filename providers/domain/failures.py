"""Everything known about vendors' errors: what each means, and what the gateway does about it.

`RULES` is read top down and the first row that fits decides: codes say most, then phrases (vendors that send one
status for everything), then the status, then types. Sources, as of 2026-11:
  OpenAI     developers.openai.com/api/docs/guides/error-codes and openai 3.52 `ErrorObject`
  Anthropic  platform.claude.com/docs/en/api/errors and anthropic 2.11 `ErrorType`, `ErrorDetails.error_code`
  Gemini     ai.google.dev/gemini-api/docs/troubleshooting (google.rpc status names)
  Groq       console.groq.com/docs/errors, console.groq.com/docs/flex-processing
  Cohere     docs.cohere.com/reference/errors and its OpenAPI document (498)
  Ollama     docs.ollama.com/api/errors, and server/routes.go of github.com/ollama/ollama
  HTTP       RFC 9110; 52x are Cloudflare's (developers.cloudflare.com/support, 5xx errors)
No document was found for `billing_*`, `account_deactivated`, "prohibited_content", llama.cpp's phrase, Gemini's for
credits, caps and leaked keys, and those for quotas of Cohere and Ollama: they rest on reports from the field.
"""

from dataclasses import dataclass
from typing import NamedTuple

from providers.domain.errors import FailureKind as Kind


@dataclass(frozen=True, slots=True)
class Reaction:
    """What the gateway does after a failure of a kind.

    `try_next`: another target may well answer. `retry_same`: the same one may, a moment later. `counts_for_breaker`:
    a sign that the deployment is unwell. `cools_key`: the credential rests. `billed_in_doubt`: the vendor may charge.
    """

    try_next: bool = True
    retry_same: bool = False
    counts_for_breaker: bool = False
    cools_key: bool = False
    billed_in_doubt: bool = False


REACTIONS: dict[Kind, Reaction] = {
    Kind.BAD_REQUEST: Reaction(try_next=False),
    Kind.UNSUPPORTED: Reaction(),
    Kind.CONTEXT_TOO_LONG: Reaction(),
    Kind.CONTENT_FILTERED: Reaction(try_next=False),
    Kind.MODEL_NOT_FOUND: Reaction(),
    Kind.AUTHENTICATION: Reaction(cools_key=True),
    # A 403 is often about one model only, so the key is not rested for all the others.
    Kind.PERMISSION: Reaction(),
    Kind.QUOTA_EXHAUSTED: Reaction(cools_key=True),
    Kind.RATE_LIMITED: Reaction(cools_key=True),
    Kind.OVERLOADED: Reaction(retry_same=True, counts_for_breaker=True),
    Kind.SERVER_ERROR: Reaction(retry_same=True, counts_for_breaker=True),
    Kind.CONNECT: Reaction(retry_same=True, counts_for_breaker=True),
    Kind.TIMEOUT: Reaction(counts_for_breaker=True, billed_in_doubt=True),
    Kind.STREAM_BROKEN: Reaction(retry_same=True, counts_for_breaker=True, billed_in_doubt=True),
    Kind.MALFORMED: Reaction(counts_for_breaker=True, billed_in_doubt=True),
}


class VendorError(NamedTuple):
    """An error as the vendor worded it; empty strings and None for what it did not say."""

    status: int | None
    type: str
    code: str
    message: str


Statuses = frozenset[int | None]


class Rule(NamedTuple):
    """Fits when every given column does. `phrase` is sought in the message, in lower case."""

    kind: Kind
    status: Statuses | None = None
    type: str = ""
    code: str = ""
    phrase: str = ""

    def fits(self, error: VendorError) -> bool:
        return (
            (self.status is None or error.status in self.status)
            and (not self.type or self.type == error.type)
            and (not self.code or self.code == error.code)
            and (not self.phrase or self.phrase in error.message.lower())
        )


def _codes(kind: Kind, *codes: str) -> tuple[Rule, ...]:
    return tuple(Rule(kind, code=code) for code in codes)


def _types(kind: Kind, *types: str) -> tuple[Rule, ...]:
    return tuple(Rule(kind, type=name) for name in types)


def _phrases(kind: Kind, status: Statuses | None, *phrases: str) -> tuple[Rule, ...]:
    return tuple(Rule(kind, status=status, phrase=phrase) for phrase in phrases)


def _status(kind: Kind, *statuses: int) -> Rule:
    return Rule(kind, status=frozenset(statuses))


# None: an error inside a stream carries no status.
_REFUSALS: Statuses = frozenset({400, 413, 422, None})
_NO_STATUS: Statuses = frozenset({None})

RULES: tuple[Rule, ...] = (
    # --- codes -------------------------------------------------------------------------------------------------
    *_codes(Kind.CONTEXT_TOO_LONG, "context_length_exceeded"),  # OpenAI, Groq: 400
    *_codes(
        Kind.UNSUPPORTED,
        "unsupported_parameter",  # OpenAI: 400, of this model; others take it
        "unsupported_value",  # OpenAI: 400
        "invalid_encrypted_content",  # OpenAI: 400, thought of another organization's
    ),
    *_codes(
        Kind.QUOTA_EXHAUSTED,
        "insufficient_quota",  # OpenAI: 429
        "credit_balance_exhausted",  # OpenAI: 429
        "billing_hard_limit_reached",  # OpenAI: 400
        "billing_not_active",  # OpenAI: 429
        "enforced_spend_limit_reached",  # Anthropic: 429 without retry-after, until the month ends
        "contract_spend_limit_reached",  # Anthropic: 429
        "linked_organization_spend_limit_reached",  # Anthropic: 402
        "linked_organization_billing_unavailable",  # Anthropic: 402
    ),
    *_codes(
        Kind.MODEL_NOT_FOUND,
        "model_not_found",  # OpenAI: 404, or 403 when the project may not use it; Groq: 404
        "model_decommissioned",  # Groq: 400
    ),
    *_codes(
        Kind.AUTHENTICATION,
        "invalid_api_key",  # OpenAI, Groq: 401
        "account_deactivated",  # OpenAI: 401
    ),
    *_codes(
        Kind.PERMISSION,
        "unsupported_country_region_territory",  # OpenAI: 403
        "organization_on_hold",  # Anthropic: 400
    ),
    *_codes(
        Kind.CONTENT_FILTERED,
        "content_filter",  # Azure OpenAI: 400
        "content_policy_violation",  # OpenAI: 400
        "bio_policy",  # OpenAI, responses
        "misalignment_policy_violation",  # OpenAI, responses
        "image_content_policy_violation",  # OpenAI, responses
    ),
    *_codes(
        Kind.RATE_LIMITED,
        "rate_limit_exceeded",  # OpenAI: 429; Groq: 429, and 413 for one request over the tokens per minute
        "slow_down",  # OpenAI: 429, 503 earlier
        "ramp_limit_exceeded",  # Anthropic: 429
    ),
    *_codes(
        Kind.OVERLOADED,
        "server_is_overloaded",  # OpenAI: 503
        "capacity_exceeded",  # Groq flex tier: 498
    ),
    *_codes(
        Kind.SERVER_ERROR,
        "tool_use_failed",  # Groq: 400, the model wrote a tool call that is none; not the request's fault
        "json_validate_failed",  # Groq: 400, the same for JSON
    ),
    # --- phrases -----------------------------------------------------------------------------------------------
    *_phrases(
        Kind.CONTEXT_TOO_LONG,
        _REFUSALS,
        "prompt is too long",  # Anthropic
        "exceed context limit",  # Anthropic: input and max_tokens together
        "maximum context length",  # OpenAI, vLLM, OpenRouter
        "reduce the length of the messages",  # Groq
        "exceeds the maximum number of tokens",  # Gemini: "The input token count (…) exceeds …"
        "too many tokens",  # Cohere
        "exceeds the available context size",  # llama.cpp
        "exceeds the context length",  # Ollama: 400, a text that may not be cut
        "longer than the context length",  # Ollama: 400, a prompt that may not be cut
    ),
    *_phrases(
        Kind.QUOTA_EXHAUSTED,
        _REFUSALS,
        "credit balance is too low",  # Anthropic: 400
        "reached your specified api usage limits",  # Anthropic: 400, a spend limit of one's own
    ),
    *_phrases(
        Kind.QUOTA_EXHAUSTED,
        frozenset({402, 429, None}),
        "prepayment credits are depleted",  # Gemini: 429 RESOURCE_EXHAUSTED, which is a rate limit elsewhere
        "exceeded its monthly spending cap",  # Gemini: 429, a cap of one's own
        "api calls / month",  # Cohere: 429, a trial key; its limits per minute are rate limits
        "session usage limit",  # Ollama's cloud: 429, for some hours
        "weekly usage limit",  # Ollama's cloud: 429
        "monthly usage limit",  # Ollama's cloud: 429
    ),
    *_phrases(
        Kind.AUTHENTICATION,
        _REFUSALS,
        "api key not valid",  # Gemini: 400 INVALID_ARGUMENT
        "api key expired",  # Gemini: 400
        "api key not found",  # Gemini: 400
    ),
    Rule(Kind.AUTHENTICATION, status=frozenset({403}), phrase="reported as leaked"),  # Gemini: the key is blocked
    *_phrases(
        Kind.UNSUPPORTED,
        _REFUSALS,
        "does not support tools",  # Ollama: 400
        "does not support thinking",  # Ollama: 400
        "is not supported with this model",  # OpenAI: 400
        "is not supported by this model",  # xAI, Mistral: 400
    ),
    *_phrases(Kind.PERMISSION, _REFUSALS, "user location is not supported"),  # Gemini: 400 FAILED_PRECONDITION
    *_phrases(
        Kind.CONTENT_FILTERED,
        _REFUSALS,
        "content filtering policy",  # Anthropic: "Output blocked by …"
        "prohibited_content",  # Gemini
    ),
    *_phrases(Kind.CONTENT_FILTERED, frozenset({498}), "deny-listed", "blocked"),  # Cohere; Groq's 498 is a code
    *_types(Kind.QUOTA_EXHAUSTED, "insufficient_quota"),  # OpenAI: 429, in older replies without a code
    # --- bare statuses -----------------------------------------------------------------------------------------
    _status(Kind.AUTHENTICATION, 401),
    _status(Kind.QUOTA_EXHAUSTED, 402),
    _status(Kind.PERMISSION, 403),
    _status(Kind.MODEL_NOT_FOUND, 404, 410),
    _status(Kind.MALFORMED, 405),  # the base URL is not this API's
    _status(Kind.TIMEOUT, 408, 504, 522, 524),
    _status(Kind.CONTEXT_TOO_LONG, 413),
    _status(Kind.RATE_LIMITED, 429),
    _status(Kind.OVERLOADED, 498, 503, 529),
    _status(Kind.SERVER_ERROR, 409, 499),  # a conflict or a cancellation on the vendor's side; the SDKs retry 409
    # --- types, chiefly for errors inside a stream, where there is no status ------------------------------------
    *_types(Kind.QUOTA_EXHAUSTED, "billing_error"),
    *_types(Kind.AUTHENTICATION, "authentication_error", "UNAUTHENTICATED"),
    # FAILED_PRECONDITION is Gemini's 400 for an account that may not use the API where it is, or without billing.
    *_types(Kind.PERMISSION, "permission_error", "PERMISSION_DENIED", "FAILED_PRECONDITION"),
    *_types(Kind.MODEL_NOT_FOUND, "not_found_error", "NOT_FOUND"),
    *_types(Kind.CONTEXT_TOO_LONG, "request_too_large"),  # Anthropic: 413, 32 MB
    *_types(Kind.RATE_LIMITED, "rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"),
    *_types(Kind.OVERLOADED, "overloaded_error", "service_unavailable_error", "UNAVAILABLE"),
    *_types(Kind.TIMEOUT, "timeout_error", "DEADLINE_EXCEEDED"),
    *_types(Kind.SERVER_ERROR, "api_error", "server_error", "internal_server_error", "INTERNAL"),
    *(Rule(Kind.BAD_REQUEST, status=_NO_STATUS, type=name) for name in ("invalid_request_error", "INVALID_ARGUMENT")),
)

_FALLBACK_BY_CLASS = {4: Kind.BAD_REQUEST, 5: Kind.SERVER_ERROR}


def classify(error: VendorError) -> Kind:
    """What kind of failure a vendor's error is. An error nobody knows is the vendor's (SERVER_ERROR) in a stream, and
    MALFORMED with a status that is no error's: redirects are not followed."""
    for rule in RULES:
        if rule.fits(error):
            return rule.kind
    if error.status is None:
        return Kind.SERVER_ERROR
    return _FALLBACK_BY_CLASS.get(error.status // 100, Kind.MALFORMED)
