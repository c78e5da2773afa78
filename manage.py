#!/usr/bin/env python
"""Django's command line for the platform."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from routerplatform.management.findings import settings_report


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        if sys.argv[1:2] == ["doctor"]:
            print(settings_report(str(error), for_programs="--json" in sys.argv))  # noqa: T201 - its only output
            sys.exit(1)
        sys.exit(f"The settings cannot be used: {error}")


if __name__ == "__main__":
    main()
