"""`persona_policy.yaml` and `capabilities.yaml`, in and out: personas with their rules, and what models can do."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from routerplatform.configuration.documents import (
    CandidateEntry,
    Count,
    Documents,
    Entry,
    ModelEntry,
    PersonaEntry,
    PolicyEntry,
    Usd,
)
from routerplatform.configuration.exporting import to_yaml
from routerplatform.configuration.legacy import Around, add_target, entries_of, given
from routerplatform.configuration.reading import Value
from routerplatform.configuration.shapes import Parsed, near

PERSONA_HEADER: Final = (
    "# Personas and the models that serve them. `manage.py config_import FILE --plan` reads it back.\n"
)
MODEL_HEADER: Final = "# What models can do. `manage.py config_import FILE --plan` reads it back.\n"
RULE_FIELDS: Final = ("strategy", "task_type", "max_cost_per_request", "max_latency_ms")
PERSONA_FIELDS: Final = (
    "name", "description", "system_prompt", "temperature", "max_tokens", "required_capabilities",
)  # fmt: skip
TIERS: Final[Mapping[str, str]] = {"low": "economy", "medium": "standard", "high": "premium"}


class PersonaPart(Entry, frozen=True, omit_defaults=True, kw_only=True):
    """What is left out stays as it is. Models are aliases, provider/model, or models that are deployed."""

    name: str = ""
    description: str = ""
    system_prompt: str = ""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Count = 4096
    required_capabilities: tuple[str, ...] = ()
    preferred_models: tuple[str, ...] = ()
    fallback_models: tuple[str, ...] = ()
    strategy: str = "priority"
    task_type: str = "ANY"
    max_cost_per_request: Usd | None = None
    max_latency_ms: Count | None = None


class ModelPart(Entry, frozen=True, omit_defaults=True, kw_only=True):
    """What is left out stays as it is. `capabilities` is a list, or true and false by name."""

    provider: str = ""
    label: str = ""
    capabilities: tuple[str, ...] | dict[str, bool] = ()
    context_window: Count | None = None
    max_output_tokens: Count | None = None
    cost_tier: str = ""
    strengths: str = ""


def is_persona_policy(tree: Value) -> bool:
    """Whether it has nothing but personas, which name models instead of a policy."""
    personas = tree.data.get("personas") if isinstance(tree.data, dict) and len(tree.data) == 1 else None
    entries = list(personas.data.values()) if personas and isinstance(personas.data, dict) else []
    return bool(entries) and not any(isinstance(one.data, dict) and "policy" in one.data for one in entries)


def is_capabilities(tree: Value) -> bool:
    """Whether it has nothing but models."""
    return isinstance(tree.data, dict) and set(tree.data) == {"models"}


# --- in ---------------------------------------------------------------------------------------------------------------


def personas_into(parsed: Parsed, tree: Value, around: Around) -> None:
    """Each persona keeps its policy if nobody else follows that; else it gets one of its own name."""
    for name, value in entries_of(parsed, tree.at("personas")):
        part = given(PersonaPart, parsed, value)
        if part is not None:
            _persona(parsed, name, part, value, around)


def _persona(parsed: Parsed, name: str, part: PersonaPart, place: Value, around: Around) -> None:
    assert isinstance(place.data, dict)
    there = around.documents["personas"].get(name)
    policy = _policy_of(name, around.documents)
    before = there or PersonaEntry(name=name.replace("_", " ").capitalize(), policy=policy)
    said = {field: getattr(part, field) for field in PERSONA_FIELDS if field in place.data}
    parsed.add("personas", name, msgspec.structs.replace(before, policy=policy, **said), place)
    rules = around.documents["policies"].get(policy) or PolicyEntry()
    changes: dict[str, Any] = {field: getattr(part, field) for field in RULE_FIELDS if field in place.data}
    if "preferred_models" in place.data or "fallback_models" in place.data:
        changes["models"] = _models(parsed, part, place, around, rules)
    parsed.add("policies", policy, msgspec.structs.replace(rules, **changes), place)


def _policy_of(persona: str, documents: Documents) -> str:
    there = documents["personas"].get(persona)
    if not isinstance(there, PersonaEntry):
        return persona
    followers = [one for one in documents["personas"].values() if getattr(one, "policy", "") == there.policy]
    is_default = bool(getattr(documents["policies"].get(there.policy), "is_default", False))
    return there.policy if len(followers) == 1 and not is_default else persona


def _models(
    parsed: Parsed, part: PersonaPart, place: Value, around: Around, before: Entry
) -> tuple[CandidateEntry, ...]:
    """Weights and kinds of work of models that were there stay."""
    known = {one.alias: one for one in getattr(before, "models", ())}
    found = []
    for key, is_fallback in (("preferred_models", False), ("fallback_models", True)):
        for index, name in enumerate(getattr(part, key)):
            alias = _alias(parsed, name, place.at(key, index), around)
            one = known.get(alias) or CandidateEntry(alias=alias)
            found.append(msgspec.structs.replace(one, is_fallback=is_fallback))
    return tuple(found)


def _alias(parsed: Parsed, name: str, place: Value, around: Around) -> str:
    """The alias of that name; made where the name is a deployment or a model that is deployed."""
    deployments, aliases = around.documents["deployments"], around.documents["aliases"]
    if name in aliases or name in parsed.entries["aliases"]:
        return name
    targets = (
        [name]
        if name in deployments
        else [one for one, entry in sorted(deployments.items()) if getattr(entry, "model", "") == name]
    )
    if not targets:
        text = f"there is no alias, deployment or deployed model “{name}”.{near(name, [*aliases, *deployments])}"
        parsed.problems.append(place.problem(text))
        parsed.places.setdefault(("aliases", name), place)  # said once
    for target in targets:
        add_target(parsed, name, target, place, around)
    return name


def capabilities_into(parsed: Parsed, tree: Value, around: Around) -> None:
    """What catalogue models can do. One that is not there is made."""
    for name, value in entries_of(parsed, tree.at("models")):
        part = given(ModelPart, parsed, value)
        if part is None:
            continue
        assert isinstance(value.data, dict)
        before = around.documents["models"].get(name) or ModelEntry(
            label=part.label or name, vendor=part.provider or "unknown"
        )
        said: dict[str, Any] = {
            field: getattr(part, field)
            for field in ("label", "context_window", "max_output_tokens", "strengths")
            if field in value.data
        }
        if "capabilities" in value.data:
            said["capabilities"] = _capabilities(part)
        if part.cost_tier:
            said["cost_tier"] = TIERS.get(part.cost_tier, part.cost_tier)
        parsed.add("models", name, msgspec.structs.replace(before, **said), value)


def _capabilities(part: ModelPart) -> tuple[str, ...]:
    if isinstance(part.capabilities, dict):
        return tuple(name for name, has_it in part.capabilities.items() if has_it)
    return part.capabilities


# --- out --------------------------------------------------------------------------------------------------------------


def persona_policy_file(documents: Documents) -> str:
    """Every persona with the models and limits of its policy."""
    personas = {}
    for name, persona in sorted(documents["personas"].items()):
        assert isinstance(persona, PersonaEntry)
        policy = documents["policies"][persona.policy]
        assert isinstance(policy, PolicyEntry)
        personas[name] = _told(persona, PERSONA_FIELDS) | {
            "preferred_models": [one.alias for one in policy.models if not one.is_fallback],
            "fallback_models": [one.alias for one in policy.models if one.is_fallback],
            **_told(policy, RULE_FIELDS),
        }
    return to_yaml({"personas": personas}, PERSONA_HEADER)


def capabilities_file(documents: Documents) -> str:
    """Every model of the catalogue."""
    models = {}
    for name, model in sorted(documents["models"].items()):
        assert isinstance(model, ModelEntry)
        fields = ("label", "capabilities", "context_window", "max_output_tokens", "cost_tier", "strengths")
        models[name] = {"provider": model.vendor, **_told(model, fields)}
    return to_yaml({"models": models}, MODEL_HEADER)


def _told(entry: Entry, fields: tuple[str, ...]) -> dict[str, Any]:
    """These fields, without those that say nothing."""
    values = {field: getattr(entry, field) for field in fields}
    return {
        field: list(value) if isinstance(value, tuple) else value
        for field, value in values.items()
        if value not in (None, "", ())
    }
