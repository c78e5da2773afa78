"""Answers that are told again when a caller repeats a request with the same `Idempotency-Key`."""

from django.db import models
from django.utils import timezone

from analytics.domain.idempotency import AnswerState
from providers.fields import SealedTextField


class IdempotentAnswer(models.Model):
    """One key of one virtual key. While it is `running`, `claimed_until` is a lease that its gateway renews.

    `sealed` holds the whole answer (`analytics.domain.idempotency.KeptAnswer`), packed and encrypted. The caller's key
    is here only as a digest, together with the virtual key's id: nobody can meet another one's answer.
    """

    key_digest = models.CharField("key (SHA-256)", max_length=64, primary_key=True)
    body_digest = models.CharField("request (SHA-256)", max_length=64)
    request_id = models.UUIDField("request", help_text="The run that has the key; its usage record has the same id.")
    state = models.CharField(
        max_length=10, choices=[(state.value, state.value.replace("_", " ")) for state in AnswerState]
    )
    claimed_until = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)
    sealed = SealedTextField("answer (encrypted)", blank=True, default="", editable=False)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state="kept", sealed__gt="") | models.Q(~models.Q(state="kept"), sealed=""),
                name="an_answer_is_there_when_it_is_kept",
            )
        ]

    def __str__(self) -> str:
        return f"{self.request_id} ({self.state})"
