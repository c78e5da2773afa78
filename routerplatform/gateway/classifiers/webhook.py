"""A web address that is asked: `{"text": …, "system": …}` is posted, `{"label": "CODING"}` comes back.

`confidence`, `scores` and `reasons` may come with it. The address is called as a provider's would be: no private
network unless the settings open it, no redirects.
"""

from typing import Any, Final

import msgspec

from providers.domain.errors import ProviderError
from providers.domain.types import Endpoint, UpstreamRequest
from providers.transport import Transport
from routerplatform.gateway.classifiers.protocol import PlugInFailure
from routing.domain.classification.types import PromptText

LONGEST_TEXT: Final = 8_000  # characters that leave the house; a classifier needs no more
LONGEST_ANSWER: Final = 64 * 1024


class WebhookPlugIn:
    def __init__(
        self, name: str, url: str, transport: Transport, *, timeout_s: float, networks: tuple[str, ...]
    ) -> None:
        self.most = 64
        self.is_ready = True
        self._timeout_s = timeout_s
        self._transport = transport
        self._endpoint = Endpoint(
            id=0, name=f"classifier “{name}”", kind="webhook", wires=(), base_url=url, connect_timeout_s=timeout_s,
            timeout_s=timeout_s, allowed_networks=networks,
        )  # fmt: skip

    async def classify(self, prompt: PromptText) -> Any:
        asked = {"text": prompt.text[:LONGEST_TEXT], "system": prompt.system[:LONGEST_TEXT]}
        call = UpstreamRequest("", {}, msgspec.json.encode(asked))
        try:
            async with self._transport.post(self._endpoint, None, call, timeout_s=self._timeout_s) as reply:
                if reply.status != 200:
                    raise PlugInFailure("unreachable", f"it answered with status {reply.status}")
                body = await reply.read(LONGEST_ANSWER)
        except ProviderError as error:
            raise PlugInFailure("unreachable", error.failure.message) from error
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PlugInFailure("nonsense", f"its answer is no JSON: {error}") from error
