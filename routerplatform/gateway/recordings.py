"""What of a decision is kept: noted when the request is over, so that nothing of it delays an answer."""

import logging
from dataclasses import dataclass

import msgspec

from analytics.domain.decisions import PROMPT_LENGTH, KeptDecision
from analytics.domain.usage import UsageEntry
from providers.domain.conversation import Conversation, Role, TextPart
from providers.domain.types import ChatRequest, Operation
from providers.fields import seal
from providers.wires.protocol import UnsupportedFeature
from routerplatform.gateway.errors import GatewayError
from routing.domain.config import Caller, ConfigSnapshot
from routing.domain.decision import RoutePlan
from routing.domain.recording import Outcome, is_sampled, recorded, write_inputs
from routing.domain.situation import Situation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recording:
    """One decision that is to be kept."""

    snapshot: ConfigSnapshot
    caller: Caller
    request: ChatRequest
    situation: Situation
    plan: RoutePlan

    def noted(self, entry: UsageEntry) -> UsageEntry:
        """The record with what its decision was made from. A bill never waits for it: what cannot be kept is logged."""
        try:
            return msgspec.structs.replace(entry, kept=self._kept(entry))
        except ValueError as error:  # text that is no Unicode, for one
            logger.warning("the decision of request %s is not kept: %s", entry.request_id, error)
            return entry

    def _kept(self, entry: UsageEntry) -> KeptDecision:
        inputs = recorded(
            self.plan,
            snapshot=self.snapshot,
            caller=self.caller,
            request=self.request,
            situation=self.situation,
            outcome=outcome_of(entry),
        )
        task = self.situation.task
        return KeptDecision(write_inputs(inputs), task.confidence if task else None, self._prompt())

    def _prompt(self) -> str:
        """Sealed; empty where the policy keeps none."""
        policy = self.plan.followed
        if policy is None or not policy.keeps_prompts or self.request.operation is not Operation.CHAT:
            return ""
        try:
            text = last_human_turn(self.request.conversation())
        except (GatewayError, UnsupportedFeature):  # it cannot be read, and nobody had to read it
            return ""
        return seal(text[:PROMPT_LENGTH].encode("utf-8", "replace").decode()) if text else ""


def recording_of(
    snapshot: ConfigSnapshot, caller: Caller, request: ChatRequest, situation: Situation, plan: RoutePlan
) -> Recording | None:
    """None for a decision that is not to be kept."""
    if not situation.seed or not is_sampled(plan, situation.seed):
        return None
    return Recording(snapshot, caller, request, situation, plan)


def outcome_of(entry: UsageEntry) -> Outcome:
    return Outcome(
        entry.deployment,
        entry.http_status,
        entry.error_code,
        entry.input_tokens,
        entry.cache_read_input_tokens,
        entry.cache_creation_input_tokens,
        entry.output_tokens,
        entry.cost_nano,
        entry.latency_ms,
        entry.ttft_ms,
        entry.cache,
    )


def last_human_turn(conversation: Conversation) -> str:
    """The text of the last message that a person wrote: results of tools come in the same role, and are none."""
    for message in reversed(conversation.messages):
        if message.role is Role.USER:
            texts = [part.text for part in message.parts if isinstance(part, TextPart) and part.text]
            if texts:
                return "\n".join(texts)
    return ""
