"""How rows are said and what may be written to them. What a body has that is not taken is refused by name, and a row is
checked as a whole by its model's own rules before anything is saved, as on its page in the admin."""

import copy
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, TypeVar, cast

from django.core.exceptions import NON_FIELD_ERRORS
from django.core.exceptions import ValidationError as RuleError
from django.db import models
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.settings import api_settings

from providers.domain.types import Capability
from routerplatform.api.pagination import LARGEST_ID

M = TypeVar("M", bound=models.Model)
CAPABILITIES = [one.value for one in Capability]
RATE_LIMITS = ["rpm_limit", "tpm_limit", "max_parallel_requests"]
MOST_ROWS = 500
WHOLE = api_settings.NON_FIELD_ERRORS_KEY


class StrictSerializer(serializers.Serializer[Any]):
    """Takes nothing that it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({WHOLE: ["The body is a JSON object."]})
        wrong = {str(name): [why] for name in data if (why := self._refused(name))}
        if wrong:
            raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)

    def _refused(self, name: object) -> str:
        field = self.fields.get(str(name))
        if field is None:
            taken = ", ".join(sorted(one for one, field in self.fields.items() if not field.read_only))
            return f"There is no such field. There are: {taken or 'none'}."
        return "It can be read only." if field.read_only else ""


class IdOfRow(serializers.PrimaryKeyRelatedField[Any]):
    """Another row by its id. The framework would cut off what stands behind the point, and fall over infinity."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, float):
            self.fail("incorrect_type", data_type="float")
        return super().to_internal_value(data)


class NamedRow(serializers.SlugRelatedField[Any]):
    """Another row by its name, which is text that a database can look for."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or "\0" in data:
            self.fail("invalid")
        return super().to_internal_value(data)


class ManagedSerializer(StrictSerializer, serializers.ModelSerializer[M]):
    """A row of `Meta.model`; `Meta.fixed` are the columns that stay as they were when it was created.

    `checked` is the row as it is to be, not saved yet, once the serializer is valid. Writes are its view's: in one
    transaction, with the row locked.
    """

    serializer_related_field = IdOfRow
    checked: M

    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        made, options = super().build_standard_field(field_name, model_field)
        return (FiniteField if made is serializers.FloatField else made), options

    def get_validators(self) -> list[Any]:
        """Rules over several columns are the model's, which say them in words."""
        return []

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        row: M = copy.copy(self.instance) if self.instance is not None else cast(Any, self.Meta.model)()
        columns = {field.name for field in row._meta.concrete_fields}
        names = {field.source: name for name, field in self.fields.items() if not field.read_only}
        try:
            self._keep_fixed(attrs)
            for name in columns & attrs.keys():
                setattr(row, name, attrs[name])
            row.full_clean(exclude=columns - names.keys(), validate_constraints=False)
            self.check_row(row, attrs)  # before the constraints, which say less
            row.validate_constraints(exclude=columns - names.keys())
        except RuleError as error:
            said = said_by(error)
            raise serializers.ValidationError({names.get(name, name): said[name] for name in said}) from error
        self.checked = row
        return attrs

    def check_row(self, row: M, attrs: dict[str, Any]) -> None:
        """What more is asked of it than its model asks.

        :raises RuleError:
        """

    def _keep_fixed(self, given: Mapping[str, Any]) -> None:
        fixed = getattr(self.Meta, "fixed", ()) if self.instance is not None else ()
        wrong = [name for name in fixed if name in given and given[name] != getattr(self.instance, name)]
        if wrong:
            raise RuleError({name: "It stays as it was created." for name in wrong})

    # --- writing ----------------------------------------------------------------------------------------------------

    def create(self, validated_data: dict[str, Any]) -> M:
        self.checked.save()
        self.save_related(self.checked, validated_data)
        return self.checked

    def update(self, instance: M, validated_data: dict[str, Any]) -> M:
        """Writes what is different and nothing else, so that the history shows what was changed."""
        edited = self.edited(instance)
        if edited:
            self.checked.save(update_fields=edited)
        self.save_related(self.checked, validated_data)
        return self.checked

    def save_related(self, row: M, attrs: dict[str, Any]) -> None:
        """What hangs on the row and is written along with it."""

    def edited(self, instance: M) -> list[str]:
        """The columns in which the checked row is another than `instance`."""
        columns = (field.attname for field in instance._meta.concrete_fields)
        return [name for name in columns if getattr(instance, name) != getattr(self.checked, name)]

    def writable(self) -> list[str]:
        """The fields that an ETag is about."""
        return [name for name, field in self.fields.items() if not field.read_only and not field.write_only]


class Noun(serializers.CharField):
    """The constant `object` of what is told."""

    def __init__(self, noun: str = "") -> None:
        super().__init__(read_only=True, source="*", help_text=f"Always “{noun}”.")
        self.noun = noun

    def to_representation(self, value: Any) -> str:
        return self.noun


class Username(serializers.CharField):
    """A person, read only; null for one who is gone, and where no person did it."""

    def __init__(self) -> None:
        super().__init__(read_only=True, allow_null=True, help_text="A user name.")

    def to_representation(self, value: Any) -> str:
        return str(value.get_username())


class FiniteField(serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        number = super().to_internal_value(data)
        if not isfinite(number):
            self.fail("invalid")
        return number


class IdsOfRows(serializers.ListField):
    """Other rows by their ids, in order, each once; looked up all together."""

    child = serializers.IntegerField(min_value=1, max_value=LARGEST_ID)

    def __init__(self, rows: QuerySet[Any], **options: Any) -> None:
        super().__init__(**options)
        self.rows = rows

    def get_attribute(self, instance: Any) -> list[int]:
        return [row.pk for row in cast(Any, super().get_attribute(instance)).all()]

    def to_representation(self, data: Any) -> list[int]:
        return list(data)

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and len(data) > MOST_ROWS:
            raise serializers.ValidationError(f"It names {len(data)} rows. The most is {MOST_ROWS}.")
        ids: list[int] = super().to_internal_value(data)
        if len(set(ids)) < len(ids):
            raise serializers.ValidationError("An id stands here twice. Name it once.")
        found = self.rows.all().in_bulk(ids)
        missing = {str(n): [f"There is none with the id {pk}."] for n, pk in enumerate(ids) if pk not in found}
        if missing:
            raise serializers.ValidationError(missing)
        return [found[pk] for pk in ids]


class NamesField(serializers.ListField):
    """A JSON column that is a list of known names, each once."""

    def __init__(self, choices: Iterable[Any], **options: Any) -> None:
        super().__init__(child=serializers.ChoiceField(choices=list(choices)), **options)

    def to_internal_value(self, data: Any) -> Any:
        names = super().to_internal_value(data)
        if len(set(names)) < len(names):
            raise serializers.ValidationError("A name stands here twice. Name it once.")
        return names


class LinesField(serializers.ListField):
    """A text column with one entry per line."""

    child = serializers.CharField()

    def to_representation(self, data: Any) -> list[str]:
        return str(data).splitlines()

    def to_internal_value(self, data: Any) -> Any:
        return "\n".join(super().to_internal_value(data))


def capabilities_field() -> NamesField:
    return NamesField(CAPABILITIES, required=False)


def limits_of(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attrs.get(name) for name in RATE_LIMITS}


def said_by(error: RuleError) -> dict[str, list[str]]:
    """A model's complaints, by field."""
    found: dict[str, list[str]] = error.message_dict if hasattr(error, "error_dict") else {WHOLE: error.messages}
    return {(WHOLE if name == NON_FIELD_ERRORS else name): texts for name, texts in found.items()}
