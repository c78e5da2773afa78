"""export(import(x)) = x, and import(export) plans nothing."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analytics.models import AlertChannel
from providers.fields import unseal
from providers.models import Provider, ProviderKey
from routerplatform.configuration.applying import Options, Outcome, configuration_import
from routerplatform.configuration.exporting import exported, stored, to_yaml
from routerplatform.configuration.files import parsed_files
from routing.models import Persona, RoutingPolicy, Team, VirtualKey
from tests.factories import NOON, VirtualKeyFactory
from tests.routerplatform.configuration.installation import (
    SECRETS_OF_SMALL,
    file_of,
    run,
    set_secrets,
    small_installation,
    wipe,
)

pytestmark = pytest.mark.django_db


def brought_in(text: str, *, apply: bool = True, prune: bool = False) -> Outcome:
    options = Options(by=None, now=NOON, environment=SECRETS_OF_SMALL, apply=apply, prune=prune)
    return configuration_import(
        read=lambda current: parsed_files({"x.yaml": text}, current, SECRETS_OF_SMALL), options=options
    )


def written_out() -> str:
    return to_yaml(exported(stored(), members=True))


def test_what_was_exported_plans_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small_installation()
    file = str(tmp_path / "all.yaml")
    assert run(capsys, "config_export", "--members", "--out", file).code == 0
    told = run(capsys, "config_import", file, "--plan", "--prune")
    assert (told.out.strip(), told.code) == ("Nothing differs.", 0)


def test_an_export_makes_the_same_installation_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_installation()
    before = written_out()
    wipe()
    set_secrets(monkeypatch)
    file = file_of(tmp_path, before)
    told = run(capsys, "config_import", file, "--apply", "--json")
    assert told.code == 0, told.out
    note, _budget = [one for one in told.json["notes"] if "virtual key" in one]
    assert "create_key --team support --name 'bot / prod'" in note
    # with the key issued by hand, the rest of the file finds its place
    assert "key/support/bot / prod/1d" in before
    VirtualKeyFactory.create(team=Team.objects.get(), name="bot / prod")
    assert run(capsys, "config_import", file, "--apply").code == 0
    assert written_out() == before
    assert unseal(ProviderKey.objects.get(label="old").sealed) == "sk-test-of-alpha-0000"
    assert unseal(AlertChannel.objects.get(name="On-call, mail").target) == "ops@example.com"


def test_no_secret_is_in_an_export(capsys: pytest.CaptureFixture[str]) -> None:
    small_installation()
    text = ""
    for extra in ([], ["--json"], ["--format", "persona_policy"], ["--format", "capabilities"]):
        text = run(capsys, "config_export", *extra).out
        assert text
        assert not any(secret in text for secret in SECRETS_OF_SMALL.values() if "@" not in secret)
    assert str(VirtualKey.objects.get().digest) not in text


# --- generated installations ----------------------------------------------------------------------------------------

WORDS = (
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
    .map(str.strip)  # as a form would
    .filter(bool)
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=80).map(
    lambda text: "".join(one for one in text if one.isprintable() or one in "\n\t")
)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True).filter(lambda name: name != "auto")
LIMITS = st.none() | st.integers(1, 2_000_000_000)
SHARES = st.none() | st.floats(0, 1)
USD = st.none() | st.decimals(0, 1000, places=6)


def some(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with some of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def without_nothing(value: Any) -> Any:
    """Fields that are nothing are left out, as an export leaves them out."""
    return {name: one for name, one in value.items() if one is not None}


@st.composite
def installations(draw: st.DrawFn) -> dict[str, Any]:
    """A file as plain values, consistent in itself."""
    limits = {"rpm_limit": LIMITS, "tpm_limit": LIMITS, "max_parallel_requests": LIMITS}
    names = st.lists(NAMES, min_size=1, max_size=3, unique=True)
    models, aliases, policies = draw(names), draw(names), draw(names)
    deployments = [f"acme/{draw(st.sampled_from(('', 'org/')))}{model}" for model in models]
    of_models = {
        "label": WORDS,
        "vendor": WORDS,
    }
    candidates = st.lists(st.sampled_from(aliases), unique=True, max_size=3)
    rules = some(
        description=TEXTS,
        strategy=st.sampled_from(["priority", "weighted", "balanced"]),
        quality_floor=SHARES,
        sticky=st.just(True),
        max_cost_per_request=USD,
        regions=st.sets(st.sampled_from(["eu", "us-east"])).map(sorted),
        ladder=some(cap_at=st.integers(1, 40), refuse_at=st.integers(41, 100)).map(without_nothing),
        cache_ttl_s=LIMITS,
    )
    return {
        "format": 1,
        "models": {
            name: draw(st.fixed_dictionaries(of_models, optional={"context_window": LIMITS, "strengths": TEXTS}))
            for name in models
        },
        "providers": {"acme": {"kind": "openai-compatible", "label": draw(WORDS), "base_url": "https://a.example.com"}},
        "deployments": {
            name: {"model": model, **draw(some(**limits))} for name, model in zip(deployments, models, strict=True)
        },
        "aliases": {
            name: {
                "targets": draw(st.lists(st.sampled_from(deployments), unique=True)),
                **draw(some(description=TEXTS, active=st.just(False), **limits)),
            }
            for name in aliases
        },
        "policies": {
            name: {"models": [{"alias": alias} for alias in draw(candidates)], **draw(rules)} for name in policies
        },
        "personas": {
            name: {
                "name": draw(WORDS),
                "policy": draw(st.sampled_from(policies)),
                **draw(some(system_prompt=TEXTS, temperature=st.none() | st.floats(0, 2))),
            }
            for name in draw(names)
        },
    }


# each example fills a database three times: a failing one is told as it is found, not made smaller
@settings(
    max_examples=12,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(installations())
def test_any_configuration_survives_the_way_in_and_out(db: None, made: dict[str, Any]) -> None:
    wipe()
    brought_in(to_yaml(made))
    first = written_out()
    again = brought_in(first, apply=False, prune=True)
    assert again.plan.changes == []
    wipe()
    brought_in(first)
    assert written_out() == first
    assert set(RoutingPolicy.objects.values_list("name", flat=True)) == set(made["policies"])
    for slug, persona in made["personas"].items():
        row = Persona.objects.get(slug=slug)
        assert row.temperature == persona.get("temperature")
        assert row.system_prompt == persona.get("system_prompt", "")


def test_a_file_is_the_same_each_time_it_is_written() -> None:
    small_installation()
    first = written_out()
    Provider.objects.update(health="down", health_note="no answer")
    User.objects.update(email="other@example.com")
    assert written_out() == first
