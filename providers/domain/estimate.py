"""How many tokens a text probably is, without any vendor's tokenizer, for routing and for answers that came uncounted.

Weights are tokens per character of a class, fitted to o200k_base (bpe-openai 0.1.4, 2026-11) over prose in eight
languages, code, JSON, HTML, CSV and numbers: within 15 %, but Hindi 23 % and indented JSON 20 % under. A request whose
texts are themselves JSON comes out up to 45 % over, for the escapes.
Other vendors' tokenizers count up to a third more. A vendor's own count always wins; checks against a context window
should leave 30 % of room.
"""

import re
import string

_LETTERS = string.ascii_letters.encode()
_SPACES = b" \t\r\n"
_DIGITS = string.digits.encode()
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_TWO_BYTE = bytes(range(0xC0, 0xE0))  # accents, Greek, Cyrillic, Hebrew, Arabic
_INDIC = bytes(range(0xE0, 0xE3))  # and Thai, typographic signs
_EAST_ASIAN = bytes(range(0xE3, 0xF0))

_ASTRAL = bytes(range(0xF0, 0x100))  # emoji

_PER_LETTER, _PER_DIGIT, _PER_SIGN = 0.226, 0.66, 0.78
_PER_TWO_BYTE, _PER_INDIC, _PER_EAST_ASIAN, _PER_ASTRAL = 0.33, 0.29, 0.73, 1.5

_ROLE_JSON = 10  # what the JSON around one message weighs above the 3 or 4 tokens that vendors count for it
_IMAGE = 1_500  # an inline image of about one megapixel, at OpenAI's and Anthropic's published rules (2026-11)
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/=]{256,}")
_LOW_ESCAPE = re.compile(rb"\\u0[0-9a-fA-F]{3}")
_HIGH_ESCAPE = re.compile(rb"\\u[1-9a-fA-F][0-9a-fA-F]{3}")


def estimate_tokens(body: bytes) -> int:
    """The likely input tokens of a request's JSON, at least 1. About 4 us per 1.4 KB."""
    images = 0
    if b"base64" in body:
        body, images = _BASE64_RUN.subn(b"", body)
    if b"\\u" in body:  # each escape stands for one character
        body = _HIGH_ESCAPE.sub(b"\xe3", _LOW_ESCAPE.sub(b"\xd0", body))
    return max(round(_weigh(body)) - _ROLE_JSON * body.count(b'"role"'), 1) + images * _IMAGE


def count_text(text: str) -> int:
    """The likely tokens of plain text; 0 only for no text."""
    return max(round(_weigh(text.encode("utf-8", "replace"))), 1) if text else 0


def _weigh(text: bytes) -> float:
    """Counts classes by deleting one after the other: the cheapest pass over bytes that there is."""
    other = text.translate(None, _LETTERS)
    weight = (len(text) - len(other)) * _PER_LETTER
    rest = other.translate(None, _SPACES)
    signs = rest.translate(None, _DIGITS)
    weight += (len(rest) - len(signs)) * _PER_DIGIT
    if not signs.isascii():
        leads = signs.translate(None, _CONTINUATIONS)
        for kind, per_character in (
            (_TWO_BYTE, _PER_TWO_BYTE),
            (_INDIC, _PER_INDIC),
            (_EAST_ASIAN, _PER_EAST_ASIAN),
            (_ASTRAL, _PER_ASTRAL),
        ):
            signs = leads.translate(None, kind)
            weight += (len(leads) - len(signs)) * per_character
            leads = signs
    return weight + len(signs) * _PER_SIGN
