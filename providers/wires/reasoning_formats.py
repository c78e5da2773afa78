"""Whose proof of thought it is, in the words of OpenAI's clients.

`reasoning_details[].format` is OpenRouter's field, which clients give back as they got it; vendors without a name there
keep their own. Source: openrouter.ai/docs/use-cases/reasoning-tokens; `OpenResponsesReasoningFormat` of OpenRouter's
SDK (2026-11).
"""

FORMATS = {"anthropic": "anthropic-claude-v1", "openai": "openai-responses-v1", "gemini": "google-gemini-v1"}
VENDORS = {name: vendor for vendor, name in FORMATS.items()}


def format_of(vendor: str) -> str:
    return FORMATS.get(vendor, vendor) or "unknown"


def vendor_of(name: str) -> str:
    return VENDORS.get(name, "" if name == "unknown" else name)
