"""What training leaves behind: one file of numbers, and a card that says how they came about.

The file is a numpy archive written so that the same numbers give the same bytes: entries in order of name, no time
stamps. Its version is the hash of those bytes. The card is JSON beside it, for people; the file alone is enough to run.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]

FORMAT: Final = 1
MOST_BYTES: Final = 64 * 1024 * 1024  # unpacked; an archive that says more is not one of ours
_ANY_DAY: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can say
_SETTINGS: Final = "settings"


class ArtefactError(ValueError):
    """The bytes are no artefact that this version can use. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """`arrays` are the numbers by name; `settings` is what else a reader needs: plain JSON."""

    version: str
    settings: Mapping[str, Any]
    arrays: Mapping[str, Numbers]


def version_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def dump(settings: Mapping[str, Any], arrays: Mapping[str, Numbers]) -> bytes:
    """The artefact as bytes: the same input always gives the same bytes."""
    told = json.dumps({**settings, "format": FORMAT}, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    entries = {**arrays, _SETTINGS: np.frombuffer(told.encode(), dtype=np.uint8)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(entries):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(entries[name]), version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_ANY_DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue(), compresslevel=9)
    return out.getvalue()


def load(data: bytes) -> Artefact:
    """The artefact of these bytes. Raises ArtefactError for anything else, however it is broken."""
    try:
        arrays = _arrays(data)
        settings = json.loads(arrays.pop(_SETTINGS).tobytes())
    except ArtefactError:
        raise
    except KeyError as error:
        raise ArtefactError("This archive has no settings: it is not a routing artefact. Train one.") from error
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise ArtefactError(f"The artefact is damaged: {error}. Restore the file, or train a new one.") from error
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise ArtefactError("The artefact is in a form of another version. Train a new one with this version.")
    return Artefact(version=version_of(data), settings=settings, arrays=arrays)


def _arrays(data: bytes) -> dict[str, Numbers]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise ArtefactError(f"The artefact says it unpacks to {size:,} bytes; {MOST_BYTES:,} is the most there is.")
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
            for name in archive.namelist()
        }


def array_of(artefact: Artefact, name: str, shape: tuple[int, ...], kind: str) -> Numbers:
    """The array of that name, if it has the shape (-1 is any length) and the numpy kind that the reader relies on."""
    array = artefact.arrays.get(name)
    if array is None:
        raise ArtefactError(f"The artefact has no “{name}”. Train a new one with this version.")
    fits = array.ndim == len(shape) and all(want in {-1, have} for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != np.dtype(kind):
        raise ArtefactError(
            f"“{name}” of the artefact is {array.dtype}{array.shape}, not {kind}{shape}. Train a new one."
        )
    return array


def card_text(card: Mapping[str, Any]) -> str:
    """The card as it is written: in order of name, so that two trainings can be compared with diff."""
    return json.dumps(card, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def card_check(card_json: str, data: bytes) -> dict[str, Any]:
    """The card, if it belongs to these bytes."""
    try:
        card = json.loads(card_json)
    except ValueError as error:
        raise ArtefactError(f"The card is not JSON: {error}.") from error
    if not isinstance(card, dict) or card.get("version") != version_of(data):
        raise ArtefactError("The card belongs to another artefact: their versions differ. Install both files together.")
    return card
