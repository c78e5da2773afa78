"""What is said of a prompt depends on the artefact and the prompt: process, thread and order are no input."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from routing.artefacts import default_artefact
from routing.domain.classification.artefact import dump, load
from routing.domain.classification.linear import LinearClassifier
from routing.domain.classification.quality import ArtefactQuality
from routing.domain.classification.types import Classification, PromptText, QualityQuestion
from routing.training.prompts import golden_prompts

PROMPTS = [example.prompt for example in golden_prompts()]
CLASSIFIER = LinearClassifier.of(default_artefact())
QUALITY = ArtefactQuality.of(default_artefact())
QUESTIONS = [(model, tier) for model in (*QUALITY.models[:2], "unheard of") for tier in ("economy", "premium")]


def told(found: Classification) -> list[object]:
    means = [QUALITY.estimate(QualityQuestion(model, tier, found)).mean for model, tier in QUESTIONS]
    return [found.label.value, found.confidence, found.known, *found.scores.values(), *means]


def digest() -> str:
    """Of everything that is said of every golden prompt, to the last bit."""
    said = [told(CLASSIFIER.classify(prompt)) for prompt in PROMPTS]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_says_the_same_to_the_last_bit(hash_seed: str) -> None:
    code = "from tests.routing.classification.test_same_everywhere import digest; print(digest())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert found.stdout.strip() == digest()


def test_threads_do_not_disturb_each_other() -> None:
    alone = [CLASSIFIER.classify(prompt) for prompt in PROMPTS[:300]]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(CLASSIFIER.classify, PROMPTS[:300]))
    assert together == alone


def test_the_order_of_questions_does_not_matter() -> None:
    forward = [CLASSIFIER.classify(prompt) for prompt in PROMPTS[:100]]
    backward = [CLASSIFIER.classify(prompt) for prompt in reversed(PROMPTS[:100])]
    assert forward == backward[::-1]


def test_an_artefact_that_was_written_again_says_the_same() -> None:
    artefact = default_artefact()
    settings = {name: value for name, value in artefact.settings.items() if name != "format"}
    again = load(dump(settings, artefact.arrays))
    assert again.version == artefact.version
    other = LinearClassifier.of(again)
    assert [other.classify(prompt) for prompt in PROMPTS[:50]] == [CLASSIFIER.classify(one) for one in PROMPTS[:50]]


def test_what_a_record_kept_estimates_as_the_text_did() -> None:
    """Features that were stored as plain numbers and read back stand for the text."""
    for prompt in PROMPTS[:50]:
        live = CLASSIFIER.classify(prompt)
        kept = json.loads(json.dumps({"known": live.known, "features": list(live.features)}))
        back = Classification(live.label, known=kept["known"], features=kept["features"])
        for model, tier in QUESTIONS:
            assert QUALITY.estimate(QualityQuestion(model, tier, back)) == QUALITY.estimate(
                QualityQuestion(model, tier, live)
            )


@pytest.mark.parametrize("padding", ["", " ", "\n", "\t\n "])
def test_white_space_around_a_prompt_changes_nothing(padding: str) -> None:
    for prompt in PROMPTS[:50]:
        if len(prompt.text) > 700:
            continue  # there, white space moves what is cut off
        padded = PromptText(f"{padding}{prompt.text}{padding}", prompt.system)
        assert CLASSIFIER.classify(padded) == CLASSIFIER.classify(prompt)


def test_scores_come_in_the_order_of_the_artefact() -> None:
    assert tuple(CLASSIFIER.classify(PromptText("hi")).scores) == CLASSIFIER.tasks


def test_a_classifier_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        CLASSIFIER.threshold = 0.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        QUALITY.trust.head_share = 1.0  # type: ignore[misc]
