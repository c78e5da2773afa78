"""The Celery app: workers and beat, on Redis, or on a folder when there is none."""

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from kombu.transport import TRANSPORT_ALIASES

TRANSPORT_ALIASES["filesystem"] = "routerplatform.file_queue:Transport"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")

app = Celery("routerplatform")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_configure.connect
def make_queue_folder(sender: Celery, **_: Any) -> None:
    """The filesystem broker does not create its folder, neither for those who send nor for those who work."""
    folder = sender.conf.broker_transport_options.get("data_folder_in")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)


@setup_logging.connect
def keep_django_logging(**_: Any) -> None:
    """A receiver here stops Celery from replacing the handlers that settings.LOGGING has set up."""
