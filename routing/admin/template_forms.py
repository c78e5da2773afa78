"""The form of a new version of a prompt template: its texts, its variables, and values to try them with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.forms import BaseFormSet, Form, formset_factory
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from providers.domain.estimate import count_text
from routing.domain.templates import (
    LONGEST_DESCRIPTION,
    LONGEST_VALUE,
    MOST_MESSAGES,
    MOST_VARIABLES,
    USUAL_VALUE,
    Complaint,
    MessageDocument,
    TemplateDocument,
    TemplateError,
    TemplateVersion,
    VariableDocument,
    VariablesError,
    compile_version,
    render,
)
from routing.services.templates import LONGEST_NOTE, tidied

ROLES: Final = [("user", "User"), ("assistant", "Assistant")]


def text_field(label: str, rows: int, **options: Any) -> forms.CharField:
    widget = UnfoldAdminTextareaWidget(attrs={"rows": rows, "spellcheck": "false"})
    return forms.CharField(label=label, required=False, strip=False, widget=widget, **options)


class VersionForm(Form):
    system = text_field(
        "System text", 8, help_text="Stands where a persona’s system prompt stands, behind it. May be empty."
    )
    note = forms.CharField(
        label="What changes",
        max_length=LONGEST_NOTE,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="For the list of versions.",
    )
    is_in_force = forms.BooleanField(
        label="Put it into force",
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Off: it can be tried by its number first.",
    )


class MessageForm(Form):
    role = forms.ChoiceField(label="Role", choices=ROLES, initial="user", widget=UnfoldAdminSelectWidget)
    content = text_field("What it says", 5)


class VariableForm(Form):
    """`sample` is for the preview and is not kept."""

    name = forms.CharField(label="Name", max_length=60, required=False, widget=UnfoldAdminTextInputWidget)
    description = forms.CharField(
        label="Description", max_length=LONGEST_DESCRIPTION, required=False, widget=UnfoldAdminTextInputWidget
    )
    is_required = forms.BooleanField(label="Required", required=False, initial=True, widget=UnfoldBooleanSwitchWidget)
    default = text_field("If not sent", 1)
    max_length = forms.IntegerField(
        label="Longest value",
        min_value=1,
        max_value=LONGEST_VALUE,
        initial=USUAL_VALUE,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    sample = text_field("Try it with", 1)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("is_required") and cleaned.get("default"):
            self.add_error("default", "A variable that is required has no default: switch “Required” off.")
        return cleaned


class Rows(BaseFormSet[Any]):
    ordering_widget = UnfoldAdminIntegerFieldWidget
    deletion_widget = UnfoldBooleanSwitchWidget


MessageRows = formset_factory(
    MessageForm, formset=Rows, extra=1, can_delete=True, can_order=True, max_num=MOST_MESSAGES, validate_max=True
)
VariableRows = formset_factory(
    VariableForm, formset=Rows, extra=1, can_delete=True, max_num=MOST_VARIABLES, validate_max=True
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A text of the preview."""

    role: str
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a model would get. `problem` says why nothing can be shown."""

    texts: tuple[Shown, ...] = ()
    problem: str = ""

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.texts)


class VersionEditor:
    """The form with its rows; bound when `data` is given. What the domain complains of stands at its field."""

    def __init__(self, document: TemplateDocument, data: Mapping[str, Any] | None = None) -> None:
        self.form = VersionForm(data, initial={"system": document.system})
        # what was entered is not compared with the version it began from: another one may be in force meanwhile
        messages, variables = (None, None) if data is not None else (_message_rows(document), _variable_rows(document))
        self.messages: BaseFormSet[Any] = MessageRows(data, prefix="messages", initial=messages)
        self.variables: BaseFormSet[Any] = VariableRows(data, prefix="variables", initial=variables)
        self.document = document
        self.complaints: tuple[Complaint, ...] = ()
        self.version: TemplateVersion | None = None

    def is_valid(self) -> bool:
        """Read what was entered; afterwards `document` is that, and `version` is None where it cannot be used."""
        parts = [self.form.is_valid(), self.messages.is_valid(), self.variables.is_valid()]
        if not all(parts):
            return False
        messages, variables = self._message_forms(), self._variable_forms()
        self.document = tidied(
            TemplateDocument(
                self.form.cleaned_data["system"],
                tuple(MessageDocument(one.cleaned_data["role"], one.cleaned_data["content"]) for one in messages),
                tuple(_variable(one.cleaned_data) for one in variables),
            )
        )
        try:
            self.version = compile_version("preview", 0, self.document)
        except TemplateError as error:
            self._complain(error, messages, variables)
            return False
        return True

    def preview(self) -> Preview:
        """The texts with the values to try; a variable that has none and needs one is shown by its name."""
        if self.version is None:
            return Preview()
        given = {}
        for one in self._variable_forms():
            name, sample = one.cleaned_data["name"], one.cleaned_data["sample"]
            if sample or one.cleaned_data["is_required"]:
                given[name] = sample.replace("\r\n", "\n") or f"[{name}]"[: one.cleaned_data["max_length"]]
        try:
            rendered = render([self.version], given)
        except VariablesError as error:
            return Preview(problem=str(error))
        texts = [("system", rendered.system)] if rendered.system else []
        return Preview(tuple(Shown(role, text, count_text(text)) for role, text in [*texts, *rendered.messages]))

    def problems(self) -> list[str]:
        """All that is wrong, for whoever looks at the preview and not at the fields."""
        if self.complaints:
            return [one.in_words for one in self.complaints]
        rows = [("Message", row) for row in self.messages] + [("Variable", row) for row in self.variables]
        found = [text for errors in self.form.errors.values() for text in errors]
        for what, row in rows:
            found += [f"{what}: {row.fields[name].label}: {errors[0]}" for name, errors in row.errors.items() if errors]
        return [*found, *self.messages.non_form_errors(), *self.variables.non_form_errors()]

    def _message_forms(self) -> list[Any]:
        return [one for one in self.messages.ordered_forms if one.cleaned_data]

    def _variable_forms(self) -> list[Any]:
        return [one for one in self.variables if one.cleaned_data and not one.cleaned_data.get("DELETE")]

    def _complain(self, error: TemplateError, messages: list[Any], variables: list[Any]) -> None:
        self.complaints = error.complaints
        for one in error.complaints:
            text = f"Line {one.line}: {one.text}" if one.line else one.text
            match one.part:
                case "system":
                    self.form.add_error("system", text)
                case "messages":
                    messages[one.index].add_error("content", text)
                case "variables":
                    variables[one.index].add_error("name", text)
                case _:
                    self.form.add_error(None, text)


def _variable(cleaned: Mapping[str, Any]) -> VariableDocument:
    default = None if cleaned["is_required"] else cleaned["default"].replace("\r\n", "\n")
    return VariableDocument(cleaned["name"], cleaned["description"], default, cleaned["max_length"])


def _message_rows(document: TemplateDocument) -> list[dict[str, Any]]:
    return [{"role": one.role, "content": one.content} for one in document.messages]


def _variable_rows(document: TemplateDocument) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "description": one.description,
            "is_required": one.default is None,
            "default": one.default or "",
            "max_length": one.max_length,
        }
        for one in document.variables
    ]
