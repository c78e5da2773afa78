"""The formats that callers speak: each asks a `Scenario` in its own words and reads its own replies into an `Answer`.

Read as a client reads them, with what the format promises checked on the way: indexes, ids, the order of events.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.conformance.scenarios import Called, Image, Result, Said, Scenario
from tests.gateway import Reply

Json = dict[str, Any]


@dataclass
class Answer:
    """What a client makes of a reply, whole or streamed. `native` is what it gives back of it in the next request.
    Tokens are None where the format does not tell them."""

    text: str = ""
    finish: str = ""
    calls: list[Called] = field(default_factory=list)
    thought: str = ""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    native: list[Json] = field(default_factory=list)
    is_over: bool = True  # a stream: its last event came, and no error

    def essence(self) -> tuple[object, ...]:
        """What a stream and a whole answer have in common."""
        calls = [(call.name, json.loads(call.arguments or "{}")) for call in self.calls]
        return self.text, self.finish, calls, self.thought, self.input_tokens, self.cached_tokens, self.output_tokens


class Caller(Protocol):
    path: str

    def can_ask(self, scenario: Scenario) -> bool: ...
    def body(self, model: str, scenario: Scenario, *, stream: bool) -> Json: ...
    def read(self, reply: Reply) -> Answer: ...
    def continued(self, body: Json, answer: Answer, results: tuple[str, ...]) -> Json: ...
    def error_of(self, reply: Reply) -> Json: ...  # `code` and `message`; of a refused request or of a broken stream
    def ends_well(self, reply: Reply) -> bool: ...  # a stream has what its clients take for its end


def given(**fields: Any) -> Json:
    """Only the fields that say something."""
    return {name: value for name, value in fields.items() if value not in (None, "", (), [], False)}


def data_url(image: Image) -> str:
    return image.url or f"data:image/png;base64,{image.data}"


# --- OpenAI chat completions --------------------------------------------------------------------------------------


class OpenAIEnds:
    """How OpenAI's older APIs end: with `[DONE]`, or with an error."""

    def ends_well(self, reply: Reply) -> bool:
        return reply.done

    def error_of(self, reply: Reply) -> Json:
        return reply.error


class ChatCaller(OpenAIEnds):
    path = "/v1/chat/completions"

    def can_ask(self, scenario: Scenario) -> bool:
        return True

    def body(self, model: str, scenario: Scenario, *, stream: bool) -> Json:
        body = given(
            stop=list(scenario.stop), temperature=scenario.temperature, top_p=scenario.top_p, user=scenario.user
        )
        body |= {"model": model, "messages": [self._message(turn) for turn in scenario.turns]}
        body |= {"max_tokens": scenario.limit}
        if scenario.tools:
            body["tools"] = [
                {"type": "function", "function": given(name=t.name, description=t.description, parameters=t.parameters)}
                for t in scenario.tools
            ]
        if scenario.choice:
            body["tool_choice"] = scenario.choice
        if scenario.json is True:
            body["response_format"] = {"type": "json_object"}
        elif scenario.json:
            schema = {"name": "place", "schema": scenario.json, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if scenario.reasons:
            body["reasoning"] = {"effort": "low"}  # as OpenRouter has it: with "reasoning_effort" nobody is shown any
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})

    def _message(self, turn: Said | Result) -> Json:
        if isinstance(turn, Result):
            return {"role": "tool", "tool_call_id": turn.call_id, "content": turn.text}
        parts: list[Json] = [{"type": "text", "text": text} for text in turn.texts]
        parts += [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in turn.images]
        files = [{"filename": "it.pdf", "file_data": f"data:application/pdf;base64,{data}"} for data in turn.documents]
        parts += [{"type": "file", "file": file} for file in files]
        is_plain = len(parts) == 1 and parts[0]["type"] == "text"
        message: Json = {"role": turn.role, "content": turn.texts[0] if is_plain else parts or None}
        if turn.calls:
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in turn.calls
            ]
        return message

    def read(self, reply: Reply) -> Answer:
        message = reply.json["choices"][0]["message"] if not reply.events else self._merged(reply)
        chunks = reply.events or [reply.json]
        usage = next(chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage"))
        finish = next(c["finish_reason"] for chunk in reversed(chunks) for c in chunk["choices"] if c["finish_reason"])
        assert len({chunk["id"] for chunk in chunks}) == 1, "one id for all chunks"
        calls = message.get("tool_calls") or []
        return Answer(
            text=(message.get("content") or "") + (message.get("refusal") or ""),
            finish="refused" if message.get("refusal") else finish,
            calls=[Called(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls],
            thought=message.get("reasoning_content") or message.get("reasoning") or "",
            input_tokens=usage["prompt_tokens"],
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            output_tokens=usage["completion_tokens"],
            native=[{**message, "role": "assistant"}],
            is_over=not reply.events or reply.done,
        )

    def _merged(self, reply: Reply) -> Json:
        """The message that the deltas make, as the SDKs put it together: strings grow, lists by index."""
        message: Json = {}
        deltas = [choice["delta"] for chunk in reply.events for choice in chunk["choices"]]
        for delta in deltas:
            for name in ("content", "refusal", "reasoning_content", "reasoning"):
                if delta.get(name):
                    message[name] = (message.get(name) or "") + delta[name]
            for call in delta.get("tool_calls") or []:
                calls = message.setdefault("tool_calls", [])
                if call["index"] == len(calls):
                    calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
                known = calls[call["index"]]
                known |= {name: value for name, value in call.items() if name not in {"index", "function"}}
                for name, value in call["function"].items():
                    known["function"][name] += value or ""
            if delta.get("reasoning_details"):
                message.setdefault("reasoning_details", []).extend(delta["reasoning_details"])
        return message

    def continued(self, body: Json, answer: Answer, results: tuple[str, ...]) -> Json:
        told = [
            {"role": "tool", "tool_call_id": call.id, "content": text}
            for call, text in zip(answer.calls, results, strict=True)
        ]
        return body | {"messages": [*body["messages"], *answer.native, *told]}


# --- OpenAI legacy completions ------------------------------------------------------------------------------------


class CompletionsCaller(OpenAIEnds):
    path = "/v1/completions"

    def can_ask(self, scenario: Scenario) -> bool:
        return scenario.is_text

    def body(self, model: str, scenario: Scenario, *, stream: bool) -> Json:
        [said] = scenario.turns
        assert isinstance(said, Said)
        body = given(
            stop=list(scenario.stop), temperature=scenario.temperature, top_p=scenario.top_p, user=scenario.user
        )
        body |= {"model": model, "prompt": said.texts[0], "max_tokens": scenario.limit}
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})

    def read(self, reply: Reply) -> Answer:
        chunks = reply.events or [reply.json]
        assert {chunk["object"] for chunk in chunks} == {"text_completion"}
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        usage = next(chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage"))
        return Answer(
            text="".join(choice["text"] for choice in choices),
            finish=next(choice["finish_reason"] for choice in reversed(choices) if choice["finish_reason"]),
            input_tokens=usage["prompt_tokens"],
            output_tokens=usage["completion_tokens"],
            is_over=not reply.events or reply.done,
        )

    def continued(self, body: Json, answer: Answer, results: tuple[str, ...]) -> Json:
        raise AssertionError("there are no tools here")


# --- OpenAI responses ---------------------------------------------------------------------------------------------


class ResponsesCaller:
    path = "/v1/responses"

    def can_ask(self, scenario: Scenario) -> bool:
        return not scenario.stop

    def body(self, model: str, scenario: Scenario, *, stream: bool) -> Json:
        body = given(temperature=scenario.temperature, top_p=scenario.top_p, user=scenario.user)
        body |= {"model": model, "max_output_tokens": scenario.limit, "store": False}
        body["input"] = [item for turn in scenario.turns for item in self._items(turn)]
        if scenario.tools:
            body["tools"] = [
                given(type="function", name=t.name, description=t.description, parameters=t.parameters)
                for t in scenario.tools
            ]
        if scenario.choice:
            body["tool_choice"] = scenario.choice
        if scenario.json is True:
            body["text"] = {"format": {"type": "json_object"}}
        elif scenario.json:
            body["text"] = {"format": {"type": "json_schema", "name": "place", "schema": scenario.json, "strict": True}}
        if scenario.reasons:
            body["reasoning"] = {"effort": "low", "summary": "auto"}
            body["include"] = ["reasoning.encrypted_content"]
        return body | ({"stream": True} if stream else {})

    def _items(self, turn: Said | Result) -> list[Json]:
        if isinstance(turn, Result):
            return [{"type": "function_call_output", "call_id": turn.call_id, "output": turn.text}]
        kind = "output_text" if turn.role == "assistant" else "input_text"
        parts: list[Json] = [{"type": kind, "text": text} for text in turn.texts]
        parts += [{"type": "input_image", "image_url": data_url(image), "detail": "auto"} for image in turn.images]
        files = [f"data:application/pdf;base64,{data}" for data in turn.documents]
        parts += [{"type": "input_file", "filename": "it.pdf", "file_data": file} for file in files]
        items: list[Json] = [{"role": turn.role, "content": parts}] if parts else []
        for call in turn.calls:
            made = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
            items.append({"type": "function_call", **made})
        return items

    def read(self, reply: Reply) -> Answer:
        response = self._last(reply) if reply.events else reply.json
        items = response["output"]
        calls = [item for item in items if item["type"] == "function_call"]
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        thoughts = [part["text"] for item in items if item["type"] == "reasoning" for part in item["summary"]]
        refused = any(part["type"] == "refusal" for part in parts)
        usage = response["usage"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        return Answer(
            text="".join(part.get("text") or part.get("refusal") or "" for part in parts),
            finish="refused" if refused else self._finish(response, has_calls=bool(calls)),
            calls=[Called(call["call_id"], call["name"], call["arguments"]) for call in calls],
            thought="\n\n".join(thoughts),
            input_tokens=usage["input_tokens"],
            cached_tokens=usage["input_tokens_details"]["cached_tokens"],
            output_tokens=usage["output_tokens"],
            native=items,
        )

    def _finish(self, response: Json, *, has_calls: bool) -> str:
        if response["status"] == "completed":
            return "tool_calls" if has_calls else "stop"
        assert response["status"] == "incomplete"
        reason = response["incomplete_details"]["reason"]
        return "length" if reason == "max_output_tokens" else str(reason)

    def _last(self, reply: Reply) -> Json:
        """The whole response at the end, after checking that the pieces before it tell the same."""
        events = reply.events
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
        last: Json = events[-1]["response"]
        done = {e["output_index"]: e["item"] for e in events if e["type"] == "response.output_item.done"}
        assert [done[index] for index in sorted(done)] == last["output"], "each item is told when it is done"
        for index, item in enumerate(last["output"]):
            deltas = [e for e in events if e["type"].endswith(".delta") and e["output_index"] == index]
            assert {e["item_id"] for e in deltas} <= {item["id"]}
            pieces = "".join(e["delta"] for e in deltas)
            whole = item.get("arguments") or "".join(
                part.get("text") or part.get("refusal") or ""
                for part in item.get("content") or item.get("summary") or []
            )
            assert pieces == whole or item["type"] == "reasoning", f"the deltas of item {index} are not its text"
        assert last["id"] == events[0]["response"]["id"]
        return last

    def continued(self, body: Json, answer: Answer, results: tuple[str, ...]) -> Json:
        told = [
            {"type": "function_call_output", "call_id": call.id, "output": text}
            for call, text in zip(answer.calls, results, strict=True)
        ]
        return body | {"input": [*body["input"], *answer.native, *told]}

    def ends_well(self, reply: Reply) -> bool:
        return any(event["type"] in {"response.completed", "response.incomplete"} for event in reply.events)

    def error_of(self, reply: Reply) -> Json:
        for event in reply.events:
            if event["type"] == "response.failed":
                error: Json = event["response"]["error"]
                return error
            if event["type"] == "error":
                return event
        return reply.error


# --- Anthropic messages -------------------------------------------------------------------------------------------


class MessagesCaller:
    path = "/v1/messages"

    def can_ask(self, scenario: Scenario) -> bool:
        return scenario.json is not True  # it has no JSON mode

    def body(self, model: str, scenario: Scenario, *, stream: bool) -> Json:
        turns = list(scenario.turns)
        body = given(
            stop_sequences=list(scenario.stop), temperature=scenario.temperature, top_p=scenario.top_p, stream=stream
        )
        if isinstance(turns[0], Said) and turns[0].role in {"system", "developer"}:
            body["system"] = turns.pop(0).texts[0]  # type: ignore[union-attr]
        body |= {"model": model, "max_tokens": scenario.limit, "messages": []}
        for turn in turns:
            message = self._message(turn)
            before = body["messages"][-1] if body["messages"] else None
            if isinstance(turn, Result) and before and before["content"][0]["type"] == "tool_result":
                before["content"] += message["content"]
            else:
                body["messages"].append(message)
        if scenario.tools:
            body["tools"] = [
                given(name=t.name, description=t.description, input_schema=t.parameters) for t in scenario.tools
            ]
        if scenario.choice:
            body["tool_choice"] = {"type": {"required": "any"}.get(scenario.choice, scenario.choice)}
        if scenario.json:
            body["output_config"] = {"format": {"type": "json_schema", "schema": scenario.json}}
        if scenario.reasons:
            body["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        if scenario.user:
            body["metadata"] = {"user_id": scenario.user}
        return body

    def _message(self, turn: Said | Result) -> Json:
        if isinstance(turn, Result):
            block = {"type": "tool_result", "tool_use_id": turn.call_id, "content": turn.text}
            return {"role": "user", "content": [block]}
        blocks: list[Json] = [{"type": "text", "text": text} for text in turn.texts]
        for image in turn.images:
            inline = {"type": "base64", "media_type": "image/png", "data": image.data}
            blocks.append({"type": "image", "source": {"type": "url", "url": image.url} if image.url else inline})
        for data in turn.documents:
            source = {"type": "base64", "media_type": "application/pdf", "data": data}
            blocks.append({"type": "document", "source": source})
        for call in turn.calls:
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)})
        return {"role": turn.role, "content": blocks}

    def read(self, reply: Reply) -> Answer:
        message = self._merged(reply) if reply.events else reply.json
        blocks, usage = message["content"], message["usage"]
        calls = [block for block in blocks if block["type"] == "tool_use"]
        reasons = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
        cached, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
        return Answer(
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            finish=reasons.get(message["stop_reason"], message["stop_reason"]),
            calls=[Called(call["id"], call["name"], json.dumps(call["input"])) for call in calls],
            thought="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            input_tokens=usage["input_tokens"] + cached + written,
            cached_tokens=cached,
            output_tokens=usage["output_tokens"],
            native=[{"role": "assistant", "content": blocks}],
            is_over=not reply.events or reply.events[-1]["type"] == "message_stop",
        )

    def _merged(self, reply: Reply) -> Json:
        """The message that the events make, as the SDK puts it together."""
        events = [event for event in reply.events if event["type"] != "ping"]
        assert events[0]["type"] == "message_start"
        message: Json = events[0]["message"]
        message["content"], arguments = [], ""
        for event in events[1:]:
            blocks = message["content"]
            match event["type"]:
                case "content_block_start":
                    assert event["index"] == len(blocks), "blocks are numbered from 0"
                    blocks.append(dict(event["content_block"]))
                    arguments = ""
                case "content_block_delta":
                    assert event["index"] == len(blocks) - 1, "one block at a time"
                    delta = dict(event["delta"])
                    kind = delta.pop("type")
                    if kind == "input_json_delta":
                        arguments += delta["partial_json"]
                    else:
                        [(name, value)] = delta.items()
                        blocks[-1][name] = value if kind == "signature_delta" else blocks[-1].get(name, "") + value
                case "content_block_stop":
                    if blocks[-1]["type"] == "tool_use":
                        blocks[-1]["input"] = json.loads(arguments or "{}")
                case "message_delta":
                    message |= event["delta"]
                    message["usage"] = message["usage"] | {k: v for k, v in event["usage"].items() if v is not None}
        return message

    def continued(self, body: Json, answer: Answer, results: tuple[str, ...]) -> Json:
        told = [
            {"type": "tool_result", "tool_use_id": call.id, "content": text}
            for call, text in zip(answer.calls, results, strict=True)
        ]
        return body | {"messages": [*body["messages"], *answer.native, {"role": "user", "content": told}]}

    def ends_well(self, reply: Reply) -> bool:
        return any(event["type"] == "message_stop" for event in reply.events)

    def error_of(self, reply: Reply) -> Json:
        error = reply.error
        return {**error, "code": error["details"]["error_code"]}


# --- the platform's own REST --------------------------------------------------------------------------------------


class RestCaller(ChatCaller):
    """Asks in chat's words; the answer tells no proof of thought, so a thought cannot come back."""

    path = "/api/v1/chat"

    def can_ask(self, scenario: Scenario) -> bool:
        return not (scenario.reasons and scenario.answers)

    def read(self, reply: Reply) -> Answer:
        body = self._merged_frames(reply) if reply.events else reply.json
        usage = body["usage"]
        calls = [Called(call["id"], call["name"], call["arguments"]) for call in body["tool_calls"]]
        made = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
        message = {"role": "assistant", "content": body["content"] or None}
        return Answer(
            text=body["content"],
            finish=body["finish_reason"],
            calls=calls,
            thought=body["reasoning"],
            input_tokens=usage["input_tokens"] + usage["cache_read_input_tokens"],
            cached_tokens=usage["cache_read_input_tokens"],
            output_tokens=usage["output_tokens"],
            native=[message | ({"tool_calls": made} if made else {})],
            is_over=not reply.events or reply.events[-1]["type"] == "done",
        )

    def _merged_frames(self, reply: Reply) -> Json:
        frames = reply.events
        kinds = [frame["type"] for frame in frames]
        assert kinds[:2] == ["start", "route"]
        tools = [frame for frame in frames if frame["type"] == "tool"]
        assert [tool["index"] for tool in tools] == list(range(len(tools)))
        deltas = [frame for frame in frames if frame["type"] == "delta"]
        return {
            "content": "".join(frame.get("text", "") for frame in deltas),
            "reasoning": "".join(frame.get("reasoning", "") for frame in deltas),
            "tool_calls": [{"id": t["call_id"], "name": t["name"], "arguments": t["arguments"]} for t in tools],
            "finish_reason": next((frame["finish_reason"] for frame in frames if frame["type"] == "done"), ""),
            "usage": next((frame for frame in frames if frame["type"] == "usage"), {}),
        }

    def ends_well(self, reply: Reply) -> bool:
        return any(frame["type"] == "done" for frame in reply.events)

    def error_of(self, reply: Reply) -> Json:
        return next((frame for frame in reply.events if frame["type"] == "error"), None) or reply.error


CALLERS: dict[str, Caller] = {
    "chat": ChatCaller(),
    "completions": CompletionsCaller(),
    "responses": ResponsesCaller(),
    "messages": MessagesCaller(),
    "rest": RestCaller(),
}
