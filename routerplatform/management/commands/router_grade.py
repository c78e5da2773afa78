"""`manage.py router_grade --judge ALIAS`: let a policy's models answer kept prompts, and a judge grade the answers."""

import asyncio
import dataclasses
import itertools
import json
import random
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.template.defaultfilters import pluralize
from django.utils import timezone

from analytics.management.since_argument import since_argument
from analytics.models import DecisionRecord, Feedback, FeedbackSource
from analytics.presentation import money
from analytics.selectors.learning import prompt_of
from analytics.services.feedback import feedback_grade
from providers.management.progress import Tell, progress
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.pipeline import current_config
from routerplatform.gateway.runtime import Runtime
from routerplatform.grading import Cost, Grade, Grader, Report, Sample, cost_of, graded_models
from routing.domain.config import Caller, ConfigSnapshot, Scope
from routing.domain.recording import UnreadableInputs, read_inputs

NANO = 10**9


def usd_argument(text: str) -> int:
    """Dollars as nano-USD."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise ArgumentTypeError(f"“{text}” is no amount: say 2.50 for two dollars and a half")
    return int(amount * NANO)


class Command(BaseCommand):
    help = (
        "Asks the models of a policy what people have asked (prompts that policies keep for learning), has a judge "
        "grade the answers, and keeps the grades as feedback. All of it is paid for by the virtual key in "
        "ROUTER_GRADE_KEY. Prompts that were graded before are left out. --dry-run tells what it would cost."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--judge", required=True, metavar="ALIAS", help="The model that grades.")
        parser.add_argument("--sample", type=int, default=200, metavar="N", help="How many prompts. Default: 200.")
        parser.add_argument("--policy", default="", metavar="NAME", help="Only prompts of this policy.")
        parser.add_argument("--since", type=since_argument, default=timedelta(days=7), metavar="TIME", help="7d, 12h.")
        parser.add_argument("--max-cost", type=usd_argument, metavar="USD", help="Stop before more is spent.")
        parser.add_argument("--seed", type=int, default=0, help="Which prompts: the same seed, the same ones.")
        parser.add_argument("--dry-run", action="store_true", help="Tell what it would cost; ask nobody.")
        parser.add_argument("--json", action="store_true", help="One JSON object.")

    def handle(self, *_: Any, **options: Any) -> None:
        if not settings.ROUTER_GRADE_KEY:
            raise CommandError("No key pays for it: set ROUTER_GRADE_KEY to the text of a virtual key.")
        if options["sample"] < 1:
            raise CommandError("--sample is at least 1.")
        since = timezone.now() - options["since"]
        samples = samples_of(policy=options["policy"], since=since, most=options["sample"], seed=options["seed"])
        if not samples:
            raise CommandError(
                "No kept prompt is left to grade. Switch on “keep prompts for learning” on a policy, look back further "
                "with --since, or be content: those that were graded before are left out."
            )
        asyncio.run(self._run(samples, options))

    async def _run(self, samples: Sequence[Sample], options: dict[str, Any]) -> None:
        runtime = build_runtime()
        await runtime.start()
        try:
            snapshot = current_config(runtime)
            check(runtime, snapshot, options)
            there = [one for one in samples if one.policy in snapshot.policies]
            cost = total(there, snapshot, options["judge"])
            if not options["json"]:
                self.stdout.write(plan_text(there, cost))
            if cost.unpriced and options["max_cost"]:
                raise CommandError(f"--max-cost holds for known prices only; none: {', '.join(sorted(cost.unpriced))}.")
            if options["dry_run"]:
                self._tell_json(options, there, cost, None)
                return
            with Writer() as writer, progress(self.stderr, "Grading answers") as tell:
                keep = writer.keep if tell is None else told_of(writer.keep, tell)
                grader = Grader(runtime, settings.ROUTER_GRADE_KEY, options["judge"], keep)
                report = await grader.grade(there, snapshot, max_nano=options["max_cost"])
            if not options["json"]:
                self.stdout.write(report_text(report))
            self._tell_json(options, there, cost, report)
        except GatewayError as error:
            raise CommandError(error.message) from error
        finally:
            await runtime.close()

    def _tell_json(self, options: dict[str, Any], samples: Sequence[Sample], cost: Cost, report: Report | None) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(as_dict(samples, cost, report)))


def check(runtime: Runtime, snapshot: ConfigSnapshot, options: dict[str, Any]) -> Caller:
    """Who pays.

    :raises CommandError: judge or policy is not there, or the judge's name leads to a policy.
    :raises GatewayError: the key is refused.
    """
    if options["judge"] not in snapshot.aliases:
        known = ", ".join(sorted(snapshot.aliases)) or "none yet"
        raise CommandError(f"The judge “{options['judge']}” is no active alias. Aliases: {known}.")
    if options["policy"] and options["policy"] not in snapshot.policies:
        known = ", ".join(sorted(snapshot.policies)) or "none yet"
        raise CommandError(f"No active policy “{options['policy']}”. Policies: {known}.")
    return runtime.authenticator.caller(snapshot, settings.ROUTER_GRADE_KEY, now=runtime.now(), scope=Scope.CHAT)


def samples_of(*, policy: str, since: Any, most: int, seed: int) -> list[Sample]:
    """Kept prompts that no judge has graded, drawn by the seed. Three queries."""
    graded = Feedback.objects.filter(source=FeedbackSource.JUDGE, at__gte=since).values("decision_id")
    rows = DecisionRecord.objects.filter(at__gte=since).exclude(prompt="").exclude(pk__in=graded)
    if policy:
        rows = rows.filter(policy=policy)
    keys = list(rows.order_by("pk").values_list("pk", flat=True))
    drawn = random.Random(seed).sample(keys, min(most, len(keys)))  # noqa: S311 - a sample, no secret
    found = DecisionRecord.objects.filter(pk__in=drawn).order_by("at", "pk")
    return [_sample(row, prompt) for row in found if (prompt := prompt_of(row))]


def _sample(row: DecisionRecord, prompt: str) -> Sample:
    try:
        output = read_inputs(bytes(row.inputs)).outcome.output_tokens
    except UnreadableInputs:
        output = 0
    return Sample(row.pk, row.team_id, row.policy, prompt, output)


def total(samples: Sequence[Sample], snapshot: ConfigSnapshot, judge: str) -> Cost:
    found, judges = Cost(), snapshot.aliases[judge].deployments
    for sample in samples:
        found = found.plus(cost_of(sample, graded_models(snapshot.policies[sample.policy]), judges))
    return found


class Writer:
    """Writes grades in a thread of its own, one after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "grades")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(_hang_up)
        self._thread.shutdown()

    async def keep(self, grade: Grade) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, keep, grade)


def _hang_up() -> None:
    connection.close()  # this thread's own


def keep(grade: Grade) -> None:
    feedback_grade(
        decision_id=grade.sample.decision_id,
        team_id=grade.sample.team_id,
        deployment=grade.deployment,
        grade=grade.grade,
        text=grade.reason,
        now=timezone.now(),
    )


def told_of(keep: Callable[[Grade], Awaitable[None]], tell: Tell) -> Callable[[Grade], Awaitable[None]]:
    """`keep`, and the count of what was kept goes up."""
    count = itertools.count(1)

    async def told(grade: Grade) -> None:
        await keep(grade)
        tell(next(count))

    return told


def as_dict(samples: Sequence[Sample], cost: Cost, report: Report | None) -> dict[str, Any]:
    """The plan, and what came of it; null where nobody was asked."""
    return {
        "prompts": len(samples),
        "likely_nano": cost.likely,
        "most_nano": cost.most,
        "unpriced": sorted(cost.unpriced),
        "done": None if report is None else dataclasses.asdict(report),
    }


def plan_text(samples: Sequence[Sample], cost: Cost) -> str:
    number = len(samples)
    text = f"{number} prompt{pluralize(number)}: about {money(cost.likely)}, at most {money(cost.most)}"
    return f"{text}; without a price: {', '.join(sorted(cost.unpriced))}" if cost.unpriced else text


def report_text(report: Report) -> str:
    parts = [f"{report.graded} answer{pluralize(report.graded)} graded"]
    if report.refused:
        parts.append(f"{report.refused} refused or failed")
    if report.unreadable:
        parts.append(f"{report.unreadable} without a readable grade")
    text = f"{', '.join(parts)}; {money(report.spent_nano)} spent"
    return f"{text}. Stopped: {report.stopped}" if report.stopped else text
