"""What the contract's table may say: nothing counts as kept that was not tried."""

from dataclasses import dataclass

import pytest

from tests.contract import checks
from tests.contract.__main__ import chosen, exit_code
from tests.contract.pages import DOCUMENT, document, line, summary
from tests.contract.promises import CHAPTERS, PROMISES, Promise
from tests.contract.verdicts import CHECKS, Verdict, are_all_kept, keeps, tried

assert checks
TWO = (Promise("A1", "one holds"), Promise("A2", "another holds"))


@dataclass
class Nobody:
    touches: int = 0


def good(stage: Nobody) -> str:
    """It is asked."""
    stage.touches += 1
    return "it answered"


def idle(stage: Nobody) -> str:
    """It is not asked at all."""
    return "surely fine"


def silent(stage: Nobody) -> str:
    """It is asked, and says nothing."""
    stage.touches += 1
    return ""


def broken(stage: Nobody) -> str:
    """It breaks in a way that nobody expected."""
    stage.touches += 1
    raise ZeroDivisionError("by\n zero")


def test_every_promise_is_tried_by_one_check_and_every_check_has_its_promise() -> None:
    assert [promise.row for promise in PROMISES if promise.row not in CHECKS] == []
    assert set(CHECKS) == {promise.row for promise in PROMISES}
    assert {promise.row[0] for promise in PROMISES} == set(CHAPTERS)
    assert len({promise.row for promise in PROMISES}) == len(PROMISES)


@pytest.mark.parametrize("missing", sorted(CHECKS)[::9])
def test_a_promise_whose_check_was_taken_away_is_not_kept(missing: str) -> None:
    left = {row: good for row in CHECKS if row != missing}
    rows = list(tried(PROMISES, left, Nobody()))
    assert [row.promise.row for row in rows if row.verdict is not Verdict.KEPT] == [missing]
    assert not are_all_kept(rows)
    assert exit_code(rows) == 1
    told = next(line(row) for row in rows if row.promise.row == missing)
    assert "kept" not in told.partition("  ")[0].lower()
    assert "NO CHECK" in told
    assert summary(rows).startswith(f"{len(PROMISES) - 1} of {len(PROMISES)} promises are kept; not: {missing}")
    assert "| not tried |" in document(PROMISES, left)


def test_a_promise_is_kept_when_its_check_saw_something() -> None:
    rows = list(tried(TWO, {"A1": good, "A2": good}, Nobody()))
    assert [row.verdict for row in rows] == [Verdict.KEPT, Verdict.KEPT]
    assert are_all_kept(rows)
    assert exit_code(rows) == 0
    assert "it answered" in line(rows[0])


@pytest.mark.parametrize(
    ("check", "why"),
    [
        (idle, "its check did nothing to the platform"),
        (silent, "its check did nothing to the platform"),
        (broken, "ZeroDivisionError: by zero"),
    ],
)
def test_a_check_that_does_not_try_or_breaks_keeps_nothing_and_the_next_one_is_tried(check: object, why: str) -> None:
    rows = list(tried(TWO, {"A1": check, "A2": good}, Nobody()))  # type: ignore[dict-item]
    assert [row.verdict for row in rows] == [Verdict.NOT_KEPT, Verdict.KEPT]
    assert rows[0].saw == why
    assert exit_code(rows) == 1


def test_no_rows_at_all_are_not_a_kept_contract() -> None:
    assert not are_all_kept([])


def test_a_second_check_and_one_that_does_not_say_what_it_does_are_refused() -> None:
    with pytest.raises(AssertionError, match="two checks for A1"):
        keeps("A1")(good)
    with pytest.raises(AssertionError, match="does not tell"):
        keeps("A99")(lambda stage: "")


def test_chapters_and_rows_can_be_chosen() -> None:
    assert [promise.row for promise in chosen("E, P9")] == ["E1", "E2", "E3", "E4", "P9"]
    assert len(chosen("")) == len(PROMISES)
    with pytest.raises(SystemExit, match="There is no row “Z”"):
        chosen("Z")


def test_the_page_in_the_docs_is_what_the_checks_say() -> None:
    assert DOCUMENT.read_text() == document(PROMISES, CHECKS), "run: script/contract --write --only P9"
