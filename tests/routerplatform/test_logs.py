"""Log lines: one JSON object each for machines, columns for people, and never a secret."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from providers.fields import seal, unseal
from routerplatform.logs import formatter
from routerplatform.vendor_keys import vendor_providers_ensure
from routing.services import key_issue
from tests.factories import NOON, ProviderKeyFactory, TeamFactory, key_text_of


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Everything that is logged, as production writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(pretty=False))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_logger(lines: io.StringIO) -> None:
    logging.getLogger("analytics").warning("the budget %s has reached %d %%", "Search", 80)
    [line] = parsed(lines)
    assert line["event"] == "the budget Search has reached 80 %"
    assert (line["level"], line["logger"]) == ("warning", "analytics")
    assert line["timestamp"].endswith("Z")


def test_structured_values_and_the_context_of_a_request_stand_in_the_line(lines: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger("gateway").info("answered", attempts=2, cost_nano=None)
    [line] = parsed(lines)
    assert (line["event"], line["attempts"], line["cost_nano"], line["request_id"]) == ("answered", 2, None, "r-1")


@pytest.mark.parametrize(
    "text", ["two\nlines", 'quote " and \\', "\u2028 separator", "ünïcode ✓", "\x1b[31mred", "\x00"]
)
def test_no_text_can_forge_a_second_line(lines: io.StringIO, text: str) -> None:
    logging.getLogger("x").info("said: %s", text)
    written = lines.getvalue()
    assert written.count("\n") == 1
    assert "\x1b" not in written
    assert json.loads(written)["event"] == f"said: {text}"


def test_an_exception_is_told_inside_the_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    [line] = parsed(lines)
    assert "ValueError: no such thing" in line["exception"]
    assert lines.getvalue().count("\n") == 1


def test_values_that_are_no_json_are_written_all_the_same(lines: io.StringIO) -> None:
    structlog.get_logger("x").info("odd", value=object(), data=b"\xff", when=NOON)
    [line] = parsed(lines)
    assert "object object" in line["value"]
    assert "2026" in line["when"]


def test_people_get_columns_in_debug() -> None:
    record = logging.LogRecord("analytics", logging.INFO, __file__, 1, "a line", None, None)
    text = formatter(pretty=True).format(record)
    assert "a line" in text
    assert not text.startswith("{")


# --- no secrets ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_issuing_sealing_and_opening_keys_log_no_secret(lines: io.StringIO) -> None:
    text = key_text_of(77)
    issued = key_issue(team=TeamFactory(), name="bot", by=None, scopes=["chat"], secret=text)
    key = ProviderKeyFactory(secret="sk-very-secret-0001")
    logging.getLogger("x").info("%s %r %s %r", issued, issued, key, key)
    assert unseal(seal("sk-very-secret-0001")) == "sk-very-secret-0001"
    written = lines.getvalue()
    assert text.rpartition("_")[2] not in written
    assert "sk-very-secret" not in written
    assert key.sealed not in written


@pytest.mark.django_db
def test_a_vendors_key_that_cannot_be_used_is_logged_without_it(lines: io.StringIO) -> None:
    vendor_providers_ensure(vendor_keys={"openai": "sk with spaces inside"}, now=NOON)
    assert "not usable" in lines.getvalue()
    assert "sk with" not in lines.getvalue()


@pytest.mark.django_db
def test_a_failed_sign_in_is_logged_without_the_password(lines: io.StringIO, client: Client) -> None:
    client.post("/login/", {"username": "maria", "password": "my-own-password"})
    assert "login" in lines.getvalue().lower()
    assert "my-own-password" not in lines.getvalue()


def test_a_sealed_text_that_cannot_be_opened_is_named_by_its_key_only() -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        unseal("0a1b2c3d:gAAAAsecret-token-text")
    assert "0a1b2c3d" in str(caught.value)
    assert "secret-token-text" not in str(caught.value)
