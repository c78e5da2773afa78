"""Responses that a caller may continue by naming their id (`previous_response_id`)."""

from django.db import models
from django.utils import timezone

from providers.fields import SealedTextField
from routing.models import Team


class StoredResponse(models.Model):
    """One response of a team, and what it takes to continue it.

    Either a vendor keeps the conversation, at `deployment`, or it is here: `sealed` holds it, packed and encrypted.
    """

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="stored_responses")
    response_id = models.CharField("response", max_length=200)
    deployment = models.CharField("kept at", max_length=200, blank=True, help_text="Empty: kept here.")
    sealed = SealedTextField("conversation (encrypted)", blank=True, default="", editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["team", "response_id"], name="stored_response_unique"),
            models.CheckConstraint(
                condition=models.Q(deployment="", sealed__gt="") | models.Q(~models.Q(deployment=""), sealed=""),
                name="a_response_is_kept_here_or_there",
            ),
        ]

    def __str__(self) -> str:
        return self.response_id
