"""The benchmark of decisions decides what it says it does."""

import pytest

from benchmarks.decision import CALLER, CASES, measure, request, situations, snapshot
from routing.domain.config import Strategy, TaskType
from routing.domain.decision import decide


@pytest.mark.parametrize("what", CASES)
async def test_every_case_is_measured(what: str) -> None:
    cost = await measure(CASES[what], requests=5)
    assert 0 < cost.situation_us < cost.whole_us


async def test_five_models_are_weighed_and_the_kind_of_work_is_known_where_it_matters() -> None:
    config, gathering, asked = snapshot(Strategy.LOWEST_COST), situations(), request("auto", "Fix this Python function")
    found = await gathering.of(config, CALLER, asked, {}, "request-1")
    plan = decide(config, CALLER, asked, found)
    assert len(plan.targets) == 5
    assert all(one.quality for one in plan.considered)
    assert plan.task_type is TaskType.CODING


async def test_a_cold_prompt_is_classified_each_time() -> None:
    assert (await measure(Strategy.LOWEST_COST, requests=5, is_cold=True)).situation_us > 0
