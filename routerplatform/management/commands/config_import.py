"""`manage.py config_import FILE...`: tell what files would change, or change it."""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import pluralize
from django.utils import timezone

from routerplatform.configuration.applying import Options, Outcome, configuration_import
from routerplatform.configuration.files import parsed_files, texts_of
from routerplatform.configuration.reading import MAX_PROBLEMS, Unreadable

DIFFERS: Final = 2  # the exit code of a plan that would change something
DONE: Final = {"add": "added", "change": "changed", "remove": "removed"}
PLANNED: Final = {"add": "to add", "change": "to change", "remove": "to remove"}


class Command(BaseCommand):
    help = (
        "Reads files of config_export, and config.yaml, persona_policy.yaml, capabilities.yaml and .env of older "
        "routers. With --plan it tells what they would change and exits with 2 if that is anything; with --apply it "
        "changes that, all of it or nothing. See docs/configuration-files.md."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="“-” is standard input.")
        how = parser.add_mutually_exclusive_group(required=True)
        how.add_argument("--plan", action="store_true", help="Only tell. Exit code 2: something differs.")
        how.add_argument("--apply", action="store_true", help="Do it, in one transaction.")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="Remove what only the database has, in the sections that the files have.",
        )
        parser.add_argument(
            "--without-secrets", action="store_true", help="Leave out new entries without their secret."
        )
        parser.add_argument(
            "--by", default="", metavar="USERNAME", help="Who does it, for the history and for reviews."
        )
        parser.add_argument("--json", action="store_true", help="One JSON object instead of text.")

    def handle(self, *_: Any, **options: Any) -> None:
        by = person(options["by"])
        try:
            texts = texts_of(options["files"])
            outcome = configuration_import(
                read=lambda current: parsed_files(texts, current, os.environ),
                options=Options(
                    by=by,
                    now=timezone.now(),
                    environment=os.environ,
                    apply=options["apply"],
                    prune=options["prune"],
                    without_secrets=options["without_secrets"],
                ),
            )
        except Unreadable as error:
            self._refuse(error, as_json=options["json"])
        else:
            text = json.dumps(as_json(outcome), indent=2) if options["json"] else "\n".join(lines(outcome))
            self.stdout.write(text)
            if options["plan"] and outcome.plan.changes:
                sys.exit(DIFFERS)

    def _refuse(self, error: Unreadable, *, as_json: bool) -> None:
        problems, more = error.problems[:MAX_PROBLEMS], len(error.problems) - MAX_PROBLEMS
        if as_json:
            told = [{"file": one.file, "line": one.line, "key": one.key, "text": one.text} for one in problems]
            self.stdout.write(json.dumps({"applied": False, "problems": told, "more": max(0, more)}, indent=2))
            sys.exit(1)
        rest = [f"and {more} more"] if more > 0 else []
        raise CommandError("\n".join([*map(str, problems), *rest, "Nothing was changed."]))


def person(username: str) -> User | None:
    if not username:
        return None
    found = User.objects.filter(username=username, is_active=True).first()
    if found is None:
        raise CommandError(f"--by: there is no active account “{username}”.")
    return found


def lines(outcome: Outcome) -> Iterator[str]:
    """The plan for people: what changes, what else there is to know, and how much it is."""
    yield from map(str, outcome.plan.changes)
    yield from (f"! {text}" for text in [*outcome.warnings, *outcome.notes])
    if outcome.plan.unmanaged:
        there = ", ".join(f"{count} in {name}" for name, count in sorted(outcome.plan.unmanaged.items()))
        yield f"  Only in the database: {there}. They stay; --prune removes them."
    counts, words = outcome.plan.counts(), DONE if outcome.is_applied else PLANNED
    if not outcome.plan.changes:
        yield "Nothing else differs." if outcome.left_out else "Nothing differs."
    else:
        said = ", ".join(f"{count} {words[action]}" for action, count in counts.items() if count)
        end = (
            f" Gateways follow within 2 seconds (revision {outcome.revision})."
            if outcome.is_applied
            else " Nothing was changed; --apply does it."
        )
        total = len(outcome.plan.changes)
        yield f"{total} change{pluralize(total)}: {said}.{end}"


def as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "applied": outcome.is_applied,
        "changes": [change.as_json() for change in outcome.plan.changes],
        "counts": outcome.plan.counts(),
        "left_out": outcome.left_out,
        "only_in_database": outcome.plan.unmanaged,
        "notes": outcome.notes,
        "warnings": outcome.warnings,
        "problems": [],
    }
