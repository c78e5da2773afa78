"""The worked examples of docs/routing.md, computed by the code that decides."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from providers.domain.types import Deployment, Price
from routing.domain.classification.types import Classification, QualityEstimate
from routing.domain.config import Candidate, Policy, Strategy, TaskType
from routing.domain.decision import RoutePlan, decide
from routing.domain.situation import Situation, Standing
from routing.domain.strategies.protocol import UNPRICED
from tests.routing.domain.build import alias, caller, deployment, policy, request, snapshot

DOC = Path(__file__).parents[2] / "docs/routing.md"
NANO_PER_MILLION = 1_000_000_000


def table(marker: str) -> list[dict[str, str]]:
    """The rows of the table below a marker, by its headings."""
    lines = iter(DOC.read_text().partition(f"<!-- {marker} -->\n")[2].splitlines())
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in _until_blank(lines)]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def _until_blank(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


MODELS = {row["model"]: row for row in table("models")}
EXAMPLES = table("examples")


def built(number: int, row: dict[str, str]) -> Deployment:
    price = Price(number, *(round(float(row[side]) * NANO_PER_MILLION) for side in ("input", "output")))
    one = deployment(number, row["model"], price=price, context_window=None, max_output_tokens=None)
    return replace(one, cost_tier=row["tier"])


DEPLOYMENTS = {name: built(number, row) for number, (name, row) in enumerate(MODELS.items(), 1)}


def standing(one: Deployment) -> Standing:
    row = MODELS[one.model]
    return Standing(float(row["latency (ms)"]), int(row["in flight"]), float(row["headroom"]))


def rules(strategy: str, settings: str) -> Policy:
    candidates = tuple(
        Candidate(alias(name, one), False, int(MODELS[name]["weight"]), TaskType(MODELS[name]["preferred for"]))
        for name, one in DEPLOYMENTS.items()
    )
    figures = [float(figure) for figure in re.findall(r"\d+(?:\.\d+)?", settings)]
    options: dict[str, Any] = {}
    match settings.split(" ", maxsplit=1)[0]:
        case "floor":
            options["quality_floor"] = figures[0]
        case "within":
            options["within_of_best"] = figures[0]
        case "a":
            options["cost_weight"], options["latency_weight"] = figures
    return replace(policy("example", strategy=Strategy(strategy), **options), candidates=candidates)


def planned(strategy: str, settings: str = "", asked: str = "") -> RoutePlan:
    words = asked.split()
    situation = Situation(
        seed=words[1].strip("`") if asked.startswith("request") else "",
        turn=int(words[1]) if asked.startswith("turn") else 0,
        task=Classification(TaskType(asked)) if asked in TaskType.__members__ else None,
        standing=standing,
        quality=lambda question: QualityEstimate(float(MODELS[question.model]["quality"]), 100, "graded"),
    )
    config = snapshot(default=rules(strategy, settings))
    return decide(config, caller(), request("auto", input_tokens_estimate=1000, max_tokens=1000), situation)


@pytest.mark.parametrize("row", EXAMPLES, ids=lambda row: " ".join(row.values()))
def test_each_example_is_what_happens(row: dict[str, str]) -> None:
    plan = planned(row["strategy"].strip("`"), row["set to"], row["the request"])
    assert ", ".join(target.model for target in plan.targets) == row["asked in this order"]


def test_every_strategy_has_an_example_and_a_line() -> None:
    lines = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", DOC.read_text(), re.MULTILINE)
    assert set(lines) == {one.value for one in Strategy}
    assert {row["strategy"].strip("`") for row in EXAMPLES} == {one.value for one in Strategy}


def test_the_costs_are_those_of_the_text() -> None:
    plan = planned("priority")
    costs = [one.estimated_cost_nano or UNPRICED for one in plan.considered]
    assert [cost / 1e9 for cost in costs] == [0.00075, 0.018, 0.025]
    assert "They cost $0.00075, $0.018 and $0.025." in DOC.read_text()


def test_the_balance_is_computed_as_the_text_says() -> None:
    plan = planned("balanced", "a cent is worth 0.1, a second 0.01")
    scores = {one.alias: one.score for one in plan.considered}
    for row in table("balance"):
        figures = {name: float(value) for name, value in row.items() if name != "model"}
        by_hand = figures["quality"] - 0.1 * figures["cents"] - 0.01 * figures["seconds"]
        assert figures["score"] == pytest.approx(by_hand, abs=1e-9)
        assert figures["score"] == pytest.approx(scores[row["model"]], abs=1e-6)
    dear = {one.alias: one.score for one in planned("balanced", "a cent is worth 0.5, a second 0").considered}
    assert [round(dear[name] or 0, 4) for name in ("swift", "sage", "deep")] == [0.5825, -0.04, -0.32]


def test_weights_share_the_requests_as_the_text_says() -> None:
    first = [planned("weighted", "", f"request r-{number}").targets[0].model for number in range(2_000)]
    shares = {name: first.count(name) / len(first) for name in MODELS}
    assert shares == pytest.approx({"swift": 0.6, "sage": 0.3, "deep": 0.1}, abs=0.03)
