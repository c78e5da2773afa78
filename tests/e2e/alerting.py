"""Give the worker something to tell and somebody to tell it: `python -m tests.e2e.alerting <webhook> <secret>`."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
django.setup()

from django.utils import timezone  # noqa: E402

from analytics.models import ChannelKind  # noqa: E402
from tests.factories import AlertChannelFactory, UsageRecordFactory, mark_hour  # noqa: E402


def prepare(url: str, secret: str) -> None:
    """A webhook on this machine, and a request a moment ago whose price nobody knows."""
    AlertChannelFactory(kind=ChannelKind.WEBHOOK, clear=url, secret=secret, allowed_networks="127.0.0.1/32")
    record = UsageRecordFactory(at=timezone.now(), cost_nano=None, model="new-model", deployment="vendor/new-model")
    mark_hour(record.started_at)


if __name__ == "__main__":
    prepare(*sys.argv[1:])
