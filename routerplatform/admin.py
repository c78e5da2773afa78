"""Pages of other packages' models, in the admin's own look, without what ops do not need."""

from typing import TYPE_CHECKING, Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from axes.utils import reset
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from kombu.exceptions import OperationalError
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from providers.admin.cells import Tone, active_label, code, label, moment, number
from providers.admin.pages import PlatformAdmin, ReadOnlyAdmin, Rows
from routerplatform.batches.admin import BatchJobAdmin as BatchJobAdmin
from routing.models import Membership

if TYPE_CHECKING:
    _UserAdmin = PlatformAdmin[User]
    _GroupAdmin = PlatformAdmin[Group]
else:
    # Django's own pages for the passwords and permissions, in the platform's look.
    class _UserAdmin(DjangoUserAdmin, PlatformAdmin): ...

    class _GroupAdmin(DjangoGroupAdmin, PlatformAdmin): ...


RIGHTS = ["is_staff", "is_superuser", "groups", "user_permissions"]

for model in (
    *(User, Group, AccessAttempt, AccessFailureLog, AccessLog),
    *(PeriodicTask, IntervalSchedule, CrontabSchedule, ClockedSchedule, SolarSchedule),
):
    admin.site.unregister(model)


class TeamRows(Rows):
    model = Membership
    fields = ["team", "role"]
    autocomplete_fields = ["team"]
    tab = False
    show_change_link = False
    verbose_name_plural = "teams"


@admin.register(User)
class UserAdmin(_UserAdmin):
    """People. Only superusers hand out rights; an account with rights that one lacks is out of one's reach."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["username", "email", "role", "teams", "state", "seen"]
    list_filter = ["is_active", "is_staff", "is_superuser", "groups"]
    readonly_fields = ["last_login", "date_joined"]
    inlines = [TeamRows]
    fieldsets = [
        ("Who it is", {"fields": ["username", "password", ("first_name", "last_name"), "email"]}),
        ("What they may do", {"fields": ["is_active", *RIGHTS]}),
        ("Dates", {"fields": [("last_login", "date_joined")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).annotate(teams_in=Count("memberships"))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        own = list(super().get_readonly_fields(request, obj))
        return own if request.user.is_superuser else [*own, *RIGHTS]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    @admin.display(description="role", ordering="-is_superuser")
    def role(self, user: User) -> SafeString:
        if user.is_superuser:
            return label("Superuser", Tone.WARN)
        return label("Ops", Tone.INFO) if user.is_staff else label("Team member", Tone.QUIET)

    @admin.display(description="teams", ordering="teams_in")
    def teams(self, user: User) -> SafeString:
        return number(user.teams_in)  # type: ignore[attr-defined]  # annotated

    @admin.display(description="state", ordering="is_active")
    def state(self, user: User) -> SafeString:
        return active_label(user.is_active)

    @admin.display(description="last sign-in", ordering="last_login")
    def seen(self, user: User) -> SafeString:
        return moment(user.last_login, empty="never")


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    """Whoever may set an account's password has its rights, also those of an account that is switched off for now."""
    if user is None or request.user.is_superuser:
        return True
    theirs = Permission.objects.filter(Q(user=user) | Q(group__user=user)).distinct()
    names = theirs.values_list("content_type__app_label", "codename")
    return not user.is_superuser and all(request.user.has_perm(f"{app}.{codename}") for app, codename in names)


@admin.register(Group)
class GroupAdmin(_GroupAdmin):
    """Roles: permissions by name, handed to people together. Only superusers hand out rights."""

    list_display = ["name", "people"]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).annotate(people_in=Count("user"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return request.user.is_superuser

    @admin.display(description="people", ordering="people_in")
    def people(self, group: Group) -> SafeString:
        return number(group.people_in)  # type: ignore[attr-defined]  # annotated


@admin.register(AccessAttempt)
class AccessAttemptAdmin(ReadOnlyAdmin[AccessAttempt]):
    """Failed sign-ins that are being counted; unlocking forgets them."""

    list_display = ["at", "username", "ip_address", "failures", "browser"]
    search_fields = ["username", "ip_address"]
    search_help_text = "Name or address"
    actions = ["unlock"]
    fields = ["username", "ip_address", "user_agent", "path_info", "failures_since_start", "attempt_time"]

    @admin.action(description="Unlock", permissions=["unlock"])
    def unlock(self, request: HttpRequest, rows: QuerySet[AccessAttempt]) -> None:
        forgotten = sum(reset(ip=row.ip_address, username=row.username) for row in rows)
        self.message_user(request, f"{forgotten} unlocked.", messages.SUCCESS)

    def has_unlock_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("axes.delete_accessattempt")

    @admin.display(description="time", ordering="attempt_time")
    def at(self, attempt: AccessAttempt) -> SafeString:
        return moment(attempt.attempt_time)

    @admin.display(description="failures", ordering="failures_since_start")
    def failures(self, attempt: AccessAttempt) -> SafeString:
        return number(attempt.failures_since_start)

    @admin.display(description="browser")
    def browser(self, attempt: AccessAttempt) -> str:
        return str(attempt.user_agent)[:60]


@admin.register(PeriodicTask)
class ScheduledJobAdmin(PlatformAdmin[Any]):
    """When the workers do what. Which jobs there are is decided by the code; ops decide how often, or not at all."""

    list_display = ["name", "state", "runs", "last_run", "times", "description"]
    list_select_related = ["interval", "crontab", "solar", "clocked"]
    list_filter = ["enabled"]
    search_fields = ["name", "task", "description"]
    actions = ["enable_tasks", "disable_tasks", "run_tasks"]
    readonly_fields = ["name", "called", "last_run", "times"]
    fieldsets = [
        ("The job", {"fields": ["name", "called", "description", "enabled"]}),
        ("How often", {"fields": ["interval", "crontab"], "description": "One of the two."}),
        ("So far", {"fields": [("last_run", "times")]}),
    ]
    celery_app = PeriodicTaskAdmin.celery_app

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description="Switch on", permissions=["change"])
    def enable_tasks(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        PeriodicTaskAdmin.enable_tasks(self, request, rows)

    @admin.action(description="Switch off", permissions=["change"])
    def disable_tasks(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        PeriodicTaskAdmin.disable_tasks(self, request, rows)

    @admin.action(description="Run now", permissions=["change"])
    def run_tasks(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        try:
            PeriodicTaskAdmin.run_tasks(self, request, rows)
        except OperationalError:
            self.message_user(request, "Not started: the queue of the workers does not answer.", messages.ERROR)

    @admin.display(description="state", ordering="enabled")
    def state(self, job: Any) -> SafeString:
        return active_label(job.enabled)

    @admin.display(description="runs")
    def runs(self, job: Any) -> str:
        return str(job.crontab.human_readable if job.crontab else job.scheduler)

    @admin.display(description="task")
    def called(self, job: Any) -> SafeString:
        return code(job.task)

    @admin.display(description="last run", ordering="last_run_at")
    def last_run(self, job: Any) -> SafeString:
        return moment(job.last_run_at, empty="never")

    @admin.display(description="times", ordering="total_run_count")
    def times(self, job: Any) -> SafeString:
        return number(job.total_run_count)


class ScheduleAdmin(PlatformAdmin[Any]):
    """The jobs of a schedule would be deleted with it, and jobs are never deleted."""

    def obstacles(self, obj: Any) -> list[str]:
        jobs = obj.periodictask_set.count()
        return [f"{jobs} scheduled {'job' if jobs == 1 else 'jobs'}"] if jobs else []


@admin.register(IntervalSchedule)
class IntervalAdmin(ScheduleAdmin):
    list_display = ["__str__"]


@admin.register(CrontabSchedule)
class CrontabAdmin(ScheduleAdmin):
    list_display = ["__str__", "human_readable"]
