"""What is sent about an alert: the words, the JSON of a webhook, and its signature."""

import base64
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - says what follows
SECRET_BYTES: Final = range(24, 65)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertMessage:
    """One transition of one alert, for people and for programs. `id` is the same for every try to deliver it.

    `event` is opened, reopened, woken, resolved or test; `value` and `limit` count `unit`.
    """

    id: str
    event: str
    at: datetime
    alert_id: int | None
    fingerprint: str
    rule: str
    severity: str
    subject: str
    team: str
    title: str
    text: str
    url: str
    opened_at: datetime
    value: int
    limit: int | None
    unit: str

    @property
    def headline(self) -> str:
        return f"{'Resolved' if self.event == 'resolved' else self.severity.capitalize()}: {self.title}"

    @property
    def body(self) -> str:
        return f"{self.text}\n\n{self.url}"

    def as_json(self) -> dict[str, Any]:
        """What a webhook posts. Source: Standard Webhooks specification, “Payload structure” (1.0.0)."""
        data = {name: getattr(self, name) for name in _DATA}
        times = {"opened_at": self.opened_at.isoformat(), "fingerprint": self.fingerprint, "id": self.alert_id}
        return {"type": f"alert.{self.event}", "timestamp": self.at.isoformat(), "data": {**times, **data}}


_DATA = ("rule", "severity", "subject", "team", "title", "text", "url", "value", "limit", "unit")


def secret_key(secret: str) -> bytes:
    """The key in `whsec_<base64>`.

    :raises ValueError: it is not of that form, or not of 24 to 64 bytes.
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    if len(key) not in SECRET_BYTES:
        raise ValueError("a signing secret has 24 to 64 bytes")
    return key


def signature_headers(
    *, message_id: str, at: datetime, body: bytes, key: bytes, previous_key: bytes | None = None
) -> dict[str, str]:
    """The headers that let the receiver know that it was us, and when. HMAC-SHA256 over `id.timestamp.body`.

    With `previous_key` there are two signatures: a receiver that does not know the new secret yet takes the second.

    Source: Standard Webhooks specification, “Webhook headers” and “Signature scheme” (1.0.0).
    """
    timestamp = str(int(at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    keys = [key] if previous_key is None else [key, previous_key]
    digests = [base64.b64encode(hmac.digest(one, signed, "sha256")).decode() for one in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{digest}" for digest in digests),
    }
