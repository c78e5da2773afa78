"""`manage.py router_install FILE.npz`: bring a trained artefact into the database, to be put in force."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from routing.domain.classification.artefact import ArtefactError, card_check
from routing.services.learning import artefact_activate, artefact_store


class Command(BaseCommand):
    help = (
        "Keeps a trained artefact, as router_train wrote it, with the card beside it. It is put in force on its page "
        "in the admin, or at once with --activate."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("artefact", type=Path, nargs="?", metavar="FILE.npz", help="What router_train wrote.")
        parser.add_argument("--note", default="", help="What people should know of it.")
        parser.add_argument("--activate", action="store_true", help="Put it in force.")
        parser.add_argument("--shipped", action="store_true", help="Go back to the one that the platform ships.")
        parser.add_argument("--json", action="store_true", help="One JSON object.")

    def handle(self, *_: Any, **options: Any) -> None:
        path: Path | None = options["artefact"]
        if (path is None) != options["shipped"]:
            raise CommandError("Name the file to install, or --shipped to go back to the shipped one.")
        try:
            if path is None:
                artefact_activate(version=None, by=None)
                report = {"version": None, "is_new": False, "in_force": True}
                text = "The shipped artefact is in force."
            else:
                report, text = self._install(path, note=options["note"], is_activated=options["activate"])
        except (OSError, UnicodeDecodeError, ArtefactError) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(json.dumps(report) if options["json"] else text)

    def _install(self, path: Path, *, note: str, is_activated: bool) -> tuple[dict[str, Any], str]:
        """What was done, for programs and for people."""
        data, beside = path.read_bytes(), path.with_suffix(".json")
        card = card_check(beside.read_text(encoding="utf-8"), data) if beside.exists() else {}
        artefact, is_new = artefact_store(data=data, card=card, note=note)
        text = f"{artefact} is kept." if is_new else f"{artefact} was kept already."
        if is_activated:
            artefact_activate(version=artefact.version, by=None)
            text += "\nIt is in force. Gateways follow within 2 seconds."
        return {"version": artefact.version, "is_new": is_new, "in_force": is_activated}, text
