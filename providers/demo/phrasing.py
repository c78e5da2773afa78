"""Small rules of language: what a prompt is about, who the system prompt wants, how to quote."""

import hashlib
import re
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_MARKUP = re.compile(r"[`|<>*#\[\]]+")
_ABOUT = re.compile(r"\b(?:about|on|of|for|regarding)\s+(.{2,}?)[.?!]*$", re.IGNORECASE)
_LEAD = re.compile(
    r"^(?:please\s+|(?:can|could|would) you\s+|i (?:want|need) to\s+|help me\s+|how (?:do|can|should) (?:i|we)\s+"
    r"|how to\s+|what(?:'s| is| are)\s+|why (?:do|does|did|is|are|was|were)\s+|(?:tell|give|show) me\s+"
    r"|(?:explain|describe|analy[sz]e|assess|evaluate|write|plan)\s+)+",
    re.IGNORECASE,
)
_ROLE = re.compile(r"\byou are (?:(an?|the) )?([^.,;:\n]{3,60}?)(?= who | that | which |[.,;:\n]|$)", re.IGNORECASE)
_STYLE = re.compile(r"\s+(?:in simple terms|in plain words|step by step|briefly|please)$", re.IGNORECASE)


def pick(seed: str, options: Sequence[T]) -> T:
    """One of `options`, always the same for the same seed."""
    return options[int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % len(options)]


def plain(text: str) -> str:
    """`text` on one line and without the signs that mean something in markdown."""
    return " ".join(_MARKUP.sub(" ", text).split())


def quoted(text: str, most: int = 80) -> str:
    """`text` short and plain enough to stand in quotation marks."""
    text = plain(text)
    return text if len(text) <= most else text[: most - 1].rsplit(" ", 1)[0] + "…"


def subject_of(prompt: str) -> str:
    """What the prompt is about, for a title or in the middle of a sentence: "the sea" in "a poem about the sea"."""
    line = plain(prompt[:600])
    match = _ABOUT.search(line)
    subject = match.group(1) if match else _LEAD.sub("", line)
    return quoted(_STYLE.sub("", subject.rstrip(" .?!")), 48) or "this"


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def speaker_of(system: str) -> str:
    """ "As a patient teacher, " for a system prompt that begins "You are a patient teacher."; else empty."""
    match = _ROLE.search(system)
    if match is None:
        return ""
    article, role = match.groups()
    return f"As {article.lower()} {plain(role)}, " if article else f"{sentence_case(plain(role))} here: "


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-zà-ÿ0-9#+]+", text.lower()))
