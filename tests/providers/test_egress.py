"""Which addresses may be called: public ones, and what an operator has opened."""

import pytest

from providers.domain.egress import address_allowed, parse_networks


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "104.18.7.192", "2606:4700::6810:7c0", "2001:4860:4860::8888"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert address_allowed(address, ())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",  # cloud metadata
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "100.64.0.1",  # CGNAT
        "0.0.0.0",  # noqa: S104
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",  # 127.0.0.1 through NAT64
        "2002:7f00:1::",  # 127.0.0.1 through 6to4
        "192.0.2.1",  # documentation
        "198.18.0.1",  # benchmarking
    ],
)
def test_everything_else_is_refused(address: str) -> None:
    assert not address_allowed(address, ())


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("127.0.0.1", ("127.0.0.1/32",), True),
        ("127.0.0.2", ("127.0.0.1/32",), False),
        ("10.1.2.3", ("192.168.0.0/16", "10.0.0.0/8"), True),
        ("::1", ("127.0.0.1/32",), False),
        ("::1", ("::1/128",), True),
        ("::ffff:10.0.0.1", ("10.0.0.0/8",), True),
        ("169.254.169.254", ("10.0.0.0/8",), False),
    ],
)
def test_a_provider_can_open_networks_for_itself(address: str, networks: tuple[str, ...], allowed: bool) -> None:
    assert address_allowed(address, networks) is allowed


def test_what_is_not_an_address_or_network_raises() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        address_allowed("example.com", ())
    with pytest.raises(ValueError, match="nonsense"):
        parse_networks(("nonsense",))


@pytest.mark.parametrize(("address", "allowed"), [("8.8.8.8", False), ("10.1.2.3", True), ("127.0.0.1", False)])
def test_without_public_addresses_only_listed_networks_are_open(address: str, allowed: bool) -> None:
    assert address_allowed(address, ("10.0.0.0/8",), public=False) is allowed
    assert address_allowed("8.8.8.8", ("8.8.8.0/24",), public=False)
