"""What the pages of experiments say: units on figures, sense where little is known, who may press what."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from analytics.domain.experiments import ArmFigures, Guards, GuardState, Moments, Share, guard_states
from analytics.experiments_page import (
    GuardLine,
    Line,
    events_of,
    guard_lines,
    is_ready,
    missing_share,
    result_lines,
    share_in_words,
)
from analytics.selectors.experiments import ArmResults
from routing.models import Experiment, PolicyDraft, RoutingPolicy
from routing.services.experiments import experiment_promote, experiment_stop
from tests.factories import (
    RoutingPolicyFactory,
    UsageRecordFactory,
    UserFactory,
    VirtualKeyFactory,
    served_alias,
)
from tests.routing.trials import experiment_of, started

LIST = "/dashboards/experiments/"
NBSP = "\N{NO-BREAK SPACE}"
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
NOTHING = ArmFigures(0, Share(0, 0), Moments(0, 0.0, 0.0), Moments(0, 0.0, 0.0))


def arm(
    requests: int, *, errors: int = 0, latency: float = 500.0, cost: float = 1e6, spread: float = 0.5, **shown: Any
) -> ArmResults:
    answered = requests - errors
    figures = ArmFigures(
        requests,
        Share(errors, requests),
        Moments(answered, latency, (latency * spread) ** 2),
        Moments(answered, cost, (cost * spread) ** 2),
        round(answered * cost),
    )
    return ArmResults("x", figures, **shown)


def line(name: str, control: ArmResults, challenger: ArmResults, *, least: int = 50) -> Line:
    return next(one for one in result_lines(control, challenger, least=least) if one.name == name)


def plain(text: str) -> str:
    return text.replace(NBSP, " ")


# --- figures with their units ---------------------------------------------------------------------------------------


def test_every_measure_has_its_unit_on_both_sides() -> None:
    one = arm(1_000, errors=20, latency_p50=412.0, latency_p95=2_300.0, ttft_p50=90.0, ttft_p95=65_000.0,
              tokens=1_500_000, valid=Share(99, 100), liked=Share(3, 4), grade=0.875, grades=1_200)  # fmt: skip
    shown = {one.name: plain(one.control) for one in result_lines(one, one, least=50)}
    assert shown == {
        "Errors": "2.0 %",
        "Latency": "500 ms",
        "Cost per 1,000": "$1.00",
        "Latency p50": "412 ms",
        "Latency p95": "2.30 s",
        "First token p50": "90 ms",
        "First token p95": "1 min 5 s",
        "Tokens per request": "1.5 k",
        "Cost in all": "$0.98",
        "Valid JSON": "99.0 %",
        "Thumbs up": "75.0 %",
        "Mean grade": "0.88 (1,200)",
    }


def test_of_two_sides_without_requests_nothing_is_said_but_a_dash() -> None:
    empty = ArmResults("x", NOTHING)
    lines = result_lines(empty, empty, least=50)
    assert {one.control for one in lines if one.name != "Cost in all"} == {"–"}
    assert all(one.verdict is None and not one.difference and one.interval is None for one in lines)


def test_one_side_without_requests_shows_the_other_and_no_difference() -> None:
    found = line("Latency", arm(400), ArmResults("x", NOTHING))
    assert (plain(found.control), found.challenger, found.verdict) == ("500 ms", "–", None)


def test_a_difference_of_shares_is_in_points_and_one_of_means_in_per_cent() -> None:
    errors = line("Errors", arm(1_000, errors=100), arm(1_000, errors=10))
    assert plain(errors.difference) == "−9.0 pp"
    assert all(end.endswith(" pp") for end in plain(errors.between).split(" to "))
    slower = line("Latency", arm(1_000), arm(1_000, latency=625.0))
    assert plain(slower.difference) == "+25.0 %"
    assert all(end.endswith(" %") for end in plain(slower.between).split(" to "))


@pytest.mark.parametrize(
    ("latency", "said"), [(500.0, "0.0 %"), (5_000.0, "+900.0 %"), (6_000.0, "12 ×"), (5e9, ">1,000 ×")]
)
def test_a_manifold_reads_as_one(latency: float, said: str) -> None:
    assert plain(line("Latency", arm(400), arm(400, latency=latency)).difference) == said


def test_an_interval_of_few_requests_is_wide_and_yet_to_be_read() -> None:
    """Of two answers whose cost varies much, the upper end has more than twenty digits."""
    found = line("Cost per 1,000", arm(2, spread=8.0), arm(2, spread=8.0))
    assert plain(found.between) == "−100.0 % to >1,000 ×"
    assert found.interval is not None
    assert 0 <= found.interval.low <= found.interval.at <= found.interval.low + found.interval.width <= 100


def test_how_many_more_requests_is_rounded_as_it_is_guessed() -> None:
    unknown = line("Errors", arm(400, errors=20), arm(400, errors=32))
    digits = unknown.more.removeprefix("about ").removesuffix(" more per arm").replace(",", "").rstrip("0")
    assert 1 <= len(digits) <= 2
    alike = line("Errors", arm(400, errors=20), arm(400, errors=20))
    assert alike.verdict is not None
    assert (alike.verdict.text, alike.more) == ("No difference", "none that more requests would show")


def test_requests_of_unknown_price_are_told_beside_the_sum() -> None:
    found = line("Cost in all", arm(10, unpriced=1_000), arm(10, unpriced=234))
    assert found.hint == "1,234 of unknown price are not in it"
    assert line("Cost in all", arm(10), arm(10)).hint == ""


def test_requests_that_were_given_up_share_their_tokens_too() -> None:
    assert line("Tokens per request", arm(1, cancelled=1, tokens=400), arm(0)).control == "200"


# --- guards ---------------------------------------------------------------------------------------------------------


def lines_of_guards(control: ArmResults, challenger: ArmResults, guards: Guards, **options: Any) -> list[GuardLine]:
    states: list[GuardState] = guard_states(control.figures, challenger.figures, guards)
    return guard_lines(states, Experiment(name="trial", max_cost=options.get("max_cost")), challenger)


@pytest.mark.parametrize(
    ("errors", "requests", "said"),
    [
        (0, 1_000, "Within"),
        (24, 1_000, "Within"),
        (25, 1_000, "Near"),
        (49, 1_000, "Near"),
        (50, 1_000, "Breached"),
        (4, 60, "Past it, perhaps by chance"),
        (49, 49, "After 1 more per arm"),
    ],
)
def test_a_guard_says_how_near_it_is(errors: int, requests: int, said: str) -> None:
    [found] = lines_of_guards(arm(requests), arm(requests, errors=errors), Guards(least=50, errors=0.05))
    assert (found.name, plain(found.limit), found.state.text) == ("More errors", "+5 pp", said)


def test_guards_have_the_unit_of_their_limit() -> None:
    guards = Guards(least=50, errors=0.025, latency=1.0, cost=0.075)
    found = lines_of_guards(arm(400), arm(400, errors=4, latency=600.0, cost=5e5), guards)
    assert [(one.name, plain(one.limit), plain(one.now)) for one in found] == [
        ("More errors", "+2.5 pp", "+1.0 pp"),
        ("Slower", "+100 %", "+20.0 %"),
        ("Dearer", "+7.5 %", "−50.0 %"),
    ]


def test_a_guard_of_nothing_is_not_past_where_there_is_no_difference() -> None:
    [errors] = lines_of_guards(arm(400), arm(400), Guards(least=50, errors=0.0))
    assert (errors.state.text, errors.now) == ("Within", f"0.0{NBSP}pp")


def test_where_one_side_costs_nothing_the_guard_says_that_it_cannot_tell() -> None:
    guards = Guards(least=50, errors=0.05, cost=0.5)
    [_, dearer] = lines_of_guards(arm(400, cost=0.0), arm(400), guards)
    assert (dearer.state.text, dearer.state.tone) == ("Cannot tell: one side is free", "warn")
    [_, dearer] = lines_of_guards(arm(10, cost=0.0), arm(10), guards)
    assert dearer.state.text == "After 40 more per arm"


@pytest.mark.parametrize(("cost", "said"), [(999_999, "Within"), (1_000_000, "Used up"), (2_000_000, "Used up")])
def test_its_own_budget_is_used_up_at_its_limit(cost: int, said: str) -> None:
    found = lines_of_guards(arm(1), arm(1, cost=cost), Guards(least=50, errors=1.0), max_cost=Decimal("0.001"))
    assert (found[-1].name, found[-1].limit, found[-1].state.text) == ("Own budget", "$0.0010", said)


# --- in words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"kind": "ab", "percent": 50, "unit": "key"}, "50 % of keys follow the challenger"),
        ({"kind": "ab", "percent": 1, "unit": "conversation"}, "1 % of conversations follow the challenger"),
        ({"kind": "shadow", "percent": 100, "unit": "conversation"}, "100 % of conversations are asked again"),
        (
            {"kind": "canary", "percent": 5, "unit": "request", "stages": [5, 50, 100]},
            "5 % of requests follow the challenger (stages 5, 50, 100 %)",
        ),
    ],
)
def test_a_share_is_told_with_what_it_is_of(columns: dict[str, Any], said: str) -> None:
    assert plain(share_in_words(Experiment(**columns))) == said


@pytest.mark.parametrize("columns", [{"kind": "ab"}, {"state": "stopped"}, {"stage_since": None}])
def test_only_a_canary_that_runs_is_ever_ready(columns: dict[str, Any]) -> None:
    fields = {"kind": "canary", "state": "running", "percent": 100, "stages": [5, 100], "stage_minutes": 1,
              "min_samples": 1, "stage_since": NOW}  # fmt: skip
    assert is_ready(Experiment(**fields), arm(10), now=NOW + timedelta(hours=1))
    assert not is_ready(Experiment(**fields | columns), arm(10), now=NOW + timedelta(hours=1))


@pytest.mark.parametrize(("control", "challenger", "side"), [(900, 500, "control"), (500, 200, "challenger")])
def test_the_side_that_lacks_requests_is_named(control: int, challenger: int, side: str) -> None:
    percent = {"control": 20, "challenger": 50}[side]
    said = missing_share(Experiment(kind="ab", unit="request", percent=percent), arm(control), arm(challenger))
    assert f"try the {side}’s rules in the test box" in said
    assert plain(said).startswith(f"{100 * challenger / (control + challenger):.1f} % of the requests")
    assert f"{percent} % should be" in plain(said)


def test_all_requests_may_go_to_the_challenger_and_none_is_missing() -> None:
    assert missing_share(Experiment(kind="ab", unit="request", percent=100), arm(0), arm(500)) == ""


def test_requests_that_callers_gave_up_count_as_seen() -> None:
    experiment = Experiment(kind="ab", unit="request", percent=50)
    assert missing_share(experiment, arm(500), arm(250, cancelled=240)) == ""


# --- the pages, and who may press what ------------------------------------------------------------------------------


@pytest.fixture
def policy() -> RoutingPolicy:
    made: RoutingPolicy = RoutingPolicyFactory.create(name="house", preferred=[served_alias(name="swift")])
    return made


def reader(client: Client, *permissions: str, is_staff: bool = True) -> User:
    person: User = UserFactory.create(is_staff=is_staff)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(person)
    return person


def page_of(experiment: Experiment) -> str:
    return f"{LIST}{experiment.pk}/"


def body_of(client: Client, experiment: Experiment) -> str:
    answer = client.get(page_of(experiment))
    assert answer.status_code == 200
    return unescape(answer.content.decode())


@pytest.mark.django_db
def test_a_shadows_page_says_who_pays_and_what_is_asked_again(admin_client: Client, policy: RoutingPolicy) -> None:
    payer = VirtualKeyFactory.create(name="shadow-payer", team__name="Research", scopes=["chat"])
    experiment = started(policy, served_alias(), kind="shadow", payer=payer, max_cost=Decimal("2.50"), percent=25)
    body = body_of(admin_client, experiment)
    assert "shadow-payer (Research)" in body
    assert "of its own $2.50" in body
    assert "Asked again" in body


@pytest.mark.django_db
def test_a_page_with_one_request_on_one_side_can_be_read(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = started(policy, served_alias(), min_samples=1)
    UsageRecordFactory(arm="trial:challenger", at=timezone.now() + timedelta(seconds=1))
    body = body_of(admin_client, experiment)
    assert "Side by side" in body
    assert "nan" not in body.replace("governance", "").lower().split()


@pytest.mark.django_db
def test_names_are_shown_as_they_are_and_never_as_markup(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = started(policy, served_alias())
    experiment_stop(experiment=experiment, reason="<script>alert(1)</script>", by=None, now=timezone.now())
    assert "<script>alert(1)" not in admin_client.get(page_of(experiment)).content.decode()


@pytest.mark.django_db
def test_an_address_beyond_all_numbers_is_not_found(admin_client: Client) -> None:
    assert admin_client.get(f"{LIST}{10**30}/").status_code == 404
    assert admin_client.post(f"{LIST}{10**30}/act/", {"move": "stop"}).status_code == 404
    assert admin_client.get(LIST, {"page": "none"}).status_code == 200
    assert admin_client.get(LIST, {"page": "-7"}).status_code == 200


@pytest.mark.django_db
def test_a_move_is_a_post_and_a_page_is_a_get(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = experiment_of(policy, served_alias())
    assert admin_client.get(f"{page_of(experiment)}act/", {"move": "start"}).status_code == 405
    assert admin_client.post(page_of(experiment)).status_code == 405
    assert Experiment.objects.get().state == "draft"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("permissions", "is_staff", "status", "moved"),
    [
        ((), True, 403, False),
        (("view_experiment",), True, 403, False),
        (("change_experiment",), True, 403, False),  # who may not look presses nothing
        (("view_experiment", "change_experiment"), True, 302, True),
        (("view_experiment", "change_experiment"), False, 302, True),
    ],
)
def test_who_may_start_one(
    client: Client, policy: RoutingPolicy, permissions: tuple[str, ...], is_staff: bool, status: int, moved: bool
) -> None:
    reader(client, *permissions, is_staff=is_staff)
    experiment = experiment_of(policy, served_alias())
    assert client.post(f"{page_of(experiment)}act/", {"move": "start"}).status_code == status
    assert (Experiment.objects.get().state == "running") is moved


@pytest.mark.django_db
def test_nobody_signed_in_is_sent_to_sign_in(client: Client, policy: RoutingPolicy) -> None:
    experiment = started(policy, served_alias())
    answer = client.post(f"{page_of(experiment)}act/", {"move": "stop"})
    assert answer.status_code == 302
    assert "login" in answer.headers["location"]
    assert Experiment.objects.get().state == "running"


@pytest.mark.django_db
@pytest.mark.parametrize(("permissions", "is_staff", "may"), [
    (("view_experiment",), True, False),
    (("view_experiment", "add_experiment"), True, True),
    (("view_experiment", "add_experiment"), False, False),
])  # fmt: skip
def test_the_way_to_a_new_one_is_for_staff_who_may_add_one(
    client: Client, permissions: tuple[str, ...], is_staff: bool, may: bool
) -> None:
    reader(client, *permissions, is_staff=is_staff)
    assert ("/admin/routing/experiment/add/" in client.get(LIST).content.decode()) is may


@pytest.mark.django_db
def test_a_second_person_who_presses_start_is_told_and_nothing_begins_anew(
    client: Client, admin_client: Client, policy: RoutingPolicy
) -> None:
    reader(client, "view_experiment", "change_experiment")
    experiment = experiment_of(policy, served_alias())
    act = f"{page_of(experiment)}act/"
    client.post(act, {"move": "start"})
    before = Experiment.objects.get()

    answer = admin_client.post(act, {"move": "start"}, follow=True)

    assert [str(message) for message in answer.context["messages"]] == [
        "It has been started before. Make a new experiment to try again."
    ]
    after = Experiment.objects.get()
    assert (after.seed, after.started_at) == (before.seed, before.started_at)


@pytest.mark.django_db
def test_a_reason_of_any_length_is_kept_as_far_as_it_goes(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = started(policy, served_alias())
    admin_client.post(f"{page_of(experiment)}act/", {"move": "stop", "reason": "x" * 5_000})
    assert Experiment.objects.get().stop_reason == "x" * 300


@pytest.mark.django_db
def test_promoting_one_that_never_ran_says_so(admin_client: Client, policy: RoutingPolicy) -> None:
    experiment = experiment_of(policy, served_alias())
    answer = admin_client.post(f"{page_of(experiment)}act/", {"move": "promote"}, follow=True)
    assert "there is nothing to promote yet" in answer.content.decode()
    assert PolicyDraft.objects.count() == 1


@pytest.mark.django_db
def test_the_timeline_tells_an_edit_and_a_promotion_after_the_end(admin_user: User, policy: RoutingPolicy) -> None:
    experiment = experiment_of(policy, served_alias())
    experiment.percent = 20
    experiment._history_user = admin_user  # type: ignore[attr-defined]
    experiment.save()
    Experiment.objects.filter(pk=experiment.pk).update(state="running", started_at=NOW)
    experiment.refresh_from_db()
    experiment_stop(experiment=experiment, reason="enough", by=None, now=NOW)

    said = [(event.text, event.by) for event in events_of(experiment)]

    assert said == [("Stopped: enough", "the platform"), ("Edited", "admin"), ("Set up", "the platform")]


@pytest.mark.django_db
def test_one_that_is_promoted_shows_its_draft_and_that_drafts_state(
    admin_client: Client, policy: RoutingPolicy
) -> None:
    experiment = started(policy, served_alias())
    draft = experiment_promote(experiment=experiment, by=None, now=timezone.now())
    assert "From experiment trial (draft)" in body_of(admin_client, experiment)
    PolicyDraft.objects.filter(pk=draft.pk).update(state="rejected")
    assert "From experiment trial (rejected)" in body_of(admin_client, experiment)
