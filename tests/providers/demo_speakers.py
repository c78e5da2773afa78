"""Clients of the demo provider, one for each wire it speaks: what is asked in its words, what came back read as one.

Written from the vendors' documents and not with the codecs of this project: two readings find more than one.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Json = dict[str, Any]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@dataclass
class Told:
    """What an answer said, whole or streamed; `calls` are names with their arguments, `usage` the vendor's own."""

    text: str = ""
    thought: str = ""
    proof: str = ""
    calls: list[tuple[str, Json]] = field(default_factory=list)
    finish: str | None = None
    usage: Json = field(default_factory=dict)
    is_over: bool = False  # the stream's last event came


@dataclass(frozen=True)
class Question:
    prompt: str
    system: str = ""
    limit: int = 1000
    stop: str = ""
    tools: tuple[str, ...] = ()
    choice: str = ""  # "none" or "required"
    schema: Json | None = None
    image: str = ""  # base64
    thinks: bool = False


def sse(data: bytes) -> Iterator[Json]:
    """The events of a stream; `[DONE]` is {"done": True}."""
    for block in data.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line[6:] for line in block.split("\n") if line.startswith("data: ")]
        if lines:
            yield {"done": True} if lines[0] == "[DONE]" else json.loads(lines[0])


class Speaker:
    """OpenAI's chat completions; the others differ from it."""

    headers = {"authorization": "Bearer any-key"}
    limit_word = "length"
    blocked_status = 400

    def path(self, *, stream: bool) -> str:
        return "/v1/chat/completions"

    def tool(self, name: str) -> Json:
        return {"type": "function", "function": {"name": name, "parameters": CITY}}

    def body(self, asked: Question, *, stream: bool) -> Json:
        parts: list[Json] = [{"type": "text", "text": asked.prompt}]
        if asked.image:
            parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{asked.image}"}})
        messages = [{"role": "system", "content": asked.system}] if asked.system else []
        body: Json = {"model": "demo-swift", "messages": [*messages, {"role": "user", "content": parts}]}
        body |= {"max_tokens": asked.limit}
        body |= {"stop": [asked.stop]} if asked.stop else {}
        body |= {"tools": [self.tool(name) for name in asked.tools]} if asked.tools else {}
        body |= {"tool_choice": asked.choice} if asked.choice else {}
        if asked.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": asked.schema}}
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})

    def whole(self, body: Json) -> Told:
        [choice] = body["choices"]
        message = choice["message"]
        calls = [call["function"] for call in message.get("tool_calls") or []]
        return Told(
            text=message["content"] or message["refusal"] or "",
            thought=message.get("reasoning_content", ""),
            calls=[(call["name"], json.loads(call["arguments"])) for call in calls],
            finish=choice["finish_reason"],
            usage=body.get("usage") or {},
        )

    def streamed(self, data: bytes) -> Told:
        told, calls = Told(), {}
        for event in sse(data):
            told.is_over = told.is_over or "done" in event
            told.usage = event.get("usage") or told.usage
            for choice in event.get("choices", []):
                delta = choice["delta"]
                told.text += delta.get("content") or delta.get("refusal") or ""
                told.thought += delta.get("reasoning_content", "")
                told.finish = choice["finish_reason"] or told.finish
                for call in delta.get("tool_calls", []):
                    known = calls.setdefault(call["index"], ["", ""])
                    known[0] += call["function"].get("name", "")
                    known[1] += call["function"]["arguments"]
        told.calls = [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()]
        return told

    def tokens(self, usage: Json) -> tuple[int, int]:
        """All of the prompt and all of the answer."""
        return usage["prompt_tokens"], usage["completion_tokens"]

    def message_of(self, error: Json) -> str:
        return str(error["error"]["message"])


class Responses(Speaker):
    limit_word = "max_output_tokens"

    def path(self, *, stream: bool) -> str:
        return "/v1/responses"

    def body(self, asked: Question, *, stream: bool) -> Json:
        parts: list[Json] = [{"type": "input_text", "text": asked.prompt}]
        if asked.image:
            parts.append({"type": "input_image", "image_url": f"data:image/png;base64,{asked.image}"})
        body: Json = {"model": "demo-swift", "input": [{"role": "user", "content": parts}], "store": False}
        body |= {"max_output_tokens": max(16, asked.limit)}
        body |= {"instructions": asked.system} if asked.system else {}
        body |= {"tools": [{"type": "function", "name": name, "parameters": CITY} for name in asked.tools]}
        body |= {"tool_choice": asked.choice} if asked.choice else {}
        if asked.thinks:
            body |= {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]}
        if asked.schema is not None:
            body["text"] = {"format": {"type": "json_schema", "name": "x", "schema": asked.schema}}
        return body | ({"stream": True} if stream else {})

    def whole(self, body: Json) -> Told:
        told = Told(usage=body["usage"] or {})
        for item in body["output"]:
            for part in item.get("content", []):
                told.text += part.get("text") or part.get("refusal") or ""
            for part in item.get("summary", []):
                told.thought += part["text"]
                told.proof = item.get("encrypted_content", "")
            if item["type"] == "function_call":
                told.calls.append((item["name"], json.loads(item["arguments"])))
        reason = (body["incomplete_details"] or {}).get("reason")
        told.finish = reason or ("tool_calls" if told.calls else "stop" if body["status"] == "completed" else None)
        return told

    def streamed(self, data: bytes) -> Told:
        events = list(sse(data))
        last = events[-1]
        if last["type"] in {"response.completed", "response.incomplete"}:
            told = self.whole(last["response"])
            told.is_over = True
            return told
        texts = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        return Told(text="".join(texts))

    def tokens(self, usage: Json) -> tuple[int, int]:
        return usage["input_tokens"], usage["output_tokens"]


class Completions(Speaker):
    """No tools, no system, no pictures: a prompt."""

    def path(self, *, stream: bool) -> str:
        return "/v1/completions"

    def body(self, asked: Question, *, stream: bool) -> Json:
        body: Json = {"model": "demo-swift", "prompt": asked.prompt, "max_tokens": asked.limit}
        body |= {"stop": [asked.stop]} if asked.stop else {}
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})

    def whole(self, body: Json) -> Told:
        [choice] = body["choices"]
        return Told(text=choice["text"], finish=choice["finish_reason"], usage=body.get("usage") or {})

    def streamed(self, data: bytes) -> Told:
        told = Told()
        for event in sse(data):
            told.is_over = told.is_over or "done" in event
            told.usage = event.get("usage") or told.usage
            for choice in event.get("choices", []):
                told.text += choice["text"]
                told.finish = choice["finish_reason"] or told.finish
        return told


class Messages(Speaker):
    headers = {"x-api-key": "any-key", "anthropic-version": "2023-06-01"}
    limit_word = "max_tokens"

    def path(self, *, stream: bool) -> str:
        return "/v1/messages"

    def body(self, asked: Question, *, stream: bool) -> Json:
        blocks: list[Json] = [{"type": "text", "text": asked.prompt}]
        if asked.image:
            source = {"type": "base64", "media_type": "image/png", "data": asked.image}
            blocks.append({"type": "image", "source": source})
        body: Json = {"model": "demo-swift", "max_tokens": asked.limit, "stream": stream}
        body["messages"] = [{"role": "user", "content": blocks}]
        body |= {"system": asked.system} if asked.system else {}
        body |= {"stop_sequences": [asked.stop]} if asked.stop else {}
        body |= {"tools": [{"name": name, "input_schema": CITY} for name in asked.tools]}
        body |= {"tool_choice": {"type": {"required": "any"}.get(asked.choice, asked.choice)}} if asked.choice else {}
        if asked.thinks:
            body |= {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": asked.limit + 1024}
        if asked.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": asked.schema}}
        return body

    def whole(self, body: Json) -> Told:
        told = Told(finish=body["stop_reason"], usage=body.get("usage") or {})
        for block in body["content"]:
            told.text += block.get("text", "")
            told.thought += block.get("thinking", "")
            told.proof += block.get("signature", "")
            if block["type"] == "tool_use":
                told.calls.append((block["name"], block["input"]))
        return told

    def streamed(self, data: bytes) -> Told:
        told, calls = Told(), []
        for event in sse(data):
            told.is_over = told.is_over or event["type"] == "message_stop"
            if event["type"] == "message_delta":
                told.finish = event["delta"]["stop_reason"]
                told.usage = event.get("usage", {})
            if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
                calls.append([event["content_block"]["name"], ""])
            delta = event.get("delta", {})
            told.text += delta.get("text", "")
            told.thought += delta.get("thinking", "")
            told.proof += delta.get("signature", "")
            if "partial_json" in delta:
                calls[-1][1] += delta["partial_json"]
        told.calls = [(name, json.loads(arguments or "{}")) for name, arguments in calls]
        return told

    def tokens(self, usage: Json) -> tuple[int, int]:
        buckets = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        return sum(usage[name] for name in buckets), usage["output_tokens"]


class Gemini(Speaker):
    headers = {"x-goog-api-key": "any-key"}
    limit_word = "MAX_TOKENS"
    blocked_status = 200

    def path(self, *, stream: bool) -> str:
        return "/v1beta/models/demo-swift:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")

    def body(self, asked: Question, *, stream: bool) -> Json:
        parts: list[Json] = [{"text": asked.prompt}]
        if asked.image:
            parts.append({"inlineData": {"mimeType": "image/png", "data": asked.image}})
        config: Json = {"maxOutputTokens": asked.limit}
        config |= {"stopSequences": [asked.stop]} if asked.stop else {}
        config |= {"thinkingConfig": {"includeThoughts": True}} if asked.thinks else {}
        if asked.schema is not None:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": asked.schema}
        body: Json = {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}
        body |= {"systemInstruction": {"parts": [{"text": asked.system}]}} if asked.system else {}
        if asked.tools:
            declared = [{"name": name, "parametersJsonSchema": CITY} for name in asked.tools]
            body["tools"] = [{"functionDeclarations": declared}]
        if asked.choice:
            mode = {"required": "ANY", "none": "NONE"}[asked.choice]
            body["toolConfig"] = {"functionCallingConfig": {"mode": mode}}
        return body

    def whole(self, body: Json) -> Told:
        told = Told()
        self._read(told, body)
        return told

    def streamed(self, data: bytes) -> Told:
        told = Told()
        for event in sse(data):
            self._read(told, event)
        told.is_over = told.finish is not None
        return told

    def _read(self, told: Told, body: Json) -> None:
        [candidate] = body.get("candidates", [{}])
        for part in candidate.get("content", {}).get("parts", []):
            if part.get("thought"):
                told.thought += part["text"]
            else:
                told.text += part.get("text", "")
            if "functionCall" in part:
                told.calls.append((part["functionCall"]["name"], part["functionCall"]["args"]))
            told.proof += part.get("thoughtSignature", "")
        told.finish = candidate.get("finishReason", told.finish)
        told.usage = body.get("usageMetadata", told.usage)

    def tokens(self, usage: Json) -> tuple[int, int]:
        return usage["promptTokenCount"], usage["candidatesTokenCount"] + usage.get("thoughtsTokenCount", 0)


class Cohere(Speaker):
    limit_word = "MAX_TOKENS"

    def path(self, *, stream: bool) -> str:
        return "/v2/chat"

    def body(self, asked: Question, *, stream: bool) -> Json:
        body = super().body(asked, stream=False) | {"stream": stream}
        body |= {"stop_sequences": body.pop("stop")} if asked.stop else {}
        body |= {"tool_choice": asked.choice.upper()} if asked.choice else {}
        if asked.schema is not None:
            body["response_format"] = {"type": "json_object", "json_schema": asked.schema}
        return body

    def whole(self, body: Json) -> Told:
        message = body["message"]
        told = Told(text=message.get("tool_plan", ""), finish=body.get("finish_reason"), usage=body.get("usage") or {})
        for part in message.get("content", []):
            told.text += part.get("text", "")
            told.thought += part.get("thinking", "")
        functions = [call["function"] for call in message.get("tool_calls", [])]
        told.calls = [(function["name"], json.loads(function["arguments"])) for function in functions]
        return told

    def streamed(self, data: bytes) -> Told:
        told, calls = Told(), []
        for event in sse(data):
            told.is_over = told.is_over or "done" in event
            delta = event.get("delta", {})
            message = delta.get("message", {})
            content = message.get("content") or {}
            told.text += message.get("tool_plan", "") + (content.get("text", "") if content else "")
            told.thought += content.get("thinking", "") if content else ""
            if event.get("type") == "tool-call-start":
                calls.append([message["tool_calls"]["function"]["name"], ""])
            elif event.get("type") == "tool-call-delta":
                calls[-1][1] += message["tool_calls"]["function"]["arguments"]
            told.finish = delta.get("finish_reason", told.finish)
            told.usage = delta.get("usage", told.usage)
        told.calls = [(name, json.loads(arguments or "{}")) for name, arguments in calls]
        return told

    def tokens(self, usage: Json) -> tuple[int, int]:
        return usage["billed_units"]["input_tokens"], usage["billed_units"]["output_tokens"]

    def message_of(self, error: Json) -> str:
        return str(error["message"])


class Ollama(Speaker):
    headers: dict[str, str] = {}

    def path(self, *, stream: bool) -> str:
        return "/api/chat"

    def body(self, asked: Question, *, stream: bool) -> Json:
        options: Json = {"num_predict": asked.limit} | ({"stop": [asked.stop]} if asked.stop else {})
        message: Json = {"role": "user", "content": asked.prompt}
        message |= {"images": [asked.image]} if asked.image else {}
        system = [{"role": "system", "content": asked.system}] if asked.system else []
        body: Json = {"model": "demo-swift", "messages": [*system, message], "stream": stream, "options": options}
        body |= {"tools": [self.tool(name) for name in asked.tools]} if asked.tools else {}
        return body | ({"format": asked.schema} if asked.schema is not None else {})

    def whole(self, body: Json) -> Told:
        told = Told()
        self._read(told, body)
        return told

    def streamed(self, data: bytes) -> Told:
        told = Told()
        for line in data.decode().splitlines():
            self._read(told, json.loads(line))
        return told

    def _read(self, told: Told, line: Json) -> None:
        if "error" in line:
            return
        message = line["message"]
        told.text += message["content"]
        told.thought += message.get("thinking", "")
        functions = [call["function"] for call in message.get("tool_calls", [])]
        told.calls += [(function["name"], function["arguments"]) for function in functions]
        told.is_over = line["done"]
        told.finish = line.get("done_reason")
        told.usage = {name: line[name] for name in ("prompt_eval_count", "eval_count") if name in line}

    def tokens(self, usage: Json) -> tuple[int, int]:
        return usage["prompt_eval_count"], usage["eval_count"]

    def message_of(self, error: Json) -> str:
        return str(error["error"])


SPEAKERS: dict[str, Speaker] = {
    "chat": Speaker(),
    "responses": Responses(),
    "completions": Completions(),
    "messages": Messages(),
    "gemini": Gemini(),
    "cohere": Cohere(),
    "ollama": Ollama(),
}


def post(session: aiohttp.ClientSession, url: str, name: str, asked: Question, *, stream: bool) -> Any:
    """To be used with `async with`."""
    speaker = SPEAKERS[name]
    path, body = speaker.path(stream=stream), speaker.body(asked, stream=stream)
    return session.post(url + path, json=body, headers=speaker.headers)


async def hear(session: aiohttp.ClientSession, url: str, name: str, asked: Question, *, stream: bool) -> Told:
    """The answer to a question that is answered."""
    async with post(session, url, name, asked, stream=stream) as response:
        assert response.status == 200, await response.text()
        if stream:
            return SPEAKERS[name].streamed(await response.read())
        return SPEAKERS[name].whole(await response.json())
