"""Configuration values for tests of the pure rules: named by what matters, everything else plausible."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from providers.domain.conversation import Conversation
from providers.domain.types import (
    Capability,
    ChatRequest,
    Credential,
    Deployment,
    Endpoint,
    Price,
    PromptDefaults,
    Wire,
)
from routing.domain.config import Alias, Caller, Candidate, ConfigSnapshot, Persona, Policy, Scope, TaskType

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
EVERYTHING = frozenset(Capability) - {Capability.EMBEDDINGS}
DOLLAR = Price(id=1, input=1_000_000_000, output=2_000_000_000)  # $1 in, $2 out per million tokens


def endpoint(name: str = "alpha", **options: Any) -> Endpoint:
    values: dict[str, Any] = {
        "id": 1,
        "kind": "openai-compatible",
        "wires": (Wire.OPENAI, Wire.OPENAI_EMBEDDINGS),
        "base_url": "http://x/v1",
    }
    return Endpoint(name=name, connect_timeout_s=1, timeout_s=10, **{**values, **options})


def deployment(number: int, name: str = "", **options: Any) -> Deployment:
    upstream = name or f"model-{number}"
    values: dict[str, Any] = {
        "capabilities": EVERYTHING,
        "context_window": 8_000,
        "max_output_tokens": 1_000,
        "price": DOLLAR,
        "credentials": (Credential(number, "key", f"{number:04d}", "sealed"),),
    }
    return Deployment(
        id=number,
        name=f"alpha/{upstream}",
        endpoint=endpoint(),
        upstream_model=upstream,
        model=upstream,
        cost_tier="standard",
        **{**values, **options},
    )


def alias(name: str, *deployments: Deployment) -> Alias:
    return Alias(name, f"about {name}", deployments)


def policy(name: str, *preferred: Alias, fallbacks: tuple[Alias, ...] = (), **options: Any) -> Policy:
    candidates = [Candidate(a, False) for a in preferred] + [Candidate(a, True) for a in fallbacks]
    values: dict[str, Any] = {"task_type": TaskType.ANY, "required": frozenset()}
    return Policy(id=1, name=name, candidates=tuple(candidates), **{**values, **options})


def persona(slug: str, follows: Policy, **options: Any) -> Persona:
    values: dict[str, Any] = {"defaults": PromptDefaults("Be kind.", 0.5, 700), "required": frozenset()}
    return Persona(slug=slug, name=slug.title(), description="", policy=follows, **{**values, **options})


def caller(**options: Any) -> Caller:
    values: dict[str, Any] = {
        "key_id": 1,
        "key_prefix": "aaaaaaab",
        "key_name": "app",
        "team_id": 1,
        "team_name": "Search",
        "scopes": frozenset(Scope),
        "allowed_aliases": frozenset(),
        "expires_at": None,
        "revoked_at": None,
        "team_active": True,
    }
    return Caller(**{**values, **options})


def snapshot(
    *aliases: Alias,
    policies: tuple[Policy, ...] = (),
    personas: tuple[Persona, ...] = (),
    default: Policy | None = None,
    callers: dict[str, Caller] | None = None,
) -> ConfigSnapshot:
    known = callers or {}
    return ConfigSnapshot(
        revision=7,
        compiled_at=NOW,
        callers_by_digest=known,
        callers_by_key_id={c.key_id: c for c in known.values()},
        aliases={a.name: a for a in aliases},
        deployments={d.name: d for a in aliases for d in a.deployments},
        policies={p.name: p for p in policies},
        personas={p.slug: p for p in personas},
        default_policy=default,
    )


def request(model: str = "auto", **options: Any) -> ChatRequest:
    values: dict[str, Any] = {
        "stream": False,
        "wire": Wire.OPENAI,
        "fields": {"model": msgspec.Raw(b'"auto"'), "messages": msgspec.Raw(b"[]")},
        "conversation": lambda: Conversation(()),
        "needs": frozenset(),
        "input_tokens_bound": 400,
        "input_tokens_estimate": 100,
    }
    return ChatRequest(model=model, **{**values, **options})
