"""“Test this policy”: what is refused and how, who is sent away, and how what is told reads."""

from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from typing import Any

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Permission
from django.test import Client

from routerplatform.explained_page import Side, facts, pieces, rows, side_of
from routerplatform.gateway.explaining import Explained, Looked, Problem, Question, Word
from routerplatform.policy_trial import LONGEST_PROMPT, PromptForm, trial_url
from routing.domain.classification.types import Classification, QualityEstimate
from routing.domain.config import Rule, TaskType
from routing.domain.decision import Considered, decide
from routing.domain.situation import Situation, Standing
from routing.models import DraftCandidate, ModelAlias, PolicyDraft, RoutingPolicy
from tests.factories import PersonaFactory, RoutingPolicyFactory, UserFactory
from tests.gateway import Gateway
from tests.routing.domain.build import alias, caller, deployment, policy, request, snapshot

SWIFT = deployment(1, "swift")
FAST = alias("fast", SWIFT)


def client_with(*permissions: str, **columns: bool) -> Client:
    user = UserFactory(**{"is_staff": True} | columns)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


# --- the form -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("prompt", "", "Write what somebody might ask."),
        ("prompt", "\0", "Null characters are not allowed."),
        ("prompt", "x" * (LONGEST_PROMPT + 1), f"at most {LONGEST_PROMPT} characters"),
        ("max_tokens", "0", "greater than or equal to 1"),
        ("max_tokens", str(2**31), "less than or equal to 2147483647"),
        ("max_tokens", "many", "Enter a whole number."),
        ("tag", "t" * 201, "at most 200 characters"),
        ("key", "k" * 41, "at most 40 characters"),
        ("persona", "gone", "is not one of the available choices"),
        ("needs", ["wings"], "is not one of the available choices"),
    ],
)
def test_each_field_says_what_is_wrong_with_it(field: str, value: str | list[str], said: str) -> None:
    PersonaFactory(slug="gone", policy=RoutingPolicyFactory(), is_active=False)
    form = PromptForm({"test-prompt": "x"} | {f"test-{field}": value})
    assert not form.is_valid()
    assert list(form.errors) == [field]
    assert said in str(form.errors)


@pytest.mark.django_db
def test_the_longest_prompt_and_any_writing_are_taken() -> None:
    for text in ("x" * LONGEST_PROMPT, "Grüße, 世界 🙂 \\ \" ' </script>"):
        form = PromptForm({"test-prompt": text})
        assert form.is_valid(), form.errors
        assert form.body()


@pytest.mark.django_db
@pytest.mark.parametrize(("permissions", "columns", "status"), [
    ((), {}, 403),
    (("view_policydraft",), {}, 403),
    (("view_routingpolicy",), {}, 403),
    (("view_routingpolicy", "view_policydraft"), {}, 200),
    (("view_routingpolicy", "view_policydraft"), {"is_staff": False}, 302),
    (("view_routingpolicy", "view_policydraft"), {"is_active": False}, 302),
])  # fmt: skip
def test_who_may_test_a_draft(permissions: tuple[str, ...], columns: dict[str, bool], status: int) -> None:
    draft = PolicyDraft.objects.create(policy=RoutingPolicyFactory(), title="t", base_version=0)
    client = client_with(*permissions, **columns)
    assert client.get(trial_url(draft)).status_code == status
    assert client.post(trial_url(draft), {"test-prompt": "x"}).status_code == status


@pytest.mark.django_db
def test_addresses_beyond_all_numbers_are_not_found() -> None:
    client = client_with("view_routingpolicy", "view_policydraft")
    for kind in ("routingpolicy", "policydraft"):
        assert client.get(f"/admin/routing/{kind}/{10**30}/test/").status_code == 404


@pytest.mark.django_db
def test_the_page_before_anything_was_asked_has_a_form_and_no_answer() -> None:
    row = RoutingPolicyFactory(name="careful")
    page = unescape(client_with("view_routingpolicy").get(trial_url(row)).content.decode())
    assert "Test careful" in page
    assert "Goes to" not in page
    assert "Write what somebody might ask." not in page


# --- beside a gateway -----------------------------------------------------------------------------------------------


class _Staff:
    """A signed-in browser in front of a gateway."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.gateway, self.session = gateway, session

    async def test(self, url: str, **fields: Any) -> str:
        data = {f"test-{name}": str(value) for name, value in fields.items()} | {"csrfmiddlewaretoken": "a" * 32}
        headers = {"origin": self.gateway.url, "x-requested-with": "fetch"}
        async with self.session.post(self.gateway.url + url, data=data, headers=headers) as response:
            assert response.status == 200
            return unescape(await response.text())


@pytest.fixture
async def browser(gateway: Gateway) -> AsyncIterator[_Staff]:
    client = await sync_to_async(client_with)("view_routingpolicy", "view_policydraft")
    session_id = client.cookies[settings.SESSION_COOKIE_NAME].value
    cookies = {settings.SESSION_COOKIE_NAME: session_id, "csrftoken": "a" * 32}
    async with aiohttp.ClientSession(cookies=cookies) as session:
        yield _Staff(gateway, session)


def _draft(**columns: Any) -> str:
    row = RoutingPolicy.objects.get(name="default")
    draft = PolicyDraft.objects.create(policy=row, title="Odd", base_version=row.version, **columns)
    DraftCandidate.objects.create(draft=draft, alias=ModelAlias.objects.get(name="sage"))
    return trial_url(draft)


async def test_a_draft_that_contradicts_itself_says_how_instead_of_failing(browser: _Staff) -> None:
    url = await sync_to_async(_draft)(required_capabilities=["telepathy"])
    assert "telepathy" in await browser.test(url, prompt="x")


async def test_a_draft_without_models_is_told_beside_what_is_in_force(browser: _Staff) -> None:
    url = await sync_to_async(_draft)()
    await sync_to_async(DraftCandidate.objects.all().delete)()
    now, drafted = (await browser.test(url, prompt="x")).split(">As drafted<")
    assert "Goes to <strong>alpha/swift-1</strong>." in now
    assert "Goes to" not in drafted


async def test_a_prompt_is_shown_as_it_is_and_never_as_markup(browser: _Staff) -> None:
    url = await sync_to_async(lambda: trial_url(RoutingPolicy.objects.get(name="default")))()
    data = {"test-prompt": "<script>alert(1)</script>", "csrfmiddlewaretoken": "a" * 32}
    async with browser.session.post(
        browser.gateway.url + url, data=data, headers={"origin": browser.gateway.url}
    ) as response:
        assert "<script>alert(1)" not in await response.text()


# --- how it reads, without a gateway ----------------------------------------------------------------------------------


def told(situation: Situation | None = None, **changes: Any) -> Explained:
    made = policy("careful", FAST)
    where = snapshot(FAST, policies=(made,), default=made)
    asked, now = request(), situation or Situation(seed="r")
    plan = decide(where, caller(), asked, now)
    looked = Looked(plan.considered[0], SWIFT, QualityEstimate(0.734, 12, "task"), Standing(), "closed", "", 1, 1)
    return replace(Explained(Question(caller(), asked, "r"), where, now, made, plan, None, (looked,)), **changes)


def work(label: TaskType, confidence: float, **scores: float) -> str:
    found = Classification(label, confidence, {TaskType[name]: score for name, score in scores.items()})
    return dict(facts(told(Situation(task=found))))["Kind of work"].replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("label", "confidence", "scores", "said"),
    [
        (TaskType.CODING, 0.5, {"ANALYSIS": 0.5, "CODING": 0.5}, "Coding, 50.0 % sure; then Analysis 50.0 %"),
        (TaskType.CODING, 0.9, {"ANALYSIS": 0.95, "CODING": 0.9}, "Coding, 90.0 % sure; then Analysis 95.0 %"),
        (TaskType.CODING, 0.9, {}, "Coding, 90.0 % sure"),
        (TaskType.CODING, 1.0, {"CODING": 1.0, "ANALYSIS": 0.004}, "Coding, 100 % sure"),
        (TaskType.ANY, 0.0, {}, "not sure enough to say"),
    ],
)
def test_a_kind_of_work_is_never_told_twice(
    label: TaskType, confidence: float, scores: dict[str, float], said: str
) -> None:
    """A classifier of the operator's own may answer with scores in a tie, in another order, or without any."""
    assert work(label, confidence, **scores) == said


def test_a_rule_without_a_kind_of_work_leaves_what_the_classifier_says() -> None:
    rule = Rule("vip", "tag", "", lambda text: True)
    task = Classification(TaskType.CODING, 0.9, {TaskType.CODING: 0.9})
    found = dict(facts(told(Situation(rule=rule, task=task))))
    assert (found["Operator’s rule"], found["Kind of work"][:6]) == ("vip", "Coding")


def test_without_a_route_the_facts_and_the_skipped_are_told_and_nothing_is_chosen() -> None:
    skipped = Looked(Considered("gone/model", "fast", "skipped", "no longer deployed", None))
    side: Side = side_of(
        "now",
        told(plan=None, problem=Problem("no_eligible_model", "Nothing fits.", "model"), candidates=(skipped,)),
        "x",
    )
    assert (side.chosen, side.is_passed_over) == ("", False)
    [row] = side.rows
    assert (row.rank, row.quality_percent, row.quality, row.score, row.notes) == (
        0, None, "", "", ("no longer deployed",),
    )  # fmt: skip
    assert (row.cost, row.latency) == ("unpriced", "–")
    assert side_of("now", told(policy=None, plan=None), "x").facts[-1][0] == "Configuration"


def test_costs_have_six_decimals_and_scores_four_digits() -> None:
    [looked] = told().candidates
    exact = replace(looked, considered=Considered("alpha/swift", "fast", "chosen", "", 1_234_567, score=0.123456))
    [row] = rows(told(candidates=(exact,)))
    assert (row.cost, row.score, row.quality, row.alias) == ("$0.001235", "0.1235", "task, 12 graded", "fast")


@pytest.mark.parametrize("prompt", ["", "   ", "...", "a\n\nb", "naïve café", "it's 5 o’clock", "x" * 9_999])
def test_a_prompt_is_whole_however_it_is_marked(prompt: str) -> None:
    weights = {"a": 0.1, "café": -0.2, "it's": 0.3, "o’clock": 0.4, "x" * 9_999: 1.0}
    assert "".join(piece.text for piece in pieces(prompt, weights)) == prompt


@pytest.mark.parametrize(
    ("weight", "mark"),
    [(1.0, "for-3"), (0.67, "for-3"), (0.66, "for-2"), (0.34, "for-2"), (0.33, "for-1"), (-1.0, "against-3")],
)
def test_a_mark_is_as_strong_as_its_word(weight: float, mark: str) -> None:
    [strong, _, found] = pieces("most word", {"most": 1.0, "word": weight})
    assert (strong.mark, found.mark, found.title) == ("for-3", mark, f"{weight:+.2f}")


def test_words_without_a_plan_are_marked_all_the_same() -> None:
    side = side_of("now", told(plan=None, words=(Word("list", 0.5),)), "Sort the List")
    assert [(piece.text, piece.mark) for piece in side.pieces] == [("Sort the ", ""), ("List", "for-3")]
