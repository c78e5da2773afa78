"""`manage.py route_explain "prompt"`: where a request would go and why, without a running server."""

import asyncio
import json
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from routerplatform.doors.explain import explained_json
from routerplatform.doors.formats import openai_chat
from routerplatform.explained_page import Row, facts, rows
from routerplatform.gateway.build import build_runtime
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.explaining import ANYBODY, Bench, Explained, Question, caller_with_prefix, explained
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.situations import TAG
from routing.domain.compile import ConfigError, compile_snapshot
from routing.domain.config import ConfigSnapshot
from routing.selectors import artefact_data, config_rows

HEADINGS = ("#", "Model", "Quality", "Latency", "Est. cost", "")


class Command(BaseCommand):
    help = (
        "Tells where a request would go and why. Calls nobody, costs nothing, keeps nothing. What only running "
        "gateways know (open circuit breakers, measured latencies, pinned conversations) is not part of it: ask "
        "POST /api/v1/route/explain for that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prompt", help="What somebody might ask.")
        parser.add_argument("--model", default="auto", metavar="NAME", help="auto, an alias, or provider/model.")
        parser.add_argument("--persona", default="", metavar="SLUG", help="Ask as this persona.")
        parser.add_argument("--policy", default="", metavar="NAME", help="Follow this policy, whatever the names mean.")
        parser.add_argument("--key", default="", metavar="PREFIX", help="Ask as this virtual key. Default: any key.")
        parser.add_argument("--tag", default="", help="As the header x-router-tag of a request.")
        parser.add_argument("--max-tokens", type=int, metavar="N", help="The longest answer.")
        parser.add_argument("--request-id", default="", metavar="ID", help="Seeds what is drawn.")
        parser.add_argument("--json", action="store_true", help="One JSON object, as the API answers.")

    def handle(self, *_: Any, **options: Any) -> None:
        runtime, now = build_runtime(), timezone.now()
        try:
            snapshot = compile_snapshot(config_rows(now=now), now=now)
            runtime.config.artefacts.prepare(snapshot.artefact, artefact_data)
            question = question_of(snapshot, options)
        except (ConfigError, InvalidRequest) as error:
            raise CommandError(str(error)) from error
        told = asyncio.run(explained(Bench.of(runtime), snapshot, question))
        if options["json"]:
            self.stdout.write(json.dumps(explained_json(told), indent=2))
        else:
            for line in lines(told):
                self.stdout.write(line)


def question_of(snapshot: ConfigSnapshot, options: dict[str, Any]) -> Question:
    """:raises InvalidRequest: as a chat completion is refused.
    :raises CommandError: there is no such policy or key."""
    if options["policy"] and options["policy"] not in snapshot.policies:
        known = ", ".join(sorted(snapshot.policies)) or "none yet"
        raise CommandError(f"No active policy “{options['policy']}”. Policies: {known}.")
    caller = caller_with_prefix(snapshot, options["key"]) if options["key"] else ANYBODY
    if caller is None:
        raise CommandError(f"No key begins with “{options['key']}”.")
    body: dict[str, Any] = {"model": options["model"], "messages": [{"role": "user", "content": options["prompt"]}]}
    body |= {"persona": options["persona"]} if options["persona"] else {}
    body |= {"max_tokens": options["max_tokens"]} if options["max_tokens"] is not None else {}
    return Question(
        caller=caller,
        request=openai_chat.parse(json.dumps(body).encode()),
        request_id=options["request_id"] or new_request_id(),
        hints={TAG: options["tag"]} if options["tag"] else {},
        policy=snapshot.policies.get(options["policy"]),
    )


# --- in a terminal ------------------------------------------------------------------------------------------------


def lines(told: Explained) -> Iterator[str]:
    if told.plan is not None:
        yield f"{told.plan.targets[0].name}: {told.plan.how}"
    elif told.problem is not None:
        yield f"Nothing would serve it. {told.problem.message}"
    yield ""
    yield from (f"  {name}: {text}" for name, text in facts(told))
    if told.words:
        words = ", ".join(f"{word.text} {word.weight:+.2f}" for word in told.words)
        yield f"  Words that decided: {words}"
    if told.candidates:
        yield ""
        yield from table([HEADINGS, *(cells(row) for row in rows(told))])


def cells(row: Row) -> tuple[str, ...]:
    quality = "–" if row.quality_percent is None else f"{row.quality_percent} %"
    return (str(row.rank or "–"), row.deployment, quality, row.latency, row.cost, "; ".join(row.notes))


def table(written: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they have to be; figures to the right."""
    widths = [max(len(row[column]) for row in written) for column in range(len(HEADINGS))]
    for row in written:
        parts = [
            text.ljust(width) if column in {1, 5} else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(parts)}".rstrip()
