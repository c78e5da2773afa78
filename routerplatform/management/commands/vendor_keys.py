"""`manage.py vendor_keys`: set up the providers whose keys are in the environment."""

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

    def handle(self, *_: Any, **options: Any) -> None:
        new = vendor_providers_ensure(vendor_keys=settings.VENDOR_KEYS, now=timezone.now())
        if options["verbosity"] > 0:
            self.stdout.write(f"Set up: {', '.join(new)}." if new else "No new vendor.")
