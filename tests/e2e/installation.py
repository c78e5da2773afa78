"""Make the installation that end-to-end tests copy: `python -m tests.e2e.installation` prints how to get in."""

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from routerplatform import demo  # noqa: E402


def install() -> dict[str, str | None]:
    """The demo at DEMO_PROVIDER_PORT without any invented usage, in a database that was empty."""
    call_command("migrate", verbosity=0, interactive=False)
    seeded = demo.seed(now=timezone.now(), demo_provider_port=settings.DEMO_PROVIDER_PORT, usage_per_day=0)
    return {"admin": seeded.admin_username, "password": seeded.admin_password, "key": seeded.demo_key}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(install()) + "\n")
