"""What somebody would try who wants more than they have: other people's keys, their own approval, somebody's secret."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from analytics.models import Budget, BudgetRaise
from providers.models import Provider, ProviderKey
from routing.domain.config import Scope
from routing.models import (
    AccessToken,
    DraftState,
    Membership,
    PolicyDraft,
    PolicyVersion,
    RoutingPolicy,
    RoutingRule,
    TeamRole,
    VirtualKey,
)
from tests import factories as make
from tests.routerplatform.api.manager import BASE, Manager, in_team, of, staff, superuser
from tests.routerplatform.api.test_manage_policies import EDITOR, REVIEWER, approve, move, proposed
from tests.routing.lifecycles import alias
from tests.routing.prompts import says, template

pytestmark = pytest.mark.django_db
CHANGER = ("analytics.view_budget", "analytics.add_budget", "analytics.change_budget", "analytics.approve_budgetraise")
PROVIDERS = ("providers.view_provider", "providers.change_provider", "providers.add_provider")
KEYS = ("providers.view_providerkey", "providers.change_providerkey", "providers.add_providerkey")


# --- keys and tokens for somebody else ------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"user": 1}, {"user": "root"}, {"username": "root"}, {"user_id": 1}, {"prefix": "x"}])
def test_a_person_makes_tokens_for_nobody_but_themselves(client: Client, more: dict[str, Any]) -> None:
    make.UserFactory(username="root", is_superuser=True)
    person = make.UserFactory(username="ada")
    client.force_login(person)
    client.post("/account/tokens/new/", {"name": "x", "expiry": "30", "may_change": "on", **more})
    assert [token.user for token in AccessToken.objects.all()] == [person]
    assert of(person).post("access-tokens", name="x", **more).status == 405


def test_the_token_pages_take_no_token_and_no_forged_form() -> None:
    token = make.UserFactory()
    manager = of(token)
    browser = Client(headers={"authorization": f"Bearer {manager.token}"}, enforce_csrf_checks=True)
    assert browser.get("/account/tokens/").status_code == 302  # a token opens no page
    signed_in = Client(enforce_csrf_checks=True)
    signed_in.force_login(token)
    for path in ("new/", f"{AccessToken.objects.get().pk}/revoke/"):
        assert signed_in.post(f"/account/tokens/{path}", {"name": "x", "expiry": "30"}).status_code == 403
    assert AccessToken.objects.get().revoked_at is None


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/api/v1/chat", "/api/v1/stats", "/api/v1/personas", "/admin/"]
)
def test_an_access_token_opens_nothing_that_applications_and_browsers_use(path: str) -> None:
    token = superuser().token
    client = Client(headers={"authorization": f"Bearer {token}"}, raise_request_exception=False)
    asked = client.get(path) if path in {"/admin/", "/api/v1/stats", "/api/v1/personas"} else client.post(path)
    assert asked.status_code in {302, 401, 404, 405, 500}
    assert "data" not in asked.content.decode()[:20]


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"created_by": "root"}, (400, "invalid_request", "created_by")),
        ({"revoked_at": None}, (400, "invalid_request", "revoked_at")),
        ({"is_playground": True}, (400, "invalid_request", "is_playground")),
        ({"secret": "rp_aaaaaaaa_x"}, (400, "invalid_request", "secret")),
        ({"scopes": ["chat", "chat"]}, (400, "invalid_request", "scopes")),
        ({"scopes": ["admin"]}, (400, "invalid_request", "scopes.0")),
        ({"scopes": {"chat": True}}, (400, "invalid_request", "scopes")),
        ({"allowed_models": list(range(1, 600))}, (400, "invalid_request", "allowed_models")),
        ({"allowed_models": [1, 1]}, (400, "invalid_request", "allowed_models")),
        ({"team.id": 1}, (400, "invalid_request", "team.id")),
        ({"team": {"id": 1}}, (400, "invalid_request", "team")),
    ],
)
def test_a_lead_issues_no_key_that_the_page_would_not(wrong: dict[str, Any], refusal: Any) -> None:
    team = make.TeamFactory()
    lead = in_team(TeamRole.LEAD, team)
    assert lead.post("keys", {"team": team.pk, "name": "bot", **wrong}).refusal == refusal
    assert not VirtualKey.objects.exists()
    assert lead.post("keys", team=team.pk, name="bot", scopes=[one.value for one in Scope]).status == 201


def test_another_team_is_not_given_away_by_the_order_of_complaints() -> None:
    """A foreign team and one that there is not are told alike, whatever else is wrong with the body."""
    lead, other = in_team(TeamRole.LEAD), make.TeamFactory()
    for more in ({}, {"name": ""}, {"scopes": []}, {"name": "x" * 500, "expires_at": "never"}):
        body = {"name": "bot", **more}
        told = [lead.post("keys", {"team": pk, **body}) for pk in (other.pk, 10**6)]
        texts = [json.dumps(one.error).replace(str(pk), "?") for one, pk in zip(told, (other.pk, 10**6), strict=True)]
        assert texts[0] == texts[1]


def test_of_two_teams_in_one_body_the_last_is_meant_and_asked_about() -> None:
    team, other = make.TeamFactory(), make.TeamFactory()
    lead = in_team(TeamRole.LEAD, team)
    client = Client(headers={"authorization": f"Bearer {lead.token}"})
    body = f'{{"team": {team.pk}, "name": "bot", "team": {other.pk}}}'
    reply = client.post(f"{BASE}/keys", body, content_type="application/json")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "team")
    assert not VirtualKey.objects.exists()


def test_who_leads_one_team_and_is_in_another_leads_only_the_one() -> None:
    person = make.MembershipFactory(role=TeamRole.LEAD).user
    member_of = make.MembershipFactory(user=person, role=TeamRole.MEMBER).team
    manager, key = of(person), make.VirtualKeyFactory(team=member_of)
    assert manager.post("keys", team=member_of.pk, name="bot").refusal == (403, "permission_denied", None)
    assert manager.post(f"keys/{key.pk}/revoke").refusal == (403, "permission_denied", None)
    assert manager.get(f"keys/{key.pk}").status == 200
    Membership.objects.filter(user=person).delete()
    assert manager.get(f"keys/{key.pk}").status == 404  # from the next request on
    assert manager.get("keys").ids == []


def test_nobody_puts_themselves_into_a_team_or_on_top_of_it() -> None:
    own = make.MembershipFactory(role=TeamRole.MEMBER)
    member, other = of(own.user), make.TeamFactory()
    half = staff("routing.add_membership", "routing.change_membership", username="half")  # not on the page of a team
    for who in (member, half):
        assert who.post("memberships", team=other.pk, user=own.user.username, role="lead").status == 403
        assert who.patch(f"memberships/{own.pk}", role="lead").status in {403, 404}
    for field, value in (("team", other.pk), ("user", "half")):
        assert superuser_again().patch(f"memberships/{own.pk}", **{field: value}).refusal[2] == field
    own.refresh_from_db()
    assert (own.role, Membership.objects.count()) == ("member", 1)


def superuser_again() -> Manager:
    return of(make.UserFactory(is_staff=True, is_superuser=True))


# --- money ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tries",
    [
        [{"limit": "99"}],
        [{"limit": "20.01"}],
        [{"limit": 1e3}],
        [{"limit": "99", "is_active": False}],
        [{"is_active": False}, {"limit": "99"}, {"is_active": True}],
        [{"limit": "1"}, {"limit": "1.01"}],
        [{"max_budget": "99"}],
        [{"spent": "0"}, {"remaining": "99"}],
        [{"duration": "1d"}],
        [{"scope": "persona"}],
        [{"team": None}],
    ],
)
def test_under_review_nobody_gets_more_by_a_change(settings: Settings, tries: list[dict[str, Any]]) -> None:
    settings.POLICY_REVIEW = True
    budget = make.BudgetFactory(max_budget=Decimal(20))
    manager = staff(*CHANGER)
    answers = [manager.patch(f"budgets/{budget.pk}", **one) for one in tries]
    assert 400 in {one.status for one in answers}
    kept = Budget.objects.get()
    assert kept.max_budget <= 20
    assert (kept.scope, kept.team_id, kept.budget_duration) == (budget.scope, budget.team_id, budget.budget_duration)
    second = manager.post("budgets", scope="team", team=budget.team_id, limit="99", duration=kept.budget_duration)
    assert second.status == (201 if not kept.is_active else 400)


def test_under_review_a_raise_is_decided_by_somebody_else_however_it_is_asked(settings: Settings) -> None:
    settings.POLICY_REVIEW = True
    budget = make.BudgetFactory(max_budget=Decimal(20))
    asker, other = staff(*CHANGER, username="asker"), staff("analytics.view_budgetraise", username="other")
    raised = asker.post(f"budgets/{budget.pk}/raise", amount="5", reason="x").json
    path = f"budget-raises/{raised['id']}"
    for manager, ways in ((asker, ("approve", "reject")), (other, ("approve", "reject", "withdraw"))):
        for way in ways:
            assert manager.post(f"{path}/{way}", note="x").refusal == (403, "permission_denied", None), way
    for field in ("state", "reviewer", "amount_to"):
        assert asker.patch(path, **{field: "applied"}).status == 405
        assert asker.post(f"{path}/approve", **{field: "x"}).refusal == (400, "invalid_request", field)
    assert BudgetRaise.objects.get().state == "review"
    settings.POLICY_REVIEW = False  # it was asked for under review, and is decided as it is now
    assert asker.post(f"{path}/approve").json["state"] == "applied"


# --- four eyes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def policy(settings: Settings) -> RoutingPolicy:
    settings.POLICY_REVIEW = True
    made: RoutingPolicy = make.RoutingPolicyFactory(name="everyday", preferred=[alias("fast"), alias("smart")])
    return made


@pytest.mark.parametrize("way", ["approve", "publish", "schedule", "advance", "publish-in-stages"])
def test_under_review_no_way_leads_around_the_second_pair_of_eyes(policy: RoutingPolicy, way: str) -> None:
    author = staff(*REVIEWER, username="author")
    draft = proposed(author, policy).json["id"]
    move(author, draft, "submit")
    given: dict[str, Any] = {
        "approve": {"submitted_at": author.get(f"policy-drafts/{draft}").json["submitted_at"]},
        "schedule": {"publish_at": None},
        "publish-in-stages": {"stages": [100]},
    }.get(way, {})
    answer = move(author, draft, way.replace("-in-stages", ""), **given)
    assert answer.refusal[:2] in {(403, "permission_denied"), (409, "conflict")}
    assert PolicyDraft.objects.get().state == DraftState.REVIEW
    assert not PolicyVersion.objects.filter(number__gt=1).exists()


def test_what_was_approved_is_not_what_was_changed_afterwards(policy: RoutingPolicy) -> None:
    author, second = staff(*REVIEWER, username="author"), staff(*REVIEWER, username="second")
    draft = proposed(author, policy).json["id"]
    path = f"policy-drafts/{draft}"
    move(author, draft, "submit")
    approve(second, draft)
    for field in ("document", "title", "note", "stages"):
        now = author.get(path).json[field]
        assert author.patch(path, **{field: now}).refusal == (409, "conflict", None), field
    for field in ("state", "author", "reviewer", "base_version", "submitted_at", "percent"):
        assert author.patch(path, **{field: "approved"}).status in {400, 409}, field
        assert author.post("policy-drafts", policy=policy.pk, title="x", **{field: "approved"}).refusal[2] == field
    assert move(author, draft, "reopen").json["state"] == "draft"
    assert move(author, draft, "publish").refusal == (409, "conflict", None)
    assert second.patch(path, title="Mine").refusal == (403, "permission_denied", None)
    assert author.patch(path, policy=make.RoutingPolicyFactory().pk).refusal == (400, "invalid_request", "policy")


def test_stages_are_said_where_minutes_are(policy: RoutingPolicy) -> None:
    """Otherwise what was meant to grow slowly would be followed by all requests at once."""
    author, second = staff(*REVIEWER, username="author"), staff(*REVIEWER, username="second")
    draft = proposed(author, policy).json["id"]
    move(author, draft, "submit")
    approve(second, draft)
    for given in ({"stage_minutes": 30}, {"stages": None}, {"stages": []}, {"stages": [5, 50]}, {"stages": "5,100"}):
        assert move(author, draft, "publish", **given).refusal[::2] == (400, "stages"), given
    assert move(author, draft, "publish", stages=[5, 100], stage_minutes=0).refusal[2] == "stage_minutes"
    assert PolicyDraft.objects.get().state == DraftState.APPROVED


@pytest.mark.parametrize(
    "field", ["candidates", "strategy", "max_cost_per_request", "version", "is_default", "document"]
)
def test_no_policy_is_written_around_its_drafts(policy: RoutingPolicy, field: str) -> None:
    manager = superuser()
    before = RoutingPolicy.objects.values().get()
    for answer in (
        manager.patch(f"policies/{policy.pk}", **{field: [{"alias": "smart"}]}),
        manager.post("policies", name="x", **{field: 1}),
    ):
        assert answer.refusal == (400, "invalid_request", field)
    assert RoutingPolicy.objects.values().get() == before
    for noun in ("policy-candidates", "candidates", "policies/candidates"):
        assert manager.get(noun).status == 404


# --- secrets and where they go --------------------------------------------------------------------------------------


def test_a_stored_key_is_moved_to_no_other_provider() -> None:
    key, other = make.ProviderKeyFactory(), make.ProviderFactory(base_url="https://elsewhere.example/v1")
    keeper = staff(*KEYS)
    assert keeper.patch(f"provider-keys/{key.pk}", provider=other.pk).refusal == (400, "invalid_request", "provider")
    for name in ("sealed", "last4", "id", "rotated_at", "provider_id"):
        body = {"provider": other.pk, "label": "copy", "secret": "sk-made-up-0123456789", name: key.pk}
        assert keeper.post("provider-keys", body).refusal == (400, "invalid_request", name)
    assert [one.provider_id for one in ProviderKey.objects.all()] == [key.provider_id]


@pytest.mark.parametrize(
    "change",
    [{"base_url": "https://elsewhere.example/v1"}, {"allowed_networks": ["0.0.0.0/0"]}, {"kind": "openai-compatible"}],
)
def test_where_a_stored_key_is_sent_takes_the_permission_that_it_takes_in_the_admin(change: dict[str, Any]) -> None:
    provider = make.ProviderKeyFactory(provider__kind="openai", provider__base_url="").provider
    before = Provider.objects.values("base_url", "allowed_networks", "kind").get()
    for manager in (staff(*KEYS, username="keys"), staff("providers.view_provider", username="eyes")):
        assert manager.patch(f"providers/{provider.pk}", **change).refusal == (403, "permission_denied", None)
    assert Provider.objects.values("base_url", "allowed_networks", "kind").get() == before
    done = staff(*PROVIDERS, username="ops").patch(f"providers/{provider.pk}", **change)
    if change == {"kind": "openai-compatible"}:
        assert done.refusal == (400, "invalid_request", "base_url")  # it has no address of its own
        return
    assert done.status == 200
    assert Provider.history.latest().history_user.username == "ops"


@pytest.mark.parametrize(
    ("address", "networks", "param"),
    [
        ("http://169.254.169.254/latest", [], "allowed_networks"),
        ("http://127.0.0.1:8000/v1", [], "allowed_networks"),
        ("http://[::1]/v1", [], "allowed_networks"),
        ("http://[::ffff:10.0.0.1]/v1", [], "allowed_networks"),
        ("http://10.0.0.1/v1", ["10.1.0.0/16"], "allowed_networks"),
        ("http://10.0.0.1/v1", ["10.0.0.1/8"], "allowed_networks"),
        ("http://10.0.0.1/v1", ["everywhere"], "allowed_networks"),
        ("file:///etc/passwd", [], "base_url"),
        ("gopher://acme.example", [], "base_url"),
        ("javascript:alert(1)", [], "base_url"),
        ("https://acme.example/v1?key=x", [], "base_url"),
        ("https://acme.example/v1#x", [], "base_url"),
        ("https://a:b@acme.example/v1", [], "base_url"),
        ("https://acme.example\r\nhost: x", [], "base_url"),
        ("//acme.example/v1", [], "base_url"),
    ],
)
def test_an_address_that_the_admin_refuses_is_refused_when_made_and_when_changed(
    address: str, networks: list[str], param: str
) -> None:
    manager = staff(*PROVIDERS)
    wanted = {"name": "acme", "label": "Acme", "kind": "openai-compatible", "base_url": "https://acme.example/v1"}
    wrong = {"base_url": address, "allowed_networks": networks}
    assert manager.post("providers", wanted | wrong).refusal == (400, "invalid_request", param)
    row = manager.post("providers", wanted).json
    assert manager.patch(f"providers/{row['id']}", **wrong).refusal == (400, "invalid_request", param)
    assert Provider.objects.get().base_url == wanted["base_url"]


def test_closing_a_network_that_the_address_needs_is_refused() -> None:
    manager = staff(*PROVIDERS)
    wanted = {"name": "own", "label": "Own", "kind": "openai-compatible", "base_url": "http://10.0.0.1/v1"}
    row = manager.post("providers", wanted | {"allowed_networks": ["10.0.0.0/8"]}).json
    assert row["allowed_networks"] == ["10.0.0.0/8"]
    assert manager.patch(f"providers/{row['id']}", allowed_networks=[]).refusal[2] == "allowed_networks"
    assert manager.patch(f"providers/{row['id']}", allowed_networks=["10.0.0.1/32"]).status == 200


# --- what hangs on other rows ---------------------------------------------------------------------------------------


def test_a_new_rule_goes_to_the_end_unless_it_says_where() -> None:
    manager = superuser()
    wanted = {"pattern": "x", "task_type": "CODING"}
    positions = [manager.post("rules", name=f"rule-{n}", **wanted).json["position"] for n in range(2)]
    assert manager.post("rules", name="first", position=0, **wanted).json["position"] == 0
    assert manager.post("rules", name="late", position=70, **wanted).json["position"] == 70
    assert [*positions, manager.post("rules", name="last", **wanted).json["position"]] == [0, 1, 71]
    assert RoutingRule.objects.count() == 5


def test_a_persona_takes_a_template_by_its_name_as_its_page_does() -> None:
    manager, policy = superuser(), make.RoutingPolicyFactory()
    template("greeting", says("Greet."), says("Greet warmly."))
    template("talk", says("", ("user", "Hello")))
    wanted = {"slug": "helper", "name": "Helper", "policy": policy.pk}
    made = manager.post("personas", wanted | {"template": "greeting", "template_version": 1}).json
    assert (made["template"], made["template_version"]) == ("greeting", 1)
    path = f"personas/{made['id']}"
    for wrong, param in (
        ({"template": "nobody"}, "template"),
        ({"template": "a\0"}, "template"),
        ({"template": "talk", "template_version": None}, "template"),
        ({"template_version": 9}, "template_version"),
        ({"template": None}, "template_version"),
    ):
        assert manager.patch(path, **wrong).refusal == (400, "invalid_request", param), wrong
    cleared = manager.patch(path, template=None, template_version=None).json
    assert (cleared["template"], cleared["template_version"]) == (None, None)


def test_rows_are_named_once_and_are_there() -> None:
    manager = superuser()
    first, second = make.DeploymentFactory().pk, make.DeploymentFactory().pk
    for given, param in (
        ([first, 10**9], "deployments.1"),
        ([first, first], "deployments"),
        ([0], "deployments.0"),
        ([str(first), True], "deployments.1"),
        ([first] * 501, "deployments"),
        ({"0": first}, "deployments"),
        (first, "deployments"),
    ):
        assert manager.post("aliases", name="clever", deployments=given).refusal == (400, "invalid_request", param)
    made = manager.post("aliases", name="clever", deployments=[second, str(first)])
    assert made.json["deployments"] == [second, first]


def test_a_proposal_says_whose_it_is_by_who_asks(policy: RoutingPolicy) -> None:
    editor = staff(*EDITOR, username="editor")
    made = proposed(editor, policy).json
    assert (made["author"], made["submitted_at"]) == ("editor", None)
    submitted = move(editor, made["id"], "submit").json["submitted_at"]
    assert submitted is not None
    assert submitted <= timezone.now().isoformat()
    assert {one.history_user.username for one in PolicyDraft.history.all()} == {"editor"}


# --- the addresses beside it that people's tokens open ---------------------------------------------------------------


def test_budgets_and_replays_are_read_by_a_persons_token_too() -> None:
    team = make.TeamFactory()
    own, other = make.BudgetFactory(team=team), make.BudgetFactory()
    lead = in_team(TeamRole.LEAD, team)
    client = Client(headers={"authorization": f"Bearer {lead.token}"})
    assert [row["id"] for row in client.get("/api/v1/budgets").json()["data"]] == [own.pk]
    assert client.get(f"/api/v1/budgets/{other.pk}").status_code == 404
    refused = client.get("/api/v1/replays/1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    ops = Client(headers={"authorization": f"Bearer {superuser().token}"})
    assert ops.get("/api/v1/replays/1").status_code == 404
    assert len(ops.get("/api/v1/budgets").json()["data"]) == 2
    reader = of(make.UserFactory(is_staff=True, is_superuser=True), is_read_only=True)
    started = Client(headers={"authorization": f"Bearer {reader.token}"}).post("/api/v1/policies/1/replay")
    assert (started.status_code, "read only" in started.json()["error"]["message"]) == (403, True)
    gone = Client(headers={"authorization": "Bearer rt_aaaaaaaa_x"}).get("/api/v1/budgets")
    assert (gone.status_code, gone.json()["error"]["code"]) == (401, "invalid_access_token")
