"""What of a prompt is read: hashed byte n-grams and words. Text goes in, bucket numbers come out.

The text is cut to its first 600 and last 200 characters, lowered, its digits made one, and its white space narrowed.
Every run of 2, 4, 5 and 6 bytes, every word and every pair of neighbours falls into one of 2^17 buckets. The first 200
characters of the system prompt are read the same way into a space of their own: “you are a poet” said by the
operator is no request for a poem.

All of it is arithmetic on whole arrays: numpy costs about a microsecond per call, whatever the length.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.domain.classification.types import PromptText

HEAD: Final = 600
TAIL: Final = 200
SYSTEM: Final = 200  # characters
BITS: Final = 17
BUCKETS: Final = 1 << BITS
READING: Final = "bytes-2-4-5-6-words-1-2"  # a changed reading makes an artefact foreign

WORD_BITS: Final = 20
WORDS: Final = 1 << WORD_BITS

Indices = NDArray[np.uint32]
_Words = NDArray[np.uint64]

_ZERO: Final = ord("0")
_DIGITS_AS_ONE: Final = bytes(_ZERO if chr(i).isdecimal() and i < 128 else i for i in range(256))
_IS_WORD: Final = np.array([i >= 128 or chr(i).isalnum() or chr(i) in "_'" for i in range(256)], dtype=np.int8)
_LONGEST: Final = 4 * (HEAD + TAIL) + 8  # bytes
_BASE: Final = 0x100000001B3  # FNV's prime: odd, so it has an inverse modulo 2^64
_MASK: Final = (1 << 64) - 1
_LONGEST_RUN: Final = 6
_SYSTEM_SALT: Final = 0x51ED0000


@dataclass(frozen=True, slots=True)
class Reading:
    """`buckets` are the features, ascending, each once. `words` are the words and pairs of words of
    the text alone, in a larger space where two of them rarely meet: they tell what is new."""

    buckets: Indices
    words: Indices


def _powers(base: int) -> _Words:
    powers, power = [], 1
    for _ in range(_LONGEST):
        powers.append(power)
        power = power * base & _MASK
    return np.array(powers, dtype=np.uint64)


_POWERS: Final = _powers(_BASE)
_INVERSES: Final = _powers(pow(_BASE, -1, 1 << 64))


def cut(text: str) -> str:
    """The part that is read: its start and its end."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} \n {text[-TAIL:]}"


def normal(text: str) -> bytes:
    """As the hash sees it: one space before and after, so that the first word looks like any other."""
    lowered = text.lower().encode("utf-8", "replace").translate(_DIGITS_AS_ONE)
    lines = b" \n ".join(b" ".join(line.split()) for line in lowered.splitlines() if line.strip())
    return (b" " + lines + b" ")[:_LONGEST]


def _mixed(values: Indices, bits: int) -> Indices:
    """Numbers below 2^bits that look random, the same for the same values. The values are overwritten."""
    values *= np.uint32(0x9E3779B1)
    values ^= values >> np.uint32(15)
    values *= np.uint32(0x85EBCA77)
    values >>= np.uint32(32 - bits)
    return values


def word_hashes(data: bytes) -> _Words:
    """One 64-bit number per word, in order: a polynomial over its bytes, whatever stands around it."""
    raw = np.frombuffer(data, dtype=np.uint8)
    inside = _IS_WORD[raw]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    sums = np.cumsum((raw.astype(np.uint64) + np.uint64(1)) * _POWERS[: len(raw)])
    hashes: _Words = (sums[ends - 1] - sums[starts - 1]) * _INVERSES[starts]
    return hashes


def _folded(hashes: _Words) -> Indices:
    return (hashes ^ (hashes >> np.uint64(32))).astype(np.uint32)


def _runs_and_words(data: bytes, salt: int) -> tuple[list[Indices], Indices]:
    """The runs of bytes, and the words and pairs of words, each kind with a number of its own mixed in."""
    raw = np.frombuffer(data, dtype=np.uint8).astype(np.uint32)
    two = raw[:-1] | (raw[1:] << np.uint32(8))
    runs = [two ^ np.uint32(salt + 0x2B00)]
    if len(raw) > _LONGEST_RUN:
        four = two[:-2] | (two[2:] << np.uint32(16))
        five = four[:-1] * np.uint32(0x27D4EB2F) + raw[4:]
        six = five[:-1] * np.uint32(0x165667B1) + raw[5:]
        runs += [four ^ np.uint32(salt + 0x4B00), five ^ np.uint32(salt + 0x5B00), six ^ np.uint32(salt + 0x6B00)]
    words = word_hashes(data)
    both = np.concatenate((words, words[:-1] * np.uint64(31) + words[1:]))
    return runs, _folded(both) ^ np.uint32(salt)


def read(prompt: PromptText) -> Reading:
    """What the model sees of a prompt. Any text is fine, and none at all."""
    runs, words = _runs_and_words(normal(cut(prompt.text)), 0)
    parts = [*runs, words]
    if prompt.system:
        system_runs, system_words = _runs_and_words(normal(prompt.system[:SYSTEM]), _SYSTEM_SALT)
        parts += [*system_runs, system_words]
    return Reading(_each_once(_mixed(np.concatenate(parts), BITS)), _mixed(words.copy(), WORD_BITS))


def _each_once(buckets: Indices) -> Indices:
    buckets.sort()
    return buckets[np.concatenate(([True], buckets[1:] != buckets[:-1]))]


def packed(buckets: Indices) -> "array[int]":
    """As a sequence of plain numbers that compares and costs no object per number."""
    return array("I", buckets.tobytes())


def unpacked(buckets: Sequence[int]) -> Indices:
    if isinstance(buckets, array) and buckets.typecode == "I":
        return np.frombuffer(buckets, dtype=np.uint32)
    return np.asarray(buckets, dtype=np.uint32)
