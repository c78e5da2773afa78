"""The checks of every promise; importing this package registers them."""

from tests.contract.checks import (
    chat_api,
    disagreements,
    grpc_router,
    library,
    library_more,
    personas,
    platform,
    proxy,
)

__all__ = [
    "chat_api",
    "disagreements",
    "grpc_router",
    "library",
    "library_more",
    "personas",
    "platform",
    "proxy",
]
