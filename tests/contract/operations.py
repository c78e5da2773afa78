"""What ops staff do while promises are tried: by the management API, signed in as the installation's first person."""

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from tests.contract.waiting import must, until

if TYPE_CHECKING:
    from tests.contract.stage import Stage

MANAGE: Final = "/api/v1/manage"
LOOPBACK: Final = ["127.0.0.1/32"]
Answer = dict[str, Any]


class Operator:
    """Somebody who may do everything, at the management API of one platform."""

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage

    def call(self, method: str, path: str, **body: Any) -> Answer:
        """One call. :raises NotKept: it was refused."""
        http = self._stage.admin.http
        headers = {"x-csrftoken": http.cookies.get("csrftoken") or "", "referer": self._stage.url}
        answer = http.request(method, f"{MANAGE}/{path}", json=body or None, headers=headers)
        must(answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return dict(answer.json()) if answer.content else {}

    def found(self, noun: str, **filters: str) -> Answer:
        """The one row that the filters name."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())
        rows = self.call("GET", f"{noun}?{query}")["data"]
        must(len(rows) == 1, f"{len(rows)} {noun} with {query}")
        return dict(rows[0])

    # --- providers -----------------------------------------------------------------------------------------------

    def add_provider(
        self, name: str, *, kind: str = "openai-compatible", path: str = "/v1", keys: Sequence[str] = ("demo-key-1234",)
    ) -> str:
        """One more provider at the demo's address, its `demo-swift` deployed; the name, once requests can go there."""
        base_url = f"http://127.0.0.1:{self._stage.demo_port}{path}"
        provider = self.call(
            "POST", "providers", name=name, label=name, kind=kind, base_url=base_url, allowed_networks=LOOPBACK
        )
        for number, secret in enumerate(keys):
            self.call("POST", "provider-keys", provider=provider["id"], label=f"key {number}", secret=secret)
        model = self.found("models", name="demo-swift")
        self.call("POST", "deployments", provider=provider["id"], model=model["id"], upstream_model="demo-swift")
        self._until_asked(f"{name}/demo-swift")
        return name

    def priced_model(self, name: str, input_usd: float, output_usd: float) -> str:
        """A deployment of the demo's quick model at another price (USD per million tokens)."""
        self.add_provider(name)
        deployment = self.deployment(f"{name}/demo-swift")
        self.call("POST", "prices", deployment=deployment["id"], input_usd=str(input_usd), output_usd=str(output_usd))

        def is_priced() -> bool:
            told = self.explained(f"{name}/demo-swift")["candidates"][0]["price"]
            return float(told["input_usd_per_1m"]) == input_usd

        until(is_priced, "the price is in force")
        return f"{name}/demo-swift"

    def add_alias(self, name: str, *deployments: str) -> str:
        """A model name for these deployments (`provider/model`), in the order of trying."""
        ids = [self.deployment(one)["id"] for one in deployments]
        self.call("POST", "aliases", name=name, deployments=ids)
        self._until_asked(name)
        return name

    def deployment(self, name: str) -> Answer:
        provider, _, model = name.partition("/")
        return self.found(
            "deployments", provider=str(self.found("providers", name=provider)["id"]), upstream_model=model
        )

    def _until_asked(self, model: str) -> None:
        until(lambda: self.explained(model).get("chosen"), f"{model} can be asked")

    # --- policies ------------------------------------------------------------------------------------------------

    def policy(self, name: str, *aliases: str, **document: Any) -> Answer:
        """A policy with these candidates in force, and a persona of the same name that follows it."""
        row = self.call("POST", "policies", name=name)
        self.publish(self.draft(row, *aliases, **document))
        self.call("POST", "personas", slug=name, name=name, policy=row["id"], max_tokens=100)
        self._until_asked(name)
        return row

    def draft(self, policy: Answer, *aliases: str, **document: Any) -> Answer:
        """Other rules for a policy, not yet in force."""
        rules = {"candidates": [{"alias": alias} for alias in aliases], **document}
        return self.call("POST", "policy-drafts", policy=policy["id"], title=some_name("draft"), document=rules)

    def publish(self, draft: Answer) -> None:
        """Through all stations, as one person may where no second one is required."""
        submitted = self.call("POST", f"policy-drafts/{draft['id']}/submit")
        self.call("POST", f"policy-drafts/{draft['id']}/approve", submitted_at=submitted["submitted_at"])
        self.call("POST", f"policy-drafts/{draft['id']}/publish")

    def explained(self, model: str, prompt: str = "Hi") -> Answer:
        """Where a request would go, and why."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        return dict(self._stage.json("POST", "/api/v1/route/explain", json=body))

    # --- teams, keys, budgets ------------------------------------------------------------------------------------

    def key(self, name: str, *, team: str = "checkout", scopes: Sequence[str] = ("chat", "models")) -> str:
        """A new virtual key, once it is let in."""
        row = self.call("POST", "keys", team=self.found("teams", slug=team)["id"], name=name, scopes=list(scopes))
        secret = str(row["secret"])
        client = self._stage.client(secret)
        until(lambda: client.get("/v1/models").status_code == 200, "the new key is let in")
        return secret

    def revoke(self, name: str) -> None:
        self.call("POST", f"keys/{self.found('keys', name=name)['id']}/revoke")

    def add_budget(self, *, limit: str, mode: str, key: str = "", team: str = "", **fields: Any) -> Answer:
        """A budget of a key or a team, by name; `limit` is USD."""
        scope, subject = ("key", self.found("keys", name=key)) if key else ("team", self.found("teams", slug=team))
        return self.call(
            "POST", "budgets", scope=scope, limit=limit, mode=mode, duration="1d",
            **{scope: subject["id"]}, **fields,
        )  # fmt: skip

    def change(self, noun: str, row: Answer, **fields: Any) -> Answer:
        return self.call("PATCH", f"{noun}/{row['id']}", **fields)


# --- programs of others ------------------------------------------------------------------------------------------


@contextmanager
def listening(answer: Callable[[str, bytes, dict[str, str]], bytes]) -> Iterator[str]:
    """The address of a small server on loopback: `answer(path, body, headers)` gives JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            said = answer(self.path, body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def model_registry() -> Iterator[str]:
    """A registry of models, as AI_MODEL_SERVICE_ADDR names one."""
    model = {
        "id": "registry-model", "vendor": "Contract", "context_window": 32_000, "max_output_tokens": 4_096,
        "capabilities": ["streaming"], "input_usd_per_1m": 1.5, "output_usd_per_1m": 6,
    }  # fmt: skip
    with listening(lambda path, body, headers: json.dumps({"data": [model]}).encode()) as address:
        yield address


def some_name(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(3)}"
