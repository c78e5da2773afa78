"""Issue a virtual key from the command line; the key is printed once."""

import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from routing.domain.config import Scope
from routing.models import ModelAlias, Team, default_scopes
from routing.services import key_issue

MAX_DAYS = 36_500


class Command(BaseCommand):
    help = "Issues a virtual key for a team and prints it. It cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--team", required=True, metavar="SLUG", help="The team that pays.")
        parser.add_argument("--name", required=True, help="What will use the key, for example “support bot”.")
        parser.add_argument("--scopes", nargs="+", choices=[scope.value for scope in Scope], default=default_scopes())
        parser.add_argument("--models", nargs="+", default=[], metavar="ALIAS", help="Only these. Default: all.")
        parser.add_argument("--days", type=int, metavar="N", help="Expires in N days. Default: never.")
        parser.add_argument("--json", action="store_true", help="One JSON object instead of text.")

    def handle(self, *args: Any, **options: Any) -> None:
        team = Team.objects.filter(slug=options["team"]).first()
        if team is None:
            known = ", ".join(Team.objects.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"No team “{options['team']}”. Teams: {known}.")
        aliases = list(ModelAlias.objects.filter(name__in=options["models"]))
        if missing := set(options["models"]) - {alias.name for alias in aliases}:
            raise CommandError(f"No model alias {', '.join(sorted(missing))}.")
        days: int | None = options["days"]
        if days is not None and not 1 <= days <= MAX_DAYS:
            raise CommandError(f"--days is from 1 to {MAX_DAYS}. Leave it out for a key that never expires.")
        try:
            issued = key_issue(
                team=team,
                name=options["name"],
                by=None,
                scopes=options["scopes"],
                expires_at=timezone.now() + timedelta(days=days) if days else None,
                allowed_models=aliases,
            )
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"key": issued.secret, "prefix": issued.key.prefix, "team": team.slug}))
        else:
            self.stdout.write(issued.secret)
            self.stderr.write(f"Key “{issued.key.name}” of {team}. It is not stored and cannot be shown again.")
