"""What the commands that train have in common: which files, which seed."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from routing.artefacts import DEFAULT
from routing.domain.classification.artefact import load
from routing.training.building import TrainingInput
from routing.training.datasets import DatasetError, fingerprint, graded_examples, task_examples
from routing.training.examples import TaskExample
from routing.training.prompts import own_prompts


def add_training_options(parser: ArgumentParser) -> None:
    def file(name: str, told: str) -> None:
        parser.add_argument(name, type=Path, metavar="FILE", help=told)

    parser.add_argument("--dataset", nargs="+", type=Path, default=[], metavar="FILE", help="Prompts with a label.")
    file("--multi", "Prompts with grades of several models.")
    file("--pairs", "Prompts with grades of a strong and a weak model.")
    file("--prices", "Prices per model as JSON, for the figures of --multi.")
    file("--start", "The artefact to go on from. Default: the shipped one, whose data are not at hand.")
    parser.add_argument("--from-scratch", action="store_true", help="Go on from none.")
    parser.add_argument("--seed", type=int, default=0, help="The same seed and input give the same bytes.")
    parser.add_argument("--date", default="", metavar="YYYY-MM-DD", help="For the card; there is no clock in it.")
    parser.add_argument("--without-own", action="store_true", help="Leave out the prompts that the project ships.")
    parser.add_argument("--json", action="store_true", help="One JSON object instead of text.")


def training_input(options: dict[str, Any]) -> TrainingInput:
    """The input that the options name, and the project's own prompts.

    Raises DatasetError, ArtefactError for the one to go on from, OSError for a file that is not there.
    """
    files = [*options["dataset"], *(options[name] for name in ("multi", "pairs") if options[name])]
    tasks: list[TaskExample] = [example for path in options["dataset"] for example in task_examples(path)]
    return TrainingInput(
        tasks=tasks if options["without_own"] else [*tasks, *own_prompts(options["seed"])],
        graded=graded_examples(options["multi"]) if options["multi"] else (),
        pairs=graded_examples(options["pairs"]) if options["pairs"] else (),
        prices=prices_of(options["prices"]) if options["prices"] else {},
        hashes=fingerprint(files),
        seed=options["seed"],
        start=None if options["from_scratch"] else load((options["start"] or DEFAULT).read_bytes()),
        date=options["date"],
    )


def prices_of(path: Path) -> dict[str, float]:
    """{model: price} or {model: {"input": price}}, at the top or under “price_usd_per_mtok”."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        prices = content.get("price_usd_per_mtok", content)
        return {name: float(value["input"] if isinstance(value, dict) else value) for name, value in prices.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path}: prices are {{model: number}}: {error!r}.") from error
