"""The door for Python programs: the whole platform by an import.

    from routerplatform.doors.library import AIModelRouter

    async def main():
        async with AIModelRouter() as router:
            answer = await router.route("Why is the sky blue?")
            print(answer["model_used"], answer["cost"], answer["response"])

Vendors' keys in the environment are enough (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `GROQ_API_KEY`, …). The requests go
the way that everybody's go: policies, budgets, limits, fallbacks, records. docs/library.md tells the rest.
"""

import asyncio
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from django.utils import timezone

from routerplatform.library.embedding import prepare

prepare()  # Django is ready from here on: everything below may reach models

from routerplatform.gateway.errors import GatewayError  # noqa: E402
from routerplatform.gateway.pipeline import current_config  # noqa: E402
from routerplatform.library.alerts import CostAlert, CostAlerts, OnAlert, alert_checked  # noqa: E402
from routerplatform.library.asking import Asker, Prompt, Put, Question, Result, RouteStream, question_of  # noqa: E402
from routerplatform.library.batches import batch_result  # noqa: E402
from routerplatform.library.embedding import is_embedded  # noqa: E402
from routerplatform.library.engine import CALLER_LOOP, Engine, Opened, shipped  # noqa: E402
from routerplatform.library.errors import (  # noqa: E402
    BadRequestError,
    RefusedError,
    RouterError,
    SetupError,
    UnavailableError,
    from_gateway,
    is_number,
)
from routerplatform.library.model_config import ModelConfig  # noqa: E402
from routerplatform.library.model_registry import ModelRegistry  # noqa: E402
from routerplatform.library.model_services import model_deploy  # noqa: E402
from routerplatform.library.policies import RoutingPolicy, policy_put  # noqa: E402
from routerplatform.library.program_calls import ProgramCalls  # noqa: E402
from routerplatform.library.python_registry import PythonProviders  # noqa: E402
from routerplatform.library.stats import stats_of  # noqa: E402
from routing.domain.config import Scope, TaskType  # noqa: E402

__all__ = [
    "AIModelRouter",
    "BadRequestError",
    "CostAlert",
    "ModelConfig",
    "RefusedError",
    "RouteStream",
    "RouterError",
    "RoutingPolicy",
    "SetupError",
    "TaskType",
    "UnavailableError",
]

CLASSIFIER_MS: Final = 2_000  # for a classifier of one's own; then the built-in one answers
MAX_PARALLEL: Final = 8


class AIModelRouter:
    """A router of one's own. Made at once; the first use waits until it is ready.

    Every method may be called from any thread and inside or outside of a running loop; those without `async` block for
    the moments that the database takes. `api_key` is a virtual key of the installation, by default the library's own.
    `cost_alert` (USD) and `on_alert` are a first `alert_at`.
    """

    def __init__(self, *, api_key: str = "", cost_alert: float | None = None, on_alert: OnAlert | None = None) -> None:
        if not isinstance(api_key, str):
            raise BadRequestError("invalid_request", "api_key is a text, as a virtual key is: “rp_…”.", param="api_key")
        if (cost_alert is None) != (on_alert is None):
            raise BadRequestError("invalid_alert", "cost_alert and on_alert go together: an amount, and whom to call.")
        if cost_alert is not None and on_alert is not None:
            alert_checked(cost_alert, on_alert)
        self._engine = Engine(pays=not api_key)
        self._forgotten = weakref.finalize(self, self._engine.end)
        self._forgotten.atexit = False  # the engine sees to the end of the program itself
        self._alerts = CostAlerts(self._engine)
        self._asker = Asker(api_key, self._alerts.settled)
        self._classifier: Any = None
        self.registry = ModelRegistry(self._engine.blocking)  # none of these knows `self`: who drops it ends it at once
        self.providers = PythonProviders(self._engine.transport.providers, self._engine.blocking)
        if cost_alert is not None and on_alert is not None:
            self.alert_at(cost_alert, on_alert)

    # --- asking ---

    async def route(
        self,
        prompt: Prompt,
        task_type: TaskType | str | None = None,
        model: str | None = None,
        persona: str | None = None,
        max_cost: float | None = None,
        stream: bool = False,
        **params: Any,
    ) -> Any:
        """Ask, and wait for the answer: a dict with `model_used`, `cost` (USD; None: unknown) and `response`, and more.

        `prompt` is a text or a list of messages. `task_type` saves the classification, `model` the choice; `max_cost`
        leaves out models that could cost more (USD). `params` are fields of OpenAI's chat body, such as `max_tokens`,
        `temperature` and `system`, and `tag`, `conversation` and `cache` (“on”, “off”, “refresh”). With `stream` a
        `RouteStream` is returned.

        :raises RouterError: there is no answer; `code` says why.
        """
        said = {"task_type": task_type, "model": model, "persona": persona, "max_cost": max_cost, **params}
        if stream:
            return self._streamed(question_of(prompt, said, stream=True))
        question = question_of(prompt, said)
        return await self._engine.run(lambda library: self._answered(library, question))

    def route_sync(self, prompt: Prompt, **said: Any) -> Result:
        """As `route`, for a program without a loop."""
        question = question_of(prompt, said)
        return self._engine.wait(lambda library: self._answered(library, question))

    def route_stream(self, prompt: Prompt, **said: Any) -> RouteStream:
        """As `route`, piece by piece: `async for text in router.route_stream(prompt)`.

        :raises RouterError: while it is read: before the first piece, or in the middle of the answer.
        """
        return self._streamed(question_of(prompt, said, stream=True))

    async def route_batch(
        self, prompts: Sequence[Prompt | dict[str, Any]], *, max_parallel: int = MAX_PARALLEL, **said: Any
    ) -> Result:
        """Ask many at once, `max_parallel` at a time: `results` in the order of `prompts`, and what they cost together.

        A prompt may be a dict with `prompt` and what `route` takes, for this one alone. One that fails has an `error`
        in its place; the others go on.
        """
        if not is_number(max_parallel) or max_parallel < 1:
            raise BadRequestError("invalid_request", "max_parallel is a number from 1 on.", param="max_parallel")
        if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
            raise BadRequestError("invalid_request", "prompts is a list: one prompt for each answer.", param="prompts")
        room = asyncio.Semaphore(int(max_parallel))

        async def one(prompt: Prompt | dict[str, Any]) -> Result | RouterError:
            own = {**said, **prompt} if isinstance(prompt, dict) else {**said, "prompt": prompt}
            async with room:
                try:
                    question = question_of(own.pop("prompt", ""), own)
                    return await self._engine.run(lambda library: self._answered(library, question))
                except RouterError as error:
                    return error

        return batch_result(await asyncio.gather(*[one(prompt) for prompt in prompts]))

    # --- what decides ---

    def add_policy(self, task_type: TaskType | str, policy: RoutingPolicy) -> None:
        """From now on `policy` serves this kind of work; it is kept, as a version of a policy of the installation.

        :raises BadRequestError: a model that nobody knows, or rules that could serve nothing.
        """
        self._engine.blocking(lambda: policy_put(task_type=task_type, policy=policy, now=timezone.now()))

    @property
    def classifier(self) -> Any:
        """What says which kind of work a prompt is: None for the built-in one."""
        return self._classifier

    @classifier.setter
    def classifier(self, classifier: Any) -> None:
        """Set any object with `classify(prompt) -> TaskType`, async or not; while it fails, the built-in does."""
        classify = getattr(classifier, "classify", None)
        if classifier is not None and not callable(classify):
            text = f"A classifier needs “classify(prompt)”; {type(classifier).__name__} has none."
            raise BadRequestError("invalid_classifier", text)
        if isinstance(classifier, type):
            text = f"Give an object of {classifier.__name__}, not the class: {classifier.__name__}()."
            raise BadRequestError("invalid_classifier", text)
        load = None if classifier is None else _loader(classify)
        name = f"program:{type(classifier).__name__}:{id(classifier):x}"

        async def give(library: Opened) -> None:
            library.runtime.situations.classifiers.plug_ins.give(name, load, timeout_ms=CLASSIFIER_MS)

        self._engine.wait(give)
        self._classifier = classifier

    # --- what came of it ---

    def get_stats(self, since: datetime | None = None) -> dict[str, Any]:
        """`total_cost`, `avg_latency` (ms), `success_rate` (0 to 1), `model_usage` and more, as `GET /api/v1/stats`.

        Of all requests of this installation that the router's key pays for (those of its team), or of those that came
        in from `since` on; to the last one that was answered.
        """
        return self._engine.wait(lambda library: self._stats(library, since))

    def alert_at(self, usd: float, callback: OnAlert) -> None:
        """Call `callback` with a `CostAlert`, once, when this router has spent `usd` since it was made."""
        self._alerts.watch(usd, callback)

    # --- its end ---

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what is under way, and put all records into the database. A forgotten router does so by itself."""
        await asyncio.to_thread(self._engine.close)

    def close(self) -> None:
        """As `aclose`, for a program without a loop."""
        self._engine.close()

    # --- inside ---

    def _streamed(self, question: Question) -> RouteStream:
        async def ask(library: Opened, room: asyncio.Semaphore, put: Put) -> None:
            await self._make_callable(library, question)
            await self._asker.pieces(library, question, room, put)

        return RouteStream(self._engine, ask)

    async def _answered(self, library: Opened, question: Question) -> Result:
        await self._make_callable(library, question)
        return await self._asker.whole(library, question)

    async def _make_callable(self, library: Opened, question: Question) -> None:
        """In a folder of its own, a model of the catalogue is set up when it is first named, and so is any model of a
        Python class; in the platform's installation only the latter."""
        name = question.model
        snapshot = current_config(library.runtime)
        known = name in snapshot.aliases or name in snapshot.deployments or name in snapshot.personas or name == "auto"
        provider = name.partition("/")[0]
        if known or any(one.endpoint.name == name for one in snapshot.deployments.values()):
            return
        if is_embedded() or provider in self.providers:
            await self._engine.in_database(lambda: model_deploy(name=name))

    async def _stats(self, library: Opened, since: Any) -> dict[str, Any]:
        if since is not None and (not isinstance(since, datetime) or since.tzinfo is None):
            raise BadRequestError(
                "invalid_request", "since is a datetime with a time zone: datetime.now(UTC), for example."
            )
        runtime = library.runtime
        await shipped(runtime)
        key = self._asker.credential(library)
        try:
            caller = runtime.authenticator.caller(current_config(runtime), key, now=runtime.now(), scope=Scope.USAGE)
        except GatewayError as error:
            raise from_gateway(error, "") from error
        team_id = caller.team_id
        return await self._engine.in_database(lambda: stats_of(team_id=team_id, since=since, until=timezone.now()))


def _loader(classify: Any) -> Callable[[], Callable[[Any], Any]]:
    """A program's `classify` takes the text alone."""
    calls = ProgramCalls()

    async def asked(prompt: Any) -> Any:
        return await calls.call(classify, prompt.text, loop=CALLER_LOOP.get())

    return lambda: asked
