"""What several doors' tests use."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytest_django import Settings

from tests.gateway import Gateway
from tests.grpc_door import Door, grpc_serving


@pytest.fixture
async def grpc_door(gateway: Gateway, settings: Settings, tmp_path: Path) -> AsyncIterator[Door]:
    """The gRPC door of the same installation as `gateway`, in a second process as it were."""
    settings.JOURNAL_DIR = tmp_path / "grpc-journal"
    async with grpc_serving(gateway.key) as door:
        yield door
