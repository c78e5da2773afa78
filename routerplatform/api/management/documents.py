"""The rules of a policy in a body: read strictly, checked as the page of a draft checks them."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.core.exceptions import ValidationError as RuleError
from django.utils import timezone

from routing.domain.documents import (
    CandidateDocument,
    ConfigError,
    LadderDocument,
    PolicyDocument,
    document_from_json,
    same_rules,
)
from routing.models import DraftCandidate, PolicyDraft, RoutingPolicy
from routing.policy_selectors import policy_complaints
from routing.services.policy_rules import RULE_COLUMNS, aliases_named, columns_of

LARGEST_COST_NANO: Final = 9_999_999_999_000  # of a column with 4 digits before the point and 6 behind it
SMALLEST_STEP_NANO: Final = 1000
FIELDS: Final = {  # of the document, by the column whose rules it has to keep
    "max_cost_per_request": "max_cost_nano",
    "required_capabilities": "required",
    "ladder_cap_percent": "ladder.cap_at",
    "ladder_cap_tokens": "ladder.cap_tokens",
    "ladder_cheaper_percent": "ladder.cheaper_at",
    "ladder_cache_percent": "ladder.cache_only_at",
    "ladder_refuse_percent": "ladder.refuse_at",
}


def read_document(value: Any) -> PolicyDocument:
    """The document, its values not checked yet but for money.

    :raises RuleError: it has a field that there is not, or a value of another type.
    """
    _only_known(value, PolicyDocument, "document")
    _only_known(value.get("ladder"), LadderDocument, "document.ladder")
    candidates = value.get("candidates")
    for number, one in enumerate(candidates if isinstance(candidates, list) else []):
        _only_known(one, CandidateDocument, f"document.candidates.{number}")
    try:
        document = document_from_json(value)
    except ConfigError as error:
        raise RuleError({"document": str(error)}) from error
    cost = document.max_cost_nano
    if cost is not None and (not 0 <= cost <= LARGEST_COST_NANO or cost % SMALLEST_STEP_NANO):
        raise RuleError({"document.max_cost_nano": "Nano-USD: a multiple of 1000, up to 9,999,999,999,000."})
    return document


def document_in_full(document: msgspec.Struct) -> dict[str, Any]:
    """Every field, those with their usual values too: the same for the same rules, whoever wrote them."""
    return {name: _in_full(value) for name, value in msgspec.structs.asdict(document).items()}


def _in_full(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return document_in_full(value)
    return [_in_full(one) for one in value] if isinstance(value, tuple) else value


def check_document(document: PolicyDocument, policy: RoutingPolicy, before: PolicyDocument | None) -> None:
    """What is saved as it was is not checked: a title can be changed whatever has become of the models.

    :raises RuleError: with all that speaks against putting it into force.
    """
    if before is not None and same_rules(document, before):
        return
    _check_columns(document)
    found: dict[str, list[str]] = {}
    for one in policy_complaints(policy, document, now=timezone.now()):
        found.setdefault(f"document.{one.field}" if one.field else "document", []).append(one.text)
    if found:
        raise RuleError(found)


def _check_columns(document: PolicyDocument) -> None:
    draft = PolicyDraft(**columns_of(document))
    others = {field.name for field in PolicyDraft._meta.concrete_fields} - set(RULE_COLUMNS)
    try:
        draft.clean_fields(exclude=others)
        draft.clean()
    except RuleError as error:
        said = error.message_dict
        raise RuleError({f"document.{FIELDS.get(name, name)}": said[name] for name in said}) from error
    try:
        aliases_named(document)
    except RuleError as error:
        raise RuleError({"document.candidates": error.messages}) from error
    for number, one in enumerate(document.candidates):
        row = DraftCandidate(weight=one.weight, task_type=one.task_type)
        try:
            row.clean_fields(exclude={"id", "draft", "alias"})
        except RuleError as error:
            said = error.message_dict
            raise RuleError({f"document.candidates.{number}.{name}": said[name] for name in said}) from error


def _only_known(value: Any, shape: type[msgspec.Struct], where: str) -> None:
    """Of an object; what has another type is refused when it is converted."""
    if where == "document" and not isinstance(value, Mapping):
        raise RuleError({where: "It is a JSON object: the rules of a policy."})
    if not isinstance(value, Mapping):
        return
    known = [field.name for field in msgspec.structs.fields(shape)]
    wrong = {
        f"{where}.{name}": f"There is no such field. There are: {', '.join(known)}."
        for name in value
        if name not in known
    }
    if wrong:
        raise RuleError(wrong)
