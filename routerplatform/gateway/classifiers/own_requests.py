"""Requests that the platform makes of itself, for its classifiers: through the pipeline like anybody's, with a virtual
key that pays for them, in budgets and records."""

import time
from contextlib import aclosing

from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.gateway.classifiers.protocol import PlugInFailure
from routerplatform.gateway.errors import GatewayError
from routerplatform.gateway.ids import new_request_id
from routerplatform.gateway.pipeline import Call, collect, current_config, serve
from routerplatform.gateway.runtime import Runtime
from routing.domain.decision import NoRoute, policy_named

DOOR = "classifier"


class OwnRequests:
    """An `Ask`. `key` is a virtual key's text."""

    def __init__(self, runtime: Runtime, key: str) -> None:
        self._runtime = runtime
        self._key = key

    async def __call__(self, request: ChatRequest) -> list[Frame]:
        """What the model answered.

        :raises PlugInFailure: the gateway refuses it, or no provider answers; and a name that leads to a policy, which
            might ask for a classification in turn.
        """
        self._refuse_a_circle(request)

        async def read() -> ChatRequest:
            return request

        call = Call(new_request_id(), DOOR, self._key, time.perf_counter(), read)
        try:
            async with aclosing(serve(self._runtime, call)) as steps:
                frames, _ = await collect(steps)
        except GatewayError as error:
            raise PlugInFailure("refused", f"{error.code}: {error.message}") from error
        return frames

    def _refuse_a_circle(self, request: ChatRequest) -> None:
        try:
            policy, _ = policy_named(current_config(self._runtime), request)
        except (NoRoute, GatewayError) as error:
            raise PlugInFailure("unusable", str(error)) from error
        if policy is not None:
            raise PlugInFailure("unusable", f"“{request.model}” leads to a policy. Name a model's own alias.")
