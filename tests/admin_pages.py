"""Working the admin as a browser does: read a page's forms, change a field, send all of it back."""

from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.models import Model
from django.forms import Form
from django.forms.boundfield import BoundField
from django.forms.widgets import CheckboxInput, MultiWidget
from django.test import Client
from django.test.utils import CaptureQueriesContext

from providers.admin.pages import change_url


def fields_of(page: Any) -> dict[str, Any]:
    """What a browser would send if nothing were changed: the page's form and its inline rows."""
    data: dict[str, Any] = {}
    for form in _forms(page):
        for field in form:
            data |= _sent(field)
    return data


def submit(client: Client, url: str, **changes: Any) -> Any:
    """Open `url`, change some fields, press Save. Dashes in names of inline fields are written as `__`."""
    data = fields_of(client.get(url)) | {name.replace("__", "-"): value for name, value in changes.items()}
    return client.post(url, data)


_BLANK: dict[str, dict[str, Any]] = {}


def submit_new(client: Client, url: str, **changes: Any) -> Any:
    """Like `submit`, for the form of a new row: what is in it unchanged is the same each time, so it is read once."""
    if url not in _BLANK:
        _BLANK[url] = fields_of(client.get(url))
    return client.post(url, _BLANK[url] | {name.replace("__", "-"): value for name, value in changes.items()})


def errors_of(page: Any) -> str:
    """Every complaint of the forms of a page that was sent back."""
    texts = [str(form.errors) for form in _forms(page)]
    texts += [str(inline.formset.non_form_errors()) for inline in page.context["inline_admin_formsets"]]
    return " ".join(texts)


def page_of(row: Model, name: str) -> str:
    """Another page of a row: its history, its deletion, an action."""
    return change_url(row).removesuffix("change/") + f"{name}/"


def queries_of(client: Client, url: str) -> int:
    """How many queries the page takes."""
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url).status_code == 200
    return len(queries)


def _forms(page: Any) -> Iterator[Form]:
    yield page.context["adminform"].form
    for inline in page.context["inline_admin_formsets"]:
        yield inline.formset.management_form
        yield from inline.formset.forms


def _sent(field: BoundField) -> dict[str, Any]:
    value, widget = field.value(), field.field.widget
    widget = getattr(widget, "widget", widget)  # the one inside a related-field wrapper
    if isinstance(widget, MultiWidget):
        parts = widget.decompress(value)
        return {f"{field.html_name}_{n}": "" if part is None else str(part) for n, part in enumerate(parts)}
    if isinstance(widget, CheckboxInput):
        return {field.html_name: "on"} if value else {}
    if getattr(widget, "allow_multiple_selected", False):
        return {field.html_name: value or []}
    return {field.html_name: "" if value is None else value}
