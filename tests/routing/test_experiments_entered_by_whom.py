"""The pages of experiments in the admin: who may do what, what is refused in words, and addresses that lead nowhere."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from routing.admin.experiments import ExperimentAdmin
from routing.models import Experiment, PolicyDraft, RoutingPolicy
from routing.services.experiments import experiment_start
from tests.admin_pages import queries_of
from tests.factories import RoutingPolicyFactory, UserFactory, VirtualKeyFactory, served_alias
from tests.routing.trials import draft_of, experiment_of, started

pytestmark = pytest.mark.django_db

LIST = "/admin/routing/experiment/"
ADD = f"{LIST}add/"


@pytest.fixture
def policy() -> RoutingPolicy:
    made: RoutingPolicy = RoutingPolicyFactory.create(name="house", preferred=[served_alias()])
    return made


def staff(client: Client, *permissions: str) -> User:
    person: User = UserFactory.create(is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(person)
    return person


def entered(policy: RoutingPolicy, challenger: PolicyDraft, **changes: Any) -> dict[str, Any]:
    fields = {
        "name": "trial", "policy": policy.pk, "challenger": challenger.pk, "kind": "ab", "percent": 20,
        "unit": "request", "stages": "5, 100", "stage_minutes": 30, "payer": "", "max_cost": "",
        "guard_error_points": 5, "guard_latency_percent": 100, "guard_cost_percent": "", "min_samples": 50,
    }  # fmt: skip
    return fields | changes


def page_of(experiment: Experiment, name: str = "change") -> str:
    return f"{LIST}{experiment.pk}/{name}/"


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "looks", "adds", "edits", "deletes"),
    [
        ((), 403, 403, 403, 403),
        (("view_experiment",), 200, 403, 403, 403),
        (("view_experiment", "add_experiment"), 200, 200, 403, 403),
        (("view_experiment", "change_experiment"), 200, 403, 302, 403),
        (("view_experiment", "delete_experiment"), 200, 403, 403, 200),
    ],
)
def test_who_may_do_what(
    client: Client, policy: RoutingPolicy, permissions: tuple[str, ...], looks: int, adds: int, edits: int, deletes: int
) -> None:
    staff(client, *permissions)
    experiment = experiment_of(policy, served_alias(), name="trial")
    assert client.get(LIST).status_code == looks
    assert client.get(page_of(experiment)).status_code == looks
    assert client.get(ADD).status_code == adds
    assert client.post(page_of(experiment), entered(policy, experiment.challenger)).status_code == edits
    assert client.get(page_of(experiment, "delete")).status_code == deletes


def test_people_without_staff_are_sent_to_sign_in(client: Client, policy: RoutingPolicy) -> None:
    client.force_login(UserFactory.create(is_staff=False))
    assert client.get(LIST).status_code == 302
    assert client.post(ADD, entered(policy, draft_of(policy, served_alias()))).status_code == 302
    assert not Experiment.objects.exists()


def test_who_sets_one_up_and_who_edits_it_stand_in_its_history(client: Client, policy: RoutingPolicy) -> None:
    ada = staff(client, "view_experiment", "add_experiment", "change_experiment")
    draft = draft_of(policy, served_alias())
    client.post(ADD, entered(policy, draft))
    experiment = Experiment.objects.get()
    bob = staff(client, "view_experiment", "change_experiment")
    client.post(page_of(experiment), entered(policy, draft, percent=35))

    experiment.refresh_from_db()
    assert (experiment.created_by, experiment.percent) == (ada, 35)
    rows = experiment.history.order_by("history_date", "history_id")
    assert [row.history_user for row in rows] == [ada, bob]


@pytest.mark.parametrize("state", ["running", "stopped", "promoted"])
def test_one_that_has_begun_is_neither_edited_nor_deleted_by_anybody(
    admin_client: Client, policy: RoutingPolicy, state: str
) -> None:
    experiment = experiment_of(policy, served_alias(), percent=10)
    Experiment.objects.update(state=state)
    assert admin_client.post(page_of(experiment), entered(policy, experiment.challenger)).status_code == 403
    assert admin_client.post(page_of(experiment, "delete"), {"post": "yes"}).status_code == 403
    assert Experiment.objects.get().percent == 10


def test_an_edit_that_was_begun_before_the_start_does_not_undo_it(admin_user: User, policy: RoutingPolicy) -> None:
    experiment = experiment_of(policy, served_alias())
    in_the_form = Experiment.objects.get()
    in_the_form.percent = 90
    experiment_start(experiment=experiment, by=None, now=timezone.now())
    request = RequestFactory().post("/")
    request.user = admin_user

    with pytest.raises(PermissionDenied, match="It has been started meanwhile"):
        ExperimentAdmin(Experiment, admin.site).save_model(request, in_the_form, form=None, change=True)

    now = Experiment.objects.get()
    assert (now.state, now.percent) == ("running", 10)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("guard_latency_percent", "-1", "Zero or more. Leave it empty for no such guard."),
        ("guard_cost_percent", "-0.5", "Zero or more. Leave it empty for no such guard."),
        ("guard_error_points", "-1", "Ensure this value is greater than or equal to 0."),
        ("guard_error_points", "NaN", "Enter a number."),
        ("guard_latency_percent", "inf", "Enter a number."),
        ("max_cost", "0", "Its own budget is zero: it would end at once. Leave it empty for none."),
        ("max_cost", "-1", "Ensure this value is greater than or equal to 0."),
        ("max_cost", "0.0000001", "Ensure that there are no more than 6 decimal places."),
        ("percent", "12.5", "Enter a whole number."),
        ("stage_minutes", "0", "Ensure this value is greater than or equal to 1."),
        ("unit", "planet", "Select a valid choice. planet is not one of the available choices."),
        ("challenger", "987654", "Select a valid choice. That choice is not one of the available choices."),
        ("policy", "", "This field is required."),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(
    admin_client: Client, policy: RoutingPolicy, field: str, value: str, said: str
) -> None:
    draft = draft_of(policy, served_alias())
    answer = admin_client.post(ADD, entered(policy, draft) | {field: value})
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors == {field: [said]}
    assert not Experiment.objects.exists()


def test_a_name_is_used_once(admin_client: Client, policy: RoutingPolicy) -> None:
    """Usage records name the arms by it."""
    experiment = started(policy, served_alias())
    answer = admin_client.post(ADD, entered(policy, experiment.challenger))
    assert answer.context["adminform"].form.errors == {"name": ["Experiment with this Name already exists."]}


def test_a_shadow_may_cost_something_and_may_not_be_free(admin_client: Client, policy: RoutingPolicy) -> None:
    draft, payer = draft_of(policy, served_alias()), VirtualKeyFactory.create()
    fields = entered(policy, draft, kind="shadow", payer=payer.pk, max_cost="0")
    answer = admin_client.post(ADD, fields)
    assert answer.context["adminform"].form.errors == {"max_cost": ["A shadow needs a budget of its own, above zero."]}
    assert admin_client.post(ADD, fields | {"max_cost": "0.000001"}).status_code == 302


def test_guards_may_be_left_empty_or_be_nothing(admin_client: Client, policy: RoutingPolicy) -> None:
    draft = draft_of(policy, served_alias())
    fields = entered(policy, draft, guard_latency_percent="", guard_cost_percent="0", guard_error_points="0")
    assert admin_client.post(ADD, fields).status_code == 302
    made = Experiment.objects.get()
    assert (made.guard_latency_percent, made.guard_cost_percent, made.guard_error_points) == (None, 0.0, 0.0)


# --- pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["999", "none", str(10**30)])
def test_an_address_that_leads_nowhere_leads_back_and_is_no_failure(admin_client: Client, number: str) -> None:
    for name in ("change", "results", "delete", "history"):
        assert admin_client.get(f"{LIST}{number}/{name}/").status_code in {302, 404}


def test_the_list_without_any_and_with_each_state_can_be_read(admin_client: Client, policy: RoutingPolicy) -> None:
    assert admin_client.get(LIST).status_code == 200
    challenger = draft_of(policy, served_alias())
    for state in ("draft", "running", "stopped", "promoted"):
        experiment_of(policy, challenger=challenger, name=f"one-{state}", state=state, stop_reason="because")
    body = admin_client.get(LIST).content.decode()
    for words in ("Not started", "Running", "Stopped", "Promoted", "10 %"):
        assert words in body
    found = admin_client.get(LIST, {"state__exact": "stopped"}).content.decode()
    assert ("one-stopped" in found, "one-running" in found) == (True, False)
    assert "one-draft" in admin_client.get(LIST, {"q": "house"}).content.decode()


def test_the_list_takes_no_query_per_row(
    admin_client: Client, policy: RoutingPolicy, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    experiment_of(policy, served_alias(), name="first")
    few = queries_of(admin_client, LIST)
    for number in range(5):
        other = RoutingPolicyFactory.create(preferred=[served_alias()])
        experiment_of(other, served_alias(), name=f"other-{number}")
    assert queries_of(admin_client, LIST) == few


@pytest.mark.parametrize(
    ("kind", "shown", "hidden"),
    [("ab", set(), {"payer", "stages_text"}), ("canary", {"stages_text", "stage_minutes"}, {"payer"}),
     ("shadow", {"payer"}, {"stages_text", "stage_minutes"})],
)  # fmt: skip
def test_a_page_to_look_at_shows_what_its_kind_looks_at(
    admin_client: Client, policy: RoutingPolicy, kind: str, shown: set[str], hidden: set[str]
) -> None:
    experiment = experiment_of(policy, served_alias(), kind=kind)
    Experiment.objects.update(state="stopped")
    fieldsets = admin_client.get(page_of(experiment)).context["adminform"].fieldsets
    names = {name for _, options in fieldsets for row in options["fields"] for name in row}
    assert shown <= names
    assert not hidden & names
