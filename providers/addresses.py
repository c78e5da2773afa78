"""What is asked of a provider's address before it is saved, whoever enters it."""

from ipaddress import ip_network
from urllib.parse import urlsplit

from providers.domain.egress import address_allowed, parse_networks
from providers.registry import PROVIDER_KINDS


def address_complaints(*, kind: str, base_url: str, networks: str) -> dict[str, str]:
    """What speaks against them, by the field of `Provider` that would have to change. `networks` are separated by white
    space."""
    try:
        urlsplit(base_url)
    except ValueError as error:  # no address at all, for example of half an IPv6 host
        return {"base_url": f"This is no address: {error}."}
    found = {"base_url": _shape_complaint(base_url)}
    known = PROVIDER_KINDS.get(kind)
    if known and not known.base_url and not base_url:
        found["base_url"] = (
            f"{known.label} has no address of its own: enter the server's, for example {known.example_url}."
        )
    usual = known.base_url.replace("localhost", "127.0.0.1") if known else ""
    found["allowed_networks"] = _networks_complaint(networks, base_url or usual)
    return {field: text for field, text in found.items() if text}


def _shape_complaint(address: str) -> str:
    """A path is put behind it, and it is shown to people: so no query, and no password."""
    url = urlsplit(address)
    if address and url.scheme not in {"http", "https"}:
        return "An address begins with https:// or http://."
    if url.username or url.password:
        return "An address has no user name or password in it: a key is entered by itself."
    if url.query or url.fragment:
        return "An address ends with its path: nothing with ? or # behind it."
    return ""


def _networks_complaint(networks: str, address: str) -> str:
    try:
        parse_networks(tuple(networks.split()))
    except ValueError as error:
        return f"{error}. One network per line, for example 10.0.0.0/8."
    if closed := _closed_address(address, networks):
        return f"{address} is not a public address. To have it called, list it here, for example {closed}."
    return ""


def _closed_address(url: str, networks: str) -> str:
    """The address of `url` as a network of its own, if it would never be called; empty for names, which may change."""
    host = urlsplit(url).hostname or ""
    try:
        allowed = address_allowed(host, tuple(networks.split()))
    except ValueError:  # a name
        return ""
    return "" if allowed else str(ip_network(host))
