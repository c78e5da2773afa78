"""`/metrics` on a port of its own, for networks that only the monitoring reaches."""

import logging

from aiohttp import web

from routerplatform.gateway.metrics import CONTENT_TYPE, Metrics

logger = logging.getLogger(__name__)


class MetricsPort:
    """Every gateway process of a machine listens on it; whichever is asked tells the figures of all. 0: none does."""

    def __init__(self, metrics: Metrics, *, host: str, port: int) -> None:
        self._metrics = metrics
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def is_used(self) -> bool:
        return self._port != 0

    async def start(self) -> None:
        """A port that cannot be had is logged: nobody should go without answers because of it."""
        if not self._port:
            return
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, reuse_port=True).start()
        except OSError as error:
            logger.error("METRICS_PORT %s cannot be listened on, nobody gets metrics: %s", self._port, error)

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        text = await self._metrics.scraped()
        return web.Response(body=text, headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})
