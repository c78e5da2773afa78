"""A small honest token count: words, digits and punctuation, about four characters of English a token.

Every character belongs to exactly one token and no token looks ahead, so a prefix of the tokens of a text are the
tokens of that prefix: what was streamed can be counted again. No text has more tokens than UTF-8 bytes.
"""

import re
from collections.abc import Iterable

_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # one for each Chinese, Japanese or Korean character
    r"| ?[A-Za-z]{1,7}"
    r"| ?[^\W\d_]{1,3}"  # letters of other alphabets
    r"|\d{1,3}"
    r"| ?(?:[^\w\s]|_){1,3}"
    r"|\s{1,8}"
)

MESSAGE_TOKENS = 4
REPLY_TOKENS = 3
IMAGE_TOKENS = 85  # what OpenAI counts for one low-detail image


def tokenize(text: str) -> list[str]:
    """The tokens of `text`; joined they are `text` again."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    return len(_TOKEN.findall(text))


def count_prompt(texts: Iterable[str], *, messages: int, images: int) -> int:
    """Input tokens of a conversation, the framing of its messages included."""
    return REPLY_TOKENS + MESSAGE_TOKENS * messages + IMAGE_TOKENS * images + sum(count(text) for text in texts)
