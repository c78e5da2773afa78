"""The processes: gateway, worker, beat."""

import http.client
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from celery import Celery
from django.db.models import Max
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from routerplatform.celery import app
from routerplatform.checkup.redis_place import redis_url
from routerplatform.management.findings import Finding, fail, ok, warn

PATIENCE_S: Final = 3.0
WORKER_WITHIN_S: Final = 4.0  # one on the folder queue looks once a second
BEAT_WITHIN: Final = timedelta(minutes=10)  # it writes down what it did every three minutes
OLD_CONFIG_S: Final = 30.0
START: Final = "Start it: script/server starts all, the Procfile has each command."


def gateway(url: str) -> Iterator[Finding]:
    try:
        status, body = _health(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        yield fail("gateway", f"None answers at {url} ({type(error).__name__}).", START)
        return
    if status != http.HTTPStatus.OK or body.get("status") != "ok":
        problem = body.get("problem") or f"status {status}"
        yield fail("gateway", f"It does not serve: {problem}", "Read its log; it says which row or setting is wrong.")
        return
    yield ok("gateway", f"It serves at {url}, by configuration {body.get('config_revision')}.")
    if body.get("problem") or float(body.get("config_age_s") or 0) > OLD_CONFIG_S:
        yield warn(
            "gateway",
            f"Its configuration is {body.get('config_age_s')} s old: {body.get('problem') or 'it was not refreshed'}",
            "See that the database answers; its log says more.",
        )
    if body.get("classifier") == "failing":
        yield warn("gateway", "The classifier plug-in fails; the built-in one answers.", "Look at it in the admin.")


def _health(url: str) -> tuple[int, dict[str, Any]]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/health", headers={"accept": "application/json"})
        response = connection.getresponse()
        body = json.loads(response.read(100_000) or b"{}")
    finally:
        connection.close()
    return response.status, body if isinstance(body, dict) else {}


def worker() -> Iterator[Finding]:
    try:
        asking = Celery(broker=redis_url(), set_as_current=False) if redis_url() else app
        found = asking.control.inspect(timeout=WORKER_WITHIN_S).ping() or {}
    except (OperationalError, RedisError, OSError) as error:
        yield fail("worker", f"Its queue cannot be reached ({type(error).__name__}).", "See to Redis first.")
        return
    if found:
        yield ok("worker", f"{len(found)} answer{'s' if len(found) == 1 else ''}.")
    else:
        yield fail("worker", "None answers: health checks, rollups and alerts stand still.", START)


def beat(now: datetime) -> Iterator[Finding]:
    last = PeriodicTask.objects.filter(enabled=True).aggregate(last=Max("last_run_at"))["last"]
    if last is None:
        yield fail("beat", "It has never scheduled anything.", START)
    elif now - last > BEAT_WITHIN:
        yield fail("beat", f"It last scheduled something at {last:%Y-%m-%d %H:%M} UTC.", START)
    else:
        yield ok("beat", f"It last noted a run at {last:%H:%M} UTC.")
    off = list(PeriodicTask.objects.filter(enabled=False).order_by("name").values_list("name", flat=True))
    if off:
        yield warn("beat", f"Switched off: {', '.join(off[:5])}.", "Switch them on in the admin if that was no intent.")
