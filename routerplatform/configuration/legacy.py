"""`config.yaml` and `.env` of older routers: recognised by their shape, read as entries of ours.

Such files say little, so what they leave out stays as it is, and nothing is ever removed by them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from django.conf import settings
from msgspec import Meta

from providers.registry import PROVIDER_KINDS
from routerplatform.configuration.documents import (
    AliasEntry,
    DeploymentEntry,
    Documents,
    Entry,
    ModelEntry,
    ProviderEntry,
    ProviderKeyEntry,
    inner_name,
)
from routerplatform.configuration.reading import Value
from routerplatform.configuration.server_file import PORTS
from routerplatform.configuration.shapes import Parsed, complaints, near
from routerplatform.vendor_keys import LABEL

ENV_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=")
LOOPBACK: Final = ("127.0.0.1/32", "::1/128")
VENDOR_KEY: Final = "key of a provider: it is set up at the next start (manage.py vendor_keys)"
ENV_NAMES: Final[Mapping[str, str]] = {
    "AI_ROUTER_LOG_LEVEL": "how much is logged, where LOG_LEVEL is not set",
    "AI_ROUTER_MAX_RETRIES": "retries of a request: MAX_ATTEMPTS less one",
    "AI_ROUTER_TIMEOUT": "seconds that a request may take, where REQUEST_TIMEOUT_S is not set",
    "AI_ROUTER_CONFIG": "a config.yaml whose ports are the defaults of PORT and GRPC_PORT",
    "CIRCUIT_BREAKER_MAX_REQUESTS": "failures in a row that open a circuit breaker",
    "CIRCUIT_BREAKER_TIMEOUT": "seconds that a circuit breaker stays open",
    "CACHE_TTL": "seconds that an answer is kept for equal requests",
    "REDIS_ADDR": "Redis: queue, counters, kept answers",
    "PORT": "port of HTTP and WebSocket",
    "GRPC_PORT": "port of gRPC",
    "METRICS_PORT": "a port for /metrics alone",
    "AI_MODEL_SERVICE_ADDR": "an external registry of models, asked when the catalogue is loaded",
}


class ServerPart(Entry, frozen=True, omit_defaults=True, kw_only=True):
    http_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    grpc_port: Annotated[int, Meta(ge=1, le=65535)] | None = None


class ProviderPart(Entry, frozen=True, omit_defaults=True, kw_only=True):
    """`kind` is needed only where the name is none; `models` are further ones besides the default."""

    default_model: str = ""
    models: tuple[str, ...] = ()
    kind: str = ""
    api_key: str = ""
    base_url: str = ""
    timeout: Annotated[float, Meta(ge=1)] | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Around:
    """What a conversion looks at: the database as it is, and the variables of the environment."""

    documents: Documents
    environment: Mapping[str, str]


def is_config(tree: Value) -> bool:
    """Whether it is a `config.yaml`: `server`, or providers with a `default_model`."""
    if not isinstance(tree.data, dict):
        return False
    providers = tree.data.get("providers")
    entries = providers.data.values() if providers and isinstance(providers.data, dict) else ()
    has_default = any(isinstance(one.data, dict) and "default_model" in one.data for one in entries)
    return "server" in tree.data or has_default


def given(shape: type[Entry], parsed: Parsed, value: Value) -> Any:
    """`value` as `shape`; None where it is not, which is noted."""
    if problems := list(complaints(shape, value)):
        parsed.problems += problems
        return None
    return msgspec.convert(value.plain(), shape)


def entries_of(parsed: Parsed, value: Value | None) -> Iterator[tuple[str, Value]]:
    if value is not None and isinstance(value.data, dict):
        yield from value.data.items()
    elif value is not None and value.data is not None:
        parsed.problems.append(value.problem("must be a mapping of names."))


# --- config.yaml ------------------------------------------------------------------------------------------------------


def config_into(parsed: Parsed, tree: Value, around: Around) -> None:
    """Providers with a deployment and an alias for each of their models, and an alias of the provider's name for its
    default one. Ports are no rows: where they go is told."""
    for key, value in entries_of(parsed, tree):
        if key == "server":
            _server(parsed, value)
        elif key == "providers":
            for name, entry in entries_of(parsed, value):
                part = given(ProviderPart, parsed, entry)
                if part is not None:
                    _provider(parsed, name, part, entry, around)
        else:
            parsed.problems.append(value.problem(f"is no part of config.yaml.{near(key, ('providers', 'server'))}"))


def _server(parsed: Parsed, value: Value) -> None:
    part = given(ServerPart, parsed, value)
    for name in PORTS:
        port = getattr(part, name, None)
        if port is not None:
            variable = {"http_port": "PORT", "grpc_port": "GRPC_PORT"}[name]
            parsed.warnings.append(
                f"{value.at(name).path} is no row of the database: set {variable}={port} in the environment, or "
                f"AI_ROUTER_CONFIG={value.file} to have this file read at each start."
            )


def _provider(parsed: Parsed, name: str, part: ProviderPart, place: Value, around: Around) -> None:
    kind = part.kind or name
    there = around.documents["providers"].get(name)
    if isinstance(there, ProviderEntry) and not part.kind:
        kind = there.kind
    if kind not in PROVIDER_KINDS:
        text = f"“{kind}” is no kind of provider: say `kind:`.{near(kind, PROVIDER_KINDS)}"
        parsed.problems.append(place.at("kind").problem(text))
        return
    is_local = "localhost" in (part.base_url or PROVIDER_KINDS[kind].base_url)
    entry = there or ProviderEntry(
        kind=kind, label=PROVIDER_KINDS[kind].label, allowed_networks=LOOPBACK if is_local else ()
    )
    said: dict[str, Any] = {"kind": kind, "is_active": part.enabled}
    said |= {"base_url": part.base_url} if part.base_url else {}
    said |= {"timeout_s": part.timeout} if part.timeout else {}
    parsed.add("providers", name, msgspec.structs.replace(entry, **said), place)
    _key(parsed, name, part, place, around)
    models = list(dict.fromkeys(one for one in (part.default_model, *part.models) if one))
    deployments = [_deployment(parsed, name, kind, model, place, around) for model in models]
    for model, deployment in zip(models, deployments, strict=True):
        add_target(parsed, model, deployment, place, around)
    if part.default_model:
        add_target(parsed, name, deployments[0], place, around, first=True)


def _key(parsed: Parsed, name: str, part: ProviderPart, place: Value, around: Around) -> None:
    variable = f"{name.upper().replace('-', '_').replace('.', '_')}_API_KEY"
    key = inner_name(name, LABEL)
    if part.api_key:
        parsed.add("provider_keys", key, ProviderKeyEntry(api_key=part.api_key), place)
    elif around.environment.get(variable, "").strip():
        parsed.add("provider_keys", key, ProviderKeyEntry(api_key=f"${{{variable}}}"), place)
    elif PROVIDER_KINDS[part.kind or name].needs_key if (part.kind or name) in PROVIDER_KINDS else False:
        if not any(one.startswith(inner_name(name, "")) for one in around.documents["provider_keys"]):
            parsed.warnings.append(f"provider {name} has no key yet: set {variable} and import again, or enter one.")


def _deployment(parsed: Parsed, provider: str, kind: str, model: str, place: Value, around: Around) -> str:
    """The name of the deployment. A model of a server of one's own need not be in the catalogue."""
    known = {*around.documents["models"], *parsed.entries["models"]}
    if model not in known and not PROVIDER_KINDS[kind].needs_key:
        entry = ModelEntry(label=model, vendor=PROVIDER_KINDS[kind].label, capabilities=("streaming",))
        parsed.add("models", model, entry, place)
    elif model not in known:
        text = f"there is no model “{model}”.{near(model, known)} Run manage.py catalogue_load if that is new here."
        parsed.problems.append(place.at("default_model").problem(text))
    name = f"{provider}/{model}"
    if ("deployments", name) not in parsed.places:
        parsed.add(
            "deployments", name, around.documents["deployments"].get(name) or DeploymentEntry(model=model), place
        )
    return name


def add_target(
    parsed: Parsed, alias: str, deployment: str, place: Value, around: Around, *, first: bool = False
) -> None:
    """Have `alias` lead to `deployment` too, made where there is none of that name."""
    there = parsed.entries["aliases"].get(alias) or around.documents["aliases"].get(alias) or AliasEntry()
    targets = tuple(one for one in getattr(there, "targets") if one != deployment or not first)  # noqa: B009
    if deployment not in targets:
        targets = (deployment, *targets) if first else (*targets, deployment)
    parsed.entries["aliases"][alias] = msgspec.structs.replace(there, targets=targets)
    parsed.places.setdefault(("aliases", alias), place)


# --- .env -------------------------------------------------------------------------------------------------------------


def is_env(text: str, name: str) -> bool:
    """Whether it is a `.env`: by its name, or as every line sets a variable."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    is_named = name.rpartition("/")[2].startswith(".env") or name.endswith(".env")
    return is_named or (bool(lines) and all(ENV_LINE.match(line) for line in lines))


def env_report(text: str) -> list[tuple[str, str]]:
    """(name, where it acts) for each variable; empty where nothing reads it. No value is looked at."""
    names = dict.fromkeys(found[1] for line in text.splitlines() if (found := ENV_LINE.match(line)))
    vendors = {f"{kind.upper()}_API_KEY" for kind in settings.VENDOR_KEYS}
    return [(name, _where_it_acts(name, vendors)) for name in names]


def _where_it_acts(name: str, vendors: set[str]) -> str:
    if name in ENV_NAMES:
        return ENV_NAMES[name]
    if name in vendors:
        return VENDOR_KEY
    return "a setting, see docs/settings.md" if hasattr(settings, name) else ""


def env_notes(text: str, file: str) -> Iterator[str]:
    """The report as sentences. A `.env` is read by the platform at its start; an import changes nothing for it."""
    yield f"{file} is read by the platform when it starts, if it lies beside manage.py. It changes no rows:"
    for name, where in env_report(text):
        yield f"  {name}: {where or 'nothing reads it. See docs/settings.md for what there is'}"
