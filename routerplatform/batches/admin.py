"""Batches in the admin: how far they are and what they cost, never what was asked. One that runs can be cancelled."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesCheckboxFilter

from analytics import presentation
from providers.admin.cells import NOTHING, Tone, aligned, code, label, moment, number
from providers.admin.pages import ReadOnlyAdmin, change_url
from routerplatform.batches.selectors import seconds_left
from routerplatform.batches.services import batch_cancel
from routerplatform.models import OPEN_STATES, BatchJob, BatchState

TONES = {
    BatchState.WAITING: (Tone.QUIET, "schedule"),
    BatchState.RUNNING: (Tone.INFO, "sync"),
    BatchState.DONE: (Tone.GOOD, "check"),
    BatchState.FAILED: (Tone.BAD, "error"),
    BatchState.CANCELLED: (Tone.QUIET, "block"),
}


@admin.register(BatchJob)
class BatchJobAdmin(ReadOnlyAdmin[BatchJob]):
    list_display = ["name", "state_label", "team_link", "progress", "errors", "cost", "sent", "left"]
    list_display_links = ["name"]
    list_select_related = ["team"]
    list_filter = [("state", ChoicesCheckboxFilter), ("team", AutocompleteSelectFilter)]
    search_fields = ["team__name", "key__name", "key__prefix"]
    search_help_text = "Team or virtual key"
    actions = ["cancel_all"]
    fieldsets = [
        ("The batch", {"fields": ["id", ("team", "key"), ("state", "error"), "max_parallel"]}),
        ("How far", {"fields": [("total", "ok", "failed", "cancelled"), "progress"]}),
        (
            "What it came to",
            {"fields": [("cost", "unpriced"), ("input_tokens", "cache_read_input_tokens", "output_tokens")]},
        ),
        ("When", {"fields": [("created_at", "started_at", "finished_at"), "deadline_at"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BatchJob]:
        return super().get_queryset(request).defer("shared")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routerplatform.change_batchjob")

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel_all(self, request: HttpRequest, rows: QuerySet[BatchJob]) -> None:
        keys = list(rows.values_list("pk", flat=True))
        cancelled = sum(batch_cancel(job_id=pk, now=timezone.now()) for pk in keys)
        what = f"{cancelled} cancelled; what runs stops within two seconds." if cancelled else "Nothing was under way."
        self.message_user(request, what, messages.SUCCESS if cancelled else messages.INFO)

    # --- cells --------------------------------------------------------------------------------------------------

    @admin.display(description="batch", ordering="id")
    def name(self, job: BatchJob) -> SafeString:
        return code(f"…{str(job.pk)[-12:]}")

    @admin.display(description="state", ordering="state")
    def state_label(self, job: BatchJob) -> SafeString:
        tone, icon = TONES[BatchState(job.state)]
        return label(job.get_state_display(), tone, icon=icon, title=job.error)

    @admin.display(description="team", ordering="team__name")
    def team_link(self, job: BatchJob) -> SafeString:
        return format_html('<a class="cell-link" href="{}">{}</a>', change_url(job.team), job.team)

    @admin.display(description="progress")
    def progress(self, job: BatchJob) -> SafeString:
        share = presentation.percent(job.over / job.total)
        return aligned(f"{job.over:,} of {job.total:,}", title=share)

    @admin.display(description="errors", ordering="failed")
    def errors(self, job: BatchJob) -> SafeString:
        return number(job.failed) if job.failed else NOTHING

    @admin.display(description="cost", ordering="cost_nano")
    def cost(self, job: BatchJob) -> SafeString:
        note = f"{job.unpriced:,} of unknown price" if job.unpriced else ""
        return aligned(presentation.money(job.cost_nano), title=note)

    @admin.display(description="sent in", ordering="created_at")
    def sent(self, job: BatchJob) -> SafeString:
        return moment(job.created_at)

    @admin.display(description="left")
    def left(self, job: BatchJob) -> SafeString:
        left_s = seconds_left(job, now=timezone.now()) if job.state in OPEN_STATES else None
        return aligned(presentation.duration(left_s * 1000)) if left_s is not None else NOTHING
