"""Files by their shape: our own format, or one of the four that older routers had."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from routerplatform.configuration.exporting import Stored
from routerplatform.configuration.legacy import Around, config_into, env_notes, is_config, is_env
from routerplatform.configuration.legacy_policies import (
    capabilities_into,
    is_capabilities,
    is_persona_policy,
    personas_into,
)
from routerplatform.configuration.reading import MAX_BYTES, Problem, Unreadable, Value, read
from routerplatform.configuration.shapes import Parsed, format_problem, parse_into

STDIN: Final = "standard input"
NO_FORMAT: Final = (
    "begins with no `format: 1`, and is none of config.yaml (providers with a default_model, server), "
    "persona_policy.yaml (personas with preferred_models), capabilities.yaml (models) and .env either."
)


def texts_of(paths: Iterable[str]) -> dict[str, str]:
    """The files, by the names that they were given by; `-` is standard input.

    :raises Unreadable: one of them cannot be read.
    """
    texts, problems = {}, []
    for name in paths:
        try:
            data = _bytes_of(name)
            if len(data) > MAX_BYTES:
                raise ValueError(f"is larger than {MAX_BYTES // 1024 // 1024} MiB. Split it")
            texts[STDIN if name == "-" else name] = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            problems.append(Problem(name, line, "", "is no text in UTF-8. Save it as that."))
        except (OSError, ValueError) as error:
            problems.append(Problem(name, 0, "", f"{getattr(error, 'strerror', None) or error}."))
    if problems:
        raise Unreadable(problems)
    return texts


def _bytes_of(name: str) -> bytes:
    """One byte more than may be, of a file that is larger: a device may have no end."""
    if name == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(name).open("rb") as file:
        return file.read(MAX_BYTES + 1)


def parsed_files(texts: Mapping[str, str], current: Stored, environment: Mapping[str, str]) -> Parsed:
    """What all files say together; with what is wrong in any of them."""
    parsed, around = Parsed(), Around(current.documents, environment)
    for name, text in texts.items():
        if is_env(text, name):
            parsed.warnings += env_notes(text, name)
            continue
        try:
            tree = read(text, name)
        except Unreadable as error:
            parsed.problems += error.problems
        else:
            _take(parsed, tree, around)
    return parsed


def _take(parsed: Parsed, tree: Value, around: Around) -> None:
    if isinstance(tree.data, dict) and "format" in tree.data:
        problem = format_problem(tree)
        if problem is None:
            parse_into(parsed, tree)
        else:
            parsed.problems.append(problem)
    elif is_config(tree):
        config_into(parsed, tree, around)
    elif is_persona_policy(tree):
        personas_into(parsed, tree, around)
    elif is_capabilities(tree):
        capabilities_into(parsed, tree, around)
    else:
        parsed.problems.append(Problem(tree.file, 1, "", NO_FORMAT))
