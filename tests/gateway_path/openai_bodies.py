"""Bodies that an OpenAI client sends."""

import json
from typing import Any

USER = {"role": "user", "content": "Hello"}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}},
}


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [USER], **fields}).encode()
