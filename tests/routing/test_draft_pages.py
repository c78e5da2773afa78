"""The page of a draft: every button for everybody in every state, every field of the rules, and old pages."""

import re
from datetime import timedelta
from typing import Any, Final

import pytest
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from pytest_django import Settings

from providers.admin.pages import change_url, list_url
from routing.admin.draft_moves import MOVES
from routing.admin.drafts import PolicyDraftAdmin
from routing.models import DraftState, PolicyDraft, RoutingPolicy
from routing.policy_access import may_approve, may_edit_draft, may_propose, may_withdraw
from routing.services.lifecycle import draft_reopen, draft_submit
from routing.services.rollouts import draft_abort, draft_advance, draft_publish
from tests.admin_pages import page_of
from tests.factories import UserFactory
from tests.routing.lifecycles import (
    EDITOR,
    REVIEWER,
    VIEWER,
    approved,
    draft_in,
    drafted,
    everyday,
    person,
    signed_in,
)
from tests.routing.trials import started

pytestmark = pytest.mark.django_db

STATES: Final = list(DraftState)
AUTHORS: Final = {  # the buttons of the author, who may not review
    DraftState.DRAFT: ["submit", "withdraw"],
    DraftState.REVIEW: ["reopen", "withdraw"],
    DraftState.APPROVED: ["reopen", "withdraw"],
    DraftState.REJECTED: ["withdraw"],
}
REVIEWERS: Final = {  # those of somebody who may review, and has not written it
    DraftState.DRAFT: ["withdraw"],
    DraftState.REVIEW: ["approve", "reject", "withdraw"],
    DraftState.APPROVED: ["publish", "publish-in-stages", "schedule", "reject", "withdraw"],
    DraftState.ROLLING_OUT: ["advance", "abort"],
    DraftState.REJECTED: ["withdraw"],
}


@pytest.fixture(autouse=True)
def review(settings: Settings) -> None:
    settings.POLICY_REVIEW = True


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
    return everyday()


def read(client: Client, draft: PolicyDraft) -> str:
    page: str = client.get(change_url(draft)).content.decode()
    return page


def buttons(client: Client, draft: PolicyDraft) -> list[str]:
    base = change_url(draft).removesuffix("change/")
    return [name for name in re.findall(rf'href="{base}([a-z-]+)/"', read(client, draft)) if name in MOVES]


def press(client: Client, draft: PolicyDraft, name: str, **given: Any) -> str:
    page: str = client.post(page_of(draft, name), given, follow=True).content.decode()
    return page


def hidden(client: Client, draft: PolicyDraft, name: str) -> dict[str, str]:
    """What the page of a question sends along unseen."""
    page = client.get(page_of(draft, name)).content.decode()
    fields = re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', page)
    return {field: value for field, value in fields if field != "csrfmiddlewaretoken"}


# --- who sees which button ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_its_buttons_for_author_reviewer_and_viewer(
    policy: RoutingPolicy, ann: User, ben: User, state: DraftState
) -> None:
    draft = draft_in(state, policy, ann, UserFactory.create())
    assert buttons(signed_in(ann), draft) == AUTHORS.get(state, [])
    assert buttons(signed_in(ben), draft) == REVIEWERS.get(state, [])
    assert buttons(signed_in(person("eve", *VIEWER)), draft) == []


@pytest.mark.parametrize("state", STATES)
def test_who_has_no_part_in_it_is_refused_every_move_whatever_is_sent(
    policy: RoutingPolicy, ann: User, ben: User, state: DraftState
) -> None:
    draft = draft_in(state, policy, ann, ben)
    viewer, stranger = signed_in(person("eve", *VIEWER)), signed_in(person("mallory"))
    for name in MOVES:
        given = {"note": "x", "stages": "100", "stage_minutes": "1"}
        assert viewer.get(page_of(draft, name)).status_code == 403, name
        assert viewer.post(page_of(draft, name), given).status_code == 403, name
        assert stranger.post(page_of(draft, name), given).status_code == 404, name
        answer = Client().post(page_of(draft, name), given)
        assert (answer.status_code, "login" in answer["Location"]) == (302, True), name
    draft.refresh_from_db()
    assert draft.state == state


@pytest.mark.parametrize("name", sorted({"submit", "reopen", "rebase"}))
def test_what_is_the_authors_is_not_even_a_superusers(
    policy: RoutingPolicy, ann: User, admin_client: Client, name: str
) -> None:
    draft = drafted(policy, ann)
    assert admin_client.post(page_of(draft, name)).status_code == 403


def test_an_author_who_lost_the_right_to_propose_may_only_take_it_away(policy: RoutingPolicy, ann: User) -> None:
    draft = drafted(policy, ann)
    ann.user_permissions.clear()
    ann.user_permissions.add(*person("eve", *VIEWER).user_permissions.all())
    assert buttons(signed_in(ann), draft) == ["withdraw"]
    assert signed_in(ann).post(change_url(draft), {"title": "mine"}).status_code == 403


@pytest.mark.parametrize("asks_for_review", [True, False])
def test_approving_is_offered_to_another_and_to_the_author_only_without_review(
    settings: Settings, policy: RoutingPolicy, ann: User, ben: User, asks_for_review: bool
) -> None:
    settings.POLICY_REVIEW = asks_for_review
    own, foreign = drafted(policy, ben), drafted(policy, ann)
    nobodys = drafted(policy, None)
    assert may_approve(ben, foreign)
    assert may_approve(ben, own) is not asks_for_review
    assert may_approve(ben, nobodys) is not asks_for_review
    assert not may_approve(ann, foreign)


def test_nobody_who_is_not_signed_in_may_do_anything(policy: RoutingPolicy, ann: User) -> None:
    draft, nobody = drafted(policy, None), AnonymousUser()
    assert not may_edit_draft(nobody, draft)
    assert not may_propose(nobody)
    assert not may_withdraw(nobody, draft)  # an author that nobody is, is not everybody
    assert not may_approve(nobody, drafted(policy, ann))


def test_whose_turn_it_is_is_said(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_in(DraftState.REVIEW, policy, ann, ben)
    assert "Somebody else has to approve it" in read(signed_in(ann), draft)
    assert "It waits for a review." in read(signed_in(ben), draft)
    press(signed_in(ben), draft, "approve", note="")
    assert "It waits for somebody to publish it." in read(signed_in(ann), draft)
    at = timezone.now() + timedelta(days=1)
    PolicyDraft.objects.update(publish_at=at)
    assert "It goes into force at the appointed time." in read(signed_in(ann), draft)


def test_a_draft_whose_author_is_gone_says_that_nobody_can_approve_it(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft = draft_in(DraftState.REVIEW, policy, ann, ben)
    ann.delete()
    assert "Its author is gone, so nobody can approve it" in read(signed_in(ben), draft)
    assert buttons(signed_in(ben), draft) == ["reject", "withdraw"]


def test_a_draft_that_an_experiment_tries_says_so_and_is_not_edited(
    settings: Settings, policy: RoutingPolicy, ann: User
) -> None:
    settings.POLICY_REVIEW = False
    draft = drafted(policy, ann)
    started(RoutingPolicy.objects.get(pk=policy.pk), challenger=draft)
    page = read(signed_in(ann), draft)
    assert "An experiment tries it: its rules stay as they are until that is stopped." in page
    assert 'name="_save"' not in page
    assert signed_in(ann).post(change_url(draft), {"title": "mine"}).status_code == 403
    assert "The experiment trial tries it. Stop that first." in press(signed_in(ann), draft, "submit")
    assert "The experiment trial tries it. Stop that first." in press(signed_in(ann), draft, "withdraw", note="")


# --- old pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "name", "given"),
    [
        (DraftState.APPROVED, "approve", {"note": ""}),
        (DraftState.PUBLISHED, "publish", {}),
        (DraftState.PUBLISHED, "publish-in-stages", {"stages": "5, 100", "stage_minutes": "1"}),
        (DraftState.PUBLISHED, "advance", {}),
        (DraftState.APPROVED, "abort", {"note": ""}),
        (DraftState.WITHDRAWN, "reject", {"note": "no"}),
        (DraftState.PUBLISHED, "withdraw", {"note": ""}),
    ],
)
def test_whoever_presses_the_button_of_an_old_page_is_told_what_has_become_of_it(
    policy: RoutingPolicy, ann: User, ben: User, state: DraftState, name: str, given: dict[str, str]
) -> None:
    draft = draft_in(state, policy, ann, ben)
    assert f"It is “{state.label.lower()}” by now" in press(signed_in(ben), draft, name, **given)
    draft.refresh_from_db()
    assert draft.state == state


def test_what_is_approved_is_what_was_read(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_in(DraftState.REVIEW, policy, ann, ben)
    read_then = hidden(signed_in(ben), draft, "approve")
    draft = draft_reopen(draft=draft, by=ann)
    draft.max_latency_ms = 1
    draft.save()
    draft_submit(draft=draft, by=ann)

    said = press(signed_in(ben), draft, "approve", note="fine", **read_then)

    assert "It was taken back and submitted again since you opened this page. Read it again first." in said
    draft.refresh_from_db()
    assert (draft.state, draft.reviewer) == (DraftState.REVIEW, None)
    press(signed_in(ben), draft, "approve", note="fine", **hidden(signed_in(ben), draft, "approve"))
    draft.refresh_from_db()
    assert (draft.state, draft.review_note) == (DraftState.APPROVED, "fine")


def test_an_edit_that_was_under_way_when_the_draft_was_submitted_is_refused(
    policy: RoutingPolicy, ann: User, rf: RequestFactory
) -> None:
    under_way = drafted(policy, ann)
    draft_submit(draft=under_way, by=ann)
    page = PolicyDraftAdmin(PolicyDraft, admin.site)
    request = rf.post(change_url(under_way))
    request.user = ann
    form = page.get_form(request, under_way)({"title": "sly"}, instance=under_way)
    with pytest.raises(PermissionDenied), transaction.atomic():
        page.save_model(request, under_way, form, change=True)
    assert PolicyDraft.objects.get().title == "take turns"


def test_advance_pressed_twice_goes_on_once(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 25, 50, 100])
    client = signed_in(ben)
    opened = hidden(client, draft, "advance")
    assert "is followed by 25 % of the requests" in press(client, draft, "advance", **opened)
    assert "is followed by 25 % of the requests" in press(client, draft, "advance", **opened)
    draft.refresh_from_db()
    assert draft.percent == 25


def test_a_change_that_nobody_recorded_is_answered_with_a_way_on(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = approved(policy, ann, ben)
    RoutingPolicy.objects.filter(pk=policy.pk).update(max_latency_ms=700)
    assert "version 2 is in force. Rebase it." in press(signed_in(ben), draft, "publish")
    assert "rebase" in buttons(signed_in(ann), draft)
    assert "It is made from version 2 now." in press(signed_in(ann), draft, "rebase")
    draft.refresh_from_db()
    assert (draft.strategy, draft.max_latency_ms) == ("round_robin", 700)


def test_a_stale_draft_offers_a_rebase_and_nothing_that_would_fail(policy: RoutingPolicy, ann: User, ben: User) -> None:
    for state, own, foreign in [
        (DraftState.DRAFT, ["rebase", "withdraw"], ["withdraw"]),
        (DraftState.REVIEW, ["rebase", "reopen", "withdraw"], ["reject", "withdraw"]),
        (DraftState.APPROVED, ["rebase", "reopen", "withdraw"], ["schedule", "reject", "withdraw"]),
    ]:
        policy.refresh_from_db()
        draft = draft_in(state, policy, ann, ben, strategy="least_busy")
        draft_publish(draft=approved(policy, ann, ben, max_latency_ms=1000 + policy.version))
        assert buttons(signed_in(ann), draft) == own
        assert buttons(signed_in(ben), draft) == foreign
        assert "stale" in signed_in(ann).get(list_url(PolicyDraft)).content.decode()
        draft.refresh_from_db()
        PolicyDraft.objects.filter(pk=draft.pk).update(state=DraftState.WITHDRAWN)


def test_a_rebase_that_collides_says_which_fields_on_the_page(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = drafted(policy, ann, strategy="least_busy", max_latency_ms=100)
    draft_publish(draft=approved(policy, ann, ben, strategy="round_robin", max_latency_ms=200))
    said = press(signed_in(ann), draft, "rebase")
    assert "have both changed: order, latency ceiling." in said


# --- what is asked --------------------------------------------------------------------------------------------------


def test_a_moment_that_has_passed_is_refused_at_its_field(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = approved(policy, ann, ben)
    said = press(signed_in(ben), draft, "schedule", publish_at_0="2020-01-01", publish_at_1="12:00:00")
    assert "This moment has passed" in said
    draft.refresh_from_db()
    assert draft.publish_at is None


def test_a_time_is_appointed_in_utc_and_taken_back_by_leaving_it_empty(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    draft, client = approved(policy, ann, ben), signed_in(ben)
    said = press(client, draft, "schedule", publish_at_0="2099-01-02", publish_at_1="03:04:00")
    assert "It is published on 2 Jan 2099 at 03:04 UTC." in said
    draft.refresh_from_db()
    assert draft.publish_at is not None
    assert draft.publish_at.isoformat() == "2099-01-02T03:04:00+00:00"
    assert "It is published when somebody does it." in press(client, draft, "schedule")
    draft.refresh_from_db()
    assert draft.publish_at is None


@pytest.mark.parametrize("stages", ["", "5", "100, 5", "5, x", "0, 100", "5, 5, 100"])
def test_stages_that_do_not_rise_to_a_hundred_are_refused_at_their_field(
    policy: RoutingPolicy, ann: User, ben: User, stages: str
) -> None:
    draft = approved(policy, ann, ben)
    said = press(signed_in(ben), draft, "publish-in-stages", stages=stages, stage_minutes="5")
    assert 'class="question-error"' in said
    draft.refresh_from_db()
    assert draft.state == DraftState.APPROVED


def test_stages_may_be_typed_with_percent_signs(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = approved(policy, ann, ben)
    press(signed_in(ben), draft, "publish-in-stages", stages="5 %, 25%,100", stage_minutes="5")
    draft.refresh_from_db()
    assert (draft.stages, draft.percent, draft.stage_minutes) == ([5, 25, 100], 5, 5)


def test_an_abort_without_a_word_says_who_it_was(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_in(DraftState.ROLLING_OUT, policy, ann, ben)
    press(signed_in(ben), draft, "abort", note="")
    draft.refresh_from_db()
    assert draft.closed_note == "Rollout aborted by ben"
    assert "Rollout aborted by ben" in read(signed_in(ann), draft)


def test_every_move_is_in_the_log_of_who_did_it(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_in(DraftState.REVIEW, policy, ann, ben)
    press(signed_in(ben), draft, "approve", note="")
    press(signed_in(ben), draft, "publish")
    history = signed_in(ben).get(page_of(draft, "history"))
    assert history.status_code == 200
    rows = draft.history.order_by("-history_id")
    assert {row.state: row.history_user for row in rows[:2]} == {"published": ben, "approved": ben}


@pytest.mark.parametrize("name", sorted({name for name, move in MOVES.items() if move.shows_changes}))
def test_whoever_decides_sees_what_changes(policy: RoutingPolicy, ann: User, ben: User, name: str) -> None:
    state = {"submit": DraftState.DRAFT, "approve": DraftState.REVIEW}.get(name, DraftState.APPROVED)
    draft = draft_in(state, policy, ann, ben)
    page = signed_in(ann if name == "submit" else ben).get(page_of(draft, name)).content.decode()
    assert "<del>in order</del>" in page
    assert "<ins>in turn</ins>" in page


def test_titles_and_notes_are_shown_as_text_and_never_as_markup(policy: RoutingPolicy, ann: User, ben: User) -> None:
    nasty = "<script>alert(1)</script>"
    draft = drafted(policy, ann, title=nasty, note=nasty)
    draft = draft_submit(draft=draft, by=ann)
    press(signed_in(ben), draft, "reject", note=nasty)
    for client in (signed_in(ann), signed_in(ben)):
        for url in (change_url(draft), list_url(PolicyDraft), change_url(policy), page_of(draft, "withdraw")):
            page = client.get(url).content.decode()
            assert nasty not in page, url
            assert escape(nasty) in page or url == change_url(policy), url  # which lists what is open


@pytest.mark.parametrize("what", ["999999", "0"])
def test_a_draft_that_does_not_exist_is_not_found(ben: User, what: str) -> None:
    for name in ("publish", "approve"):
        url = reverse("admin:routing_policydraft_move", args=[what, name])
        assert signed_in(ben).post(url).status_code == 404


# --- what it looks like once it is closed ---------------------------------------------------------------------------


def test_a_published_draft_shows_what_it_changed_when_it_was_made(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben))
    draft_publish(draft=approved(policy, ann, ben, strategy="least_busy"))
    page = read(signed_in(ann), draft)
    assert "What it changed" in page
    assert "<del>in order</del>" in page
    assert "<ins>in turn</ins>" in page
    assert "version 2" in page


def test_a_withdrawn_draft_says_when_and_by_whom(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_in(DraftState.WITHDRAWN, policy, ann, ben)
    page = read(signed_in(ben), draft)
    assert "Withdrawn by ann" in page
    assert "It cannot be published as it is" not in page
    assert buttons(signed_in(ann), draft) == []


def test_a_closed_draft_whose_base_cannot_be_read_is_still_a_page(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_in(DraftState.PUBLISHED, policy, ann, ben)
    policy.versions.filter(number=1).update(document={"candidates": "none"})
    assert signed_in(ann).get(change_url(draft)).status_code == 200


def test_a_rollout_shows_its_share_on_the_page_and_in_the_list(policy: RoutingPolicy, ann: User, ben: User) -> None:
    draft = draft_publish(draft=approved(policy, ann, ben), stages=[5, 50, 100])
    draft_advance(draft=draft)
    assert "50 % of the requests" in read(signed_in(ben), draft)
    assert "50 %" in signed_in(ben).get(list_url(PolicyDraft)).content.decode()
    draft_abort(draft=draft, note="errors")
    assert "5 %, 50 %, 100 %" in read(signed_in(ben), draft)


def test_a_draft_of_a_policy_that_is_switched_off_has_its_page_and_its_way(
    policy: RoutingPolicy, ann: User, ben: User
) -> None:
    RoutingPolicy.objects.filter(pk=policy.pk).update(is_active=False)
    draft = drafted(policy, ann)
    press(signed_in(ann), draft, "submit")
    press(signed_in(ben), draft, "approve", note="")
    assert "Published as version 2." in press(signed_in(ben), draft, "publish")
    policy.refresh_from_db()
    assert (policy.strategy, policy.is_active) == ("round_robin", False)
