"""Inline rows whose order is the rule."""

from typing import Any

from django.db.models import Model
from django.forms import ModelForm
from unfold.forms import PaginationInlineFormSet

from providers.admin.pages import Rows


class OrderedRows(Rows):
    """Rows whose order is the rule: dragged into place, counted anew when they are saved."""

    ordering_field = "position"
    hide_ordering_field = True
    tab = False
    show_change_link = False


class OrderedFormSet(PaginationInlineFormSet):  # type: ignore[misc]  # untyped
    """Puts new rows behind the others, whatever number the form gave them."""

    def save_new(self, form: ModelForm[Any], commit: bool = True) -> Any:
        form.instance.position = 1_000_000 + self.forms.index(form)
        return super().save_new(form, commit)


def renumber(parent: Model, rows: str) -> None:
    """Number the rows of `parent` from 0, in each group. A new row has no position yet: it goes to the end."""
    counts: dict[str, int] = {}
    for row in getattr(parent, rows).order_by("position", "pk"):
        group = getattr(row, "group", "")
        position = counts.setdefault(group, 0)
        counts[group] += 1
        if row.position != position:
            row.position = position
            row.save(update_fields=["position"])
