"""The pages of experiments: both arms side by side, what stands in the way, and what may be done by whom."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from analytics.domain.experiments import ArmFigures, Moments, Share
from analytics.experiments_page import Line, experiment_lines, is_ready, missing_share, result_lines, share_in_words
from analytics.selectors.experiments import ArmResults
from routing.models import Experiment, PolicyDraft, RoutingPolicy
from routing.services.experiments import experiment_advance, experiment_stop
from tests.factories import (
    RoutingPolicyFactory,
    UsageRecordFactory,
    UserFactory,
    VirtualKeyFactory,
    served_alias,
)
from tests.routing.trials import draft_of, experiment_of, started

pytestmark = pytest.mark.django_db

LIST = "/dashboards/experiments/"
NBSP = "\N{NO-BREAK SPACE}"


@pytest.fixture
def policy() -> RoutingPolicy:
    made: RoutingPolicy = RoutingPolicyFactory.create(name="house", preferred=[served_alias(name="swift")])
    return made


def made(policy: RoutingPolicy, **options: Any) -> Experiment:
    return experiment_of(policy, served_alias(), **options)


def running(policy: RoutingPolicy, **options: Any) -> Experiment:
    return started(policy, served_alias(), **options)


def page_of(experiment: Experiment) -> str:
    return f"{LIST}{experiment.pk}/"


def seen(experiment: Experiment, side: str, count: int, **columns: Any) -> None:
    at = timezone.now() + timedelta(seconds=1)
    UsageRecordFactory.create_batch(count, arm=f"{experiment.name}:{side}", at=at, key=columns.pop("key"), **columns)


def reader(client: Client, *permissions: str, is_staff: bool = True) -> User:
    """Signed in, with these permissions."""
    person: User = UserFactory.create(is_staff=is_staff)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(person)
    return person


def arm(requests: int, *, errors: int = 0, latency: float = 500.0, cost: float = 1e6, **shown: Any) -> ArmResults:
    answered = requests - errors
    figures = ArmFigures(
        requests,
        Share(errors, requests),
        Moments(answered, latency, latency**2 / 4),
        Moments(answered, cost, cost**2 / 4),
        round(answered * cost),
    )
    return ArmResults("x", figures, **shown)


def line(name: str, control: ArmResults, challenger: ArmResults) -> Line:
    return next(one for one in result_lines(control, challenger, least=50) if one.name == name)


# --- pages --------------------------------------------------------------------------------------------------------


def test_without_experiments_the_list_says_what_they_are_for(admin_client: Client) -> None:
    body = admin_client.get(LIST).content.decode()
    assert "No experiments yet" in body
    assert "/admin/routing/experiment/add/" in body


def test_the_list_shows_each_with_its_state_and_its_arms(admin_client: Client, policy: RoutingPolicy) -> None:
    key = VirtualKeyFactory.create()
    experiment = running(policy, percent=30)
    seen(experiment, "control", 3, key=key)
    seen(experiment, "challenger", 2, key=key)

    [shown] = admin_client.get(LIST).context["lines"]

    assert (shown.experiment, shown.state.text, shown.control, shown.challenger) == (experiment, "Running", 3, 2)
    assert shown.what == f"30{NBSP}% of requests follow the challenger"


def test_the_list_takes_as_many_queries_for_twenty_as_for_one(
    policy: RoutingPolicy, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(20):
        made(policy, name=f"trial-{number}")
    experiments = list(Experiment.objects.select_related("policy", "challenger"))
    with django_assert_num_queries(1):
        assert len(experiment_lines(experiments)) == 20


def test_one_that_runs_shows_both_arms_and_its_guards(admin_client: Client, policy: RoutingPolicy) -> None:
    key = VirtualKeyFactory.create()
    experiment = running(policy, min_samples=5, max_cost=Decimal(2))
    seen(experiment, "control", 6, key=key)
    seen(experiment, "challenger", 5, key=key, latency_ms=400.0)

    answer = admin_client.get(page_of(experiment))

    body = answer.content.decode()
    assert answer.status_code == 200
    assert "Side by side" in body
    assert [guard.name for guard in answer.context["guards"]] == ["More errors", "Slower", "Own budget"]
    assert (answer.context["guards"][2].limit, answer.context["guards"][2].now) == ("$2.00", "$0.05")
    assert 'name="move" value="stop"' in body
    assert 'value="start"' not in body


def test_one_that_has_not_begun_says_what_stands_in_the_way(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = made(policy)
    body = admin_client.get(page_of(experiment)).content.decode()
    assert "It has not been started" in body
    assert "It cannot start yet" not in body

    RoutingPolicy.objects.update(version=2)
    body = admin_client.get(page_of(experiment)).content.decode()
    assert "The draft was made from version 0, in force is 2. Rebase it first." in body
    assert 'value="start" disabled' in body


def test_one_that_has_just_begun_says_that_nothing_has_come_yet(admin_client: Client, policy: RoutingPolicy) -> None:
    assert "No request has come yet" in admin_client.get(page_of(running(policy))).content.decode()


def test_one_that_was_stopped_says_why_and_the_timeline_by_whom(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = running(policy, kind="canary", stages=[5, 100])
    experiment_advance(experiment=experiment, percent=100, now=timezone.now())
    experiment_stop(experiment=experiment, reason="Guard: it fails.", by=None, now=timezone.now())

    answer = admin_client.get(page_of(experiment))

    assert "Guard: it fails." in answer.content.decode()
    assert [(event.text, event.by) for event in answer.context["events"]] == [
        ("Stopped: Guard: it fails.", "the platform"),
        ("Grown to 100 %", "the platform"),
        (f"Started with 5{NBSP}%", "the platform"),
        ("Set up", "the platform"),
    ]


def test_an_experiment_that_does_not_exist_is_not_found(admin_client: Client) -> None:
    assert admin_client.get(f"{LIST}999/").status_code == 404
    assert admin_client.post(f"{LIST}999/act/", {"move": "stop"}).status_code == 404


# --- what may be done ---------------------------------------------------------------------------------------------


def test_it_is_started_stopped_and_promoted_from_its_page(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = made(policy)
    act = f"{page_of(experiment)}act/"

    admin_client.post(act, {"move": "start"})
    assert Experiment.objects.get().state == "running"
    admin_client.post(act, {"move": "stop"})
    assert Experiment.objects.get().stop_reason == "Stopped by admin."
    answer = admin_client.post(act, {"move": "promote"})

    draft = PolicyDraft.objects.get(title="From experiment trial")
    assert answer.headers["location"] == f"/admin/routing/policydraft/{draft.pk}/change/"
    assert Experiment.objects.get().state == "promoted"


def test_a_start_that_is_refused_says_why(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = made(policy, kind="shadow")
    answer = admin_client.post(f"{page_of(experiment)}act/", {"move": "start"}, follow=True)
    said = [str(message) for message in answer.context["messages"]]
    assert said == [
        "A shadow needs a budget of its own, above zero.",
        "A shadow needs a key that pays for the second answers.",
    ]


def test_stopping_twice_is_told(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = running(policy)
    act = f"{page_of(experiment)}act/"
    admin_client.post(act, {"move": "stop"})
    answer = admin_client.post(act, {"move": "stop"}, follow=True)
    assert "did not run any more" in answer.content.decode()


def test_an_unknown_move_is_not_found(admin_client: Client, policy: RoutingPolicy) -> None:
    assert admin_client.post(f"{page_of(made(policy))}act/", {"move": "explode"}).status_code == 404


def test_who_may_only_look_has_no_buttons_and_is_refused(client: Client, policy: RoutingPolicy) -> None:
    reader(client, "view_experiment")
    experiment = running(policy)

    body = client.get(page_of(experiment)).content.decode()

    assert 'name="move"' not in body
    assert client.post(f"{page_of(experiment)}act/", {"move": "stop"}).status_code == 403
    assert Experiment.objects.get().state == "running"


def test_promoting_takes_the_permission_to_add_a_draft(client: Client, policy: RoutingPolicy) -> None:
    reader(client, "view_experiment", "change_experiment")
    experiment = running(policy)
    assert 'value="promote"' not in client.get(page_of(experiment)).content.decode()
    assert client.post(f"{page_of(experiment)}act/", {"move": "promote"}).status_code == 403


def test_who_may_not_see_experiments_sees_none(client: Client, policy: RoutingPolicy) -> None:
    reader(client, is_staff=False)
    for address in (LIST, page_of(made(policy))):
        assert client.get(address).status_code == 403
    client.logout()
    assert client.get(LIST).status_code == 302


# --- lines --------------------------------------------------------------------------------------------------------


def test_a_difference_reads_with_its_interval_and_its_verdict() -> None:
    found = line("Errors", arm(1_000, errors=10), arm(1_000, errors=100))
    assert (found.control, found.challenger) == (f"1.0{NBSP}%", f"10.0{NBSP}%")
    assert (found.difference, found.verdict and found.verdict.text) == (f"+9.0{NBSP}pp", "Worse")
    low, _, high = found.between.partition(" to ")
    assert low.startswith("+")
    assert high.startswith("+")


def test_a_cheaper_challenger_is_better() -> None:
    found = line("Cost per 1,000", arm(500, cost=4e6), arm(500, cost=1e6))
    assert (found.control, found.challenger) == ("$4.00", "$1.00")
    assert (found.difference, found.verdict and found.verdict.text) == (f"−75.0{NBSP}%", "Better")


def test_fewer_valid_answers_are_worse() -> None:
    found = line("Valid JSON", arm(500, valid=Share(490, 500)), arm(500, valid=Share(300, 500)))
    assert found.verdict is not None
    assert found.verdict.text == "Worse"


def test_it_says_how_much_is_still_to_be_seen() -> None:
    early = line("Errors", arm(40), arm(40))
    assert (early.verdict and early.verdict.text, early.more) == ("Not enough yet", "10 more requests per arm")
    unknown = line("Errors", arm(400, errors=20), arm(400, errors=32))
    assert unknown.verdict is not None
    assert unknown.verdict.text == "Not told apart"
    assert unknown.more.startswith("about ")
    assert unknown.more.endswith("00 more per arm")


def test_what_nobody_measured_is_a_dash() -> None:
    found = line("Thumbs up", arm(400), arm(400))
    assert (found.control, found.challenger, found.verdict) == ("–", "–", None)
    assert line("Mean grade", arm(400), arm(400)).control == "–"
    assert line("Mean grade", arm(400, grade=0.5, grades=7), arm(400)).control == "0.50 (7)"


def test_an_interval_is_drawn_around_the_middle() -> None:
    worse = line("Errors", arm(1_000, errors=10), arm(1_000, errors=100)).interval
    alike = line("Errors", arm(1_000, errors=10), arm(1_000, errors=10)).interval
    assert worse is not None
    assert alike is not None
    assert worse.low > 50
    assert alike.at == 50
    assert alike.low < 50 < alike.low + alike.width <= 100


def test_a_share_in_words_for_each_kind() -> None:
    assert share_in_words(Experiment(kind="shadow", percent=20, unit="request")) == (
        f"20{NBSP}% of requests are asked again"
    )
    assert share_in_words(Experiment(kind="canary", percent=5, unit="key", stages=[5, 100])) == (
        f"5{NBSP}% of keys follow the challenger (stages 5, 100{NBSP}%)"
    )


def test_a_canary_is_ready_when_its_last_stage_is_over() -> None:
    now = datetime(2026, 3, 10, 12, tzinfo=UTC)
    canary = Experiment(
        kind="canary", state="running", percent=100, stages=[5, 100], stage_minutes=10, min_samples=50, stage_since=now
    )
    assert not is_ready(canary, arm(100), now=now + timedelta(minutes=9))
    assert is_ready(canary, arm(100), now=now + timedelta(minutes=10))
    assert not is_ready(canary, arm(40), now=now + timedelta(minutes=10))
    canary.percent = 5
    assert not is_ready(canary, arm(100), now=now + timedelta(minutes=10))


def test_an_arm_that_is_missing_requests_is_told() -> None:
    experiment = Experiment(kind="ab", unit="request", percent=50)
    assert missing_share(experiment, arm(500), arm(480)) == ""
    assert "should be" in missing_share(experiment, arm(500), arm(250))
    assert missing_share(Experiment(kind="ab", unit="key", percent=50), arm(500), arm(250)) == ""
    assert missing_share(experiment, arm(0), arm(0)) == ""


def test_its_own_draft_can_be_opened_again(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = running(policy, kind="canary", challenger=draft_of(policy, served_alias()))
    admin_client.post(f"{page_of(experiment)}act/", {"move": "promote"})
    assert "Open its draft" in admin_client.get(page_of(experiment)).content.decode()
