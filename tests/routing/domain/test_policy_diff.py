import pytest

from routing.domain.documents import CandidateDocument as Model
from routing.domain.documents import LadderDocument, PolicyDocument
from routing.domain.policy_diff import FIELDS, Collision, as_json, policy_changes, rebased

BASE = PolicyDocument(candidates=(Model("fast"), Model("smart", is_fallback=True)), max_cost_nano=50_000_000)


def said(after: PolicyDocument, before: PolicyDocument = BASE) -> list[str]:
    return [str(change) for change in policy_changes(before, after)]


def with_(document: PolicyDocument = BASE, **changes: object) -> PolicyDocument:
    return PolicyDocument(**{name: getattr(document, name) for name in document.__struct_fields__} | changes)


def test_equal_rules_have_no_changes() -> None:
    assert policy_changes(BASE, with_()) == []


def test_money_is_said_in_dollars_and_nothing_is_none() -> None:
    assert said(with_(max_cost_nano=20_000_000)) == ["cost ceiling: $0.05 → $0.02"]
    assert said(with_(max_cost_nano=None)) == ["cost ceiling: $0.05 → none"]
    assert said(with_(max_cost_nano=1_500)) == ["cost ceiling: $0.05 → $0.0000015"]


def test_models_that_come_and_go_are_named_with_their_part() -> None:
    after = with_(candidates=(Model("fast"), Model("deep", is_fallback=True, weight=3)))
    assert said(after) == ["model: removes smart as fallback", "model: adds deep as fallback, weight 3"]
    coder = Model("coder", task_type="CODING")
    assert said(with_(candidates=(*BASE.candidates, coder))) == ["model: adds coder as preferred, preferred for coding"]


def test_a_model_that_changes_its_part_weight_or_work_is_told_apart() -> None:
    after = with_(candidates=(Model("fast", weight=4, task_type="CODING"), Model("smart")))
    assert said(after) == [
        "weight of fast: 1 → 4",
        "fast is preferred for: nothing → coding",
        "smart is: fallback → preferred",
    ]


def test_another_order_is_one_change() -> None:
    before = with_(candidates=(Model("a"), Model("b"), Model("c")))
    after = with_(candidates=(Model("c"), Model("a"), Model("b")))
    assert said(after, before) == ["tried in the order: a, then b, then c → c, then a, then b"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"strategy": "lowest_cost"}, "order: in order → cheapest first"),
        ({"task_type": "CODING"}, "made for: any → coding"),
        ({"quality_floor": 0.8}, "quality floor: none → 0.8"),
        ({"within_of_best": 0.05}, "close enough to the best: none → 0.05"),
        ({"cost_weight": 0.2}, "what a cent is worth: 0.1 → 0.2"),
        ({"latency_weight": 0.0}, "what a second is worth: 0.01 → 0"),
        ({"max_latency_ms": 4000}, "latency ceiling: none → 4,000 ms"),
        ({"required": ("json_schema",)}, "required capabilities: none → JSON schema"),
        ({"regions": ("eu", "us")}, "allowed regions: all → eu, us"),
        ({"is_sticky": True}, "keeps a conversation where it is: no → yes"),
        ({"escalate_on": ("empty", "refusal")}, "asks the next model when an answer: none → is empty, refuses"),
        ({"ladder": LadderDocument(cap_at=80)}, "shortens answers at: none → 80 % of a budget"),
        ({"ladder": LadderDocument(cap_tokens=1000)}, "shortened answers have: 512 tokens → 1,000 tokens"),
        ({"ladder": LadderDocument(cheaper_at=85)}, "prefers cheaper models at: none → 85 % of a budget"),
        ({"ladder": LadderDocument(cache_only_at=90)}, "answers from the cache only at: none → 90 % of a budget"),
        ({"ladder": LadderDocument(refuse_at=95)}, "refuses at: none → 95 % of a budget"),
        ({"cache_mode": "never"}, "keeps answers of: requests at temperature 0 → nothing"),
        ({"cache_ttl_s": 7200}, "keeps them for: as the settings say → 7,200 s"),
        ({"sample_percent": 10}, "decisions kept: 100 % → 10 %"),
        ({"keeps_prompts": True}, "keeps prompts for learning: no → yes"),
    ],
)
def test_every_field_is_said_in_words_with_its_unit(change: dict[str, object], expected: str) -> None:
    assert said(with_(**change)) == [expected]


def test_no_field_of_the_rules_is_forgotten() -> None:
    flat = {name for name in PolicyDocument.__struct_fields__ if name not in {"candidates", "ladder"}}
    flat |= {f"ladder.{name}" for name in LadderDocument.__struct_fields__}
    assert {field.name for field in FIELDS} == flat


def test_the_order_of_names_in_a_set_is_no_change() -> None:
    assert said(with_(regions=("us", "eu")), with_(regions=("eu", "us"))) == []


def test_changes_go_out_as_json_with_their_sentence() -> None:
    [change] = as_json(policy_changes(BASE, with_(is_sticky=True)))
    assert change == {
        "field": "is_sticky",
        "label": "keeps a conversation where it is",
        "before": "no",
        "after": "yes",
        "text": "keeps a conversation where it is: no → yes",
    }


def test_a_change_is_made_on_top_of_another_one() -> None:
    theirs = with_(max_latency_ms=900, ladder=LadderDocument(cap_at=80))
    ours = with_(strategy="lowest_cost", ladder=LadderDocument(refuse_at=99))
    merged = rebased(BASE, theirs, ours)
    assert (merged.max_latency_ms, merged.strategy) == (900, "lowest_cost")
    assert merged.ladder == LadderDocument(cap_at=80, refuse_at=99)
    assert merged.candidates == BASE.candidates


def test_the_same_change_made_twice_does_not_collide() -> None:
    both = with_(is_sticky=True)
    assert rebased(BASE, both, both) == both


def test_what_collides_is_named() -> None:
    theirs = with_(max_cost_nano=1_000_000, candidates=(Model("fast"),))
    ours = with_(max_cost_nano=2_000_000, candidates=(Model("smart"),), is_sticky=True)
    with pytest.raises(Collision) as error:
        rebased(BASE, theirs, ours)
    assert error.value.labels == ["cost ceiling", "models"]
