"""The connection test of a provider: every active key, the list of models, and a short question where that is wanted.

Nothing is recorded: neither health nor usage changes by a test.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured

from providers.domain.connection import advice_on_call, advice_on_list
from providers.domain.health import ProbeOutcome
from providers.domain.types import Credential, Endpoint
from providers.fields import unseal
from providers.models import Deployment, Provider, ProviderKey
from providers.probing import Probe, ProbeResult, probe_all, safe_note
from providers.registry import PROVIDER_KINDS, ProviderKind
from providers.selectors import deployment_of, endpoint_of
from providers.tiny_call import TinyAnswer, tiny_calls

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One step of a test, in words: `is_good` is None when nothing was learned. `advice` is empty when all is well."""

    what: str
    is_good: bool | None
    note: str
    advice: str = ""
    latency_ms: int | None = None


@dataclass(frozen=True, slots=True)
class KeyReport:
    """The findings for one key, in the order of the steps; `key` names it, or says that there is none."""

    key: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One key to try; without a credential where the provider needs none."""

    name: str
    credential: Credential | None
    secret: str


def connection_check(*, provider: Provider, ask: Deployment | None = None) -> list[KeyReport]:
    """Try each active key of `provider`, active or not; `ask` is a deployment of it to put a short question to.

    Takes at most half a minute. Reads tables, changes none; the network is asked in a thread of its own.
    """
    kind = PROVIDER_KINDS.get(provider.kind)
    if kind is None:
        return [_stopped("–", f"This version knows no kind “{provider.kind}”.", "Choose another kind, or upgrade.")]
    endpoint = endpoint_of(provider)
    attempts, reports = _attempts(provider, kind)
    asked = deployment_of(ask, endpoint, (), None) if ask else None
    credentials = [attempt.credential for attempt in attempts]

    def run() -> tuple[list[ProbeResult], list[TinyAnswer]]:
        listed = probe_all([Probe(endpoint, attempt.secret) for attempt in attempts])
        return listed, asyncio.run(tiny_calls(asked, credentials)) if asked else []

    listed, answers = in_a_thread(run)
    for number, (attempt, result) in enumerate(zip(attempts, listed, strict=True)):
        findings = [*_of_address(endpoint, result), *_of_list(result, kind)]
        if asked and findings[0].is_good is not False:  # else the address is the trouble, and was told
            findings.append(_of_call(asked.name, answers[number], attempt.secret))
        reports.append(KeyReport(attempt.name, tuple(findings)))
    return reports


def in_a_thread(work: Callable[[], T]) -> T:
    """The SDKs want an event loop of their own; a view's thread may have one. `work` must not touch the database."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(work).result()


def _attempts(provider: Provider, kind: ProviderKind) -> tuple[list[_Attempt], list[KeyReport]]:
    """The keys to try, and a report for each that cannot be tried."""
    attempts, reports = [], []
    keys = ProviderKey.objects.filter(provider=provider, is_active=True).order_by("id")
    for key in keys:
        credential = Credential(id=key.pk, label=key.label, last4=key.last4, sealed=key.sealed)
        try:
            attempts.append(_Attempt(str(key), credential, unseal(key.sealed)))
        except ImproperlyConfigured as error:
            reports.append(_stopped(str(key), str(error), "Replace the key, or bring back the field key it needs."))
    if not keys and kind.needs_key:
        reports.append(_stopped("No key", f"{kind.label} needs an active key.", "Add one on the tab “Keys”."))
    elif not keys:
        attempts.append(_Attempt("Without a key", None, ""))
    return attempts, reports


def _stopped(key: str, note: str, advice: str) -> KeyReport:
    return KeyReport(key, (Finding("Key", False, note, advice),))


def _of_address(endpoint: Endpoint, result: ProbeResult) -> list[Finding]:
    if not result.address:
        return []
    means = "" if result.address in endpoint.base_url else f" is {result.address}, which"
    return [Finding("Address", True, f"{endpoint.base_url}{means} may be called.")]


def _of_list(result: ProbeResult, kind: ProviderKind) -> list[Finding]:
    was_sent = bool(result.address) or result.outcome is not ProbeOutcome.IMPOSSIBLE
    advice = advice_on_list(
        result.outcome, http_status=result.http_status, was_sent=was_sent, list_checks_key=kind.list_checks_key
    )
    proves_key = True if kind.list_checks_key else None
    is_good = {ProbeOutcome.ANSWERED: proves_key, ProbeOutcome.FAILED: False}.get(result.outcome)
    if not was_sent:
        return [Finding("Address", False, _sentence(result.note), advice)]
    return [Finding("List of models", is_good, _sentence(result.note), advice, result.latency_ms)]


def _of_call(name: str, answer: TinyAnswer, secret: str) -> Finding:
    what = f"A question to {name}"
    if answer.failure is None:
        return Finding(what, True, "Answered.", latency_ms=answer.latency_ms)
    note = _sentence(safe_note(answer.failure.message, secret))
    return Finding(what, False, note, advice_on_call(answer.failure), answer.latency_ms)


def _sentence(note: str) -> str:
    """Notes are written to stand behind a name; here they stand alone."""
    text = note[:1].upper() + note[1:]
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
