"""Server-sent events, the writing side. Source: WHATWG HTML, section 9.2 (2026-11)."""

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def data(payload: bytes) -> bytes:
    """One event; `payload` is JSON without line breaks."""
    return b"data: " + payload + b"\n\n"


def event(name: str, payload: bytes) -> bytes:
    """One named event."""
    return b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n"
