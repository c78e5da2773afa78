"""Filters of lists. One that does not exist is refused by name: a misspelt filter must not answer with every row."""

from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.request import Request

from routerplatform.api.errors import FieldsRefused
from routerplatform.api.pagination import CURSOR, LARGEST_ID, LIMIT
from routerplatform.gateway.errors import InvalidRequest

ALSO = frozenset({LIMIT, CURSOR})


class IdField(forms.IntegerField):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, min_value=0, max_value=LARGEST_ID, **kwargs)


class IdFilter(django_filters.NumberFilter):  # type: ignore[misc]  # untyped
    """A whole number: the id of a row, the number of a version. `field_name` is the column."""

    field_class = IdField


class StrictBoolean(forms.Field):
    """`true` or `false`; Django's own takes anything for “not said”."""

    def to_python(self, value: Any) -> bool | None:
        if value in {None, ""}:
            return None
        if value not in {"true", "false"}:
            raise forms.ValidationError("It is true or false.")
        return bool(value == "true")


class YesNoFilter(django_filters.BooleanFilter):  # type: ignore[misc]  # untyped
    field_class = StrictBoolean


class StrictFilters(DjangoFilterBackend):  # type: ignore[misc]  # untyped
    """The view's `filterset_class`; without one nothing can be filtered by."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """:raises InvalidRequest: an unknown filter, one that is given twice, or a value that it does not take."""
        made = self.get_filterset(request, queryset, view)
        known = set(made.filters) if made is not None else set()
        for name in request.query_params:
            if name not in known | ALSO:
                choices = ", ".join(sorted(known)) or "none"
                raise InvalidRequest(f"There is no filter “{name[:60]}” here. There are: {choices}.", param=name[:60])
            if len(request.query_params.getlist(name)) > 1:
                raise InvalidRequest(f"“{name}” stands there more than once.", param=name)
        if made is None:
            return queryset
        if not made.is_valid():
            raise FieldsRefused([(name, f"{name}: {texts[0]}") for name, texts in made.errors.items()])
        filtered: QuerySet[Any] = made.qs
        return filtered

    def to_html(self, request: Request, queryset: QuerySet[Any], view: Any) -> str:
        """The browsable pages show no form of filters: they stand in the documentation."""
        return ""
