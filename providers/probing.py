"""The free probe: list a provider's models with the vendors' own SDKs. It reads no table and costs no tokens.

The egress rule of `transport` holds here too: the address is looked up and judged once, then the call is pinned to it,
so that the name cannot point elsewhere a moment later. No redirects, no proxies, no headers but those listed; the key
goes out as on the request path, the SDK never sees it.
"""

import asyncio
import importlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from providers.domain.egress import address_allowed
from providers.domain.health import NOTE_CHARS, ProbeOutcome
from providers.domain.model_list import ListedModel, is_cut_short, read_model_list
from providers.domain.types import Endpoint, Wire
from providers.registry import PROVIDER_KINDS
from providers.wires.anthropic import VERSION
from providers.wires.failure_reading import clean, read_failure

PROBE_TIMEOUT_S = 10.0
PROBES_AT_ONCE = 8
NO_LIST = "answered, but not with a list of models"
NO_KEY = "none"  # the SDKs insist on one
SENT_HEADERS = frozenset({"host", "accept", "connection", "user-agent"})


@dataclass(frozen=True, slots=True)
class Probe:
    """Whom to ask; `secret` is the provider key in clear, empty when the provider needs none."""

    endpoint: Endpoint
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`note` is one line for people, free of secrets; `latency_ms`, name lookup and
    connecting included, is None when nothing was sent. `address` is the one that was called, `models` what is listed
    there, `http_status` that of a refusal."""

    outcome: ProbeOutcome
    note: str
    latency_ms: int | None = None
    models: tuple[ListedModel, ...] = ()
    address: str = ""
    http_status: int | None = None


class EgressRefused(Exception):
    """The provider's address may not be called; the text says what to do."""


def probe_all(probes: Sequence[Probe]) -> list[ProbeResult]:
    """Run the probes side by side and return their results in order; each takes at most `PROBE_TIMEOUT_S`.

    Must not be called from a thread that runs an event loop.
    """
    wires = {probe.endpoint.wires[0] for probe in probes}
    sdks = {wire: _library("anthropic" if wire is Wire.ANTHROPIC else "openai") for wire in wires}

    async def run() -> list[ProbeResult]:
        gate = asyncio.Semaphore(PROBES_AT_ONCE)

        async def one(probe: Probe) -> ProbeResult:
            async with gate:
                return await _probe(probe, sdks[probe.endpoint.wires[0]])

        return await asyncio.gather(*(one(probe) for probe in probes))

    return asyncio.run(run())


def _library(name: str) -> ModuleType:
    """An SDK, or the HTTP client under it. Imported on first use: 1-2 s of CPU, which only workers should pay."""
    return importlib.import_module(name)


async def _probe(probe: Probe, sdk: ModuleType) -> ProbeResult:
    started = time.perf_counter()
    address = ""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            address = await _allowed_address(probe.endpoint)
            result = _read_list(await _list_models(probe, sdk, address))
    except EgressRefused as error:
        return ProbeResult(ProbeOutcome.IMPOSSIBLE, str(error))
    except (TimeoutError, sdk.APITimeoutError):
        result = ProbeResult(ProbeOutcome.FAILED, f"no answer within {PROBE_TIMEOUT_S:g} s")
    except sdk.APIStatusError as error:
        failure = read_failure(error.status_code, error.response.headers, error.response.content)
        result = _read_refusal(error.status_code, failure.message)
    except json.JSONDecodeError:
        result = ProbeResult(ProbeOutcome.FAILED, NO_LIST)
    except (sdk.APIError, OSError, ValueError) as error:
        result = ProbeResult(ProbeOutcome.FAILED, f"could not be reached: {_root_text(error)}")
    latency_ms = round((time.perf_counter() - started) * 1000)
    return replace(result, note=safe_note(result.note, probe.secret), latency_ms=latency_ms, address=address)


async def _list_models(probe: Probe, sdk: ModuleType, address: str) -> object:
    endpoint = probe.endpoint

    async def pin(request: Any) -> None:
        host = request.url.host
        request.url = request.url.copy_with(host=address)
        request.extensions = {**request.extensions, "sni_hostname": host}
        for name in set(request.headers) - SENT_HEADERS:  # with what the SDK found in this process's environment
            del request.headers[name]
        request.headers.update(endpoint.auth.headers(probe.secret))
        if endpoint.wires[0] is Wire.ANTHROPIC:
            request.headers.update(VERSION)

    new_client = sdk.AsyncAnthropic if endpoint.wires[0] is Wire.ANTHROPIC else sdk.AsyncOpenAI
    # Not the SDK's own default client: Anthropic's takes the environment's proxies even with trust_env=False.
    http_client = _library("httpx2").AsyncClient(
        trust_env=False, follow_redirects=False, event_hooks={"request": [pin]}, timeout=PROBE_TIMEOUT_S
    )
    async with new_client(
        api_key=NO_KEY,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=PROBE_TIMEOUT_S,
        http_client=http_client,
    ) as client:
        listed: object = await client.get(PROVIDER_KINDS[endpoint.kind].models_url(endpoint.base_url), cast_to=object)
        return listed


async def _allowed_address(endpoint: Endpoint) -> str:
    """The first address of the endpoint's host that may be called.

    :raises EgressRefused: there is none.
    :raises OSError: the name cannot be resolved.
    """
    url = urlsplit(endpoint.base_url)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise EgressRefused("no address to call: enter a base URL that begins with https:// or http://")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.hostname, url.port or url.scheme, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if address_allowed(address, endpoint.allowed_networks):
            return address
    raise EgressRefused(
        f"{url.hostname} is not a public address: list its network under “allowed private networks” to call it"
    )


def _read_list(listed: object) -> ProbeResult:
    models = read_model_list(listed)
    if models is None:
        return ProbeResult(ProbeOutcome.FAILED, NO_LIST)
    more = " and has more" if is_cut_short(listed) else ""
    note = f"lists {len(models)} model{'s' if len(models) != 1 else ''}{more}"
    return ProbeResult(ProbeOutcome.ANSWERED, note, models=tuple(models))


def _read_refusal(status: int, message: str) -> ProbeResult:
    """Some endpoints have no list, and a limit says nothing about health: both answered, so neither is blamed."""
    outcome, note = ProbeOutcome.FAILED, f"answered {status}: {message}"
    if status in {404, 405, 501}:
        outcome, note = ProbeOutcome.IMPOSSIBLE, f"answers, but does not list its models ({status})"
    elif status == 429:
        outcome, note = ProbeOutcome.IMPOSSIBLE, "answers, but limits how often it may be asked (429)"
    elif status in {401, 403}:
        note = f"refused the key ({status}): {message}"
    return ProbeResult(outcome, note, http_status=status)


def _root_text(error: BaseException) -> str:
    """The SDKs wrap the network's error and say only “Connection error.”; the first cause tells more."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def safe_note(text: str, secret: str) -> str:
    """Somebody else's words for people to read: one line, and no key in it."""
    return clean(text.replace(secret, "[key]") if secret else text)[:NOTE_CHARS]
