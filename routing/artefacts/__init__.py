"""The artefact that ships: `default.npz`, and `default.json`, its card."""

from functools import cache
from pathlib import Path
from typing import Any, Final

from routing.domain.classification.artefact import Artefact, ArtefactError, card_check, load

DEFAULT: Final = Path(__file__).parent / "default.npz"


@cache
def default_artefact() -> Artefact:
    """Read once per process. Raises ArtefactError when the installation is damaged."""
    return load(_bytes(DEFAULT))


@cache
def default_card() -> dict[str, Any]:
    return card_check(_bytes(DEFAULT.with_suffix(".json")).decode("utf-8"), _bytes(DEFAULT))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path.name} cannot be read: {error}. Install the package again.") from error
