"""What to do about a provider that does not answer as it should: findings in, advice for people out."""

from providers.domain.errors import Failure, FailureKind
from providers.domain.health import ProbeOutcome

ASK_A_MODEL = "Ask a model as well, to learn whether the key is good."

_OF_A_REFUSED_LIST = {
    401: "Replace the key: the provider does not know it, or it belongs to another account.",
    403: "The key is known, but may not do this: look at its permissions, and from where it may be used.",
    404: "If the base URL lacks its version part (/v1), add it. If there is no list at all, ask a model instead.",
    429: "Too many requests, or the quota is used up: look at the account at the provider.",
}
_OF_A_FAILED_CALL = {
    FailureKind.AUTHENTICATION: _OF_A_REFUSED_LIST[401],
    FailureKind.PERMISSION: _OF_A_REFUSED_LIST[403],
    FailureKind.QUOTA_EXHAUSTED: "The key is good, the money is not: look at the account at the provider.",
    FailureKind.RATE_LIMITED: _OF_A_REFUSED_LIST[429],
    FailureKind.MODEL_NOT_FOUND: "The key may be good, but the model is not called like this here: “Sync models” shows "
    "the names that the provider lists.",
    FailureKind.BAD_REQUEST: "The provider answers, but refuses this model or this question: see what it says.",
    FailureKind.CONTENT_FILTERED: "The provider answers: its filter refused the question.",
    FailureKind.CONTEXT_TOO_LONG: "The provider answers, but takes no prompt as long as this one.",
    FailureKind.OVERLOADED: "The provider is overloaded: try again in a minute.",
    FailureKind.SERVER_ERROR: "The provider has a problem of its own: try again, and look at its status page.",
    FailureKind.CONNECT: "Look at the base URL, and whether this machine may connect to it (firewall, name server).",
    FailureKind.TIMEOUT: "It takes longer than a test waits. A local server may still be loading the model.",
    FailureKind.STREAM_BROKEN: "The connection was cut in the middle of the answer: try again.",
    FailureKind.MALFORMED: "What answers there is no API of this kind of provider: look at kind and base URL.",
}


def advice_on_list(outcome: ProbeOutcome, *, http_status: int | None, was_sent: bool, list_checks_key: bool) -> str:
    """What to do after a list of models was asked for; empty when nothing is to be done.

    `was_sent` is False where the address may not be called: the finding itself says what to do then.
    `list_checks_key` as in `ProviderKind`.
    """
    if outcome is ProbeOutcome.ANSWERED:
        return "" if list_checks_key else f"Anybody may read this list, so it says nothing about the key. {ASK_A_MODEL}"
    if not was_sent:
        return ""
    if http_status is None:
        return _OF_A_FAILED_CALL[FailureKind.CONNECT]
    if http_status >= 500:
        return _OF_A_FAILED_CALL[FailureKind.SERVER_ERROR]
    return _OF_A_REFUSED_LIST.get(http_status, "Look at kind and base URL: it may be another API that answers there.")


def advice_on_call(failure: Failure) -> str:
    return _OF_A_FAILED_CALL[failure.kind]
