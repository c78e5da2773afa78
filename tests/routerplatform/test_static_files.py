"""Static files are answered in front of Django: with the right type, and nothing beside what is meant to be public."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders

from routerplatform.static_files import with_static_files


async def fetch(path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """One request to the static files alone: what they do not have is answered by a page that says so."""
    sent: list[dict[str, Any]] = []

    async def fallback(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b"not a file"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": [], "http_version": "1.1", "scheme": "http"}  # fmt: skip
    await with_static_files(fallback)(scope, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


def content_of(path: str) -> bytes:
    found = finders.find(path.removeprefix("/static/"))
    assert isinstance(found, str)
    return Path(found).read_bytes()


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/static/css/base.css", "text/css"),
        ("/static/js/page.js", "text/javascript"),
        ("/static/js/playground/main.js", "text/javascript"),
        ("/static/icons.svg", "image/svg+xml"),
        ("/static/vendor/geist.woff2", "font/woff2"),
        ("/static/unfold/css/styles.css", "text/css"),
    ],
)
async def test_a_file_comes_whole_and_with_its_type(path: str, content_type: str) -> None:
    status, headers, body = await fetch(path)
    assert status == 200
    assert headers["content-type"].startswith(content_type)
    assert body == content_of(path)


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/nothing.css",
        "/static/../routerplatform/settings.py",
        "/static/..%2f.env",
        "/static/css/",
        "/static//etc/passwd",
        "/login/",
    ],
)
async def test_what_is_no_file_of_ours_is_left_to_the_pages(path: str) -> None:
    assert (await fetch(path))[0] in {404, 418}


async def test_a_file_may_be_asked_about_without_its_body() -> None:
    status, headers, body = await fetch("/static/css/base.css", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000


async def test_a_file_cannot_be_written() -> None:
    assert (await fetch("/static/css/base.css", method="POST"))[0] == 405
