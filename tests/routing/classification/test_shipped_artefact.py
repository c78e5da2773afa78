"""What ships loads, is small, belongs to its card, and knows obvious prompts in many languages."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.artefacts import DEFAULT, default_artefact, default_card
from routing.domain.classification.linear import LinearClassifier
from routing.domain.classification.quality import ArtefactQuality
from routing.domain.classification.types import UNKNOWN, PromptText, QualityQuestion
from routing.domain.config import TaskType
from routing.training.gates import golden_figures, judged
from routing.training.prompts import golden_prompts, with_noise

CLASSIFIER = LinearClassifier.of(default_artefact())
QUALITY = ArtefactQuality.of(default_artefact())
CODING, CREATIVE, ANALYSIS = TaskType.CODING, TaskType.CREATIVE, TaskType.ANALYSIS
REASONING, SIMPLE = TaskType.COMPLEX_REASONING, TaskType.SIMPLE_QA

OBVIOUS = [
    (CODING, "Write a TypeScript function that debounces another function"),
    (CODING, "my django migration fails with a circular dependency, how do I fix that"),
    (CODING, "```python\nfor i in range(10):\nprint(i)\n```\nwhat is wrong here?"),
    (CODING, "SELECT count(*) FROM visits GROUP BY day; make this query faster"),
    (CODING, "Schreibe eine Java-Methode, die prüft, ob eine Zahl prim ist"),
    (CODING, "用Python写一个读取CSV文件的脚本"),
    (CODING, "Напиши скрипт на bash, который удаляет старые файлы"),
    (CREATIVE, "Write a short story about a gardener on the moon"),
    (CREATIVE, "Compose a birthday poem for my sister"),
    (CREATIVE, "Draft a friendly email to a customer whose parcel is late"),
    (CREATIVE, "Escribe un poema sobre el otoño en la montaña"),
    (CREATIVE, "秋の海についての詩を書いてください"),
    (CREATIVE, "Écris une courte histoire sur un chat qui voyage"),
    (
        ANALYSIS,
        "Summarize the following article in three sentences:\n\nThe harbour was closed on Monday after a storm.",
    ),
    (ANALYSIS, "Is the sentiment of this review positive or negative? The soup was cold and the waiter rude."),
    (ANALYSIS, "Compare the advantages and disadvantages of leasing and buying a car"),
    (ANALYSIS, "Fasse den folgenden Text zusammen: Der Rat hat am Montag beschlossen, die Brücke zu sperren."),
    (ANALYSIS, "Résume ce texte en une phrase : Le port est resté fermé lundi après la tempête."),
    (REASONING, "A train covers 180 km in 2 hours and then 90 km in 3 hours. What is its average speed?"),
    (REASONING, "Prove that the sum of two odd numbers is even"),
    (REASONING, "Solve the equation x^2 - 7x + 12 = 0 and show your steps"),
    (REASONING, "Löse die Gleichung 4x + 3 = 27"),
    (REASONING, "证明根号3是无理数"),
    (SIMPLE, "What is the capital of Portugal?"),
    (SIMPLE, "who painted the night watch"),
    (SIMPLE, "How many legs does a spider have?"),
    (SIMPLE, "¿Cuál es la capital de Noruega?"),
    (SIMPLE, "Кто написал Евгения Онегина?"),
    (SIMPLE, "브라질의 수도는 어디인가요?"),
]


def likeliest(text: str, system: str = "") -> TaskType:
    scores = CLASSIFIER.classify(PromptText(text, system)).scores
    return max(scores, key=scores.__getitem__)


@pytest.mark.parametrize(("label", "text"), OBVIOUS)
def test_an_obvious_prompt_gets_its_label(label: TaskType, text: str) -> None:
    assert likeliest(text) is label


def test_an_ordinary_system_prompt_does_not_turn_the_label() -> None:
    same = sum(likeliest(text, "You are a helpful assistant.") is label for label, text in OBVIOUS)
    assert same >= len(OBVIOUS) - 1


def test_most_obvious_prompts_are_answered_and_not_unknown() -> None:
    answered = sum(CLASSIFIER.classify(PromptText(text)).label is not UNKNOWN for _, text in OBVIOUS)
    assert answered / len(OBVIOUS) > 0.8


@pytest.mark.parametrize("text", ["", "asdf", "...", "\x00\x01"])
def test_what_says_nothing_is_unknown_or_hardly_believed(text: str) -> None:
    assert CLASSIFIER.classify(PromptText(text)).confidence < 0.95


def test_it_is_small() -> None:
    assert DEFAULT.stat().st_size <= 1_000_000


def test_it_belongs_to_its_card() -> None:
    card = default_card()
    assert card["version"] == default_artefact().version
    assert card["bytes"] == DEFAULT.stat().st_size


def test_the_card_reaches_the_bars_on_sources_that_were_left_out() -> None:
    figures = default_card()["figures"]
    assert figures["task"]["macro_f1"] >= 0.75
    assert figures["task"]["lowest_f1"] >= 0.65
    assert figures["task"]["accuracy_of_the_surest_80_percent"] >= 0.85
    assert figures["seen"]["aiq"] >= 0.752
    assert figures["seen"]["saved"] >= 0.45
    assert figures["seen_with_tag"]["saved"] >= 0.65


def test_on_unseen_traffic_it_is_worth_no_less_than_no_router() -> None:
    unseen = default_card()["figures"]["unseen"].values()
    assert sum(one["aiq"] for one in unseen) >= sum(one["no_router"] for one in unseen)


def test_it_passes_its_gates() -> None:
    figures = golden_figures(default_artefact(), golden_prompts())
    assert judged(default_card(), figures, figures).passed
    assert figures.macro_f1 > 0.9


def test_labels_are_kept_under_typing_errors() -> None:
    rng = Random(7)
    texts = [example.prompt.text for example in golden_prompts()[::4]]
    kept = sum(likeliest(with_noise(text, 0.02, rng)) is likeliest(text) for text in texts)
    assert kept / len(texts) >= 0.95


def test_the_licences_of_what_it_learned_from_are_told() -> None:
    licences = default_card()["data"]["licences"]
    assert "own: as the project" in licences
    assert all(not name.endswith("not said") for name in licences)


def test_there_is_no_path_of_a_machine_in_the_card() -> None:
    assert all("/" not in name for name in default_card()["data"]["files_sha256"])


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=400))
def test_it_takes_any_text(text: str) -> None:
    found = CLASSIFIER.classify(PromptText(text, text))
    estimate = QUALITY.estimate(QualityQuestion("gemma-2-9b-it", "economy", found))
    assert 0 <= estimate.mean <= 1


def test_a_dearer_tier_is_expected_to_do_better() -> None:
    task = CLASSIFIER.classify(PromptText("What is the capital of Portugal?"))
    means = [
        QUALITY.estimate(QualityQuestion("unheard", tier, task)).mean for tier in ("economy", "standard", "premium")
    ]
    assert means == sorted(means)


def test_the_words_that_matter_explain_the_label() -> None:
    first, second, *_ = CLASSIFIER.contributions(PromptText("could you write me a poem for tomorrow"))
    assert {first.word, second.word} == {"write", "poem"}
