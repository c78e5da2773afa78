"""`manage.py config_export`: the configuration as a file, without secrets."""

import json
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

import msgspec
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from routerplatform.configuration.documents import TOP_LEVEL
from routerplatform.configuration.exporting import Stored, exported, stored, to_yaml
from routerplatform.configuration.legacy_policies import capabilities_file, persona_policy_file
from routerplatform.configuration.shapes import near

FORMATS: Final = ("native", "persona_policy", "capabilities")


class Command(BaseCommand):
    help = (
        "Writes providers, deployments, aliases, policies, personas, rules, teams, keys (not their text), budgets and "
        "alerts as YAML that config_import reads back. Secrets are never part of it: it says where they would be."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--out", default="", metavar="FILE", help="Write to FILE; “-” and nothing: standard output."
        )
        parser.add_argument("--only", default="", metavar="SECTIONS", help=f"Some of: {','.join(TOP_LEVEL)}.")
        parser.add_argument("--members", action="store_true", help="With the people of each team, by user name.")
        parser.add_argument("--format", choices=FORMATS, default="native", help="Which file. Default: all of it.")
        parser.add_argument("--json", action="store_true", help="The same as JSON.")

    def handle(self, *_: Any, **options: Any) -> None:
        only = [name.strip() for name in options["only"].split(",") if name.strip()]
        for name in only:
            if name not in TOP_LEVEL:
                raise CommandError(f"--only: “{name}” is no section.{near(name, TOP_LEVEL)}")
        if options["format"] != "native" and (only or options["json"] or options["members"]):
            raise CommandError("--only, --members and --json go with the native format only.")
        with transaction.atomic():  # one state, not several
            found = stored()
        text = written(found, only, options)
        if options["out"] not in {"", "-"}:
            write_whole(Path(options["out"]), text)
        else:
            self.stdout.write(text, ending="")


def written(found: Stored, only: list[str], options: dict[str, Any]) -> str:
    match options["format"]:
        case "persona_policy":
            return persona_policy_file(found.documents)
        case "capabilities":
            return capabilities_file(found.documents)
        case _:
            file = exported(found, only=only, members=options["members"])
    if options["json"]:
        return json.dumps(msgspec.to_builtins(file), indent=2, ensure_ascii=False) + "\n"
    return to_yaml(file)


def write_whole(path: Path, text: str) -> None:
    """All of it or nothing: a file that is there stays as it is until the new one is complete, and who may read it
    stays so too. What a link leads to is written, not the link; a device or a pipe is written to and not replaced."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)
    except (OSError, RuntimeError) as error:  # a link that leads to itself is a RuntimeError
        said = getattr(error, "strerror", None) or "the link leads to itself"
        raise CommandError(f"{path} cannot be written: {said}.") from None


def _replace(target: Path, text: str) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        if target.exists():
            draft.chmod(target.stat().st_mode)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
