"""Ask a deployment one short question, through the same wires and the same way out as a request.

It stands on no usage record: nobody's request is served by it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from providers.domain.conversation import Conversation, EmbeddingBatch, Message, Role, TextPart
from providers.domain.errors import Failure, FailureKind, ProviderError
from providers.domain.types import NO_DEFAULTS, Capability, ChatRequest, Credential, Deployment
from providers.transport import Transport
from providers.wires import WIRES, UnsupportedFeature
from providers.wires.failure_reading import read_failure

ANSWER_WITHIN_S: Final = 20.0
PROMPT: Final = "Say OK."
MOST_TOKENS: Final = 16  # OpenAI's Responses take no lower limit: developers.openai.com, "Create a response" (2026-11)


@dataclass(frozen=True, slots=True)
class TinyAnswer:
    """What came of one call; `failure` is None when it was answered."""

    failure: Failure | None
    latency_ms: int


async def tiny_calls(deployment: Deployment, credentials: Sequence[Credential | None]) -> list[TinyAnswer]:
    """One call with each credential, side by side, in their order; each takes at most `ANSWER_WITHIN_S`."""
    transport = Transport()
    try:
        return await asyncio.gather(*(_call(transport, deployment, credential) for credential in credentials))
    finally:
        await transport.close()


async def _call(transport: Transport, deployment: Deployment, credential: Credential | None) -> TinyAnswer:
    started = time.perf_counter()
    failure = None
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await ask(transport, deployment, credential, timeout_s=ANSWER_WITHIN_S)
    except ProviderError as error:
        failure = error.failure
    except UnsupportedFeature as error:
        failure = Failure(FailureKind.BAD_REQUEST, f"its API has no words for {error.feature}", dispatched=False)
    except TimeoutError:
        failure = Failure(FailureKind.TIMEOUT, f"no answer within {ANSWER_WITHIN_S:g} s")
    return TinyAnswer(failure, round((time.perf_counter() - started) * 1000))


async def ask(transport: Transport, deployment: Deployment, credential: Credential | None, *, timeout_s: float) -> None:
    """Returns when it has answered.

    :raises ProviderError: it has not. :raises UnsupportedFeature: it cannot be asked in so few words.
    """
    request = _tiny_request(deployment)
    wire = deployment.wire_for(request)
    if wire is None:
        raise UnsupportedFeature(request.operation.value)
    codec = WIRES[wire]
    call = codec.build(request, deployment, NO_DEFAULTS)
    async with transport.post(deployment.endpoint, credential, call, timeout_s=timeout_s) as reply:
        if reply.status >= 300:
            raise ProviderError(read_failure(reply.status, reply.headers, await reply.read_error()))
        codec.read_answer(await reply.read())


def _tiny_request(deployment: Deployment) -> ChatRequest:
    is_embedding = Capability.EMBEDDINGS in deployment.capabilities
    said = Conversation((Message(Role.USER, (TextPart(PROMPT),)),), max_tokens=MOST_TOKENS)
    return ChatRequest(
        model=deployment.upstream_model,
        stream=False,
        wire=None,
        fields={},
        conversation=lambda: said,
        needs=frozenset(),
        input_tokens_bound=len(PROMPT),
        input_tokens_estimate=len(PROMPT) // 3,
        max_tokens=None if is_embedding else MOST_TOKENS,
        embeddings=(lambda: EmbeddingBatch((PROMPT,))) if is_embedding else None,
    )
