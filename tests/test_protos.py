"""The .proto that is shipped, the code that was generated from it, and the page that explains it."""

import re
import subprocess
from pathlib import Path

from routerplatform.doors.grpc_errors import CODES
from routerplatform.protos import ai_router_pb2

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "grpc.md").read_text()


def test_the_generated_code_is_what_the_proto_says() -> None:
    done = subprocess.run(
        [ROOT / "script" / "protos", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_contracts_services_and_methods_are_there() -> None:
    services = ai_router_pb2.DESCRIPTOR.services_by_name
    assert {name: [method.name for method in service.methods] for name, service in services.items()} == {
        "AIRouter": ["RouteRequest", "StreamingRouteRequest"],
        "AIProxy": ["Complete", "StreamComplete", "HealthCheck", "GetProviderStatus"],
    }
    streaming = {m.name for service in services.values() for m in service.methods if m.server_streaming}
    assert streaming == {"StreamingRouteRequest", "StreamComplete"}


def test_the_guide_names_every_method_request_field_and_code() -> None:
    names = {method.name for s in ai_router_pb2.DESCRIPTOR.services_by_name.values() for method in s.methods}
    names |= {field.name for field in ai_router_pb2.AIRequest.DESCRIPTOR.fields}
    names |= {field.name for field in ai_router_pb2.AIResponse.DESCRIPTOR.fields}
    names |= {code.name for code in CODES.values()}
    assert {name for name in names if f"`{name}`" not in GUIDE} == set()


def test_every_field_of_a_message_keeps_its_number() -> None:
    """A number that changes its meaning breaks every client that is out there; new fields take new numbers."""
    text = (ROOT / "protos" / "ai_router.proto").read_text()
    assert "reserved" not in text or re.search(r"reserved \d", text)
    for message in ai_router_pb2.DESCRIPTOR.message_types_by_name.values():
        numbers = [field.number for field in message.fields]
        assert numbers == list(range(1, len(numbers) + 1)), message.name
