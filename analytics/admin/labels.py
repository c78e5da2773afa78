"""The queue of prompts whose kind of work a person should say, the least certain first."""

from typing import Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from analytics.models import DecisionRecord
from analytics.selectors.learning import labelling, prompt_of, to_label
from analytics.services.labels import label_set
from providers.admin.cells import aligned, clipped, moment
from providers.admin.pages import ReadOnlyAdmin
from routing.domain.config import TASK_LABELS, TaskType

MAY_LABEL = "analytics.change_decisionrecord"
MOST_PASSED = 1_000  # that a session remembers
KEYS = [*(task for task in TaskType if task is not TaskType.ANY), TaskType.ANY]  # 1 to 5, and 6: none of them


@admin.register(DecisionRecord)
class DecisionRecordAdmin(ReadOnlyAdmin[DecisionRecord]):
    """What decisions were made from. Prompts are read one at a time, in the queue, by who may label."""

    list_display = ["at_moment", "request_id", "policy", "kind", "certainty", "said", "labelled_by"]
    list_filter = ["policy", "task_type", "label"]
    list_select_related = ["labelled_by"]
    list_before_template = "admin/analytics/labels/link.html"
    search_fields = ["request_id__exact"]
    search_help_text = "The whole id of a request"
    show_full_result_count = False
    fields = ["request_id", "at", "policy", "policy_version", "task_type", "confidence", "label", "labelled_by"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[DecisionRecord]:
        return super().get_queryset(request).defer("inputs", "prompt")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        try:
            return (queryset.filter(pk=UUID(search_term.strip())) if search_term.strip() else queryset), False
        except ValueError:
            return queryset.none(), False

    def get_urls(self) -> list[URLPattern]:
        queue = path("queue/", self.admin_site.admin_view(self.queue_view), name="analytics_decisionrecord_queue")
        return [queue, *super().get_urls()]

    def queue_view(self, request: HttpRequest) -> HttpResponse:
        """One prompt at a time; the answer to it comes back as a POST and leads to the next."""
        if not request.user.has_perm(MAY_LABEL):
            raise PermissionDenied
        passed = request.session.setdefault("labels_passed", [])
        if request.method == "POST":
            self._take(request, passed)
            return HttpResponseRedirect(reverse("admin:analytics_decisionrecord_queue"))
        record = to_label().exclude(pk__in=passed).first()
        context = {
            **self.admin_site.each_context(request),
            "title": "What kind of work is this?",
            "opts": self.opts,
            "record": record,
            "prompt": prompt_of(record) if record else "",
            "progress": labelling(),
            "passed": len(passed),
            "guess": TASK_LABELS.get(TaskType(record.task_type or TaskType.ANY)) if record else "",
            "kinds": [
                (number, task.value, "None of these" if task is TaskType.ANY else TASK_LABELS[task])
                for number, task in enumerate(KEYS, 1)
            ],
        }
        return TemplateResponse(request, "admin/analytics/labels/queue.html", context)

    def _take(self, request: HttpRequest, passed: list[str]) -> None:
        label = request.POST.get("label", "")
        try:
            if label == "again":
                passed.clear()
                request.session.modified = True
                return
            chosen = UUID(request.POST.get("record", ""))
            if label == "skip":
                passed.append(str(chosen))
                del passed[:-MOST_PASSED]
                request.session.modified = True
            elif not label_set(request_id=chosen, label=label, by=cast(User, request.user), now=timezone.now()):
                messages.warning(request, "This prompt is not kept any more.")
        except (ValueError, ValidationError):
            messages.error(request, "Choose one of the kinds of work.")

    @admin.display(description="at", ordering="at")
    def at_moment(self, record: DecisionRecord) -> SafeString:
        return moment(record.at)

    @admin.display(description="kind of work", ordering="task_type")
    def kind(self, record: DecisionRecord) -> SafeString:
        return clipped(TASK_LABELS[TaskType(record.task_type)] if record.task_type else "–")

    @admin.display(description="certainty", ordering="confidence")
    def certainty(self, record: DecisionRecord) -> SafeString:
        return aligned("–" if record.confidence is None else f"{record.confidence:.0%}")

    @admin.display(description="a person says", ordering="label")
    def said(self, record: DecisionRecord) -> SafeString:
        return clipped(record.get_label_display() if record.label else "–")
