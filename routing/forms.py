"""The form that issues a virtual key outside the admin."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet

from routing.domain.config import Scope
from routing.models import ModelAlias, Team, VirtualKey, default_scopes

NEVER, ON_A_DAY = "never", "day"
EXPIRIES = [
    (NEVER, "Never"),
    ("30", "In 30 days"),
    ("90", "In 90 days"),
    ("365", "In 365 days"),
    (ON_A_DAY, "On a day of your choice"),
]
USUAL_EXPIRY = "90"
LONGEST = timedelta(days=3653)
END_OF_DAY = time(23, 59, 59)


class KeyForm(forms.Form):
    """What `key_issue` needs to know. `teams` are those that the person may issue keys for."""

    team = forms.ModelChoiceField(
        Team.objects.none(),
        empty_label="Choose a team",
        error_messages={
            "required": "Choose the team that pays for it.",
            "invalid_choice": "You cannot issue keys for this team.",
        },
    )
    name = forms.CharField(
        max_length=VirtualKey._meta.get_field("name").max_length,
        error_messages={"required": "Say what will use the key.", "max_length": "Use 80 characters at most."},
    )
    expiry = forms.ChoiceField(
        choices=EXPIRIES,
        initial=USUAL_EXPIRY,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose when it expires.", "invalid_choice": "Choose one of these."},
    )
    expires_on = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        error_messages={"invalid": "Write the day as year-month-day, for example 2027-03-31."},
    )
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices(),
        initial=default_scopes,
        widget=forms.CheckboxSelectMultiple,
        error_messages={
            "required": "Tick at least one: a key that may do nothing is of no use.",
            "invalid_choice": "Tick some of these only.",
        },
    )
    allowed_models = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        error_messages={
            "invalid_choice": "A model that you ticked is not on offer any more: look through them again.",
        },
    )

    def __init__(self, *args: Any, teams: QuerySet[Team], now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now = now
        self.aliases = {str(alias.pk): alias for alias in ModelAlias.objects.filter(is_active=True)}
        team, allowed_models = self.fields["team"], self.fields["allowed_models"]
        assert isinstance(team, forms.ModelChoiceField)
        assert isinstance(allowed_models, forms.MultipleChoiceField)
        team.queryset = teams
        allowed_models.choices = [(pk, alias.name) for pk, alias in self.aliases.items()]
        self.fields["expires_on"].widget.attrs["min"] = now.date().isoformat()

    def clean_expires_on(self) -> date | None:
        """The last day on which the key works; None unless a day was to be chosen."""
        if self.cleaned_data.get("expiry") != ON_A_DAY:
            return None
        day: date | None = self.cleaned_data["expires_on"]
        if day is None:
            raise forms.ValidationError("Choose the last day on which it works.")
        if day < self.now.date():
            raise forms.ValidationError("This day has passed. The key would never work.")
        if day > (self.now + LONGEST).date():
            raise forms.ValidationError("This is more than ten years away. Choose an earlier day, or “Never”.")
        return day

    def clean_allowed_models(self) -> list[ModelAlias]:
        return [self.aliases[pk] for pk in self.cleaned_data["allowed_models"]]

    def expires_at(self) -> datetime | None:
        """When the key ends, of a form that is valid. A day is worked to its end, in UTC."""
        chosen, day = self.cleaned_data["expiry"], self.cleaned_data["expires_on"]
        if chosen == NEVER:
            return None
        if day is None:
            return self.now + timedelta(days=int(chosen))
        return datetime.combine(day, END_OF_DAY, tzinfo=UTC)
