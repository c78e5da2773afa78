"""Setting up an experiment in the admin: what can be said before it starts is said at save."""

from typing import Any

import pytest
from django.test import Client

from routing.models import Experiment, PolicyDraft, RoutingPolicy
from tests.factories import RoutingPolicyFactory, VirtualKeyFactory, served_alias
from tests.routing.trials import draft_of, experiment_of, started

pytestmark = pytest.mark.django_db

LIST = "/admin/routing/experiment/"
ADD = f"{LIST}add/"


@pytest.fixture
def policy() -> RoutingPolicy:
    made: RoutingPolicy = RoutingPolicyFactory.create(name="house", preferred=[served_alias()])
    return made


def entered(policy: RoutingPolicy, challenger: PolicyDraft, **changes: Any) -> dict[str, Any]:
    fields = {
        "name": "trial", "policy": policy.pk, "challenger": challenger.pk, "kind": "ab", "percent": 20,
        "unit": "request", "stages": "5, 100", "stage_minutes": 30, "payer": "", "max_cost": "",
        "guard_error_points": 5, "guard_latency_percent": 100, "guard_cost_percent": "", "min_samples": 50,
    }  # fmt: skip
    return fields | changes


def complaints(client: Client, fields: dict[str, Any]) -> dict[str, list[str]]:
    answer = client.post(ADD, fields)
    assert answer.status_code == 200
    assert not Experiment.objects.exists()
    errors: dict[str, list[str]] = answer.context["adminform"].form.errors
    return {name: list(texts) for name, texts in errors.items()}


def test_one_that_is_set_up_leads_to_where_it_is_started(admin_client: Client, policy: RoutingPolicy) -> None:
    draft = draft_of(policy, served_alias())

    answer = admin_client.post(ADD, entered(policy, draft))

    experiment = Experiment.objects.get()
    assert answer.headers["location"] == f"/dashboards/experiments/{experiment.pk}/"
    assert (experiment.state, experiment.percent, str(experiment.created_by)) == ("draft", 20, "admin")


def test_a_draft_of_another_policy_is_refused(admin_client: Client, policy: RoutingPolicy) -> None:
    other = draft_of(RoutingPolicyFactory.create(name="other"), served_alias())
    assert complaints(admin_client, entered(policy, other)) == {
        "challenger": ["This is a draft of other. Choose one of house."]
    }


def test_a_shadow_without_payer_and_budget_is_refused(admin_client: Client, policy: RoutingPolicy) -> None:
    draft = draft_of(policy, served_alias())
    assert complaints(admin_client, entered(policy, draft, kind="shadow")) == {
        "payer": ["A shadow needs a key that pays for the second answers."],
        "max_cost": ["A shadow needs a budget of its own, above zero."],
    }
    payer = VirtualKeyFactory.create()
    admin_client.post(ADD, entered(policy, draft, kind="shadow", payer=payer.pk, max_cost="5"))
    assert Experiment.objects.get().payer == payer


@pytest.mark.parametrize("stages", ["5, 50", "50, 5, 100", "", "0, 100"])
def test_a_canarys_stages_rise_to_everybody(admin_client: Client, policy: RoutingPolicy, stages: str) -> None:
    draft = draft_of(policy, served_alias())
    assert complaints(admin_client, entered(policy, draft, kind="canary", stages=stages)) == {
        "stages": ["Name rising percentages that end with 100, for example 5, 25, 100."]
    }


def test_a_canarys_stages_are_typed_with_commas(admin_client: Client, policy: RoutingPolicy) -> None:
    draft = draft_of(policy, served_alias())
    admin_client.post(ADD, entered(policy, draft, kind="canary", stages="10 %, 50, 100"))
    experiment = Experiment.objects.get()
    assert experiment.stages == [10, 50, 100]
    Experiment.objects.update(state="stopped")
    assert "10, 50, 100 %" in admin_client.get(f"{LIST}{experiment.pk}/change/").content.decode()


@pytest.mark.parametrize(("field", "value"), [("percent", 0), ("percent", 101), ("min_samples", 0), ("name", "A B")])
def test_odd_values_are_refused(admin_client: Client, policy: RoutingPolicy, field: str, value: object) -> None:
    draft = draft_of(policy, served_alias())
    assert set(complaints(admin_client, entered(policy, draft, **{field: value}))) == {field}


def test_only_open_drafts_are_offered(admin_client: Client, policy: RoutingPolicy) -> None:
    kept = draft_of(policy, served_alias(), title="kept")
    draft_of(policy, served_alias(), title="gone", state="withdrawn")
    form = admin_client.get(ADD).context["adminform"].form
    assert list(form.fields["challenger"].queryset) == [kept]


def test_what_was_asked_stays_as_it_was_once_it_runs(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = started(policy, served_alias(), percent=20)
    page = f"{LIST}{experiment.pk}/change/"

    assert admin_client.get(page).status_code == 200
    assert admin_client.post(page, entered(policy, experiment.challenger, percent=90)).status_code == 403

    experiment.refresh_from_db()
    assert experiment.percent == 20
    assert admin_client.get(f"{LIST}{experiment.pk}/delete/").status_code == 403


def test_one_that_never_ran_can_be_deleted(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = experiment_of(policy, served_alias())
    admin_client.post(f"{LIST}{experiment.pk}/delete/", {"post": "yes"})
    assert not Experiment.objects.exists()


def test_the_list_shows_state_share_and_the_way_to_the_results(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = started(policy, served_alias(), percent=20)
    body = admin_client.get(LIST).content.decode()
    assert "Running" in body
    assert "20 %" in body
    assert f"/dashboards/experiments/{experiment.pk}/" in body


def test_its_page_has_a_button_to_the_results(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = experiment_of(policy, served_alias())
    answer = admin_client.get(f"{LIST}{experiment.pk}/results/")
    assert answer.headers["location"] == f"/dashboards/experiments/{experiment.pk}/"
