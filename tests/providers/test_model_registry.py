"""`catalogue_load` with an external registry of models, which is a real server on loopback."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from providers.domain.types import Capability
from providers.model_registry import LARGEST_ANSWER
from providers.models import CatalogueModel, Price, PriceSource

pytestmark = pytest.mark.django_db
HOUSE = {
    "id": "house-model-7b", "label": "House Model", "vendor": "Platform team", "capabilities": ["streaming", "vision"],
    "context_window": 32_000, "max_output_tokens": 4_096, "cost_tier": "economy", "strengths": "House style",
    "input_usd_per_1m": 0.2, "output_usd_per_1m": "0.8", "colour": "blue",
}  # fmt: skip
Lists = Callable[..., None]


@pytest.fixture
def registry(settings: Settings) -> Iterator[Lists]:
    """Say what the registry answers; AI_MODEL_SERVICE_ADDR names it."""
    answer: dict[str, Any] = {"status": 200, "body": b'{"data": []}', "headers": {}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_there = self.path == "/v2/models"
            self.send_response(answer["status"] if is_there else 404)
            for name, value in answer["headers"].items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer["body"] if is_there else b"")

        def log_message(self, *_: object) -> None:
            return

    def lists(*models: Any, body: bytes | None = None, **changes: Any) -> None:
        answer.update(changes, body=json.dumps({"data": models}).encode() if body is None else body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.AI_MODEL_SERVICE_ADDR = f"127.0.0.1:{server.server_port}/v2/"
    yield lists
    server.shutdown()
    server.server_close()


def loaded() -> tuple[dict[str, list[str]], str]:
    """The command's report, and what it complained of."""
    out, err = StringIO(), StringIO()
    call_command("catalogue_load", "--json", stdout=out, stderr=err)
    return json.loads(out.getvalue()), err.getvalue()


def test_what_is_listed_joins_the_catalogue_with_its_price(registry: Lists) -> None:
    registry(HOUSE)
    report, complaints = loaded()
    assert complaints == ""
    assert "house-model-7b" in report["created"]
    assert "gpt-4o" in report["created"], "what ships is there as well"
    model = CatalogueModel.objects.get(name="house-model-7b")
    assert (model.label, model.vendor, model.cost_tier) == ("House Model", "Platform team", "economy")
    assert model.capabilities == [Capability.STREAMING.value, Capability.VISION.value]
    assert (model.context_window, model.max_output_tokens) == (32_000, 4_096)
    price = Price.objects.get(model=model)
    assert (price.source, price.input_usd, price.output_usd) == (PriceSource.REGISTRY, Decimal("0.2"), Decimal("0.8"))
    assert price.cache_read_usd is None


def test_a_second_load_changes_nothing_and_a_new_price_begins_now(registry: Lists) -> None:
    registry(HOUSE)
    loaded()
    again, _ = loaded()
    assert not any(again[what] for what in ("created", "updated", "prices_added", "prices_dropped"))
    registry({**HOUSE, "output_usd_per_1m": 1})
    report, _ = loaded()
    assert [line.partition(" ")[0] for line in report["prices_added"]] == ["house-model-7b"]
    first, second = Price.objects.filter(model__name="house-model-7b").order_by("effective_from")
    assert (first.output_usd, second.output_usd) == (Decimal("0.8"), Decimal(1))
    assert timezone.now() - second.effective_from < timedelta(minutes=5)


def test_the_registry_knows_better_what_it_says_and_leaves_the_rest(registry: Lists) -> None:
    registry({"id": "gpt-4o", "strengths": "Approved for contracts", "input_usd_per_1m": 2, "output_usd_per_1m": 8})
    loaded()
    model = CatalogueModel.objects.get(name="gpt-4o")
    assert model.strengths == "Approved for contracts"
    assert (model.label, model.vendor, model.context_window) == ("GPT-4o", "OpenAI", 128_000)
    [price] = Price.objects.filter(model=model)
    assert (price.source, price.input_usd) == (PriceSource.REGISTRY, Decimal(2))


def test_a_free_model_costs_nothing_and_one_without_a_price_has_none(registry: Lists) -> None:
    registry({"id": "free", "input_usd_per_1m": 0, "output_usd_per_1m": 0}, {"id": "unknown"})
    report, _ = loaded()
    assert Price.objects.get(model__name="free").output_usd == 0
    assert not Price.objects.filter(model__name="unknown").exists()
    assert "unknown" in report["unpriced"]


def test_what_a_person_edited_stays_theirs(registry: Lists) -> None:
    registry(HOUSE)
    loaded()
    model = CatalogueModel.objects.get(name="house-model-7b")
    model.strengths = "Mine"
    model.save()
    registry({**HOUSE, "strengths": "Theirs"})
    report, _ = loaded()
    assert "house-model-7b" in report["left_alone"]
    model.refresh_from_db()
    assert model.strengths == "Mine"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"label": "no id"}, "row 1: Object missing required field `id`"),
        ({"id": ""}, "row 1: an id has 1 to 120 characters"),
        ({"id": "x" * 121}, "an id has 1 to 120 characters"),
        ({"id": "bad", "capabilities": ["flying"]}, "bad: Invalid enum value 'flying'"),
        ({"id": "bad", "input_usd_per_1m": -1}, "bad: a price is USD per million tokens, from 0"),
        ({"id": "bad", "context_window": 0}, "bad: a size is a number of tokens, from 1"),
        ({"id": "bad", "output_usd_per_1m": "cheap"}, "bad: "),
        ("house-model", "row 1: "),
    ],
)
def test_a_bad_row_is_named_and_the_others_count(registry: Lists, row: Any, complaint: str) -> None:
    registry(row, HOUSE)
    report, complaints = loaded()
    assert f"The registry’s model {complaint}" in complaints or complaint in complaints
    assert complaints.count("\n") == 1
    assert "house-model-7b" in report["created"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"status": 503}, "127.0.0.1 answered 503."),
        ({"status": 302, "headers": {"location": "http://127.0.0.1:1/"}}, "127.0.0.1 answered 302."),
        ({"body": b"<html>"}, "did not answer with a list of models"),
        ({"body": b"[1, 2]"}, "did not answer with a list of models"),
        ({"body": b" " * (LARGEST_ANSWER + 1)}, "answered with more than 5,242,880 bytes."),
    ],
)
def test_a_registry_in_trouble_keeps_nobody_from_starting(
    registry: Lists, answer: dict[str, Any], complaint: str
) -> None:
    registry(**answer)
    report, complaints = loaded()
    assert complaints.startswith("The registry of AI_MODEL_SERVICE_ADDR is left out: ")
    assert complaint in complaints
    assert "gpt-4o" in report["created"]


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/", "http://", "127.0.0.1:1"])
def test_an_address_that_leads_nowhere_is_said_so(settings: Settings, address: str) -> None:
    settings.AI_MODEL_SERVICE_ADDR = address
    report, complaints = loaded()
    assert "it is no address" in complaints or "cannot be asked" in complaints
    assert "gpt-4o" in report["created"]
