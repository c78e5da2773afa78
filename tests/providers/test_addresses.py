"""What is asked of a provider's address before it is saved, whoever enters it."""

import pytest

from providers.addresses import address_complaints

COMPATIBLE = "openai-compatible"


@pytest.mark.parametrize(
    ("kind", "base_url", "networks"),
    [
        ("openai", "", ""),
        ("openai", "https://eu.acme.example/v1", ""),
        (COMPATIBLE, "http://acme.example:8080", ""),
        (COMPATIBLE, "https://8.8.8.8/v1", ""),
        (COMPATIBLE, "http://10.1.2.3/v1", "10.0.0.0/8"),
        (COMPATIBLE, "http://10.1.2.3/v1", "192.168.0.0/16\n10.1.2.3/32"),
        (COMPATIBLE, "http://[::1]:8000/v1", "::1/128"),
        (COMPATIBLE, "http://localhost:8000/v1", ""),  # a name: it is looked up, and guarded, when it is called
        ("telepathy", "https://acme.example", ""),  # another rule's to refuse
    ],
)
def test_what_can_be_called_is_taken(kind: str, base_url: str, networks: str) -> None:
    assert address_complaints(kind=kind, base_url=base_url, networks=networks) == {}


@pytest.mark.parametrize(
    ("base_url", "networks", "field", "said"),
    [
        ("", "", "base_url", "no address of its own"),
        ("acme.example/v1", "", "base_url", "begins with https:// or http://"),
        ("ftp://acme.example", "", "base_url", "begins with https:// or http://"),
        ("https://ada@acme.example", "", "base_url", "no user name or password"),
        ("https://ada:pw@acme.example", "", "base_url", "no user name or password"),
        ("https://acme.example/?a=b", "", "base_url", "ends with its path"),
        ("https://acme.example/#a", "", "base_url", "ends with its path"),
        ("http://[::1", "", "base_url", "no address"),
        ("http://127.0.0.1:8000", "", "allowed_networks", "for example 127.0.0.1/32"),
        ("http://[::1]:8000", "", "allowed_networks", "for example ::1/128"),
        ("http://169.254.169.254", "", "allowed_networks", "not a public address"),
        ("http://10.1.2.3", "10.2.0.0/16", "allowed_networks", "not a public address"),
        ("https://acme.example", "10.0.0.0/33", "allowed_networks", "One network per line"),
        ("https://acme.example", "everywhere", "allowed_networks", "One network per line"),
    ],
)
def test_what_cannot_be_called_is_refused_by_the_field_that_has_to_change(
    base_url: str, networks: str, field: str, said: str
) -> None:
    found = address_complaints(kind=COMPATIBLE, base_url=base_url, networks=networks)
    assert list(found) == [field]
    assert said in found[field]


def test_two_complaints_are_told_at_once() -> None:
    found = address_complaints(kind=COMPATIBLE, base_url="https://acme.example?x", networks="nowhere")
    assert set(found) == {"base_url", "allowed_networks"}


def test_the_usual_address_of_a_server_of_ones_own_has_to_be_opened_too() -> None:
    closed = address_complaints(kind="ollama", base_url="", networks="")
    assert "127.0.0.1/32" in closed["allowed_networks"]
    assert address_complaints(kind="ollama", base_url="", networks="127.0.0.1/32") == {}
