"""GET /v1/models: what a key may name as “model”, in OpenAI's shape, or in Anthropic's for Anthropic's clients.

Source: OpenAI API reference, Models: list; anthropic 2.11 `ModelInfo`, `ModelCapabilities`, `SyncPage` (2026-11).
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import msgspec

from providers.domain.types import Capability, Deployment, Wire
from providers.wires.anthropic_models import traits_of
from routerplatform.doors.exchange import Exchange
from routerplatform.gateway.errors import InvalidRequest, ModelNotFound
from routerplatform.gateway.pipeline import current_config
from routerplatform.gateway.runtime import Runtime
from routing.domain.config import Caller, ConfigSnapshot, Policy, Scope
from routing.domain.decision import AUTO, visible_models

MODELS_SINCE = 1_700_000_000  # OpenAI's clients require a creation time; an alias has none that means anything
RELEASED = "1970-01-01T00:00:00Z"  # "May be set to an epoch value if the release date is unknown"
ANTHROPIC_VERSION = b"anthropic-version"  # Anthropic's clients send it with every request
USUAL_PAGE, LONGEST_PAGE = 20, 1000
EFFORTS = ("low", "medium", "high", "xhigh", "max")

Row = dict[str, Any]
Models = dict[str, tuple[str, Deployment | None]]
"""By the name that a caller sends: how people call it, and what serves it first."""

_encode = msgspec.json.Encoder().encode


async def list_models(runtime: Runtime, exchange: Exchange, wanted: str = "") -> None:
    """All of them, or the one that is `wanted`."""
    snapshot = current_config(runtime)
    caller = runtime.authenticator.caller(snapshot, exchange.credential(), now=runtime.now(), scope=Scope.MODELS)
    models = dict(_models(snapshot, caller))
    if wanted and wanted not in models:
        raise ModelNotFound(
            f"The model “{wanted}” does not exist. GET /v1/models lists what you can name.", param="model"
        )
    if not exchange.header(ANTHROPIC_VERSION):
        rows = [_openai_row(name) for name in models]
        answer = _openai_row(wanted) if wanted else {"object": "list", "data": rows}
    elif wanted:
        answer = _anthropic_row(wanted, *models[wanted])
    else:
        answer = _page(models, parse_qs(exchange.scope.get("query_string", b"").decode("latin-1")))
    await exchange.reply(200, _encode(answer), [])


def _models(snapshot: ConfigSnapshot, caller: Caller) -> Iterator[tuple[str, tuple[str, Deployment | None]]]:
    """auto, personas, aliases."""
    yield AUTO, ("Auto", _first_of(snapshot.default_policy))
    for slug in sorted(snapshot.personas):
        persona = snapshot.personas[slug]
        yield slug, (persona.name or slug, _first_of(persona.policy))
    for alias in visible_models(snapshot, caller):
        yield alias.name, (alias.name, alias.deployments[0])


def _first_of(policy: Policy | None) -> Deployment | None:
    candidates = policy.candidates if policy else ()
    return next((deployment for each in candidates for deployment in each.alias.deployments), None)


def _openai_row(name: str) -> Row:
    return {"id": name, "object": "model", "created": MODELS_SINCE, "owned_by": "router"}


# --- Anthropic's shape --------------------------------------------------------------------------------------------


def _page(models: Models, query: dict[str, list[str]]) -> Row:
    """:raises InvalidRequest: a limit that is none, or a cursor that is no model."""
    names = list(models)
    limit = _limit(query)
    after, before = query.get("after_id", [""])[-1], query.get("before_id", [""])[-1]
    if after:
        names = names[_place(names, after, "after_id") + 1 :]
    if before:
        names = names[: _place(names, before, "before_id")]
    shown = names[-limit:] if before and not after else names[:limit]
    return {
        "data": [_anthropic_row(name, *models[name]) for name in shown],
        "first_id": shown[0] if shown else None,
        "has_more": len(shown) < len(names),
        "last_id": shown[-1] if shown else None,
    }


def _limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", [str(USUAL_PAGE)])[-1]
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(LONGEST_PAGE)):
        raise InvalidRequest(f"limit: must be at least 1 and at most {LONGEST_PAGE}", param="limit")
    if not 1 <= int(text) <= LONGEST_PAGE:
        raise InvalidRequest(f"limit: must be at least 1 and at most {LONGEST_PAGE}", param="limit")
    return int(text)


def _place(names: list[str], cursor: str, param: str) -> int:
    if cursor not in names:
        raise InvalidRequest(f"{param}: “{cursor}” is no model of this list", param=param)
    return names.index(cursor)


def _anthropic_row(name: str, label: str, deployment: Deployment | None) -> Row:
    """A name may stand for several models: what is told is true of the one that is asked first."""
    return {
        "type": "model",
        "id": name,
        "display_name": label,
        "created_at": RELEASED,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": deployment.context_window if deployment else None,
        "max_tokens": deployment.max_output_tokens if deployment else None,
        "capabilities": _capabilities(deployment) if deployment else None,
    }


def _capabilities(deployment: Deployment) -> Row:
    """What the gateway can say to this model; citations, the vendor's own tools and its context management travel to
    Anthropic's wire only."""
    can = deployment.capabilities
    is_anthropic = Wire.ANTHROPIC in (deployment.endpoint.wires if deployment.wire is None else (deployment.wire,))
    traits = traits_of(deployment.upstream_model)
    thinks = Capability.REASONING in can
    efforts = set(traits.efforts if is_anthropic else EFFORTS[:3]) if thinks else set()
    adaptive = thinks and (not is_anthropic or traits.thinking != "budget")
    no = {"supported": False}
    return {
        "batch": no,
        "citations": no,
        "code_execution": no,
        "context_management": no,
        "effort": {"supported": bool(efforts), **{each: {"supported": each in efforts} for each in EFFORTS}},
        "image_input": {"supported": Capability.VISION in can},
        "pdf_input": {"supported": Capability.DOCUMENTS in can or (is_anthropic and Capability.VISION in can)},
        "server_tools": {"supported": False, "code_execution": no, "web_search": no},
        "structured_outputs": {"supported": Capability.JSON_SCHEMA in can},
        "thinking": {
            "supported": thinks,
            "types": {
                "adaptive": {"supported": adaptive},
                "between_tools": no,
                "disabled": {"supported": not (is_anthropic and traits.thinking == "always")},
                "enabled": {"supported": thinks and (not is_anthropic or traits.thinking == "budget")},
            },
        },
    }
