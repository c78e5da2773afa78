"""The project's own prompts: many, various, the same for the same seed, and well-formed."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from routing.domain.config import TaskType
from routing.training.examples import TASKS
from routing.training.prompts import TEMPLATES, Templates, golden_prompts, own_prompts, told, with_noise

PROMPTS = own_prompts(5)


def test_there_are_thousands_of_every_kind() -> None:
    by_label = Counter(example.label for example in PROMPTS)
    assert set(by_label) == set(TASKS)
    assert min(by_label.values()) > 1_000


def test_the_same_seed_gives_the_same_prompts() -> None:
    assert own_prompts(5) == PROMPTS
    assert own_prompts(6) != PROMPTS


def test_no_prompt_comes_twice() -> None:
    assert len({(example.prompt, example.label) for example in PROMPTS}) == len(PROMPTS)


def test_few_texts_have_two_labels() -> None:
    labels: dict[str, set[TaskType]] = {}
    for example in PROMPTS:
        labels.setdefault(example.prompt.text.lower(), set()).add(example.label)
    assert sum(len(found) > 1 for found in labels.values()) < len(labels) / 200


def test_no_slot_is_left_open() -> None:
    names = Templates().slots.keys() | {"n"}
    left = [example.prompt.text for example in PROMPTS if any(f"{{{name}}}" in example.prompt.text for name in names)]
    assert left == []


def test_every_slot_is_used_and_every_label_is_known() -> None:
    templates = Templates()
    everything = json.dumps([templates.patterns, templates.slots])
    assert [name for name in templates.slots if f"{{{name}}}" not in everything] == []
    assert set(templates.patterns) == {task.value for task in TASKS}
    assert all(set(by_label) == set(templates.patterns) for by_label in templates.languages.values())
    assert set(templates.systems) == {*templates.patterns, "any"}


def test_they_are_in_many_languages() -> None:
    languages = {example.source for example in PROMPTS if example.source.removeprefix("own/") in Templates().languages}
    assert len(languages) >= 15
    assert any("あ" <= letter <= "ん" for example in PROMPTS for letter in example.prompt.text)


def test_some_come_with_a_system_prompt_and_most_without() -> None:
    share = sum(bool(example.prompt.system) for example in PROMPTS) / len(PROMPTS)
    assert 0.1 < share < 0.3


def test_lengths_differ_widely() -> None:
    lengths = sorted(len(example.prompt.text) for example in PROMPTS)
    assert lengths[0] < 10
    assert lengths[-1] > 1_000


def test_braces_that_are_no_slot_stay() -> None:
    templates = Templates()
    assert templates.filled("\\frac{x}{y} of {no_such_slot}", Random(1)) == "\\frac{x}{y} of {no_such_slot}"


def test_a_slot_inside_of_a_slot_is_filled(tmp_path: Path) -> None:
    for name, content in {
        "patterns": {"CODING": ["{outer}"]},
        "slots": {"outer": ["a {inner} b"], "inner": ["x"]},
        "languages": {},
        "systems": {"any": ["hi"], "CODING": ["hi"]},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    assert Templates(tmp_path).filled("{outer}", Random(1)) == "a x b"
    assert {example.label for example in own_prompts(1, Templates(tmp_path))} == {TaskType.CODING}


@pytest.mark.parametrize("text", ["", "a", "hello there", "日本語の文章です", "🙂" * 30])
def test_any_text_can_be_told_otherwise_and_mistyped(text: str) -> None:
    for seed in range(30):
        assert isinstance(told(text, Random(seed)), str)
        assert isinstance(with_noise(text, 0.5, Random(seed)), str)


def test_noise_changes_about_as_many_characters_as_asked() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 40
    assert with_noise(text, 0.0, Random(1)) == text
    noisy = with_noise(text, 0.02, Random(1))
    assert noisy != text
    assert abs(len(noisy) - len(text)) < 0.04 * len(text)


def test_the_golden_prompts_are_always_the_same() -> None:
    assert golden_prompts() == golden_prompts()
    assert {example.label for example in golden_prompts()} == set(TASKS)
    assert len(golden_prompts()) > 500


def test_the_templates_are_written_as_they_are_read() -> None:
    for path in sorted(TEMPLATES.glob("*.json")):
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=1) + "\n", path.name
