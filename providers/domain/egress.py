"""Which addresses the platform may call: public ones, and what a provider's own list opens."""

import ipaddress
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_allowed(address: str, allowed_networks: tuple[str, ...], *, public: bool = True) -> bool:
    """Whether a resolved IP address may be connected to.

    Loopback, private, link-local (cloud metadata), shared (CGNAT), multicast and unspecified addresses are refused
    unless a network of `allowed_networks` (CIDR) holds them, public ones unless `public`. An IPv4 address inside IPv6
    counts as the IPv4 address.

    :raises ValueError: `address` is not an IP address.
    """
    ip = _unmapped(ipaddress.ip_address(address.partition("%")[0]))
    if any(ip.version == network.version and ip in network for network in parse_networks(allowed_networks)):
        return True
    return public and ip.is_global and not ip.is_multicast


@lru_cache(maxsize=256)
def parse_networks(networks: tuple[str, ...]) -> tuple[IPNetwork, ...]:
    """Networks from their CIDR texts.

    :raises ValueError: one of them is not a network; the text names it.
    """
    return tuple(ipaddress.ip_network(network) for network in networks)


def _unmapped(ip: IPAddress) -> IPAddress:
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or _nat64(ip)
        return embedded or ip
    return ip


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address behind 64:ff9b::/96. Source: RFC 6052, section 2.1."""
    if ip in ipaddress.IPv6Network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return None
