"""`manage.py vendor_keys`: set up the providers whose keys are in the environment."""

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from routerplatform.vendor_keys import vendor_providers_ensure


class Command(BaseCommand):
    help = (
        "Set up the vendors whose keys are in the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY and so on, see "
        "docs/settings.md), and take over a changed key. Run catalogue_load first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def handle(self, *_: Any, **options: Any) -> None:
        new = vendor_providers_ensure(
            vendor_keys=settings.VENDOR_KEYS, base_urls=settings.VENDOR_BASE_URLS, now=timezone.now()
        )
        if options["json"]:
            present = sorted(kind for kind, secret in settings.VENDOR_KEYS.items() if secret.strip())
            self.stdout.write(json.dumps({"in_environment": present, "set_up": new}))
        elif options["verbosity"] > 0:
            self.stdout.write(f"Set up: {', '.join(new)}." if new else "No new vendor.")
