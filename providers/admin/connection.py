"""Two buttons of a provider's page: test the connection, and sync the models."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from providers.admin.cells import Tone, label
from providers.admin.pages import change_url, page_action
from providers.connection_check import Finding, KeyReport, connection_check
from providers.domain.model_list import ModelUse
from providers.model_sync import ModelSync, SyncRow, listed_models_deploy, model_sync
from providers.models import Deployment, Provider

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    _OfProvider = ModelAdmin[Provider]
else:
    _OfProvider = object

ROWS_SHOWN = 200
USES = {
    ModelUse.CHAT: "Chat",
    ModelUse.EMBEDDINGS: "Embeddings",
    ModelUse.OTHER: "Something else",
    ModelUse.UNKNOWN: "",
}


class ConnectionForm(forms.Form):
    """Whether a model is asked too, and which."""

    ask = forms.BooleanField(
        required=False,
        label="Also ask a model (costs a few tokens)",
        widget=UnfoldBooleanSwitchWidget,
        help_text="One short question with each key. It is not in the usage records and counts for no budget.",
    )
    deployment = forms.ModelChoiceField(
        Deployment.objects.none(), required=False, label="Model", widget=UnfoldAdminSelectWidget, empty_label=None
    )

    def __init__(self, provider: Provider, data: Any = None) -> None:
        super().__init__(data)
        deployments: QuerySet[Deployment] = provider.deployments.select_related("provider", "model")
        self.fields["deployment"].queryset = deployments.order_by("-is_active", "upstream_model")  # type: ignore[attr-defined]
        if not deployments.exists():
            del self.fields["ask"], self.fields["deployment"]

    @property
    def asked(self) -> Deployment | None:
        """The deployment to ask; None where that is not wanted."""
        found: Deployment | None = self.cleaned_data.get("deployment") if self.cleaned_data.get("ask") else None
        return found


class ConnectionPages(_OfProvider):
    """What a provider's page can do over the network; each takes seconds and is for those who may change it."""

    actions_detail = ["test_connection", "sync_models"]

    @page_action(description="Test connection", url_path="test", icon="cable", permissions=["connection"])
    def test_connection(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks first; the answer says per key what came of it and what to do."""
        provider = self._provider(request, object_id)
        form = ConnectionForm(provider, request.POST if request.method == "POST" else None)
        reports: list[tuple[str, SafeString, list[tuple[Finding, SafeString]]]] = []
        if form.is_valid():
            reports = [_shown(report) for report in connection_check(provider=provider, ask=form.asked)]
        return self._page(request, "connection.html", "Test the connection", provider, form=form, reports=reports)

    @page_action(description="Sync models", url_path="sync", icon="sync", permissions=["connection"])
    def sync_models(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Lists what the vendor has; ticked models are deployed."""
        provider = self._provider(request, object_id)
        found = model_sync(provider=provider)
        if request.method == "POST" and not found.problem:
            return self._deploy(request, provider, found)
        sought = request.GET.get("q", "").strip()
        matching = [row for row in found.rows if sought.lower() in row.name.lower()]
        shown = [(row, _state(row, found), _context(row)) for row in matching[:ROWS_SHOWN]]
        more = {"found": found, "rows": shown, "left_out": len(matching) - len(shown), "sought": sought}
        return self._page(request, "sync.html", "Sync models", provider, uses=USES, **more)

    def has_connection_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return self.has_change_permission(request)

    def _deploy(self, request: HttpRequest, provider: Provider, found: ModelSync) -> HttpResponse:
        names = set(request.POST.getlist("model"))
        made = listed_models_deploy(provider=provider, rows=found.rows, names=names, now=timezone.now())
        if made:
            what = ", ".join(row.upstream_model for row in made)
            self.log_change(request, provider, f"Deployed from the list of models: {what}")
            messages.success(
                request,
                f"{len(made)} deployed: {what}. Tick on the page of a model what it can do, and look at its price.",
            )
        else:
            messages.warning(request, "Nothing was deployed: no new model was ticked.")
        return HttpResponseRedirect(change_url(provider))

    def _provider(self, request: HttpRequest, object_id: str) -> Provider:
        """:raises Http404: there is none, or it is not this person's to change."""
        provider = self.get_object(request, object_id)
        if provider is None or not self.has_change_permission(request, provider):
            raise Http404("No such provider.")
        return provider

    def _page(self, request: HttpRequest, template: str, title: str, provider: Provider, **more: Any) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "provider": provider}
        context |= {"provider_url": change_url(provider)} | more
        return TemplateResponse(request, f"admin/providers/provider/{template}", context)


def _shown(report: KeyReport) -> tuple[str, SafeString, list[tuple[Finding, SafeString]]]:
    """A report with the labels of its verdict and of each finding. The last step says most about a key."""
    verdicts = [finding.is_good for finding in report.findings]
    verdict = False if False in verdicts else verdicts[-1]
    return report.key, _verdict(verdict), [(finding, _verdict(finding.is_good)) for finding in report.findings]


def _verdict(is_good: bool | None) -> SafeString:
    if is_good is None:
        return label("Not known", Tone.QUIET, icon="help")
    return label("Good", Tone.GOOD, icon="check_circle") if is_good else label("Not good", Tone.BAD, icon="cancel")


def _context(row: SyncRow) -> str:
    """Tokens that the vendor says; empty where it does not."""
    return f"{row.listed.context_window:,}" if row.listed and row.listed.context_window else ""


def _state(row: SyncRow, found: ModelSync) -> SafeString:
    if row.is_gone:
        return label(
            "No longer listed", Tone.WARN, icon="warning", title="Deployed here, but the vendor lists it no more."
        )
    if not row.is_new:
        return label("Deployed", Tone.GOOD)
    if not row.can_be_called:
        return label("Not callable", Tone.QUIET, title="No API that is spoken here reaches it.")
    if not found.names_are_called:
        return label("Could be deployed there", Tone.QUIET)
    return label("New", Tone.INFO)
