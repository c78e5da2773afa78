"""How a message leaves: by Django's mail, by apprise to services of fixed hosts, or to a webhook of one's own.

Every way raises `DeliveryError` with a line for people that holds no secret, and nothing else.
"""

import asyncio
import importlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from smtplib import SMTPException
from types import ModuleType
from typing import Final
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from analytics.domain.alert_messages import AlertMessage, secret_key, signature_headers
from analytics.models import AlertChannel, ChannelKind
from providers.domain.errors import ProviderError
from providers.domain.types import Endpoint, UpstreamRequest
from providers.fields import unseal
from providers.transport import Transport

WEBHOOK_TIMEOUT_S: Final = 10.0

# Services that apprise calls at hosts of its own, whatever the rest of the address says. Schemes that take a host
# (json://, xml://, form://, ntfy://, mattermost:// ..) or touch this machine (syslog://, dbus:// ..) are not among
# them: they would let whoever edits a channel call into our network. Source: the plugins of apprise 2.2.0.
APPRISE_SCHEMES: Final[Mapping[str, str]] = {
    "discord": "Discord",
    "gchat": "Google Chat",
    "opsgenie": "Opsgenie",
    "pagerduty": "PagerDuty",
    "pover": "Pushover",
    "slack": "Slack",
    "splunk": "Splunk On-Call",
    "tgram": "Telegram",
    "workflows": "Microsoft Teams",
    "wxteams": "Webex",
}
# The one with a host in its address: it must be one of Microsoft's. Source: Power Automate, “HTTP trigger”, 2025-08.
WORKFLOW_HOSTS: Final = (".logic.azure.com", ".api.powerplatform.com")
# Other options switch off the check of certificates, follow redirects, or read files of this machine.
APPRISE_OPTIONS: Final = frozenset({"region", "pa", "route"})
_STATUS = re.compile(r"error=(\d{3})")


class DeliveryError(Exception):
    """It did not arrive, or nobody knows. The text says why, for people; `status` is that of a webhook's answer."""

    def __init__(self, said: str, status: int | None = None) -> None:
        super().__init__(said)
        self.status = status


def message_send(*, channel: AlertChannel, message: AlertMessage, now: datetime) -> str:
    """Hand `message` over; returns in a few words what the other side said. Takes up to 10 s, or 20 by mail.

    :raises DeliveryError: it is to be tried again.
    """
    try:
        target = unseal(channel.target)
        match ChannelKind(channel.kind):
            case ChannelKind.EMAIL:
                return mail_send(target, message)
            case ChannelKind.APPRISE:
                return apprise_send(target, message)
            case ChannelKind.WEBHOOK:
                key = secret_key(unseal(channel.signing_secret))
                return webhook_send(webhook_endpoint(target, channel.allowed_networks), key, message, now=now)
    except ImproperlyConfigured as error:
        raise DeliveryError(f"the channel's secrets cannot be decrypted: {error}") from None


# --- mail -----------------------------------------------------------------------------------------------------------


def mail_send(addresses: str, message: AlertMessage) -> str:
    """To each of the addresses (separated by commas), in one mail."""
    if not settings.EMAIL_URL:
        raise DeliveryError("no mail server is known: set EMAIL_URL")
    mail = EmailMessage(
        subject=f"[{settings.ENVIRONMENT}] {message.headline}",
        body=message.body,
        to=addresses.split(","),
        headers={"Message-ID": f"<{message.id}@router-platform>", "X-Alert-Fingerprint": message.fingerprint},
    )
    try:
        mail.send()
    except (SMTPException, OSError) as error:
        raise DeliveryError(f"the mail server did not take it: {type(error).__name__}") from error
    return f"taken by the mail server for {len(mail.to)} address{'' if len(mail.to) == 1 else 'es'}"


# --- apprise --------------------------------------------------------------------------------------------------------


def apprise_problem(target: str, schemes: Mapping[str, str] = APPRISE_SCHEMES) -> str:
    """Why an address of apprise is not one that may be called; empty when it may."""
    try:
        url = urlsplit(target)
    except ValueError:
        return "This is no address that apprise understands."
    if url.scheme not in schemes:
        return f"An address of apprise begins with one of: {', '.join(f'{name}://' for name in sorted(schemes))}."
    if others := set(parse_qs(url.query, keep_blank_values=True)) - APPRISE_OPTIONS:
        return f"This may not be set in the address: {', '.join(sorted(others))}."
    if url.scheme == "workflows" and not _is_workflow_host(url.netloc):
        return f"The address of a Teams workflow lies at {' or '.join('…' + host for host in WORKFLOW_HOSTS)}."
    return ""


def _is_workflow_host(netloc: str) -> bool:
    return netloc.lower().removesuffix(":443").endswith(WORKFLOW_HOSTS) and "@" not in netloc


def apprise_send(target: str, message: AlertMessage, schemes: Mapping[str, str] = APPRISE_SCHEMES) -> str:
    """To a service that apprise knows, if its scheme is among `schemes`. No redirects; nothing is kept on disk."""
    if problem := apprise_problem(target, schemes):
        raise DeliveryError(problem)
    apprise = _apprise()
    asset = apprise.AppriseAsset(app_id="Router Platform", http_redirects=False, storage_mode="memory")
    service = apprise.Apprise.instantiate(target, asset=asset)
    name = schemes[urlsplit(target).scheme]
    if service is None:
        raise DeliveryError(f"this is not an address of {name}: see its page in apprise's documentation")
    if urlsplit(target).scheme == "workflows" and not _is_workflow_host(service.host):  # should it read it otherwise
        raise DeliveryError(f"this is not an address of {name}")
    kinds = {"critical": "failure", "warning": "warning"}
    kind = "success" if message.event == "resolved" else kinds.get(message.severity, "info")
    with apprise.LogCapture(level=apprise.logging.WARNING) as said:
        taken = service.notify(title=message.headline, body=message.body, notify_type=kind)
        status = _STATUS.search(said.getvalue())
    if not taken:  # what it logs may quote tokens: only the status is passed on
        raise DeliveryError(f"{name} answered {status[1]}" if status else f"{name} could not be reached, or refused it")
    return f"taken by {name}"


def _apprise() -> ModuleType:
    """Imported on first use: 0.6 s of CPU and 15 MB, which only those who send through it should pay."""
    return importlib.import_module("apprise")


# --- webhooks -------------------------------------------------------------------------------------------------------


def webhook_endpoint(url: str, allowed_networks: str) -> Endpoint:
    """A webhook as the transport sees it: the same guard as for providers, and http:// only into listed networks."""
    return Endpoint(
        id=0,
        name="the webhook",
        kind="webhook",
        wires=(),  # of no effect: it is called as it is
        base_url=url,
        connect_timeout_s=5.0,
        timeout_s=WEBHOOK_TIMEOUT_S,
        allowed_networks=tuple(allowed_networks.split()),
        public_addresses=urlsplit(url).scheme == "https",
    )


def webhook_send(
    endpoint: Endpoint, key: bytes, message: AlertMessage, *, now: datetime, timeout_s: float = WEBHOOK_TIMEOUT_S
) -> str:
    """POST the message, signed. Needs a thread without event loop.

    :raises DeliveryError: as `webhook_post`.
    """
    body = json.dumps(message.as_json()).encode()
    headers = signature_headers(message_id=message.id, at=now, body=body, key=key)
    return webhook_post(endpoint, headers, body, timeout_s=timeout_s)


def webhook_post(
    endpoint: Endpoint, headers: dict[str, str], body: bytes, *, timeout_s: float = WEBHOOK_TIMEOUT_S
) -> str:
    """POST it once; anything but a 2xx is a failure, redirects too. Needs a thread without event loop.

    :raises DeliveryError: with the status, where there was an answer.
    """
    try:
        status = asyncio.run(_post(endpoint, UpstreamRequest(path="", headers=headers, body=body), timeout_s))
    except ProviderError as error:
        raise DeliveryError(error.failure.message) from None
    if not 200 <= status < 300:
        raise DeliveryError(
            f"it answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else ""), status
        )
    return f"it answered {status}"


async def _post(endpoint: Endpoint, call: UpstreamRequest, timeout_s: float) -> int:
    """The status of the reply; its body is not read."""
    transport = Transport()
    try:
        async with transport.post(endpoint, None, call, timeout_s=timeout_s) as reply:
            return reply.status
    finally:
        await transport.close()
