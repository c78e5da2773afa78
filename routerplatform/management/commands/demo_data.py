"""`manage.py demo_data`: the demo installation, made again or taken away."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from routerplatform import demo
from routerplatform.demo_history import DENSE_PER_DAY


class Command(BaseCommand):
    help = "Fill the database with demo providers, policies, teams and usage; what exists is left as it is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument("--with-history", action="store_true", help="a full month of invented usage")
        choice.add_argument(
            "--remove",
            action="store_true",
            help="delete the demo's providers, models, teams, keys and usage. Policies and personas stay. Where other "
            "providers exist, the demo is switched off and nothing is deleted",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        if options["remove"]:
            result = demo.remove()
            if result.switched_off:
                self.stdout.write("Other providers exist, so nothing was deleted: the demo providers are switched off.")
            else:
                self.stdout.write(f"The demo is gone, with {result.usage_records} usage records.")
            return
        seeded = demo.seed(
            now=timezone.now(),
            demo_provider_port=settings.DEMO_PROVIDER_PORT,
            anew=True,
            usage_per_day=DENSE_PER_DAY if options["with_history"] else None,
        )
        self.stdout.write("The demo is in place.")
        if seeded.admin_password:
            self.stdout.write(f"Sign in as {seeded.admin_username} with {seeded.admin_password} (shown only now).")
        if seeded.demo_key:
            self.stdout.write(f"Demo key: {seeded.demo_key}")
