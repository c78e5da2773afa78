"""`manage.py demo_provider`: serve the demo provider on loopback."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from providers.demo.__main__ import add_arguments, run


class Command(BaseCommand):
    help = "Serve the demo provider: OpenAI's and Anthropic's wires on loopback, any key, no vendor behind it."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        code = run(host=options["host"], port=options["port"], pace_factor=options["pace_factor"])
        if code:
            sys.exit(code)
