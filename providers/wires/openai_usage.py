"""Counts tokens as OpenAI and the vendors that copy it report them, and finds the errors in what they answer.

Source: openai 3.52 `CompletionUsage` (2026-11); a vendor's own way is named where it is handled.
"""

from msgspec import Raw, Struct

from providers.domain.answer import Usage
from providers.wires.failure_reading import clean, error_in_answer, read_error, stream_broken
from providers.wires.usage_counts import Count, tokens

_NO_ERROR = (b"", b"null")


class _PromptDetails(Struct, gc=False):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: Count = None


class UsageIn(Struct, gc=False):
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class Groq(Struct, gc=False):
    """Groq's extras: usage on the last chunk, and what went wrong in the middle (groq SDK `XGroq`, 2026-11)."""

    usage: UsageIn | None = None
    error: str | None = None


def raise_error(error: Raw, groq: Groq | None, *, is_answer: bool, body: bytes) -> None:
    """An error instead of content; vLLM's has no `error` key, only a message and no choices. Other objects pass.

    :raises ProviderError:
    """
    if bytes(error) not in _NO_ERROR:
        raise error_in_answer(body)
    if groq is not None and groq.error:
        raise stream_broken(clean(groq.error))
    if not is_answer and read_error(None, body).message:
        raise error_in_answer(body)


def usage_of(usage: UsageIn | None, groq: Groq | None = None) -> Usage | None:
    """Groq has sent a top-level usage with an empty prompt beside the right one, so the fuller of the two counts."""
    if groq is not None and groq.usage is not None:
        other = groq.usage
        if usage is None or tokens(other.prompt_tokens) > tokens(usage.prompt_tokens):
            usage = other
    return None if usage is None else _disjoint(usage)


def _disjoint(usage: UsageIn) -> Usage:
    """`prompt_tokens` counts cached and cache-written tokens too; each is billed at one rate only.

    Source: developers.openai.com/api/docs/guides/prompt-caching, "not an additive fee" (2026-11). Where the total is
    more than prompt and completion, the rest is reasoning that the vendor bills as output (Gemini's OpenAI endpoint,
    xAI; OpenAI's own completion_tokens holds it already).
    """
    prompt, completion = tokens(usage.prompt_tokens), tokens(usage.completion_tokens)
    details = usage.prompt_tokens_details
    read = min(tokens(details.cached_tokens), prompt) if details else 0
    written = min(tokens(details.cache_write_tokens), prompt - read) if details else 0
    output = max(completion, tokens(usage.total_tokens) - prompt) if usage.prompt_tokens is not None else completion
    hidden = output - completion
    thinking = usage.completion_tokens_details
    return Usage(
        input_tokens=prompt - read - written,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(max(tokens(thinking.reasoning_tokens) if thinking else 0, hidden), output),
    )
