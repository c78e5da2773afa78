"""`router_grade`: kept prompts asked of a policy's models and judged, through the gateway, on a key that pays."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from pytest_django import Settings

from analytics.models import DecisionRecord, Feedback, UsageRecord
from providers.fields import seal
from routerplatform.grading import UnreadableVerdict, verdict_of
from routing.models import VirtualKey
from tests import gateway as configure
from tests.analytics.learned import request_at
from tests.conftest import configure_two_vendors
from tests.factories import BudgetFactory, TeamFactory, key_text_of
from tests.upstreams.scripted import Script, Upstream, openai_answer, status

PROMPT = "What is the capital of Australia?"


def graded(text: str = '{"grade": 0.75, "reason": "Right."}') -> Script:
    return openai_answer(text)


@pytest.fixture
async def judge_upstream() -> Any:
    upstream = Upstream(graded())
    await upstream.start()
    yield upstream
    await upstream.stop()


def prompt_kept(text: str = PROMPT, *, policy: str = "default", days: float = 1) -> DecisionRecord:
    at = datetime.now(UTC) - timedelta(days=days)
    made: DecisionRecord = DecisionRecord.objects.create(
        request_id=request_at(at), at=at, policy=policy, team=TeamFactory(), inputs=b"", prompt=seal(text)
    )
    return made


@pytest.fixture
async def platform(
    transactional_db: None, settings: Settings, tmp_path: Any, openai_upstream: Upstream,
    anthropic_upstream: Upstream, judge_upstream: Upstream,
) -> None:  # fmt: skip
    """`swift`, then `sage`, of the default policy, and `judge`, which none of them is; a key that pays."""
    settings.JOURNAL_DIR = tmp_path / "journal"
    settings.ROUTER_GRADE_KEY = key_text_of(1)

    def configured() -> None:
        configure_two_vendors(openai_upstream.url, anthropic_upstream.url)
        configure.alias("judge", *configure.vendor("gamma", judge_upstream.url, "judge-1"))

    await sync_to_async(configured)()


async def run(*options: str, judge: str = "judge") -> None:
    """As an operator would: in a thread without an event loop of its own."""
    await sync_to_async(call_command)("router_grade", "--judge", judge, *options)


@sync_to_async
def kept() -> list[tuple[str, float | None, str]]:
    rows = Feedback.objects.filter(source="judge").order_by("deployment")
    return list(rows.values_list("deployment", "grade", "text"))


async def test_every_model_of_the_policy_is_asked_judged_and_paid_for(
    platform: None, openai_upstream: Upstream, anthropic_upstream: Upstream, judge_upstream: Upstream, capsys: Any
) -> None:
    record = await sync_to_async(prompt_kept)()
    await run()
    assert await kept() == [("alpha/swift-1", 0.75, "Right."), ("beta/sage-1", 0.75, "Right.")]
    [asked], [_] = openai_upstream.calls, anthropic_upstream.calls
    assert asked.body["messages"] == [{"role": "user", "content": PROMPT}]
    judged = json.dumps(judge_upstream.calls[0].body["messages"])
    assert PROMPT in judged
    assert "Hello" in judged  # the answer

    def paid() -> tuple[int, set[str], set[int], set[int]]:
        rows = UsageRecord.objects.all()
        teams = set(Feedback.objects.values_list("team_id", flat=True))
        return len(rows), {row.door for row in rows}, {row.key_id for row in rows}, teams

    count, doors, keys, teams = await sync_to_async(paid)()
    assert (count, doors, teams) == (4, {"grading"}, {record.team_id})
    assert keys == {(await VirtualKey.objects.aget()).pk}
    out = capsys.readouterr().out
    assert "1 prompt: about $0.0" in out
    assert "2 answers graded; $0.000" in out


async def test_a_dry_run_tells_the_cost_and_asks_nobody(
    platform: None, openai_upstream: Upstream, judge_upstream: Upstream, capsys: Any
) -> None:
    await sync_to_async(prompt_kept)()
    await sync_to_async(prompt_kept)("Another one", policy="gone")
    await run("--dry-run")
    assert "1 prompt: about $0.00" in capsys.readouterr().out
    await run("--dry-run", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["prompts"], told["likely_nano"] > 0, told["unpriced"], told["done"]) == (1, True, [], None)
    assert openai_upstream.calls == judge_upstream.calls == []
    assert await kept() == []


async def test_what_was_graded_before_is_too_old_or_of_another_policy_is_left_out(
    platform: None, openai_upstream: Upstream
) -> None:
    await sync_to_async(prompt_kept)("old", days=9)
    await sync_to_async(prompt_kept)("elsewhere", policy="other")
    await sync_to_async(prompt_kept)("here")
    await run("--policy", "default")
    assert [call.body["messages"][0]["content"] for call in openai_upstream.calls] == ["here"]
    with pytest.raises(CommandError, match="No kept prompt is left to grade"):
        await run("--policy", "default")


async def test_it_stops_before_more_is_spent_than_allowed(
    platform: None, openai_upstream: Upstream, capsys: Any
) -> None:
    for number in range(3):
        await sync_to_async(prompt_kept)(f"prompt {number}")
    await run("--max-cost", "0.000001")
    assert openai_upstream.calls == []
    assert "Stopped: the next prompt could cost more" in capsys.readouterr().out


async def test_a_sample_is_drawn_by_its_seed(platform: None, openai_upstream: Upstream) -> None:
    for number in range(4):
        await sync_to_async(prompt_kept)(f"prompt {number}")
    await run("--sample", "1")
    assert len(openai_upstream.calls) == 1
    await run("--sample", "10")
    assert len({call.body["messages"][0]["content"] for call in openai_upstream.calls}) == 4


async def test_a_model_that_fails_and_a_judge_that_chats_cost_only_their_own_grade(
    platform: None, anthropic_upstream: Upstream, judge_upstream: Upstream, capsys: Any
) -> None:
    await sync_to_async(prompt_kept)()
    anthropic_upstream.play(status(400, {"error": {"type": "invalid_request_error", "message": "no"}}))
    judge_upstream.play(graded("I would say 9 out of 10."))
    await run()
    assert await kept() == []
    assert "0 answers graded, 1 refused or failed, 1 without a readable grade" in capsys.readouterr().out


async def test_a_budget_that_is_used_up_stops_the_questions(platform: None, openai_upstream: Upstream) -> None:
    await sync_to_async(prompt_kept)()

    def spent() -> None:
        BudgetFactory(team=VirtualKey.objects.get().team, max_budget=Decimal(0))

    await sync_to_async(spent)()
    await run()
    assert openai_upstream.calls == []
    assert await kept() == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--judge", "nobody"], "The judge “nobody” is no active alias. Aliases: judge, sage, swift."),
        (["--policy", "default", "--sample", "0"], "--sample is at least 1"),
        (["--max-cost", "free"], "is no amount"),
        (["--since", "soon"], "is no time"),
    ],
)
async def test_what_makes_no_sense_is_refused(platform: None, options: list[str], complaint: str) -> None:
    await sync_to_async(prompt_kept)()
    with pytest.raises(CommandError, match=complaint):
        await run(*options)


async def test_without_a_key_or_with_a_wrong_one_nobody_is_asked(
    platform: None, settings: Settings, openai_upstream: Upstream
) -> None:
    await sync_to_async(prompt_kept)()
    for key, complaint in (("", "set ROUTER_GRADE_KEY"), (key_text_of(9), "key")):
        settings.ROUTER_GRADE_KEY = key
        with pytest.raises(CommandError, match=complaint):
            await run()
    assert openai_upstream.calls == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"grade": 1}', (1.0, "")),
        (' {"grade": 0.5, "reason": "half"}\n', (0.5, "half")),
        ('```json\n{"grade": 0, "reason": 3}\n```', (0.0, "")),
    ],
)
def test_a_verdict_is_read(text: str, found: tuple[float, str]) -> None:
    assert verdict_of(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "0.8", '{"grade": 1.1}', '{"grade": -0.1}', '{"grade": true}', '{"grade": "1"}', '{"grade": NaN}', "[1]",
     '{"score": 1}', 'Sure! {"grade": 1}'],
)  # fmt: skip
def test_what_is_no_verdict_is_none(text: str) -> None:
    with pytest.raises(UnreadableVerdict):
        verdict_of(text)
