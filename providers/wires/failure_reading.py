"""Reads what a vendor says when something fails: error bodies of any shape, Retry-After, request ids.

Nothing here raises, whatever the bytes are, and no key survives into a message.
"""

import html
import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import msgspec

from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.failures import VendorError, classify

MESSAGE_LIMIT = 500
_READ_LIMIT = 4_000  # of a message, before it is scrubbed and cut: a key must not be cut in half and so escape
_BODY_LIMIT = 1 << 20
_LONGEST_WAIT_S = 86_400.0
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")

_SECRETS = re.compile(
    r"""(?ix)
    \b bearer \s+ \S+
    | \b (?: sk | pk | rk | gsk | xai | csk | pplx | nvapi | hf | r8 ) [-_] [\w*.…\-]{6,}
    | \b AIza [\w\-]{8,}
    | \b AQ\. [\w\-]{16,}
    | \b (?: fw | tgp ) _ [\w\-]{8,}
    | \b (?: x-api-key | api[-_\ ]?key | authorization | access[-_\ ]?token ) ["']? \s* [:=] \s* ["']? [\w*.…\-]{8,}
    | \b (?= [a-z]* \d ) (?= \d* [a-z] ) [a-z\d]{32,} \b
    """
)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"<(?:script|style)\b.*?</(?:script|style)\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
# google.rpc.RetryInfo among `error.details`. Source: ai.google.dev/gemini-api/docs/troubleshooting (2026-11).
_RETRY_DELAY = re.compile(rb'"retryDelay"\s*:\s*"(\d{1,9}(?:\.\d{1,9})?)s"')

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What a reply with an error status means."""
    error = read_error(status, body)
    named = {name.lower(): value for name, value in headers.items()}
    return Failure(
        kind=classify(error),
        message=clean(error.message) or _status_text(status),
        http_status=status,
        vendor_code=clean(error.code or error.type)[:100],
        retry_after_s=_retry_after_s(named, body),
        vendor_request_id=vendor_request_id(named),
    )


def error_in_answer(body: bytes) -> ProviderError:
    """The error that a 200 body, or a frame of a stream, carries instead of content."""
    error = read_error(None, body)
    return ProviderError(
        Failure(
            kind=classify(error),
            message=clean(error.message) or "the provider reported an error without a text",
            http_status=error.status,
            vendor_code=clean(error.code or error.type)[:100],
        )
    )


def malformed(what: str) -> ProviderError:
    return ProviderError(Failure(FailureKind.MALFORMED, clean(what)))


def stream_broken(what: str) -> ProviderError:
    return ProviderError(Failure(FailureKind.STREAM_BROKEN, what))


def read_error(status: int | None, body: bytes) -> VendorError:
    """Type, code and message wherever the vendor put them; the text itself when the body is no JSON."""
    try:
        content = msgspec.json.decode(body) if len(body) <= _BODY_LIMIT else None
    except _UNREADABLE:
        content = None
    if isinstance(content, list) and content:  # Gemini wraps its error in a list
        content = content[0]
    if not isinstance(content, dict):
        return VendorError(status, "", "", content if isinstance(content, str) else plain_text(body))
    return _from_object(status, content)


def plain_text(body: bytes) -> str:
    """A body as one short line; of an HTML page its title, or its text without the markup."""
    text = body[:20_000].decode("utf-8", "replace")
    if "<" in text[:200] and ">" in text:
        title = _TITLE.search(text)
        text = html.unescape(title[1] if title else _MARKUP.sub(" ", text))
    return " ".join(text.split())[:_READ_LIMIT]


def clean(text: str) -> str:
    """At most `MESSAGE_LIMIT` characters on one line, without anything that looks like a key."""
    line = " ".join(text[:_READ_LIMIT].split())
    scrubbed = "".join(c if c.isprintable() else "�" for c in _SECRETS.sub("***", line))
    return scrubbed if len(scrubbed) <= MESSAGE_LIMIT else scrubbed[: MESSAGE_LIMIT - 1] + "…"


def _from_object(status: int | None, content: dict[str, Any]) -> VendorError:
    inner = content.get("error", content)
    if isinstance(inner, str):  # {"error": "text"}
        return VendorError(status, "", _text(content.get("code")), inner)
    if not isinstance(inner, dict):
        inner = content
    code = inner.get("code")
    if status is None and isinstance(code, int) and 400 <= code <= 599:  # Gemini, OpenRouter, vLLM: the HTTP status
        status = code
    details = inner.get("details")
    detail_code = details.get("error_code") if isinstance(details, dict) else None  # Anthropic
    return VendorError(
        status=status,
        type=_text(inner.get("type")) or _text(inner.get("status")),
        code=_text(detail_code) or _text(code),
        message=_message(inner),
    )


def _message(error: dict[str, Any]) -> str:
    """`message` (all), `detail` (FastAPI servers: text, or a list of `{msg}`), `errors` (Cloudflare)."""
    for name in ("message", "detail", "msg"):
        value = error.get(name)
        if isinstance(value, str):
            return value
    for name in ("detail", "errors"):
        items = error.get(name)
        if isinstance(items, list) and items and isinstance(items[0], dict):
            return _message({k: v for k, v in items[0].items() if k in ("message", "msg")})
    return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _status_text(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def vendor_request_id(headers: Mapping[str, str]) -> str:
    """The vendor's own id of a call; `headers` are found by their lower-case names. Empty when it gave none."""
    for name in _REQUEST_ID_HEADERS:
        if value := headers.get(name, ""):
            return "".join(c for c in value if c.isprintable())[:200]
    return ""


def _retry_after_s(headers: dict[str, str], body: bytes) -> float | None:
    """`retry-after-ms`, `retry-after` in seconds, or as a date when the reply says what time it is; else Gemini's
    `retryDelay`. Source: RFC 9110 section 10.2.3; openai 3.52 reads the same headers in the same order."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        seconds = _number(headers.get(name, ""))
        if seconds is not None:
            return min(seconds / per_second, _LONGEST_WAIT_S)
    if "retry-after" in headers and "date" in headers:
        return _seconds_between(headers["date"], headers["retry-after"])
    delay = _RETRY_DELAY.search(body[:_BODY_LIMIT])
    return min(float(delay[1]), _LONGEST_WAIT_S) if delay else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return max(value, 0.0) if math.isfinite(value) else None


def _seconds_between(now: str, then: str) -> float | None:
    try:
        wait = (parsedate_to_datetime(then) - parsedate_to_datetime(now)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: one of the two has no time zone
        return None
    return min(max(wait, 0.0), _LONGEST_WAIT_S)
