"""Budgets and their raises by the management API."""

from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from analytics.models import Budget, BudgetRaise, BudgetWindow
from analytics.services.budgets import budget_window_open
from routing.models import Team, TeamRole
from tests.factories import BudgetFactory, ModelAliasFactory, TeamFactory, VirtualKeyFactory, key_budget
from tests.routerplatform.api.manager import in_team, staff, superuser

pytestmark = pytest.mark.django_db
USD = 10**9
CHANGER = ("analytics.view_budget", "analytics.change_budget")


@pytest.fixture
def team() -> Team:
    made: Team = TeamFactory(name="Search")
    return made


def needs(of: Team, /, **more: Any) -> dict[str, Any]:
    return {"scope": "team", "team": of.pk, "limit": "20.00"} | more


def test_a_budget_is_set_watched_changed_and_taken_away(team: Team) -> None:
    manager = superuser()
    made = manager.post("budgets", needs(team, soft_limit="15", mode="expected", time_zone="Europe/Berlin"))
    assert made.status == 201, made.json
    row, path = made.json, f"budgets/{made.json['id']}"
    assert {name: row[name] for name in ("subject", "limit", "soft_limit", "duration", "spent", "remaining")} == {
        "subject": "Search", "limit": "20.00", "soft_limit": "15.00", "duration": "1mo", "spent": "0.00",
        "remaining": "20.00",
    }  # fmt: skip
    window = budget_window_open(budget=Budget.objects.get(), now=timezone.now())
    BudgetWindow.objects.filter(pk=window.pk).update(opening_nano=USD, leased_nano=USD // 4)
    told = manager.get(path).json
    assert (told["spent"], told["leased"], told["remaining"]) == ("1.00", "0.25", "18.75")
    assert told["resets_at"] > told["starts_at"]
    assert manager.patch(path, limit="18", mode="soft").json["limit"] == "18.00"
    assert BudgetWindow.objects.get().ceiling_nano == 18 * USD
    assert Budget.history.latest().history_user.username == "root"
    assert manager.delete(path).status == 204


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"limit": "-1"}, "limit"),
        ({"limit": "much"}, "limit"),
        ({"limit": "1.001"}, "limit"),
        ({"soft_limit": "30"}, "soft_limit"),
        ({"scope": "planet"}, "scope"),
        ({"scope": "key"}, "key"),
        ({"duration": "1y"}, "duration"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"mode": "harsh"}, "mode"),
        ({"spent": "0"}, "spent"),
        ({"remaining": "9"}, "remaining"),
        ({"max_budget": "9"}, "max_budget"),
        ({"team": 999}, "team"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_by_field(team: Team, wrong: dict[str, Any], param: str) -> None:
    assert superuser().post("budgets", needs(team, **wrong)).refusal == (400, "invalid_request", param)
    assert not Budget.objects.exists()


def test_two_budgets_in_force_for_the_same_are_refused_in_words(team: Team) -> None:
    manager = superuser()
    manager.post("budgets", needs(team))
    again = manager.post("budgets", needs(team))
    assert again.refusal == (400, "invalid_request", "duration")
    assert "has a budget per calendar month already: $20.00" in again.error["message"]
    off = manager.post("budgets", needs(team, is_active=False)).json["id"]
    assert manager.patch(f"budgets/{off}", is_active=True).refusal == (400, "invalid_request", "is_active")


@pytest.mark.parametrize(("field", "other"), [("scope", "key"), ("duration", "1d"), ("time_zone", "Europe/Paris")])
def test_what_would_change_the_meaning_of_the_past_stays(team: Team, field: str, other: str) -> None:
    manager = superuser()
    row = manager.post("budgets", needs(team)).json
    answer = manager.patch(f"budgets/{row['id']}", **{field: other})
    assert answer.refusal == (400, "invalid_request", field)
    assert manager.patch(f"budgets/{row['id']}", team=TeamFactory().pk).refusal[2] == "team"


# --- raises ---------------------------------------------------------------------------------------------------------


def test_a_higher_limit_is_a_raise_that_is_kept(team: Team) -> None:
    manager = superuser()
    path = f"budgets/{manager.post('budgets', needs(team)).json['id']}"
    assert manager.patch(path, limit="25", mode="soft").json["limit"] == "25.00"
    raised = manager.post(f"{path}/raise", amount="5.50", reason="a demo day")
    assert (raised.status, raised.json["state"], raised.json["amount_to"]) == (201, "applied", "30.50")
    told = manager.get(path).json
    assert (told["limit"], told["mode"]) == ("30.50", "soft")
    assert [row["amount_to"] for row in manager.get("budget-raises").json["data"]] == ["25.00", "30.50"]
    for wrong in ({"amount": "0", "reason": "x"}, {"amount": "1"}, {"amount": "1", "reason": "x", "by": "me"}):
        assert manager.post(f"{path}/raise", wrong).status == 400
    assert manager.post(f"{path}/raise", amount="9999999999", reason="x").refusal == (409, "conflict", None)


def test_under_review_somebody_else_approves_a_raise(team: Team, settings: Settings) -> None:
    settings.POLICY_REVIEW = True
    budget = BudgetFactory(team=team, max_budget=Decimal(20))
    asker = staff(*CHANGER, "analytics.approve_budgetraise", username="asker")
    direct = asker.patch(f"budgets/{budget.pk}", limit="30")
    assert direct.refusal == (400, "invalid_request", "limit")
    assert asker.patch(f"budgets/{budget.pk}", limit="19").json["limit"] == "19.00"
    raised = asker.post(f"budgets/{budget.pk}/raise", amount="10", reason="more").json
    assert (raised["state"], asker.get(f"budgets/{budget.pk}").json["limit"]) == ("review", "19.00")
    path = f"budget-raises/{raised['id']}"
    assert asker.post(f"budgets/{budget.pk}/raise", amount="1", reason="more").refusal == (409, "conflict", None)
    assert asker.post(f"{path}/approve").refusal == (403, "permission_denied", None)
    plain = staff(*CHANGER, username="plain")
    assert plain.post(f"{path}/approve").status == 403
    assert plain.post(f"{path}/withdraw").status == 403
    other = staff("analytics.approve_budgetraise", username="other")
    assert other.post(f"{path}/reject").refusal == (400, "invalid_request", "note")
    assert other.post(f"{path}/approve", note="fine").json["state"] == "applied"
    assert asker.get(f"budgets/{budget.pk}").json["limit"] == "29.00"
    assert other.post(f"{path}/approve").refusal == (409, "conflict", None)
    assert Budget.history.latest().history_user.username == "other"


def test_a_raise_is_rejected_or_withdrawn(team: Team, settings: Settings) -> None:
    settings.POLICY_REVIEW = True
    budget = BudgetFactory(team=team)
    asker, other = staff(*CHANGER), staff("analytics.approve_budgetraise", username="other")
    first = asker.post(f"budgets/{budget.pk}/raise", amount="1", reason="x").json["id"]
    rejected = other.post(f"budget-raises/{first}/reject", note="no").json
    assert (rejected["state"], rejected["reviewer"], rejected["review_note"]) == ("rejected", "other", "no")
    second = asker.post(f"budgets/{budget.pk}/raise", amount="1", reason="x").json["id"]
    assert asker.post(f"budget-raises/{second}/withdraw").json["state"] == "withdrawn"
    assert asker.get("budget-raises?state=rejected").ids == [first]
    assert BudgetRaise.objects.count() == 2


# --- who ------------------------------------------------------------------------------------------------------------


def test_people_see_the_budgets_of_their_teams_and_change_none(team: Team) -> None:
    own = [BudgetFactory(team=team), key_budget(VirtualKeyFactory(team=team))]
    alias = BudgetFactory(scope="alias", team=None, alias=ModelAliasFactory())
    hidden = [BudgetFactory(), alias]
    lead = in_team(TeamRole.LEAD, team)
    assert lead.get("budgets").ids == [budget.pk for budget in own]
    for budget in hidden:
        assert lead.get(f"budgets/{budget.pk}").refusal == (404, "not_found", None)
    for answer in (
        lead.post("budgets", needs(team)),
        lead.patch(f"budgets/{own[0].pk}", limit="999"),
        lead.post(f"budgets/{own[0].pk}/raise", amount="1", reason="x"),
        lead.post(f"budgets/{own[0].pk}/recall"),
        lead.delete(f"budgets/{own[0].pk}"),
    ):
        assert answer.refusal == (403, "permission_denied", None)
    manager = superuser()
    assert manager.get(f"budgets?alias={alias.alias_id}").ids == [alias.pk]
    assert manager.get("budgets?scope=key").ids == [own[1].pk]


def test_idle_leases_are_recalled(team: Team) -> None:
    budget = BudgetFactory(team=team)
    budget_window_open(budget=budget, now=timezone.now())
    assert staff(*CHANGER).post(f"budgets/{budget.pk}/recall").status == 200
    assert BudgetWindow.objects.get().wanted_at is not None
