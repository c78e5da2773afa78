"""Channels: their addresses and secrets are checked, sealed on the way in, and never shown again."""

import re
import secrets
from base64 import b64encode
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from analytics.domain.alert_messages import SECRET_PREFIX, secret_key
from analytics.models import AlertChannel, ChannelKind
from analytics.services.messengers import apprise_problem
from providers.domain.egress import address_allowed
from providers.fields import seal
from providers.services import last4_of

LONGEST_TARGET = 2000


@transaction.atomic
def alert_channel_save(*, channel: AlertChannel, address: str = "", secret: str = "") -> None:
    """Save a channel; what is empty of its address and signing secret stays as it is.

    :raises ValidationError: in words, by `address` and `secret`.
    """
    if address:
        clean = target_clean(channel.kind, address, channel.allowed_networks)
        channel.target, channel.hint = seal(clean), target_hint(channel.kind, clean)
    if secret:
        channel.signing_secret = seal(signing_secret_clean(secret))
    channel.save()


def target_clean(kind: str, target: str, allowed_networks: str) -> str:
    """An address as it is sealed.

    :raises ValidationError: it is none of its kind, or one that may not be called.
    """
    target = target.strip()
    if len(target) > LONGEST_TARGET or not target.isprintable():
        raise ValidationError({"address": f"One line of at most {LONGEST_TARGET:,} characters."})
    match kind:
        case ChannelKind.EMAIL:
            return _addresses(target)
        case ChannelKind.APPRISE:
            problem = apprise_problem(target)
        case _:
            problem = webhook_problem(target, tuple(allowed_networks.split()))
    if problem:
        raise ValidationError({"address": problem})
    return target


def signing_secret_clean(secret: str) -> str:
    """:raises ValidationError: no key of the right length is in it."""
    secret = secret.strip()
    try:
        secret_key(secret)
    except ValueError:
        said = f"“{SECRET_PREFIX}” and 24 to 64 random bytes in base64: take the one that was offered."
        raise ValidationError({"secret": said}) from None
    return secret


def signing_secret_new() -> str:
    return SECRET_PREFIX + b64encode(secrets.token_bytes(32)).decode()


def target_hint(kind: str, target: str) -> str:
    """What people may see of an address: whom mail goes to; else the service or host, and the last characters."""
    if kind == ChannelKind.EMAIL:
        return target.replace(",", ", ")[:200]
    url = urlsplit(target)
    shown = f"{url.scheme}://" if kind == ChannelKind.APPRISE else f"{url.scheme}://{url.netloc}/"
    return f"{shown[:190]}…{last4_of(target)}"


def webhook_problem(target: str, networks: tuple[str, ...]) -> str:
    """Why this is no address of a webhook; empty when it is one.

    Names are looked up when they are called, so here only what the address itself gives away is refused.
    """
    try:
        url = urlsplit(target)
        host = url.hostname or ""
        _ = url.port
    except ValueError:
        return "This is no address."
    if url.scheme not in {"https", "http"} or not host:
        return "An address begins with https://."
    if url.username or url.password or url.fragment:
        return "An address has no user name, password or # part."
    if url.scheme == "http" and not networks:
        return "Use https://. Only addresses in the allowed private networks may be called by http://."
    try:
        allowed = address_allowed(host, networks, public=url.scheme == "https")
    except ValueError:  # a name, or networks that are complained about beside their own field
        return ""
    return "" if allowed else f"{host} may not be called: list its network under the allowed private networks."


def _addresses(target: str) -> str:
    addresses = [address for address in re.split(r"[,;\s]+", target) if address]
    for address in addresses:
        try:
            validate_email(address)
        except ValidationError:
            raise ValidationError({"address": f"“{address}” is no mail address."}) from None
    if not addresses:
        raise ValidationError({"address": "At least one mail address."})
    return ",".join(dict.fromkeys(addresses))
