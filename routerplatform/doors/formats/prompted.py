"""Requests of the contract's own addresses, which say a prompt where a chat body has messages, and their answers.

    POST /api/v1/route   prompt or messages, task_type   ->  model_used, cost, response
    POST /chat/          message, chat_model_name        ->  response
    POST /v1/complete    model, prompt                   ->  text

Everything else that a chat body may hold passes through.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from analytics.domain.usage import UsageEntry
from providers.domain.answer import Frame
from providers.domain.types import ChatRequest
from routerplatform.doors.formats import openai_chat
from routerplatform.doors.formats.native import answer
from routerplatform.doors.formats.openai_body import decode_body
from routerplatform.gateway.errors import InvalidRequest
from routerplatform.gateway.prompt_templates import TEMPLATE
from routerplatform.gateway.steps import Opened
from routing.domain.decision import AUTO

Fields = dict[str, Raw]


class Turn(Struct):
    role: str
    content: Any = None


class RouteBody(Struct):
    prompt: str | None = None
    system: str | None = None
    messages: list[Turn] | None = None
    task_type: str | None = None
    tag: str | None = None
    conversation: str | None = None


class MessageBody(Struct):
    message: str
    chat_model_name: str = AUTO
    system: str | None = None
    history: list[Turn] | None = None


class CompleteBody(Struct):
    prompt: str
    system: str | None = None


_route = msgspec.json.Decoder(RouteBody)
_message = msgspec.json.Decoder(MessageBody)
_complete = msgspec.json.Decoder(CompleteBody)


# --- requests -----------------------------------------------------------------------------------------------------


def read_route(raw: bytes) -> tuple[ChatRequest, RouteBody]:
    """The request of `/api/v1/route`, and what it says beside the request itself.

    :raises InvalidRequest: as a chat completion is refused; neither a prompt nor messages, or both.
    """
    body, fields = decode_body(raw, _route)
    rest = _without(fields, *RouteBody.__struct_fields__)
    if body.prompt is None:
        if body.messages is None and TEMPLATE not in fields:
            raise InvalidRequest("Send a “prompt”, or “messages”.", param="prompt")
        if body.system is not None:
            raise InvalidRequest("“system” goes with a prompt; say it as the first of the messages.", param="system")
        return _chat(rest | ({"messages": fields["messages"]} if body.messages is not None else {})), body
    if body.messages is not None:
        raise InvalidRequest("Send a “prompt” or “messages”, not both.", param="messages")
    return _chat(rest | {"messages": _messages(body.system, [], body.prompt, "prompt")}), body


def read_message(raw: bytes) -> ChatRequest:
    """The request of `/chat/`; `chat_model_name` is sent on as the model.

    :raises InvalidRequest: as a chat completion is refused.
    """
    body, fields = decode_body(raw, _message)
    rest = _without(fields, *MessageBody.__struct_fields__, "model", "messages")
    messages = _messages(body.system, body.history or [], body.message, "message")
    return _chat(rest | {"model": _raw(body.chat_model_name), "messages": messages})


def read_complete(raw: bytes) -> ChatRequest:
    """The request of `/v1/complete`.

    :raises InvalidRequest: as a chat completion is refused.
    """
    body, fields = decode_body(raw, _complete)
    if "messages" in fields:
        raise InvalidRequest(
            "This address takes a “prompt”. Conversations go to /v1/chat/completions or /api/v1/chat.", param="messages"
        )
    rest = _without(fields, *CompleteBody.__struct_fields__)
    return _chat(rest | {"messages": _messages(body.system, [], body.prompt, "prompt")})


def _messages(system: str | None, history: list[Turn], text: str, param: str) -> Raw:
    if not text.strip():
        raise InvalidRequest(f"“{param}” must not be empty.", param=param)
    first = [{"role": "system", "content": system}] if system else []
    return _raw([*first, *history, {"role": "user", "content": text}])


def _chat(fields: Fields) -> ChatRequest:
    return openai_chat.parse(msgspec.json.encode(fields))


def _raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


def _without(fields: Fields, *names: str) -> Fields:
    return {name: value for name, value in fields.items() if name not in names}


# --- answers ------------------------------------------------------------------------------------------------------


def route_answer(opened: Opened, frames: Iterable[Frame], entry: UsageEntry) -> dict[str, Any]:
    """`cost` is USD, null when the price is unknown; `task_type` null where a model was named."""
    told, plan = answer(opened, frames, entry), opened.plan
    return {
        "model_used": told["model"],
        "cost": told["cost_usd"],
        "response": told["content"],
        "provider": told["provider"],
        "deployment": told["deployment"],
        "task_type": plan.task_type.value if plan.task is not None else None,
        "persona": told["persona"],
        "policy": plan.policy,
        "decision": decision_in_words(opened),
        "finish_reason": told["finish_reason"],
        "tool_calls": told["tool_calls"],
        "usage": told["usage"],
        "cached": opened.cache == "hit",
        "attempts": told["attempts"],
        "ttft_ms": told["ttft_ms"],
        "latency_ms": told["latency_ms"],
        "request_id": told["id"],
        **({"notice": told["notice"]} if "notice" in told else {}),
    }


def message_answer(opened: Opened, frames: Iterable[Frame], entry: UsageEntry) -> dict[str, Any]:
    told = answer(opened, frames, entry)
    return {
        "response": told["content"],
        "chat_model_name": opened.plan.requested,
        "model": told["model"],
        "provider": told["provider"],
        "finish_reason": told["finish_reason"],
        "usage": told["usage"],
        "cost_usd": told["cost_usd"],
        "cached": opened.cache == "hit",
        "request_id": told["id"],
    }


def complete_answer(opened: Opened, frames: Iterable[Frame], entry: UsageEntry) -> dict[str, Any]:
    told = answer(opened, frames, entry)
    return {
        "id": told["id"],
        "model": told["model"],
        "provider": told["provider"],
        "text": told["content"],
        "finish_reason": told["finish_reason"],
        "usage": told["usage"],
        "cost_usd": told["cost_usd"],
        "cached": opened.cache == "hit",
    }


def decision_in_words(opened: Opened) -> str:
    """One sentence: what the name led to, and who answered of how many."""
    plan, served = opened.plan, opened.deployment.name
    able = len(plan.targets)
    among = f"the only model that could serve it, {served}," if able == 1 else f"{served}, one of {able} that could,"
    tried = "" if opened.attempts < 2 else f" after {opened.attempts - 1} failed"
    what = "answered from the cache" if opened.cache == "hit" else "answered"
    return f"{plan.how[:1].upper()}{plan.how[1:]}: {among} {what}{tried}."
