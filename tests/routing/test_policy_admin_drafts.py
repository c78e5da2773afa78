"""The pages on which rules change: proposals, reviews, publications, rollbacks; who sees which button."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from providers.admin.pages import change_url, list_url
from routing.models import DraftState, PolicyDraft, RoutingPolicy
from routing.services.lifecycle import draft_approve, draft_create, draft_submit
from routing.services.rollouts import draft_publish
from tests.admin_pages import errors_of, page_of, submit
from tests.factories import DeploymentFactory, ModelAliasFactory, PersonaFactory, RoutingPolicyFactory, UserFactory

pytestmark = pytest.mark.django_db

EDITOR = ("view_routingpolicy", "change_routingpolicy", "add_policydraft", "view_policydraft", "change_policydraft")
EDITOR += ("view_policycandidate", "view_modelalias")
REVIEWER = (*EDITOR, "approve_policydraft")


@pytest.fixture(autouse=True)
def review(settings: Settings) -> None:
    settings.POLICY_REVIEW = True


def person(name: str, *permissions: str) -> User:
    user: User = UserFactory(username=name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="routing", codename__in=permissions))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def ann() -> User:
    """Proposes."""
    return person("ann", *EDITOR)


@pytest.fixture
def ben() -> User:
    """Proposes and approves."""
    return person("ben", *REVIEWER)


@pytest.fixture
def policy() -> RoutingPolicy:
    aliases = [ModelAliasFactory(name=name, deployments=[DeploymentFactory()]) for name in ("fast", "smart")]
    made: RoutingPolicy = RoutingPolicyFactory(name="everyday", preferred=aliases, is_default=True)
    return made


def as_(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def proposed(policy: RoutingPolicy, by: User, state: str = DraftState.DRAFT, **rules: Any) -> PolicyDraft:
    draft = draft_create(policy=policy, by=by, title="take turns")
    for name, value in (rules or {"strategy": "round_robin"}).items():
        setattr(draft, name, value)
    draft.save()
    if state != DraftState.DRAFT:
        draft = draft_submit(draft=draft, by=by)
    if state == DraftState.APPROVED:
        draft = draft_approve(draft=draft, by=UserFactory())
    return draft


def moves_of(client: Client, draft: PolicyDraft) -> list[str]:
    """The names of the buttons on its page."""
    page = client.get(change_url(draft)).content.decode()
    base = change_url(draft).removesuffix("change/")
    return [name for name in re.findall(rf'href="{base}([a-z-]+)/"', page) if name not in {"history", "change"}]


def press(client: Client, draft: PolicyDraft, name: str, **given: Any) -> Any:
    return client.post(page_of(draft, name), given, follow=True)


# --- from the policy's page to a draft ------------------------------------------------------------------------------


def test_a_change_is_proposed_edited_reviewed_and_published(policy: RoutingPolicy, ann: User, ben: User) -> None:
    editor, reviewer = as_(ann), as_(ben)
    propose = reverse("admin:routing_routingpolicy_propose", args=[policy.pk])
    assert propose in editor.get(change_url(policy)).content.decode()
    answer = editor.post(propose, {"title": "never above a cent", "note": "spend"}, follow=True)
    draft = PolicyDraft.objects.get()
    assert answer.redirect_chain[-1][0] == change_url(draft)

    answer = submit(editor, change_url(draft), strategy="least_busy", regions="")
    assert answer.status_code == 302, errors_of(answer)
    page = editor.get(change_url(draft)).content.decode()
    assert "<del>in order</del>" in page
    assert "<ins>least busy first</ins>" in page
    assert moves_of(editor, draft) == ["submit", "withdraw"]
    press(editor, draft, "submit")
    assert moves_of(editor, draft) == ["reopen", "withdraw"]
    assert "Somebody else has to approve it" in editor.get(change_url(draft)).content.decode()

    assert moves_of(reviewer, draft) == ["approve", "reject", "withdraw"]
    press(reviewer, draft, "approve", note="go")
    assert moves_of(reviewer, draft) == ["publish", "publish-in-stages", "schedule", "reject", "withdraw"]
    press(reviewer, draft, "publish-in-stages", stages="5, 50, 100", stage_minutes="3")
    assert moves_of(reviewer, draft) == ["advance", "abort"]
    press(reviewer, draft, "advance")
    press(reviewer, draft, "advance")
    policy.refresh_from_db()
    assert (policy.strategy, policy.version) == ("least_busy", 2)
    assert moves_of(reviewer, draft) == []
    page = reviewer.get(change_url(policy)).content.decode()
    assert "never above a cent" in page
    assert "Roll back to this" in page


def test_a_refused_form_leaves_what_is_said_of_the_saved_draft(policy: RoutingPolicy, ann: User) -> None:
    draft = proposed(policy, ann)
    answer = submit(as_(ann), change_url(draft), title="another", quality_floor="7", strategy="least_busy")
    assert "quality_floor" in errors_of(answer)
    assert [str(change) for change in answer.context["changes"]] == ["order: in order → in turn"]
    assert '<h2 id="draft-title">take turns</h2>' in answer.content.decode()
    assert 'value="another"' in answer.content.decode()
    assert "Your changes are not saved." in answer.content.decode()
    assert page_of(draft, "submit") not in answer.content.decode()  # it would submit what was saved before


def test_what_speaks_against_a_refused_form_as_a_whole_is_said_on_top(policy: RoutingPolicy, ann: User) -> None:
    draft = proposed(policy, ann)
    answer = submit(as_(ann), change_url(draft), strategy="best_quality", quality_floor="1.0")
    assert [said.partition(" of ")[0] for said in answer.context["refused"]] == ["No model reaches the quality floor"]
    assert "Your changes are not saved." not in as_(ann).get(change_url(draft)).content.decode()


def test_a_refused_form_leaves_what_is_said_of_the_rules_in_force(
    policy: RoutingPolicy, admin_client: Client, settings: Settings
) -> None:
    settings.POLICY_REVIEW = False
    answer = submit(admin_client, change_url(policy), quality_floor="7", strategy="least_busy")
    assert "quality_floor" in errors_of(answer)
    assert answer.context["rule"][1].startswith("Tries fast, then smart")


def test_models_of_a_draft_are_edited_without_a_permission_of_their_own(policy: RoutingPolicy, ann: User) -> None:
    draft = proposed(policy, ann)
    other = ModelAliasFactory(name="deep", deployments=[DeploymentFactory()])
    new = {"candidates__TOTAL_FORMS": "3", "candidates__2__alias": other.pk, "candidates__2__group": "fallback"}
    answer = submit(as_(ann), change_url(draft), **new, candidates__2__weight="2", candidates__2__position="0")
    assert answer.status_code == 302, errors_of(answer)
    assert [row.alias.name for row in draft.candidates.all()] == ["fast", "smart", "deep"]


def test_a_rejected_draft_that_is_edited_is_a_draft_again(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = proposed(policy, ann, DraftState.REVIEW)
    assert "This field is required" in press(as_(ben), draft, "reject", note="").content.decode()
    press(as_(ben), draft, "reject", note="too slow")
    assert "too slow" in as_(ann).get(change_url(draft)).content.decode()
    answer = submit(as_(ann), change_url(draft), max_latency_ms="900")
    assert answer.status_code == 302, errors_of(answer)
    draft.refresh_from_db()
    assert (draft.state, draft.max_latency_ms) == (DraftState.DRAFT, 900)


def test_a_draft_says_what_keeps_it_from_being_published(policy: RoutingPolicy, ann: User) -> None:
    draft = proposed(policy, ann)
    PersonaFactory(slug="seer", policy=policy, required_capabilities=["vision"])
    page = as_(ann).get(change_url(draft)).content.decode()
    assert "It leaves the persona “seer” without any model" in page
    said = press(as_(ann), draft, "submit").content.decode()
    assert "It leaves the persona “seer” without any model" in said
    draft.refresh_from_db()
    assert draft.state == DraftState.DRAFT


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"strategy": "weighted", "candidates__0__weight": "0", "candidates__1__weight": "0"}, "the weight 0"),
        ({"regions": "mars"}, "No active provider is in the region “mars”"),
        ({"regions": "Europe!"}, "Name regions in lower case"),
        ({"strategy": "lowest_cost", "quality_floor": "0.99"}, "No model reaches the quality floor of 0.99"),
        ({"ladder_cap_percent": "90", "ladder_refuse_percent": "80"}, "at a higher percentage"),
        ({"required_capabilities": ["telepathy"]}, "telepathy"),
        ({"candidates__0__DELETE": "on", "candidates__1__DELETE": "on"}, "It has no models"),
        ({"stages": "5, many"}, "Name percentages"),
        ({"stages": "50, 5"}, "rising percentages"),
        ({"quality_floor": "2"}, "less than or equal to 1"),
    ],
)
def test_a_draft_that_makes_no_sense_is_refused_at_save_in_words(
    policy: RoutingPolicy, ann: User, fields: dict[str, Any], said: str
) -> None:
    answer = submit(as_(ann), change_url(proposed(policy, ann)), **fields)
    assert answer.status_code == 200
    assert said in errors_of(answer)


# --- who may do what ------------------------------------------------------------------------------------------------


def test_an_author_who_may_approve_has_no_button_for_his_own(policy: RoutingPolicy, ben: User) -> None:
    draft = proposed(policy, ben, DraftState.REVIEW)
    assert "approve" not in moves_of(as_(ben), draft)
    assert as_(ben).post(page_of(draft, "approve"), {"note": ""}).status_code == 403
    draft.refresh_from_db()
    assert draft.state == DraftState.REVIEW


def test_not_even_a_superuser_approves_his_own(policy: RoutingPolicy, admin_client: Client, admin_user: User) -> None:
    draft = proposed(policy, admin_user, DraftState.REVIEW)
    assert "approve" not in moves_of(admin_client, draft)
    assert admin_client.post(page_of(draft, "approve"), {"note": ""}).status_code == 403


@pytest.mark.parametrize("name", ["approve", "reject", "publish", "publish-in-stages", "schedule", "advance", "abort"])
def test_whoever_may_not_review_is_refused_whatever_is_posted(policy: RoutingPolicy, ann: User, name: str) -> None:
    draft = proposed(policy, UserFactory(), DraftState.APPROVED)
    assert moves_of(as_(ann), draft) == []
    assert as_(ann).post(page_of(draft, name), {"note": "x", "stages": "100"}).status_code == 403
    assert as_(ann).get(page_of(draft, name)).status_code == 403


def test_somebody_elses_draft_is_read_and_not_edited(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = proposed(policy, ann)
    page = as_(ben).get(change_url(draft)).content.decode()
    assert "Only its author, ann, edits it." in page
    assert 'name="_save"' not in page
    assert as_(ben).post(change_url(draft), {"title": "mine"}).status_code == 403
    assert as_(ben).post(page_of(draft, "submit")).status_code == 403


def test_who_only_looks_at_policies_sees_drafts_and_no_button(policy: RoutingPolicy, ann: User) -> None:
    reader = as_(person("eve", "view_routingpolicy"))
    assert moves_of(reader, proposed(policy, ann)) == []
    page = reader.get(change_url(policy)).content.decode()
    assert "Propose a change" not in page
    assert "Roll back to this" not in page
    propose = reverse("admin:routing_routingpolicy_propose", args=[policy.pk])
    assert reader.post(propose, {"title": "x"}).status_code == 403
    assert reader.get(list_url(PolicyDraft)).status_code == 200


def test_a_stranger_sees_no_draft(policy: RoutingPolicy, ann: User) -> None:
    stranger = as_(person("mallory"))
    draft = proposed(policy, ann)
    assert stranger.get(change_url(draft)).status_code == 403
    assert stranger.post(page_of(draft, "withdraw")).status_code == 404


def test_an_old_page_is_told_what_has_happened_since(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = proposed(policy, ann, DraftState.APPROVED)
    draft_publish(draft=draft)
    answer = press(as_(ben), draft, "publish")
    assert "“published” by now" in answer.content.decode()
    assert policy.versions.count() == 2


@pytest.mark.parametrize("name", ["dance", "publish/now", "version"])
def test_a_move_that_does_not_exist_is_not_found(policy: RoutingPolicy, ben: User, name: str) -> None:
    assert as_(ben).post(page_of(proposed(policy, ben), name)).status_code in {302, 404}


# --- versions on the policy's page ----------------------------------------------------------------------------------


def test_a_version_is_rolled_back_with_one_question(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft_publish(draft=proposed(policy, ann, DraftState.APPROVED))
    url = reverse("admin:routing_routingpolicy_roll_back", args=[policy.pk, 1])
    question = as_(ben).get(url).content.decode()
    assert "<ins>in order</ins>" in question
    answer = as_(ben).post(url, follow=True)
    assert "in force again, as version 3" in answer.content.decode()
    policy.refresh_from_db()
    assert (policy.strategy, policy.version) == ("priority", 3)
    assert as_(ann).post(url).status_code == 403


def test_a_version_that_does_not_exist_is_no_error_page(policy: RoutingPolicy, ben: User) -> None:
    url = reverse("admin:routing_routingpolicy_roll_back", args=[policy.pk, 77])
    assert "has no version 77" in as_(ben).get(url, follow=True).content.decode()
    assert "has no version 77" in as_(ben).post(url, follow=True).content.decode()
    assert as_(ben).get(url.replace(f"/{policy.pk}/", "/999999/")).status_code == 404


def test_an_editor_proposes_what_an_older_version_said(policy: RoutingPolicy, ann: User) -> None:
    draft_publish(draft=proposed(policy, ann, DraftState.APPROVED))
    propose = reverse("admin:routing_routingpolicy_propose", args=[policy.pk])
    assert f"{propose}?version=1" in as_(ann).get(change_url(policy)).content.decode()
    as_(ann).post(f"{propose}?version=1", {"title": "back"})
    assert PolicyDraft.objects.get(title="back").strategy == "priority"
    assert "has no version 88" in as_(ann).post(f"{propose}?version=88", {"title": "x"}).content.decode()


# --- with review, and without ---------------------------------------------------------------------------------------


def test_with_review_the_policys_page_shows_its_rules_and_changes_its_switches(
    policy: RoutingPolicy, admin_client: Client
) -> None:
    page = admin_client.get(change_url(policy)).content.decode()
    assert "POLICY_REVIEW is on" in page
    data = {"description": "for all", "strategy": "least_busy", "candidates-0-weight": "9"}
    answer = submit(admin_client, change_url(policy), **data)
    assert answer.status_code == 302, errors_of(answer)
    policy.refresh_from_db()
    assert (policy.description, policy.strategy, policy.version) == ("for all", "priority", 1)
    assert policy.candidates.filter(weight=9).count() == 0


def test_with_review_a_new_policy_begins_without_rules(admin_client: Client) -> None:
    answer = submit(
        admin_client, "/admin/routing/routingpolicy/add/", name="fresh", is_active="on", strategy="weighted"
    )
    assert answer.status_code == 302, errors_of(answer)
    fresh = RoutingPolicy.objects.get()
    assert (fresh.strategy, fresh.version, fresh.candidates.count()) == ("priority", 1, 0)


def test_without_review_a_save_is_a_version(settings: Settings, policy: RoutingPolicy, admin_client: Client) -> None:
    settings.POLICY_REVIEW = False
    answer = submit(admin_client, change_url(policy), strategy="least_busy")
    assert answer.status_code == 302, errors_of(answer)
    policy.refresh_from_db()
    assert policy.version == 2
    version = policy.versions.get(number=2)
    assert (version.author.username, version.approver.username) == ("admin", "admin")
    submit(admin_client, change_url(policy), description="no rule")
    policy.refresh_from_db()
    assert (policy.version, policy.versions.count()) == (2, 2)


def test_without_review_models_that_change_are_a_version_too(
    settings: Settings, policy: RoutingPolicy, admin_client: Client
) -> None:
    settings.POLICY_REVIEW = False
    submit(admin_client, change_url(policy), candidates__1__group="fallback")
    [newest, first] = policy.versions.order_by("-number")
    assert [one.get("is_fallback", False) for one in newest.document["candidates"]] == [False, True]
    assert [one.get("is_fallback", False) for one in first.document["candidates"]] == [False, False]


def test_without_review_nonsense_is_refused_all_the_same(
    settings: Settings, policy: RoutingPolicy, admin_client: Client
) -> None:
    settings.POLICY_REVIEW = False
    answer = submit(admin_client, change_url(policy), strategy="best_quality", quality_floor="0.99")
    assert "No model reaches the quality floor" in errors_of(answer)
    policy.refresh_from_db()
    assert (policy.strategy, policy.version) == ("priority", 0)


def test_the_list_of_drafts_is_filtered_by_state(policy: RoutingPolicy, ann: User, ben: User) -> None:
    proposed(policy, ann)
    proposed(policy, ben, DraftState.REVIEW, strategy="weighted")
    page = as_(ben).get(list_url(PolicyDraft, "state__exact=review"))
    assert [draft.author.username for draft in page.context["cl"].result_list] == ["ben"]
