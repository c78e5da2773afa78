"""A vendor on loopback in a thread of its own: lists models, and answers one question. For code that is not async."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "OK"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def openai_list(*names: str, **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", **more} for name in names]}


@dataclass
class ListingVendor:
    """`listed` and `answer` are what it says, each with its status; a key in `refused` gets a 401 for both."""

    port: int = 0
    listed: tuple[int, Any] = (200, None)
    answer: tuple[int, Any] = (200, None)
    refused: set[str] = field(default_factory=set)
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)  # path, headers, body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def reply_to(self, handler: BaseHTTPRequestHandler, what: tuple[int, Any]) -> None:
        length = int(handler.headers.get("content-length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else {}
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.asked.append((handler.path, headers, body))
        status, said = what
        if any(secret in value for secret in self.refused for value in headers.values()):
            status, said = 401, {"error": {"message": f"Incorrect API key provided: {headers.get('authorization')}"}}
        raw = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)


@contextmanager
def listing_vendor() -> Iterator[ListingVendor]:
    vendor = ListingVendor(listed=(200, openai_list("one", "two")), answer=(200, ANSWER))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            vendor.reply_to(self, vendor.listed)

        def do_POST(self) -> None:
            vendor.reply_to(self, vendor.answer)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        vendor.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield vendor
        finally:
            server.shutdown()
            thread.join()
