"""From rows to a snapshot: references resolved, contradictions named."""

from collections.abc import Sequence
from typing import Any

import pytest

from providers.domain.types import Capability, PromptDefaults
from routing.domain.compile import AliasRow, ConfigError, ConfigRows, PersonaRow, PolicyRow, compile_snapshot
from routing.domain.documents import CandidateDocument, PolicyDocument
from routing.domain.rules import RuleRow
from tests.routing.domain.build import NOW, caller, deployment

ALIASES = {10: "fast", 11: "wise"}


def policy_row(number: int = 1, *, candidates: Sequence[tuple[int, bool]] = (), **options: Any) -> PolicyRow:
    """`candidates` are (alias id, is a fallback); what is not a field of the row is one of its document."""
    row = {name: options.pop(name) for name in ("name", "is_default", "version", "variants") if name in options}
    models = tuple(CandidateDocument(ALIASES.get(alias, "gone"), is_fallback) for alias, is_fallback in candidates)
    document = PolicyDocument(candidates=models, **options)
    return PolicyRow(id=number, **{"name": f"policy-{number}", "is_default": False, **row}, document=document)


def rows(**options: Any) -> ConfigRows:
    values: dict[str, Any] = {
        "revision": 3,
        "deployments": {1: deployment(1, "swift"), 2: deployment(2, "sage")},
        "aliases": [AliasRow(10, "fast", "quick", [1, 2]), AliasRow(11, "wise", "", [2])],
        "policies": [],
        "personas": [],
        "callers": [],
    }
    return ConfigRows(**{**values, **options})


def persona_row(policy_id: int = 1, **options: Any) -> PersonaRow:
    values: dict[str, Any] = {"defaults": PromptDefaults("p", None, 10), "required": []}
    return PersonaRow("analyst", "Analyst", "", policy_id, **{**values, **options})


def test_aliases_keep_the_order_of_their_deployments() -> None:
    snapshot = compile_snapshot(rows(), now=NOW)
    assert [d.name for d in snapshot.aliases["fast"].deployments] == ["alpha/swift", "alpha/sage"]
    assert (snapshot.revision, snapshot.compiled_at) == (3, NOW)
    assert set(snapshot.deployments) == {"alpha/swift", "alpha/sage"}


def test_what_is_not_active_drops_out_of_the_lists_that_name_it() -> None:
    snapshot = compile_snapshot(
        rows(
            deployments={2: deployment(2, "sage")},
            policies=[policy_row(candidates=[(10, False), (99, False), (11, True)], is_default=True)],
        ),
        now=NOW,
    )
    assert [d.name for d in snapshot.aliases["fast"].deployments] == ["alpha/sage"]
    assert snapshot.default_policy is not None
    assert [(c.alias.name, c.is_fallback) for c in snapshot.default_policy.candidates] == [
        ("fast", False),
        ("wise", True),
    ]


def test_without_a_default_there_is_none() -> None:
    assert compile_snapshot(rows(policies=[policy_row()]), now=NOW).default_policy is None


def test_a_persona_gets_its_policy() -> None:
    snapshot = compile_snapshot(rows(policies=[policy_row(1)], personas=[persona_row()]), now=NOW)
    assert snapshot.personas["analyst"].policy is snapshot.policies["policy-1"]


def test_a_persona_whose_policy_is_not_active_is_left_out_and_named() -> None:
    snapshot = compile_snapshot(rows(personas=[persona_row(policy_id=5)]), now=NOW)
    assert snapshot.personas == {}
    assert snapshot.problems == ("Persona “analyst” uses a policy that is not active. Activate it or choose another.",)


@pytest.mark.parametrize("where", ["policy", "persona"])
def test_an_unknown_capability_is_refused_by_name(where: str) -> None:
    unknown = ("telepathy",)
    config = rows(
        policies=[policy_row(required=unknown if where == "policy" else ())],
        personas=[persona_row(required=unknown if where == "persona" else [])],
    )
    with pytest.raises(ConfigError, match="telepathy"):
        compile_snapshot(config, now=NOW)


def test_an_unknown_task_type_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="GARDENING"):
        compile_snapshot(rows(policies=[policy_row(task_type="GARDENING")]), now=NOW)


def test_known_capabilities_become_values() -> None:
    snapshot = compile_snapshot(rows(policies=[policy_row(required=["vision", "json_mode"])]), now=NOW)
    assert snapshot.policies["policy-1"].required == {Capability.VISION, Capability.JSON_MODE}


def test_callers_are_found_by_digest_and_by_key() -> None:
    who = caller(key_id=42)
    snapshot = compile_snapshot(rows(callers=[("digest", who)]), now=NOW)
    assert snapshot.callers_by_digest["digest"] is who
    assert snapshot.callers_by_key_id[42] is who


def test_a_snapshot_does_not_print_its_callers() -> None:
    snapshot = compile_snapshot(rows(callers=[("secret-digest", caller())]), now=NOW)
    assert "secret-digest" not in repr(snapshot)


def test_a_rule_that_does_not_compile_is_left_out_and_named() -> None:
    rows_of_rules = [
        RuleRow("broken", "text", "", "regex", "a(b", tier="economy"),
        RuleRow("good", "text", "", "contains", "x", tier="economy"),
    ]
    snapshot = compile_snapshot(rows(rules=rows_of_rules), now=NOW)
    assert [rule.name for rule in snapshot.rules] == ["good"]
    assert len(snapshot.problems) == 1
    assert "Rule “broken”" in snapshot.problems[0]
