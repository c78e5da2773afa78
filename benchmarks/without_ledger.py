"""The gateway, but for its ledger: what is served leaves no journal, no record and no charge.

Beside the real one in the same run it shows what the ledger costs.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "routerplatform.settings")
pages = get_asgi_application()  # loads the apps: everything below may import models

from analytics.domain.usage import Dispatch, UsageEntry  # noqa: E402
from analytics.ledger.leases import Hold  # noqa: E402
from analytics.ledger.ledger import Ledger  # noqa: E402
from routerplatform.application import Application  # noqa: E402
from routerplatform.doors.websocket import socket_application  # noqa: E402
from routerplatform.gateway.build import build_runtime  # noqa: E402
from routerplatform.gateway.runtime import Runtimes  # noqa: E402


class NoLedger(Ledger):
    """It knows that there are no budgets, and forgets everything else."""

    async def start(self) -> None:
        await self.leases.load()

    async def close(self, *, within_s: float = 0) -> None:
        return None

    def reserve(self, entry: UsageEntry) -> None:
        return None

    def dispatched(self, dispatch: Dispatch) -> None:
        return None

    async def settle(self, entry: UsageEntry, hold: Hold | None = None) -> None:
        return None


application = Application(
    runtimes=Runtimes(lambda: build_runtime(ledger_type=NoLedger)), pages=pages, sockets=socket_application()
)
