"""`manage.py doctor`: one screen that says what works, what does not, and what to do about it."""

import json
import logging
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.template.defaultfilters import pluralize
from django.utils import timezone

from routerplatform.checkup.environment import environment, machine
from routerplatform.checkup.processes import beat, gateway, worker
from routerplatform.checkup.serving import ledger, providers
from routerplatform.checkup.storage import database, redis
from routerplatform.management.banner import Console
from routerplatform.management.findings import Finding, State, as_json, fail, is_healthy
from routerplatform.management.gateway_address import local_url

COLOURS: Final = {State.OK: 32, State.WARN: 33, State.FAIL: 31}
GREY: Final = 90
AREA: Final = 13  # characters
MIGRATE: Final = "See that migrations are carried out: manage.py migrate."


class Command(BaseCommand):
    help = (
        "Looks at settings, database, Redis, processes, providers, ledger, disk and clock, and says what to do about "
        "each. Exit code 1 when something fails. Changes nothing, shows no secret, and works without a database too."
    )
    requires_system_checks: list[str] = []  # it is asked when things are broken

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", default=local_url(), help="The gateway to look at (default: %(default)s).")
        parser.add_argument("--json", action="store_true", help="One JSON object.")

    def handle(self, *_: Any, **options: Any) -> None:
        findings: list[Finding] = []
        console = Console(sys.stdout)
        logging.getLogger("kombu").setLevel(logging.ERROR)  # what it would say is told below
        for finding in checkup(options["url"]):
            findings.append(finding)
            if not options["json"]:
                self.stdout.write(line(finding, console))
        if options["json"]:
            self.stdout.write(json.dumps(as_json(findings)))
        if not is_healthy(findings):
            broken = sum(finding.state is State.FAIL for finding in findings)
            raise CommandError(f"{broken} thing{pluralize(broken)} to mend.")


def checkup(url: str) -> Iterator[Finding]:
    """Everything, in the order in which one thing needs the other."""
    now = timezone.now()
    yield from environment()
    yield from machine(now)
    stored = list(database())
    yield from stored
    yield from redis()
    yield from gateway(url)
    yield from worker()
    if not any(finding.area == "database" and finding.state is State.FAIL for finding in stored):
        for name, check in (("beat", beat), ("providers", providers), ("ledger", ledger)):
            yield from _of_tables(name, check, now)


def _of_tables(name: str, check: Callable[[datetime], Iterator[Finding]], now: datetime) -> Iterator[Finding]:
    try:
        yield from check(now)
    except DatabaseError as error:
        yield fail(name, f"Its tables cannot be read: {str(error).strip().partition(chr(10))[0]}", MIGRATE)


def line(finding: Finding, console: Console) -> str:
    state = console.paint(f"{finding.state:<4}", COLOURS[finding.state])
    told = f"{state}  {finding.area:<{AREA}} {finding.text}"
    return f"{told}\n      {'':<{AREA}} {console.paint(finding.fix, GREY)}" if finding.fix else told
