"""The least that a Python gateway can cost: an ASGI app that passes bodies on with aiohttp and does nothing else.

No key, no route, no record. It runs beside the gateway in one benchmark, so that the machine cancels out of the ratio.
"""

import os
from typing import Any

import aiohttp

sessions: list[aiohttp.ClientSession] = []


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if not sessions:
        connector = aiohttp.TCPConnector(limit=0)
        sessions.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    async with sessions[0].post(os.environ["BENCH_VENDOR"] + scope["path"], data=body) as response:
        answer = await response.read()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
