"""Chapter E: the chat API."""

from tests.contract.stage import ROOT, Stage
from tests.contract.verdicts import keeps
from tests.contract.waiting import must


@keeps("E1")
def chat_takes_a_message(stage: Stage) -> str:
    """POST /chat/ with message, chat_model_name and stream; an unknown name is refused with those that are known."""
    answer = stage.json(
        "POST", "/chat/", json={"message": "[[say=Hello.]] Hi", "chat_model_name": "demo", "stream": False}
    )
    must("Hello." in str(answer), answer)
    wrong = stage.http.post("/chat/", json={"message": "Hi", "chat_model_name": "nobody"})
    must(wrong.status_code in (400, 404) and "demo" in wrong.text, wrong.text)
    return "one answer, and an unknown model's name is told"


@keeps("E2")
def whole_or_in_pieces(stage: Stage) -> str:
    """The same message whole, and with stream: true in pieces that arrive one after another."""
    body = {"message": "[[tokens=40]] [[pace=25]] Go", "chat_model_name": "demo"}
    must(stage.http.post("/chat/", json=body).headers["content-type"].startswith("application/json"), "no JSON")
    pieces = stage.moments("/chat/", {**body, "stream": True})
    must(pieces[-1] - pieces[0] > 0.5, f"{len(pieces)} pieces at once")
    return f"one JSON body; {len(pieces)} pieces over {pieces[-1] - pieces[0]:.1f} s"


@keeps("E3")
def three_names(stage: Stage) -> str:
    """Providers of OpenAI's, Anthropic's and Cohere's kind each answer to their name in chat_model_name."""
    names = [stage.ops.add_provider(f"chat-{kind}", kind=kind, path=path) for kind, path in KINDS.items()]
    said = [stage.json("POST", "/chat/", json={"message": "[[say=Yes.]] Hi", "chat_model_name": one}) for one in names]
    must(all("Yes." in str(one) for one in said), said)
    return f"{', '.join(names)} answered"


KINDS = {"openai": "/v1", "anthropic": "/v1", "cohere": "/v2"}


@keeps("E4")
def cohere_and_files(stage: Stage) -> str:
    """COHERE_API_KEY makes Cohere callable; script/server loaded .env before it started; compose has all parts."""
    said = stage.vendors_by_environment(COHERE_API_KEY="cohere")
    must((ROOT / ".env").exists(), "no .env")
    compose = (ROOT / "docker-compose.yml").read_text()
    missing = [part for part in ("worker:", "beat:", "db:", "redis:", "grpc:", "nginx:") if part not in compose]
    must(not missing, missing)
    return said
