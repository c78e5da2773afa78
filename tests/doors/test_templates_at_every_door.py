"""A prompt template at every door: the same prompt reaches the model, the same record is left, the same is refused."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from routerplatform.doors.library import AIModelRouter, RouterError
from routing.domain.templates import VariableDocument
from routing.models import PromptTemplate, RoutingPolicy
from tests.doors.test_websocket import signed_in
from tests.factories import PersonaFactory
from tests.gateway import Gateway, records
from tests.gateway_path.changes import changed
from tests.grpc_door import Door
from tests.routing.prompts import says, template, version
from tests.upstreams.scripted import Upstream, openai_answer, openai_stream

NASTY = '{{ city }} \\{{ }} “Zoë” 😀 字 \u2028 </s> "}]\\n'  # what a caller might hope to be read again
WELCOME = says(
    "Be kind to {{ name }}. {\"braces\": \\{{ stay }}}",
    ("user", "I am {{ name }} from {{city}}."),
    ("assistant", "Hello {{ name }}!"),
    variables=("name", VariableDocument("city", default="Rome", max_length=50)),
)  # fmt: skip
SAID = [
    {"role": "system", "content": f'Be kind to {NASTY}. {{"braces": {{{{ stay }}}}}}'},
    {"role": "user", "content": f"I am {NASTY} from Rome."},
    {"role": "assistant", "content": f"Hello {NASTY}!"},
]
HOUSE = says("Speak {{ tongue }}.", variables=("tongue",))


@dataclass
class Told:
    """What a caller hears: the error's code and what it blames, or nothing."""

    code: str = ""
    param: str = ""
    message: str = ""
    more: dict[str, Any] = field(default_factory=dict)


Ask = Callable[[Gateway, Door, dict[str, Any]], Awaitable[Told]]


def told_of(error: dict[str, Any]) -> Told:
    return Told(str(error["code"]), str(error.get("param") or ""), str(error["message"]), dict(error))


def over_http(path: str, **more: Any) -> Ask:
    async def ask(gateway: Gateway, _: Door, body: dict[str, Any]) -> Told:
        reply = await gateway.post(path, more | body)
        return Told() if reply.status == 200 else told_of(reply.error)

    return ask


async def as_stream(gateway: Gateway, _: Door, body: dict[str, Any]) -> Told:
    reply = await gateway.post("/v1/chat/completions", {**body, "stream": True})
    return Told() if reply.done else told_of(reply.error)


async def batch(gateway: Gateway, _: Door, body: dict[str, Any]) -> Told:
    reply = await gateway.post("/api/v1/batch", {"requests": [body]})
    [result] = reply.json["results"]
    return Told() if result["status"] == "ok" else told_of(result["error"])


async def batch_in_common(gateway: Gateway, _: Door, body: dict[str, Any]) -> Told:
    """The template for all, the values for each."""
    shared = {name: value for name, value in body.items() if name != "variables"}
    requests = [{"variables": body["variables"]} if "variables" in body else {}]
    reply = await gateway.post("/api/v1/batch", {"requests": requests, **shared})
    [result] = reply.json["results"]
    return Told() if result["status"] == "ok" else told_of(result["error"])


async def websocket(gateway: Gateway, _: Door, body: dict[str, Any]) -> Told:
    async with signed_in(gateway) as socket:
        await socket.send(type="chat", id="1", **body)
        last = (await socket.until("done", "error"))[-1]
    return Told() if last["type"] == "done" else told_of(last)


def grpc_fields(body: dict[str, Any]) -> dict[str, Any]:
    fields = {"prompt": "", **body}
    fields.pop("messages", None)
    return fields | {"messages": body["messages"]} if "messages" in body else fields


async def grpc(_: Gateway, door: Door, body: dict[str, Any]) -> Told:
    said = await door.ask(**grpc_fields(body))
    if not said.message:
        return Told()
    return Told(said.info.metadata["code"], next(iter(said.fields), ""), said.message)


async def grpc_stream(_: Gateway, door: Door, body: dict[str, Any]) -> Told:
    said = await door.stream(None, **grpc_fields(body))
    if not said.message:
        return Told()
    return Told(said.info.metadata["code"], next(iter(said.fields), ""), said.message)


async def library(gateway: Gateway, _: Door, body: dict[str, Any]) -> Told:
    said = dict(body)
    try:
        async with AIModelRouter(api_key=gateway.key) as router:
            await router.route(said.pop("messages", []), **said)
    except RouterError as error:
        return Told(error.code, error.param or "", str(error))
    return Told()


DOORS: dict[str, Ask] = {
    "chat-completions": over_http("/v1/chat/completions"),
    "chat-completions, streamed": as_stream,
    "rest": over_http("/api/v1/chat"),
    "route": over_http("/api/v1/route"),
    "batch": batch,
    "batch, in common": batch_in_common,
    "websocket": websocket,
    "grpc": grpc,
    "grpc, streamed": grpc_stream,
    "library": library,
}
STREAMED = {"chat-completions, streamed", "websocket", "grpc, streamed"}


async def everywhere(gateway: Gateway, door: Door, edit: Callable[[], Any]) -> None:
    """Make an edit that both processes follow."""
    await changed(gateway, edit)
    await door.changed(lambda: None)


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": "And tomorrow?"}]], ids=["alone", "before more"])
async def test_every_door_sends_the_model_the_same_prompt_and_leaves_the_same_decision(
    gateway: Gateway, grpc_door: Door, openai_upstream: Upstream, messages: list[dict[str, str]]
) -> None:
    await everywhere(gateway, grpc_door, lambda: template("welcome", says("Old."), WELCOME))
    body = {"model": "swift", "template": "welcome", "variables": {"name": NASTY}, "messages": messages}
    for name, ask in DOORS.items():
        openai_upstream.play(openai_stream("Hi") if name in STREAMED else openai_answer())
        assert await ask(gateway, grpc_door, body) == Told(), name
        sent = openai_upstream.calls[-1].body
        assert sent["messages"] == SAID + messages, name
        assert not {"template", "variables"} & sent.keys(), name
    found = await records(len(DOORS))
    assert {record.decision["template"] for record in found} == {"welcome@2"}
    assert "Zo" not in json.dumps([record.decision for record in found], ensure_ascii=False)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"template": "welcom"}, Told("template_not_found", "template", "Do you mean “welcome”")),
        ({"template": "welcome@9"}, Told("template_not_found", "template", "no version “9”")),
        ({"template": "welcome"}, Told("invalid_variables", "variables.name", "“name” is missing")),
        ({"template": "welcome", "variables": {"name": "A", "nmae": "B"}},
         Told("invalid_variables", "variables.nmae", "is no variable")),
        ({"template": "welcome", "variables": {"name": "A", "city": "x" * 51}},
         Told("invalid_variables", "variables.city", "51 characters; 50 are possible")),
        ({"messages": [{"role": "user", "content": "Hi"}], "variables": {"name": "A"}},
         Told("invalid_variables", "variables", "There is nothing to fill in")),
    ],
    ids=["unknown", "no such version", "missing", "not declared", "too long", "nothing to fill in"],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_alike_at_every_door_before_anybody_is_asked(
    gateway: Gateway, grpc_door: Door, openai_upstream: Upstream, asked: dict[str, Any], told: Told
) -> None:
    await everywhere(gateway, grpc_door, lambda: template("welcome", WELCOME))
    for name, ask in DOORS.items():
        said = await ask(gateway, grpc_door, {"model": "swift", **asked})
        assert (said.code, said.param) == (told.code, told.param), (name, said)
        assert told.message in said.message, name
    assert openai_upstream.calls == []


async def test_a_personas_template_is_filled_in_at_every_door(
    gateway: Gateway, grpc_door: Door, openai_upstream: Upstream
) -> None:
    def configured() -> None:
        PersonaFactory(
            slug="guide", policy=RoutingPolicy.objects.get(), system_prompt="Guide.", template=template("house", HOUSE)
        )

    await everywhere(gateway, grpc_door, configured)
    body = {"persona": "guide", "variables": {"tongue": NASTY}, "messages": [{"role": "user", "content": "Hi"}]}
    for name, ask in DOORS.items():
        openai_upstream.play(openai_stream("Hi") if name in STREAMED else openai_answer())
        assert await ask(gateway, grpc_door, body) == Told(), name
        assert openai_upstream.calls[-1].body["messages"][0]["content"] == f"Guide.\n\nSpeak {NASTY}.", name
        said = await ask(gateway, grpc_door, {**body, "variables": {}})
        assert (said.code, said.param) == ("invalid_variables", "variables.tongue"), name
    assert {record.decision["template"] for record in await records(len(DOORS))} == {"house@1"}


async def test_the_addresses_with_a_prompt_of_their_own_put_it_behind_the_template(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    await changed(gateway, lambda: template("welcome", WELCOME))
    asked = {"model": "swift", "template": "welcome", "variables": {"name": NASTY}}
    for path, own in {
        "/api/v1/route": {"prompt": "Now?", "system": "Be brief."},
        "/v1/complete": {"prompt": "Now?", "system": "Be brief."},
        "/chat/": {"message": "Now?", "chat_model_name": "swift", "system": "Be brief."},
    }.items():
        reply = await gateway.post(path, {**asked, **own})
        assert reply.status == 200, (path, reply.body)
        sent = openai_upstream.calls[-1].body["messages"]
        assert sent[0]["content"] == SAID[0]["content"], path
        assert [turn["content"] for turn in sent[1:]] == [
            SAID[1]["content"], SAID[2]["content"], "Be brief.", "Now?",
        ], path  # fmt: skip
        refused = await gateway.post(path, {**asked, **own, "variables": {}})
        assert (refused.status, refused.error["param"]) == (400, "variables.name"), path


async def test_texts_that_need_no_answer_in_turns_take_a_system_text(
    gateway: Gateway, openai_upstream: Upstream
) -> None:
    def configured() -> None:
        template("kind", says("Be kind to {{ name }}.", variables=("name",)))
        template("welcome", WELCOME)

    await changed(gateway, configured)
    asked = {"model": "swift", "variables": {"name": NASTY}}
    for path, own in {"/v1/responses": {"input": "Hi", "store": False}, "/v1/completions": {"prompt": "Hi"}}.items():
        reply = await gateway.post(path, {**asked, **own, "template": "kind"})
        assert reply.status == 200, (path, reply.body)
        sent = openai_upstream.calls[-1].body
        assert sent["messages"][0]["content"] == f"Be kind to {NASTY}.", path
        assert "template" not in sent
        refused = await gateway.post(path, {**asked, **own, "template": "welcome"})
        assert (refused.status, refused.error["code"], refused.error["param"]) == (400, "invalid_request", "template")
        assert "“welcome@1” has messages" in refused.error["message"]


async def test_anthropics_clients_may_leave_all_words_to_the_template(
    gateway: Gateway, anthropic_upstream: Upstream, openai_upstream: Upstream
) -> None:
    await changed(gateway, lambda: template("ask", says("Be {{ how }}.", ("user", "Why?"), variables=("how",))))
    asked = {"max_tokens": 9, "template": "ask", "variables": {"how": NASTY}, "messages": []}
    reply = await gateway.post("/v1/messages", {**asked, "model": "sage"})
    assert reply.status == 200, reply.body
    sent = anthropic_upstream.calls[-1].body
    assert sent["messages"] == [{"role": "user", "content": "Why?"}]
    assert (sent["system"] if isinstance(sent["system"], str) else sent["system"][0]["text"]) == f"Be {NASTY}."
    assert not {"template", "variables"} & sent.keys()
    assert (await gateway.post("/v1/messages", {**asked, "model": "swift"})).status == 200
    assert openai_upstream.calls[-1].body["messages"][-1]["content"] == "Why?"
    counted = await gateway.post("/v1/messages/count_tokens", {**asked, "model": "sage"})
    assert counted.json["input_tokens"] > 0
    refused = await gateway.post("/v1/messages", {**asked, "model": "sage", "template": None, "variables": {}})
    assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")
    assert "messages" in refused.json["error"]["message"]


async def test_a_template_that_is_switched_off_or_edited_is_followed_at_every_door(
    gateway: Gateway, grpc_door: Door, openai_upstream: Upstream
) -> None:
    def switched(is_active: bool) -> None:
        one = PromptTemplate.objects.get(name="kind")
        one.is_active = is_active
        one.save(update_fields=["is_active"])

    body = {"model": "swift", "template": "kind", "messages": [{"role": "user", "content": "Hi"}]}
    doors = {name: DOORS[name] for name in ("rest", "batch", "grpc")}
    await everywhere(gateway, grpc_door, lambda: template("kind", says("Be kind.")))
    for wanted, edit in (
        ("Be kind.", lambda: None),
        ("Be brief.", lambda: version(PromptTemplate.objects.get(name="kind"), says("Be brief."))),
        ("", lambda: switched(False)),
        ("Be brief.", lambda: switched(True)),
    ):
        await everywhere(gateway, grpc_door, edit)
        for name, ask in doors.items():
            said = await ask(gateway, grpc_door, body)
            assert said.code == ("" if wanted else "template_not_found"), (name, wanted)
            if wanted:
                assert openai_upstream.calls[-1].body["messages"][0]["content"] == wanted, name
