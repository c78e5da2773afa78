"""The commands from files to files, and what they say when they cannot."""

import gzip
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from routing.artefacts import default_artefact
from routing.domain.classification.artefact import card_check, dump, load
from routing.training.datasets import DatasetError
from routing.training.options import prices_of
from tests.routing.training import data


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps(data.PRICES), encoding="utf-8")
    return {
        "tasks": data.write(tmp_path / "tasks.jsonl", data.task_rows(2)),
        "multi": data.write(tmp_path / "multi.jsonl", data.graded_rows(120)),
        "pairs": data.write(tmp_path / "pairs.jsonl", data.pair_rows()),
        "prices": prices,
        "output": tmp_path / "new.npz",
        "none": tmp_path / "none.npz",
    }


def run(command: str, *options: str | Path) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(command, *map(str, options), stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def train(files: dict[str, Path], *options: str | Path) -> tuple[str, str]:
    """On the small files alone, compared with nothing but themselves."""
    begin = () if "--start" in options else ("--from-scratch",)
    return run(
        "router_train",
        *(*begin, "--without-own", "--dataset", files["tasks"], "--multi", files["multi"], "--pairs", files["pairs"]),
        *("--prices", files["prices"], "--replaces", files["none"], "--golden", files["tasks"], *options),
    )


def test_training_writes_an_artefact_and_its_card(files: dict[str, Path]) -> None:
    out, err = train(files, "--output", files["output"], "--date", "2026-11-21", "--seed", "3")
    whole = files["output"].read_bytes()
    card = card_check(files["output"].with_suffix(".json").read_text(encoding="utf-8"), whole)
    assert json.loads(out) == card
    assert (card["date"], card["seed"]) == ("2026-11-21", 3)
    assert set(card["data"]["files_sha256"]) == {"tasks.jsonl", "multi.jsonl", "pairs.jsonl"}
    assert load(whole).version == card["version"]
    assert "left out: source0" in err


def test_training_twice_writes_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    train(files, "--output", files["output"])
    train(files, "--output", other)
    assert files["output"].read_bytes() == other.read_bytes()
    assert files["output"].with_suffix(".json").read_text() == other.with_suffix(".json").read_text()


def test_a_dry_run_writes_nothing(files: dict[str, Path]) -> None:
    out, _ = train(files, "--dry-run", "--output", files["output"], "--json")
    told = json.loads(out)
    assert told["written"] is False
    assert told["complaints"] == []
    assert told["card"]["figures"]["task"]["macro_f1"] > 0.9
    assert not files["output"].exists()


def test_the_fast_way_has_no_figures(files: dict[str, Path]) -> None:
    out, _ = train(files, "--fast", "--output", files["output"], "--json")
    assert json.loads(out)["card"]["figures"] == {}
    assert files["output"].exists()


def test_a_worse_artefact_is_not_written(files: dict[str, Path], tmp_path: Path) -> None:
    train(files, "--output", files["none"])
    labels = ("CODING", "CREATIVE", "ANALYSIS", "COMPLEX_REASONING", "SIMPLE_QA")
    wrong = [{**row, "label": labels[number % 5]} for number, row in enumerate(data.task_rows(2))]
    worse = data.write(tmp_path / "wrong.jsonl", wrong)
    out = StringIO()
    with pytest.raises(CommandError, match=r"Not written\..*F1 falls from"):
        call_command(
            "router_train",
            *("--from-scratch", "--without-own", "--dataset", str(worse), "--replaces", str(files["none"])),
            *("--golden", str(files["tasks"]), "--output", str(files["output"]), "--json"),
            stdout=out,
            stderr=StringIO(),
        )
    assert not files["output"].exists()
    assert json.loads(out.getvalue())["written"] is False


def test_training_can_go_on_from_an_artefact(files: dict[str, Path]) -> None:
    train(files, "--fast", "--output", files["none"])
    old = load(files["none"].read_bytes()).version
    out, _ = train(files, "--fast", "--start", files["none"], "--output", files["output"])
    assert json.loads(out)["goes_on_from"] == old


def test_without_a_word_training_goes_on_from_the_shipped_artefact(files: dict[str, Path]) -> None:
    options = ("--without-own", "--dataset", files["tasks"], "--fast", "--output", files["output"])
    out, _ = run("router_train", *options)
    assert json.loads(out)["goes_on_from"] == default_artefact().version


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "--output FILE.npz, or --dry-run"),
        (["--dry-run", "--dataset", "{tmp}/nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["--dry-run", "--dataset", "{tmp}/prices.json"], "line 1"),
        (["--dry-run", "--multi", "{tmp}/tasks.jsonl"], "grades are numbers"),
        (["--dry-run", "--prices", "{tmp}/tasks.jsonl"], "prices are"),
        (["--dry-run", "--start", "{tmp}/tasks.jsonl"], "damaged"),
        (["--dry-run", "--start", "{tmp}/nowhere.npz"], "nowhere.npz"),
    ],
)
def test_what_cannot_be_trained_on_is_said(files: dict[str, Path], options: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        run("router_train", "--without-own", *(one.replace("{tmp}", str(files["tasks"].parent)) for one in options))


def test_evaluation_prints_a_line_per_figure(files: dict[str, Path]) -> None:
    options = ("--from-scratch", "--without-own", "--dataset", files["tasks"], "--pairs", files["pairs"])
    out, _ = run("router_evaluate", *options)
    lines = dict(line.rsplit(maxsplit=1) for line in out.splitlines())
    assert float(lines["task / macro_f1"]) > 0.9
    assert "task / f1 / CODING" in lines
    assert "pair_unseen_domains_apgr" in lines


def test_evaluation_as_json_is_what_the_card_says(files: dict[str, Path]) -> None:
    out, _ = run("router_evaluate", "--without-own", "--dataset", files["tasks"], "--json")
    assert json.loads(out)["task"]["examples"] == len(data.task_rows())


def test_evaluation_of_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        run("router_evaluate", "--without-own", "--dataset", tmp_path / "nowhere.jsonl")


def predicted(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_shipped_artefact_predicts_kinds_of_work(files: dict[str, Path], tmp_path: Path) -> None:
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(files["tasks"].read_bytes()))
    _, err = run("router_predict", "task", packed, tmp_path / "out.jsonl")
    rows = predicted(tmp_path / "out.jsonl")
    assert f"{len(rows)} predictions in" in err
    right = sum(row["label"] == asked["label"] for row, asked in zip(rows, data.task_rows(2), strict=True))
    assert right / len(rows) > 0.9


@pytest.mark.parametrize(("kind", "key"), [("pair", "score"), ("multi", "quality")])
def test_pairs_and_many_models_are_predicted_from_graded_files(
    files: dict[str, Path], tmp_path: Path, kind: str, key: str
) -> None:
    asked = files["pairs" if kind == "pair" else "multi"]
    run("router_predict", kind, asked, tmp_path / "out.jsonl", "--train", asked, "--graded", asked)
    rows = predicted(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [json.loads(line)["id"] for line in asked.read_text().splitlines()]
    assert all(key in row for row in rows)


def test_an_artefact_can_be_named(files: dict[str, Path], tmp_path: Path) -> None:
    train(files, "--output", files["output"])
    run("router_predict", "multi", files["multi"], tmp_path / "out.jsonl", "--artefact", files["output"], "--with-tag")
    assert set(predicted(tmp_path / "out.jsonl")[0]["quality"]) == {"big", "small"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["task", "{tmp}/nowhere.jsonl"], "cannot be read"),
        (["pair", "{tmp}/pairs.jsonl"], "--train, --graded"),
        (["task", "{tmp}/tasks.jsonl", "--artefact", "{tmp}/tasks.jsonl"], "damaged"),
        (["task", "{tmp}/tasks.jsonl", "--artefact", "{tmp}/empty.npz"], "not trained for this classifier"),
    ],
)
def test_what_cannot_be_predicted_is_said(files: dict[str, Path], options: list[str], told: str) -> None:
    folder = files["tasks"].parent
    (folder / "empty.npz").write_bytes(dump({}, {}))
    kind, asked, *more = (one.replace("{tmp}", str(folder)) for one in options)
    with pytest.raises(CommandError, match=told):
        run("router_predict", kind, asked, folder / "out.jsonl", *more)
    assert not (folder / "out.jsonl").exists()


@pytest.mark.parametrize(
    "content",
    ['{"a": 1}', '{"a": {"input": 1, "output": 2}}', '{"price_usd_per_mtok": {"a": {"input": 1}}, "note": "x"}'],
)
def test_prices_come_in_three_forms(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content, encoding="utf-8")
    assert prices_of(tmp_path / "p.json") == {"a": 1.0}


@pytest.mark.parametrize("content", ["", "[]", '{"a": "free"}', '{"a": {"output": 1}}', '{"a": null}'])
def test_prices_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match="prices are"):
        prices_of(tmp_path / "p.json")
