"""Parts of a replay, decided here and in processes of their own, and what is remembered between them."""

from contextlib import closing
from dataclasses import replace

from routing.domain.classification.types import Classification, QualityEstimate, QualityQuestion
from routing.domain.config import Strategy, TaskType
from routing.domain.recording import write_inputs
from routing.domain.replay import Sums, told
from routing.replaying import Rules, decided_apart, decided_here, remembering
from routing.trained import SHIPPED_FILE
from tests.routing.domain.test_replay import a_request, cheap_first, two_models


def rules() -> Rules:
    snapshot, base = two_models()
    return Rules(snapshot, base, cheap_first(base))


def parts(count: int, size: int) -> list[list[bytes]]:
    return [[write_inputs(a_request(part * size + one)) for one in range(size)] for part in range(count)]


def test_each_part_comes_with_its_size_and_in_its_order() -> None:
    sizes = [size for size, _ in decided_here([*parts(2, 3), *parts(1, 5)], rules())]
    assert sizes == [3, 3, 5]


def test_processes_of_their_own_come_to_the_same_sums() -> None:
    here, apart = Sums(), Sums()
    for _, sums in decided_here(parts(4, 5), rules()):
        here.merge(sums)
    with closing(decided_apart(parts(4, 5), rules(), processes=2)) as results:
        for _, sums in results:
            apart.merge(sums)
    assert here.requests == 20
    assert told(apart) == told(here)


def test_no_more_parts_are_read_than_the_processes_can_take() -> None:
    """A million inputs are not to be in memory at once."""
    read: list[int] = []

    def source() -> object:
        for number, part in enumerate(parts(12, 1)):
            read.append(number)
            yield part

    with closing(decided_apart(source(), rules(), processes=1)) as results:  # type: ignore[arg-type]  # a generator
        next(results)
        assert len(read) <= 3


def test_an_estimate_is_asked_for_once_for_each_model_kind_of_work_and_tag() -> None:
    asked: list[QualityQuestion] = []

    def estimate(question: QualityQuestion) -> QualityEstimate:
        asked.append(question)
        return QualityEstimate(0.5, 0, "test")

    remembered = remembering(estimate)
    plain = QualityQuestion("small", "economy")
    coding = replace(plain, task=Classification(TaskType.CODING))
    for question in (plain, plain, coding, coding, replace(plain, tag="nightly"), replace(plain, model="large")):
        assert remembered(question).mean == 0.5
    assert len(asked) == 4


def test_the_shipped_artefact_says_how_good_models_are() -> None:
    """What was not recorded is estimated by the trained artefact, not by the cost tier alone."""
    snapshot, base = two_models(strategy=Strategy.BEST_QUALITY)
    trained = Rules(snapshot, base, cheap_first(base), SHIPPED_FILE.read_bytes())
    estimate = trained.estimate()(QualityQuestion("cheap", "economy"))
    assert 0.0 <= estimate.mean <= 1.0
    [(size, sums)] = list(decided_here(parts(1, 4), trained))
    assert (size, sums.requests) == (4, 4)
