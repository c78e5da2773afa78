"""Replays: started, watched and stopped on the page of a draft or here; each has a page with what it found."""

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter

from analytics import presentation
from analytics.exports import csv_response
from analytics.models import Replay, ReplayState
from analytics.replay_page import STATES, csv_of, may_run, may_see, panel_of, range_of, row_of, view_of
from analytics.services.replays import dial_request, dial_use, replay_cancel, replay_request, replay_stalled
from analytics.tasks import dial_queue, replay_queue
from providers.admin.cells import NOTHING, Tone, aligned, label, moment, number
from providers.admin.pages import ReadOnlyAdmin, change_url
from routing.models import PolicyDraft

PAGE = "admin/analytics/replay/page.html"


@admin.register(Replay)
class ReplayAdmin(ReadOnlyAdmin[Replay]):
    list_display = ["policy_link", "of_draft", "state_label", "range", "seen", "cost", "asked", "took"]
    list_display_links = ["state_label"]
    list_select_related = ["policy", "draft", "created_by"]
    list_filter = [("state", ChoicesCheckboxFilter), ("policy", AutocompleteSelectFilter)]
    search_fields = ["policy__name", "draft__title"]
    search_help_text = "Policy or draft"

    def has_view_permission(self, request: HttpRequest, obj: Replay | None = None) -> bool:
        return may_see(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_see(request.user)

    # --- pages --------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        def address(route: str, name: str, view: Any) -> URLPattern:
            guarded: Any = self.admin_site.admin_view(never_cache(view))
            made: URLPattern = path(route, guarded, name=f"analytics_replay_{name}")
            return made

        return [
            address("draft/<int:draft_id>/", "draft", require_GET(self.of_the_draft)),
            address("draft/<int:draft_id>/start/", "start", require_POST(self.start)),
            address("<int:replay_id>/state/", "state", require_GET(self.state)),
            address("<int:replay_id>/csv/", "csv", require_GET(self.csv)),
            address("<int:replay_id>/cancel/", "cancel", require_POST(self.cancel)),
            address("<int:replay_id>/dial/", "dial", require_POST(self.dial)),
            address("<int:replay_id>/use/", "use", require_POST(self.use)),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The page of one replay: there is nothing on it to save."""
        if request.method != "GET":
            raise PermissionDenied
        replay = self._replay(request, int(object_id) if object_id.isascii() and object_id.isdecimal() else 0)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Replay of {replay.policy}",
            "opts": self.opts,
            "original": replay,
            "view": view_of(replay, request.user, now=timezone.now()),
            "may_run": may_run(request.user),
            "may_cancel": may_run(request.user),
            "now": timezone.now(),
        }
        return TemplateResponse(request, PAGE, context)

    def of_the_draft(self, request: HttpRequest, draft_id: int) -> HttpResponse:
        """The inner part of a draft's panel, for the script that keeps it up to date."""
        draft = self._draft(request, draft_id)
        return render(request, "admin/analytics/replay/part.html", panel_of(draft, request.user, now=timezone.now()))

    def state(self, request: HttpRequest, replay_id: int) -> JsonResponse:
        row = row_of(self._replay(request, replay_id), now=timezone.now())
        dial = (row["result"] or {}).get("dial", {})
        return JsonResponse(
            {name: row[name] for name in ("state", "done", "total", "percent")} | {"dial": dial.get("state", "")}
        )

    def csv(self, request: HttpRequest, replay_id: int) -> HttpResponseBase:
        replay = self._replay(request, replay_id)
        table = "teams" if request.GET.get("table") == "teams" else "routes"
        header, rows = csv_of(replay, table)
        return csv_response(request, name=f"replay-{replay.pk}-{table}", header=header, rows=rows)

    # --- what is done -------------------------------------------------------------------------------------------

    def start(self, request: HttpRequest, draft_id: int) -> HttpResponse:
        draft, now = self._draft(request, draft_id), timezone.now()
        self._require_run(request)
        try:
            since, until = range_of(request.POST, now=now)
            by = cast(User, request.user)
            replay = replay_request(policy=draft.policy, draft=draft, since=since, until=until, by=by)
        except (ValidationError, ValueError) as error:
            messages.error(request, _words(error))
        else:
            replay_queue(replay)
        return HttpResponseRedirect(f"{change_url(draft)}#replay")

    def cancel(self, request: HttpRequest, replay_id: int) -> HttpResponse:
        replay = self._replay(request, replay_id)
        self._require_run(request)
        if not replay_cancel(replay=replay):
            messages.info(request, "The replay was over already.")
        return self._back(replay)

    def dial(self, request: HttpRequest, replay_id: int) -> HttpResponse:
        replay = self._replay(request, replay_id)
        self._require_run(request)
        try:
            dial_request(replay=replay, wanted=-_percent(request.POST.get("percent", "")) / 100)
        except (ValidationError, ValueError) as error:
            messages.error(request, _words(error))
        else:
            dial_queue(replay)
        return self._back(replay)

    def use(self, request: HttpRequest, replay_id: int) -> HttpResponse:
        replay = self._replay(request, replay_id)
        try:
            draft = dial_use(replay=replay, by=cast(User, request.user))
        except ValidationError as error:
            messages.error(request, _words(error))
        else:
            self.log_change(request, replay, "Used the value of the dial in the draft.")
            messages.success(request, f"The value is in the draft “{draft.title}”. Replay it again to see all of it.")
        return self._back(replay)

    def _back(self, replay: Replay) -> HttpResponse:
        return HttpResponseRedirect(f"{change_url(replay.draft or replay)}#replay")

    def _replay(self, request: HttpRequest, replay_id: int) -> Replay:
        """:raises Http404: there is none, or it is not this person's to see."""
        rows = Replay.objects.select_related("policy", "draft__policy", "created_by")
        replay = rows.filter(pk=replay_id).first() if may_see(request.user) else None
        if replay is None:
            raise Http404("No such replay.")
        if replay_stalled(replay=replay, now=timezone.now()):
            replay.refresh_from_db()
        return replay

    def _draft(self, request: HttpRequest, draft_id: int) -> PolicyDraft:
        """:raises Http404: there is none, or it is not this person's to see."""
        rows = PolicyDraft.objects.select_related("policy").filter(pk=draft_id)
        draft = rows.first() if may_see(request.user) else None
        if draft is None:
            raise Http404("No such draft.")
        return draft

    def _require_run(self, request: HttpRequest) -> None:
        if not may_run(request.user):
            raise PermissionDenied

    # --- the list -----------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replay]:
        return super().get_queryset(request).defer("document")

    @admin.display(description="policy", ordering="policy__name")
    def policy_link(self, replay: Replay) -> SafeString:
        return format_html('<a class="cell-link" href="{}">{}</a>', change_url(replay.policy), replay.policy)

    @admin.display(description="draft", ordering="draft__title")
    def of_draft(self, replay: Replay) -> SafeString:
        if replay.draft is None:
            return NOTHING
        return format_html('<a class="cell-link" href="{}">{}</a>', change_url(replay.draft), replay.draft.title)

    @admin.display(description="state", ordering="state")
    def state_label(self, replay: Replay) -> SafeString:
        return state_label(replay)

    @admin.display(description="range (UTC)", ordering="since")
    def range(self, replay: Replay) -> str:
        return f"{replay.since:%-d %b %H:%M} to {replay.until:%-d %b %H:%M}"

    @admin.display(description="decisions", ordering="total")
    def seen(self, replay: Replay) -> SafeString:
        return number(replay.total)

    @admin.display(description="cost")
    def cost(self, replay: Replay) -> SafeString:
        sides = [replay.result.get(side, {}).get("cost_nano") for side in ("after", "before")]
        change = presentation.change(*sides)
        return aligned(change.text) if change else NOTHING

    @admin.display(description="asked for", ordering="created_at")
    def asked(self, replay: Replay) -> SafeString:
        return moment(replay.created_at)

    @admin.display(description="took")
    def took(self, replay: Replay) -> SafeString:
        if replay.started_at is None or replay.finished_at is None:
            return NOTHING
        return aligned(presentation.duration((replay.finished_at - replay.started_at).total_seconds() * 1000))


def state_label(replay: Replay) -> SafeString:
    tone, icon = STATES[ReplayState(replay.state)]
    return label(replay.get_state_display(), Tone(tone), icon=icon)


def _percent(text: str) -> float:
    """:raises ValueError: no number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("Say how many percent are to be saved, as a number.") from None


def _words(error: ValidationError | ValueError) -> str:
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
