"""Policies by the management API: rules change by drafts, and four eyes are four eyes."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from routing.models import DraftState, ExperimentState, PolicyDraft, PolicyVersion, RoutingPolicy
from tests.factories import ExperimentFactory, PersonaFactory, RoutingPolicyFactory, UserFactory
from tests.routerplatform.api.manager import Answer, Manager, staff, superuser
from tests.routing.lifecycles import alias

pytestmark = pytest.mark.django_db
EDITOR = ("routing.view_routingpolicy", "routing.change_routingpolicy", "routing.add_policydraft")
REVIEWER = (*EDITOR, "routing.approve_policydraft")


@pytest.fixture
def author() -> Manager:
    return staff(*REVIEWER, username="author")


@pytest.fixture
def policy() -> RoutingPolicy:
    """Tries fast, then smart; nothing uses it."""
    made: RoutingPolicy = RoutingPolicyFactory(name="everyday", preferred=[alias("fast"), alias("smart")])
    return made


def swapped(**more: Any) -> dict[str, Any]:
    return {"candidates": [{"alias": "smart"}, {"alias": "fast"}], **more}


def proposed(author: Manager, policy: RoutingPolicy, **fields: Any) -> Answer:
    given = {"policy": policy.pk, "title": "Smart first", "document": swapped(), **fields}
    return author.post("policy-drafts", given)


def move(manager: Manager, draft: int, name: str, **given: Any) -> Answer:
    return manager.post(f"policy-drafts/{draft}/{name}", given)


def approve(manager: Manager, draft: int) -> Answer:
    read = manager.get(f"policy-drafts/{draft}").json["submitted_at"]
    return move(manager, draft, "approve", submitted_at=read)


def models_of(told: dict[str, Any]) -> list[str]:
    return [one["alias"] for one in told["document"]["candidates"]]


def first_model(policy: RoutingPolicy) -> str:
    return policy.candidates.order_by("-group", "position").select_related("alias")[0].alias.name


# --- from a proposal to a rollback ----------------------------------------------------------------------------------


def test_rules_are_proposed_looked_at_approved_published_and_taken_back(author: Manager, policy: RoutingPolicy) -> None:
    made = proposed(author, policy)
    assert (made.status, made.json["state"], made.json["author"]) == (201, "draft", "author")
    draft = made.json["id"]
    difference = author.get(f"policy-drafts/{draft}/diff").json
    assert {one["field"] for one in difference["changes"]} == {"candidates"}
    assert (difference["complaints"], difference["moves"]) == ([], ["submit", "withdraw"])
    assert first_model(policy) == "fast"
    assert move(author, draft, "submit").json["state"] == "review"
    assert approve(author, draft).json["state"] == "approved"
    published = move(author, draft, "publish")
    assert (published.json["state"], published.json["version"]) == ("published", 2)
    assert first_model(policy) == "smart"
    told = author.get(f"policies/{policy.pk}").json
    assert (told["version"], models_of(told)) == (2, ["smart", "fast"])
    listed = author.get(f"policy-versions?policy={policy.pk}").json["data"]
    assert [(one["number"], one["approver"]) for one in listed] == [(1, None), (2, "author")]
    assert listed[1]["document"] == told["document"]

    back = author.post(f"policies/{policy.pk}/roll-back", version=1)
    assert (back.status, back.json["version"]) == (200, 3)
    assert first_model(policy) == "fast"
    assert author.post(f"policies/{policy.pk}/roll-back", version=3).refusal == (409, "conflict", None)
    assert author.post(f"policies/{policy.pk}/roll-back", version=9).refusal == (400, "invalid_request", "version")


def test_under_review_nobody_approves_their_own(author: Manager, policy: RoutingPolicy, settings: Settings) -> None:
    settings.POLICY_REVIEW = True
    draft = proposed(author, policy).json["id"]
    move(author, draft, "submit")
    assert approve(author, draft).refusal == (403, "permission_denied", None)
    assert "approve" not in author.get(f"policy-drafts/{draft}/diff").json["moves"]
    assert author.patch(f"policies/{policy.pk}", document=swapped()).refusal == (400, "invalid_request", "document")
    assert move(author, draft, "publish").refusal == (409, "conflict", None)
    second = staff(*REVIEWER, username="second")
    assert approve(second, draft).json["reviewer"] == "second"
    assert move(author, draft, "publish").json["state"] == "published"
    kept = PolicyVersion.objects.get(policy=policy, number=2)
    assert (str(kept.author), str(kept.approver)) == ("author", "second")


def test_who_may_only_propose_decides_nothing(author: Manager, policy: RoutingPolicy) -> None:
    editor = staff(*EDITOR, username="editor")
    draft = proposed(author, policy).json["id"]
    assert move(editor, draft, "submit").status == 403  # somebody else's
    move(author, draft, "submit")
    for name, given in {
        "approve": {"submitted_at": timezone.now().isoformat()}, "reject": {"note": "no"}, "publish": {},
        "schedule": {"publish_at": None}, "advance": {}, "abort": {}, "withdraw": {}, "reopen": {}, "rebase": {},
    }.items():  # fmt: skip
        assert move(editor, draft, name, **given).refusal == (403, "permission_denied", None), name
    assert editor.post(f"policies/{policy.pk}/roll-back", version=1).status == 403
    assert editor.patch(f"policy-drafts/{draft}", title="Mine").status == 403
    viewer = staff("routing.view_routingpolicy", username="viewer")
    assert proposed(viewer, policy).refusal == (403, "permission_denied", None)
    assert viewer.get(f"policy-drafts/{draft}").status == 200
    assert PolicyDraft.objects.get().state == DraftState.REVIEW


def test_a_draft_that_was_changed_since_it_was_read_is_not_approved(author: Manager, policy: RoutingPolicy) -> None:
    draft = proposed(author, policy).json["id"]
    read = move(author, draft, "submit").json["submitted_at"]
    move(author, draft, "reopen")
    author.patch(f"policy-drafts/{draft}", document=swapped(sample_percent=50))
    move(author, draft, "submit")
    assert move(author, draft, "approve", submitted_at=read).refusal == (409, "conflict", None)
    assert move(author, draft, "approve").refusal == (400, "invalid_request", "submitted_at")


def test_a_rejected_draft_is_mended_by_its_author(author: Manager, policy: RoutingPolicy) -> None:
    draft = proposed(author, policy).json["id"]
    move(author, draft, "submit")
    refused = author.patch(f"policy-drafts/{draft}", title="Other")
    assert refused.refusal == (409, "conflict", None)
    assert "“in review”" in refused.error["message"]
    assert move(author, draft, "reject").refusal == (400, "invalid_request", "note")
    assert move(author, draft, "reject", note="Why?").json["state"] == "rejected"
    mended = author.patch(f"policy-drafts/{draft}", note="Because", document=swapped(max_cost_nano=50_000_000))
    assert (mended.json["state"], mended.json["note"]) == ("draft", "Because")
    assert mended.json["document"]["max_cost_nano"] == 50_000_000
    history = PolicyDraft.history.filter(id=draft).latest()
    assert history.history_user.username == "author"


def test_a_rollout_grows_stage_by_stage_and_is_aborted(author: Manager, policy: RoutingPolicy) -> None:
    draft = proposed(author, policy).json["id"]
    move(author, draft, "submit")
    approve(author, draft)
    bad = move(author, draft, "publish", stages=[50, 5])
    assert bad.refusal == (400, "invalid_request", "stages")
    begun = move(author, draft, "publish", stages=[5, 50, 100], stage_minutes=30).json
    assert (begun["state"], begun["percent"], begun["stages"]) == ("rolling_out", 5, [5, 50, 100])
    assert move(author, draft, "advance", percent=5).json["percent"] == 50
    assert move(author, draft, "advance", percent=5).json["percent"] == 50  # sent twice
    aborted = move(author, draft, "abort", note="Too slow").json
    assert (aborted["state"], aborted["percent"], aborted["closed_note"]) == ("approved", 0, "Too slow")


def test_a_draft_is_scheduled_rebased_and_withdrawn(author: Manager, policy: RoutingPolicy) -> None:
    first, second = (proposed(author, policy, title=title).json["id"] for title in ("one", "two"))
    author.patch(f"policy-drafts/{second}", document={"candidates": [{"alias": "fast"}], "sample_percent": 20})
    for name in ("submit", "approve"):
        approve(author, first) if name == "approve" else move(author, first, name)
    later = (timezone.now() + timedelta(days=1)).isoformat()
    assert move(author, first, "schedule", publish_at=later).json["publish_at"] is not None
    assert move(author, first, "schedule", publish_at="2020-01-01T00:00:00Z").status == 409
    move(author, first, "publish")
    assert author.get(f"policy-drafts/{second}").json["is_stale"] is True
    collides = move(author, second, "rebase")
    assert collides.refusal == (409, "conflict", None)
    assert "models" in collides.error["message"]
    assert move(author, second, "withdraw", note="Done by one").json["state"] == "withdrawn"
    assert author.delete(f"policy-drafts/{second}").status == 405


def test_what_an_experiment_tries_is_not_edited(author: Manager, policy: RoutingPolicy) -> None:
    draft = proposed(author, policy).json["id"]
    ExperimentFactory(challenger=PolicyDraft.objects.get(), state=ExperimentState.RUNNING)
    assert author.patch(f"policy-drafts/{draft}", title="Other").status == 409
    assert "experiment" in move(author, draft, "submit").error["message"]


# --- what a draft begins with ---------------------------------------------------------------------------------------


def test_a_draft_begins_with_the_rules_in_force_or_an_older_version(author: Manager, policy: RoutingPolicy) -> None:
    copy = author.post("policy-drafts", policy=policy.pk, title="Copy").json
    assert models_of(copy) == ["fast", "smart"]
    assert author.patch(f"policy-drafts/{copy['id']}", document=copy["document"]).json["document"] == copy["document"]
    assert move(author, copy["id"], "submit").refusal == (409, "conflict", None)  # it changes nothing
    old = author.post("policy-drafts", policy=policy.pk, title="Old", from_version=1).json
    assert (old["document"], old["base_version"]) == (copy["document"], 1)
    assert author.post("policy-drafts", policy=policy.pk, title="Old", from_version=7).status == 400
    both = proposed(author, policy, from_version=1)
    assert both.refusal == (400, "invalid_request", "from_version")
    staged = proposed(author, policy, stages=[10, 100], stage_minutes=5).json
    assert (staged["stages"], staged["stage_minutes"]) == ([10, 100], 5)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ([], "document"),
        ({"stratgy": "priority"}, "document.stratgy"),
        ({"strategy": "telepathy"}, "document.strategy"),
        ({"candidates": [{"alias": "fast", "weigth": 2}]}, "document.candidates.0.weigth"),
        ({"candidates": [{"alias": "fast", "weight": -1}]}, "document.candidates.0.weight"),
        ({"candidates": [{"alias": "fast", "task_type": "X"}]}, "document.candidates.0.task_type"),
        ({"candidates": [{"alias": "gone"}]}, "document.candidates"),
        ({"candidates": [{"alias": "fast"}, {"alias": "fast"}]}, "document.candidates"),
        ({"candidates": []}, "document.candidates"),
        ({"candidates": 7}, "document"),
        (swapped(ladder={"cap": 50}), "document.ladder.cap"),
        (swapped(ladder={"cap_at": 90, "cheaper_at": 50}), "document.ladder.cap_at"),
        (swapped(ladder={"cap_at": 101}), "document.ladder.cap_at"),
        (swapped(max_cost_nano=10**40), "document.max_cost_nano"),
        (swapped(max_cost_nano=5), "document.max_cost_nano"),
        (swapped(max_cost_nano=-1000), "document.max_cost_nano"),
        (swapped(required=["telepathy"]), "document.required"),
        (swapped(regions=["mars"]), "document.regions"),
        (swapped(sample_percent=101), "document.sample_percent"),
        (swapped(quality_floor=2), "document.quality_floor"),
        (swapped(cache_mode="sometimes"), "document"),
        (swapped(strategy="\ud800"), "document"),
    ],
)
def test_rules_that_cannot_be_put_into_force_are_refused_by_field(
    author: Manager, policy: RoutingPolicy, document: Any, param: str
) -> None:
    answer = proposed(author, policy, document=document)
    assert answer.refusal == (400, "invalid_request", param)
    assert not PolicyDraft.objects.exists()


# --- policies themselves --------------------------------------------------------------------------------------------


def test_a_new_policy_gets_its_rules_by_a_draft(policy: RoutingPolicy) -> None:
    manager = superuser()
    made = manager.post("policies", name="fresh", description="for tests").json
    assert (made["version"], models_of(made), made["is_default"]) == (1, [], False)
    assert manager.post(f"policies/{made['id']}/make-default").refusal == (409, "conflict", None)
    draft = manager.post("policy-drafts", policy=made["id"], title="Begin", document=swapped()).json["id"]
    move(manager, draft, "submit")
    approve(manager, draft)
    move(manager, draft, "publish")
    assert manager.post(f"policies/{made['id']}/make-default").json["is_default"] is True
    off = manager.patch(f"policies/{made['id']}", is_active=False)
    assert off.refusal == (400, "invalid_request", "is_active")
    kept = manager.delete(f"policies/{made['id']}")
    assert kept.refusal == (409, "conflict", None)
    assert "requests for “auto”" in kept.error["message"]


@pytest.mark.parametrize("field", ["document", "is_default", "version", "strategy", "candidates"])
def test_rules_are_not_written_directly(policy: RoutingPolicy, field: str) -> None:
    manager = superuser()
    assert manager.patch(f"policies/{policy.pk}", **{field: 1}).refusal == (400, "invalid_request", field)
    assert manager.post("policies", name="x", **{field: 1}).refusal == (400, "invalid_request", field)


def test_a_policy_that_serves_somebody_stays_on_and_stays(policy: RoutingPolicy) -> None:
    manager = superuser()
    PersonaFactory(policy=policy, slug="helper")
    answer = manager.patch(f"policies/{policy.pk}", is_active=False)
    assert answer.refusal == (400, "invalid_request", "is_active")
    assert "helper" in answer.error["message"]
    assert manager.delete(f"policies/{policy.pk}").status == 409
    assert manager.patch(f"policies/{policy.pk}", description="x").json["description"] == "x"
    assert manager.get("policies?is_default=true").ids == []


def test_drafts_are_filtered_by_policy_state_and_author(author: Manager, policy: RoutingPolicy) -> None:
    mine = proposed(author, policy).json["id"]
    other = proposed(superuser(), policy).json["id"]
    UserFactory(username="nobody")
    assert author.get("policy-drafts?author=author").ids == [mine]
    assert author.get(f"policy-drafts?policy={policy.pk}&state=draft").ids == [mine, other]
    assert author.get("policy-drafts?state=review").ids == []
