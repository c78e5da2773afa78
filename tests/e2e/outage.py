"""Add a provider that a test plays: `python -m tests.e2e.outage <base url>`.

The alias `fragile` is its one model, `outage` has the demo provider's `demo-swift` behind it.
"""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from providers.models import Deployment  # noqa: E402
from tests import gateway as configure  # noqa: E402


def prepare(url: str) -> None:
    [fragile] = configure.vendor("fragile", url, "m")
    configure.alias("fragile", fragile)
    configure.alias("outage", fragile, Deployment.objects.get(upstream_model="demo-swift"))


if __name__ == "__main__":
    prepare(*sys.argv[1:])
