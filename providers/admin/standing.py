"""How deployments and keys stand now, in the admin: what the gateway knows that runs in this very process."""

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from providers.admin.cells import NOTHING, Tone, label, moment
from providers.admin.pages import HistoryAdmin, change_url, page_action
from providers.breaker_services import breaker_force, breaker_reset
from providers.domain.breaker import BreakerState
from providers.fleet.states import DeploymentStanding, FleetStates, KeyStanding
from providers.models import BreakerOverride, Deployment, Provider
from providers.selectors import active_deployments

RUNTIME = "router.runtime"  # where the platform leaves what a request's gateway holds, in the ASGI scope
STATES = {
    BreakerState.CLOSED: ("Closed", Tone.GOOD),
    BreakerState.HALF_OPEN: ("Half-open", Tone.WARN),
    BreakerState.OPEN: ("Open", Tone.BAD),
}
FORCED = {
    BreakerOverride.OPEN: ("Forced open", Tone.BAD, "An operator holds it open: nothing is sent here."),
    BreakerOverride.CLOSED: ("Forced closed", Tone.WARN, "An operator holds it closed: failures are ignored."),
}
BREAKER_ACTIONS = ["force_open", "force_closed", "let_failures_decide", "reset_breakers"]
NO_GATEWAY = "No gateway runs in this process, so its state is not known here."


def fleet_states(request: HttpRequest) -> FleetStates | None:
    """Of everything that is active; None where no gateway runs in this process."""
    runtime: Any = getattr(request, "scope", {}).get(RUNTIME)
    if runtime is None:
        return None
    states: FleetStates = runtime.health.states(active_deployments(now=timezone.now()).values())
    return states


def note_standings(request: HttpRequest, rows: Any) -> None:
    """Leave on each deployment how it stands, for its cells to show."""
    states = fleet_states(request)
    standings = {one.deployment.id: one for one in states.deployments} if states else {}
    for row in rows:
        row.standing = standings.get(row.pk)


def breaker_label(deployment: Deployment) -> SafeString:
    """The state of a deployment that `note_standings` has seen, and what comes next, on hover."""
    standing: DeploymentStanding | None = getattr(deployment, "standing", None)
    if deployment.breaker:
        text, tone, why = FORCED[BreakerOverride(deployment.breaker)]
        return label(text, tone, icon="back_hand", title=why)
    if standing is None:
        return NOTHING
    text, tone = STATES[standing.state]
    return label(text, tone, title=standing_in_words(standing))


def standing_in_words(standing: DeploymentStanding) -> str:
    failure = standing.last_failure.replace("_", " ")
    match standing.state:
        case BreakerState.CLOSED if standing.failures_in_a_row:
            return f"{standing.failures_in_a_row} failures in a row, the last one: {failure}."
        case BreakerState.CLOSED:
            return "Requests are sent here."
        case BreakerState.HALF_OPEN:
            return "One request is trying it now."
        case BreakerState.OPEN:
            why = "Too many requests failed" if standing.by_share else "It failed several times in a row"
            wait_s = standing.probe_in_s or 0.0
            when = f"One request may try in {wait_s:.0f} s" if wait_s else "The next request may try"
            return f"{why}, the last time: {failure}. {when}."


def resting_in_words(resting: list[KeyStanding]) -> SafeString:
    """A line for each rest: which key, why, until when."""
    lines = (
        (
            f"{rest.credential.label} (…{rest.credential.last4})",
            f" at {rest.deployment}" if rest.deployment else "",
            rest.kind.replace("_", " "),
            moment(datetime.fromtimestamp(rest.until, UTC)),
            f"{rest.left_s:.0f}",
        )
        for rest in resting
    )
    return format_html_join(mark_safe("<br>"), "{}{}: {}, rests until {} (another {} s)", lines)


class BreakerAdmin(HistoryAdmin[Deployment]):
    """What the page of deployments has of circuit breakers."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        note_standings(request, changes.result_list)
        return changes

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Deployment | None:
        found = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "GET":
            note_standings(request, [found])
        return found

    @admin.display(description="breaker", ordering="breaker")
    def breaker_now(self, deployment: Deployment) -> SafeString:
        return breaker_label(deployment)

    @admin.display(description="now")
    def breaker_in_words(self, deployment: Deployment) -> SafeString:
        standing: DeploymentStanding | None = getattr(deployment, "standing", None)
        if deployment._state.adding:
            return NOTHING
        words = standing_in_words(standing) if standing else NO_GATEWAY
        if deployment.breaker:
            words = FORCED[BreakerOverride(deployment.breaker)][2]
        return format_html("{} {}", breaker_label(deployment), words)

    @admin.action(description="Circuit breaker: force open", permissions=["change"])
    def force_open(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        self._force(request, rows, BreakerOverride.OPEN, "forced open: nothing is sent there")

    @admin.action(description="Circuit breaker: force closed", permissions=["change"])
    def force_closed(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        self._force(request, rows, BreakerOverride.CLOSED, "forced closed: failures are ignored")

    @admin.action(description="Circuit breaker: by its failures", permissions=["change"])
    def let_failures_decide(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        self._force(request, rows, BreakerOverride.AUTOMATIC, "opened and closed by failures again")

    @admin.action(description="Circuit breaker: reset", permissions=["change"])
    def reset_breakers(self, request: HttpRequest, rows: QuerySet[Deployment]) -> None:
        for row in rows:
            breaker_reset(deployment=row, now=timezone.now())
        self.message_user(request, f"{len(rows)} reset.", messages.SUCCESS)

    @page_action(description="Reset breaker", url_path="reset-breaker", icon="restart_alt", permissions=["reset"])
    def reset_breaker(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks first."""
        deployment = self.get_object(request, object_id)
        if deployment is None:
            raise Http404("No such row.")
        if request.method != "POST":
            context = {
                **self.admin_site.each_context(request),
                "title": "Reset the circuit breaker",
                "opts": self.opts,
                "deployment": deployment,
                "now": self.breaker_in_words(deployment),
                "deployment_url": change_url(deployment),
            }
            return TemplateResponse(request, "admin/providers/deployment/reset_breaker.html", context)
        breaker_reset(deployment=deployment, now=timezone.now())
        said = "Its failures so far are forgotten, everywhere within two seconds."
        if deployment.breaker:
            said += " It is still forced by hand."
        self.message_user(request, said, messages.SUCCESS)
        return HttpResponseRedirect(change_url(deployment))

    def has_reset_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self.has_change_permission(request)

    def _force(self, request: HttpRequest, rows: QuerySet[Deployment], override: BreakerOverride, became: str) -> None:
        changed = sum(breaker_force(deployment=row, override=override) for row in rows)
        self.message_user(request, f"{changed} {became}.", messages.SUCCESS)


def note_resting(request: HttpRequest, provider: Provider) -> None:
    """Leave on a provider which of its keys rest, and which of its breakers are not closed, for its cells to show."""
    states = fleet_states(request)
    row: Any = provider
    row.is_known = states is not None
    row.resting = [rest for rest in states.resting if rest.provider == provider.name] if states else []
    row.broken = (
        [
            one
            for one in states.deployments
            if one.deployment.endpoint.id == provider.pk and one.state is not BreakerState.CLOSED
        ]
        if states
        else []
    )


def keys_at_rest(provider: Model) -> SafeString:
    if not getattr(provider, "is_known", False):
        return format_html("{}", NO_GATEWAY)
    resting: list[KeyStanding] = getattr(provider, "resting", [])
    return resting_in_words(resting) if resting else format_html("{}", "None: all active keys are in use.")


def breakers_of(provider: Model) -> SafeString:
    if not getattr(provider, "is_known", False):
        return format_html("{}", NO_GATEWAY)
    broken: list[DeploymentStanding] = getattr(provider, "broken", [])
    if not broken:
        return format_html("{}", "All are closed.")
    lines = ((one.deployment.name, STATES[one.state][0].lower(), standing_in_words(one)) for one in broken)
    return format_html_join(mark_safe("<br>"), "{}: {}. {}", lines)
