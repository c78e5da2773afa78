"""How the gRPC server listens: TLS or loopback, health, reflection. And what refuses to start says how to mend it."""

import datetime
import ipaddress
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.management import CommandError, call_command
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from pytest_django import Settings

from routerplatform.doors.grpc_server import CannotListen, Listening, is_loopback
from tests.gateway import Gateway
from tests.grpc_door import Door, grpc_serving

LONG_AGO, LONG_AFTER = (
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC),
)


def pair(folder: Path, passphrase: bytes = b"") -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "router.test")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), LONG_AGO, LONG_AFTER)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    return paths


# --- TLS ------------------------------------------------------------------------------------------------------------


async def test_with_a_certificate_calls_are_encrypted_and_others_are_not_answered(
    gateway: Gateway, settings: Settings, tmp_path: Path
) -> None:
    settings.JOURNAL_DIR = tmp_path / "grpc-journal"
    certificate, key = pair(tmp_path)
    async with grpc_serving(gateway.key, certificate=certificate, key=key) as plain:
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        async with aio.secure_channel(f"127.0.0.1:{plain.server.port}", trusted) as channel:
            said = await Door(plain.runtime, plain.server, channel, plain.key).ask(model="swift")
        assert said.text == "Hello"
        assert (await plain.ask(model="swift")).code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),  # noqa: S104
        ("::", False), ("10.0.0.7", False), ("router.example.com", False), ("", False),
    ],
)  # fmt: skip
def test_only_loopback_may_do_without_tls(host: str, is_ours: bool) -> None:
    assert is_loopback(host) == is_ours
    if is_ours:
        assert Listening(host, 50_051).credentials() is None
    else:
        with pytest.raises(CannotListen, match=r"GRPC_TLS_CERT.*GRPC_PLAINTEXT=true"):
            Listening(host, 50_051).credentials()
        assert Listening(host, 50_051, plaintext=True).credentials() is None


def test_a_certificate_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    certificate, key = pair(tmp_path)
    assert Listening("0.0.0.0", 1, certificate, key).credentials() is not None  # noqa: S104
    (tmp_path / "other").mkdir()
    _, other = pair(tmp_path / "other")
    (tmp_path / "locked").mkdir()
    _, locked = pair(tmp_path / "locked", b"made-up")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no PEM")
    for one, two in ((certificate, other), (certificate, locked), (nonsense, key), (certificate, tmp_path / "none")):
        with pytest.raises(CannotListen, match=r"cannot be used: .+private key without a passphrase") as caught:
            Listening("127.0.0.1", 1, one, two).credentials()
        assert str(two) in str(caught.value)
    with pytest.raises(CannotListen, match="set GRPC_TLS_KEY too"):
        Listening("127.0.0.1", 1, certificate).credentials()
    with pytest.raises(CannotListen, match="set GRPC_TLS_CERT too"):
        Listening("127.0.0.1", 1, key=key).credentials()


def test_an_ipv6_address_goes_into_brackets() -> None:
    assert Listening("::1", 50_051).address() == "[::1]:50051"


# --- the command, when it cannot start ------------------------------------------------------------------------------


def test_the_command_refuses_an_open_address_and_a_taken_port_with_the_way_out(settings: Settings) -> None:
    settings.GRPC_PLAINTEXT, settings.GRPC_TLS_CERT, settings.GRPC_TLS_KEY = False, "", ""
    with pytest.raises(CommandError, match="must not travel in the open"):
        call_command("rungrpc", "--host", "0.0.0.0", "--port", "50051")  # noqa: S104
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(CommandError, match=f"port {port} cannot be listened on: .*GRPC_PORT"):
            call_command("rungrpc", "--port", port)
    with pytest.raises(CommandError, match="argument --port"):
        call_command("rungrpc", "--port", "65536")
    with pytest.raises(CommandError, match="argument --stop-drain"):
        call_command("rungrpc", "--stop-drain", "soon")
    settings.GRPC_TLS_CERT = "/nowhere/tls.crt"
    with pytest.raises(CommandError, match="set GRPC_TLS_KEY too"):
        call_command("rungrpc")


# --- the standard services ------------------------------------------------------------------------------------------


async def status_of(channel: aio.Channel, service: str = "") -> int:
    answer = await HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=60)
    return int(answer.status)


async def test_health_follows_what_the_gateway_says_of_itself(grpc_door: Door) -> None:
    for service in ("", "ai_router.v1.AIRouter", "ai_router.v1.AIProxy"):
        assert await status_of(grpc_door.channel, service) == HealthCheckResponse.SERVING
    with pytest.raises(aio.AioRpcError) as caught:
        await status_of(grpc_door.channel, "no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def services_told(door: Door) -> set[str]:
    async def ask() -> Any:
        yield ServerReflectionRequest(list_services="")

    async for answer in ServerReflectionStub(door.channel).ServerReflectionInfo(ask()):
        return {service.name for service in answer.list_services_response.service}
    return set()


async def test_reflection_is_off_unless_it_is_asked_for(gateway: Gateway, settings: Settings, tmp_path: Path) -> None:
    settings.JOURNAL_DIR = tmp_path / "grpc-journal"
    async with grpc_serving(gateway.key) as closed:
        with pytest.raises(aio.AioRpcError) as caught:
            await services_told(closed)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    settings.JOURNAL_DIR = tmp_path / "another-journal"
    async with grpc_serving(gateway.key, reflection=True) as open_to_all:
        assert await services_told(open_to_all) >= {
            "ai_router.v1.AIRouter", "ai_router.v1.AIProxy", "grpc.health.v1.Health",
        }  # fmt: skip
