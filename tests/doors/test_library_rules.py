"""What the library holds to without an installation: questions, errors, the folder, and what it calls of a program."""

import asyncio
import copy
import logging
import pickle
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from providers.domain.errors import Failure, FailureKind, ProviderError
from routerplatform.doors import library as door
from routerplatform.doors.library import (
    AIModelRouter,
    BadRequestError,
    ModelConfig,
    RefusedError,
    RouterError,
    RoutingPolicy,
    SetupError,
    TaskType,
    UnavailableError,
)
from routerplatform.gateway import errors as gateway_errors
from routerplatform.gateway.errors import UPSTREAM, GatewayError, InvalidRequest, upstream_error
from routerplatform.library import embedding
from routerplatform.library.asking import Question, question_of
from routerplatform.library.batches import batch_result
from routerplatform.library.embedding import environment_of, exclusively, home_folder, logs_to
from routerplatform.library.errors import from_gateway, is_number, near
from routerplatform.library.program_calls import ProgramCalls, ProgramEnded
from routerplatform.library.python_providers import _answer_body, _stream, prompt_of
from tests.stalls import PATIENCE_S

HI = [{"role": "user", "content": "Hi"}]


# --- what is exported -----------------------------------------------------------------------------------------------


def test_all_that_a_program_needs_is_exported() -> None:
    assert all(hasattr(door, name) for name in door.__all__)
    assert {TaskType.CODING, TaskType.CREATIVE, TaskType.ANALYSIS, TaskType.COMPLEX_REASONING, TaskType.SIMPLE_QA} <= {
        *TaskType
    }
    assert RoutingPolicy(TaskType.CODING, ["x"]).fallback_models == ()
    assert ModelConfig("x", "y").cost_per_1k_tokens is None


# --- questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "said", "wanted"),
    [
        ("Hi", {}, Question({"prompt": "Hi"})),
        ("Hi", {"model": None, "max_cost": None, "persona": None}, Question({"prompt": "Hi"})),
        (HI, {}, Question({"messages": HI})),
        (tuple(HI), {"temperature": 0}, Question({"messages": HI, "temperature": 0})),
        ("Hi", {"max_cost": 0}, Question({"prompt": "Hi"}, max_cost=0)),
        ("Hi", {"cache": "off"}, Question({"prompt": "Hi"}, cache="off")),
        ("Hi", {"task_type": TaskType.CODING}, Question({"prompt": "Hi"}, {"x-router-task-type": "CODING"})),
        ("Hi", {"tag": 7}, Question({"prompt": "Hi"}, {"x-router-tag": "7"})),
        ("Hi", {"stream": False}, Question({"prompt": "Hi"})),
    ],
)
def test_a_question_says_what_was_given(prompt: Any, said: dict[str, Any], wanted: Question) -> None:
    assert question_of(prompt, said) == wanted


def test_a_question_leaves_the_program_s_own_values_alone() -> None:
    said = {"task_type": "CODING", "model": None, "max_cost": 1}
    question = question_of(HI, said)
    question.body["messages"].append("more")
    assert (said, len(HI)) == ({"task_type": "CODING", "model": None, "max_cost": 1}, 1)
    assert question_of("Hi", {"stream": True}, stream=True).body["stream"] is True
    assert question_of("Hi", {}).model == "auto"
    assert question_of("Hi", {"model": "swift"}).model == "swift"


@pytest.mark.parametrize(
    ("prompt", "said", "param"),
    [
        (None, {}, "prompt"),
        (7, {}, "prompt"),
        (b"Hi", {}, "prompt"),
        ({"role": "user"}, {}, "prompt"),
        (["Hi"], {}, "prompt"),
        ([HI], {}, "prompt"),
        ("Hi", {"max_cost": -0.01}, "max_cost"),
        ("Hi", {"max_cost": float("nan")}, "max_cost"),
        ("Hi", {"max_cost": float("inf")}, "max_cost"),
        ("Hi", {"max_cost": 1e9}, "max_cost"),
        ("Hi", {"max_cost": "1"}, "max_cost"),
        ("Hi", {"max_cost": True}, "max_cost"),
        ("Hi", {"stream": True}, "stream"),
    ],
)
def test_what_is_no_question_names_the_field(prompt: Any, said: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        question_of(prompt, said)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError), (404, BadRequestError), (413, BadRequestError), (422, BadRequestError),
        (401, RefusedError), (403, RefusedError), (429, RefusedError),
        (500, UnavailableError), (502, UnavailableError), (503, UnavailableError), (504, UnavailableError),
    ],
)  # fmt: skip
def test_every_status_of_the_gateway_has_its_kind_of_error(status: int, kind: type[RouterError]) -> None:
    error = GatewayError("Something.", retry_after_s=2.5)
    error.http_status, error.code = status, "some_code"
    found = from_gateway(error, "request-1")
    assert type(found) is kind
    assert (found.code, found.message, found.retry_after) == ("some_code", "Something.", 2.5)
    assert (found.request_id, found.param, str(found)) == ("request-1", "", "some_code: Something.")


def test_every_error_of_the_gateway_becomes_one_of_ours() -> None:
    kinds = [kind for kind in vars(gateway_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    statuses = {kind.http_status for kind in kinds if issubclass(kind, GatewayError)}
    assert statuses >= {400, 401, 403, 404, 429, 503}
    assert from_gateway(InvalidRequest("No.", param="temperature"), "").param == "temperature"


@pytest.mark.parametrize("kind", list(FailureKind))
def test_every_failure_of_a_vendor_becomes_one_of_ours(kind: FailureKind) -> None:
    found = from_gateway(upstream_error(Failure(kind, "why")), "")
    assert found.code == UPSTREAM[kind][0]
    assert "why" in found.message
    assert isinstance(found, BadRequestError | RefusedError | UnavailableError)


@pytest.mark.parametrize(
    "error",
    [
        RouterError("code", "Message."),
        SetupError("No folder."),
        BadRequestError("invalid_request", "No.", param="model", request_id="r"),
        RefusedError("rate_limit_exceeded", "Later.", retry_after=1.5, request_id="r"),
        UnavailableError("closed", "Closed."),
    ],
)
def test_an_error_survives_a_pool_of_processes(error: RouterError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))
        assert isinstance(again, RouterError)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0, True), (-1.5, True), (10**400, False), (True, False), ("1", False), (None, False), (float("nan"), False)],
)
def test_an_amount_is_a_finite_number(value: Any, wanted: bool) -> None:
    assert is_number(value) is wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("swfit", " Did you mean “swift”?"), ("zzz", ""), ("", ""), (7, ""), (None, ""), ("sag", " Did you mean “sage”?")],
)
def test_a_name_that_is_nearly_one_is_pointed_at(name: Any, wanted: str) -> None:
    assert near(name, {"swift", "sage"}) == wanted


# --- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_adds_up_what_is_known() -> None:
    late = RefusedError("rate_limit_exceeded", "Later.", retry_after=3, request_id="r")
    found = batch_result([{"cost": 0.5}, {"cost": None}, late, {"cost": 0.25}])
    assert (found["total_cost"], found["unpriced"], found["succeeded"], found["failed"]) == (0.75, 1, 3, 1)
    error = {"code": "rate_limit_exceeded", "message": "Later.", "retry_after": 3}
    assert found["results"][2] == {"error": error, "request_id": "r"}
    nothing = batch_result([])
    assert (nothing["results"], nothing["total_cost"], nothing["succeeded"], nothing["failed"]) == ([], 0, 0, 0)


# --- the folder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"AI_ROUTER_HOME": "{}/a", "DATA_DIR": "{}/b", "HOME": "{}"}, "a"),
        ({"AI_ROUTER_HOME": "", "DATA_DIR": "{}/b"}, "b"),
        ({"DATA_DIR": "{}/deep/er"}, "deep/er"),
    ],
)
def test_the_first_folder_that_is_named_is_made(tmp_path: Path, environment: dict[str, str], wanted: str) -> None:
    home = home_folder({name: value.format(tmp_path) for name, value in environment.items()})
    assert home == tmp_path / wanted
    assert home.is_dir()


def test_without_a_name_the_folder_is_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home_folder({}) == tmp_path / ".ai-router"
    assert home_folder({"AI_ROUTER_HOME": "~/mine"}) == tmp_path / "mine"


def test_a_relative_folder_is_meant_from_where_the_program_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_folder({"AI_ROUTER_HOME": "box"}) == tmp_path / "box"


def test_a_folder_of_a_read_only_file_system_is_named() -> None:
    for name in ("/proc/ai-router", "/dev/null/x"):
        with pytest.raises(SetupError, match="Set AI_ROUTER_HOME to another one") as caught:
            home_folder({"AI_ROUTER_HOME": name})
        assert name in caught.value.message


def test_a_folder_whose_lock_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "setup.lock").mkdir()
    with pytest.raises(SetupError, match="cannot be used"), exclusively(tmp_path):
        pytest.fail("it has no lock")


def test_of_two_that_set_a_folder_up_one_waits(tmp_path: Path) -> None:
    order: list[str] = []
    began = threading.Event()

    def second() -> None:
        began.set()
        with exclusively(tmp_path):
            order.append("second")

    with exclusively(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        assert began.wait(PATIENCE_S)
        thread.join(0.05)
        order.append("first")
    thread.join(PATIENCE_S)
    assert order == ["first", "second"]


def secrets_in(home: Path) -> dict[str, str]:
    with exclusively(home):
        return environment_of(home, {})


def test_secrets_are_made_once_and_are_good_for_what_they_are(tmp_path: Path) -> None:
    first, second = secrets_in(tmp_path), secrets_in(tmp_path)
    assert first == second
    Fernet(first["FIELD_KEYS"])
    assert min(len(first["SECRET_KEY"]), len(first["KEY_PEPPER"])) >= 50
    assert first["SECRET_KEY"] != first["KEY_PEPPER"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secrets", "setup.lock"]
    assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0, 0]


@pytest.mark.parametrize(
    ("content", "lacks"),
    [
        (b"", "SECRET_KEY, KEY_PEPPER, FIELD_KEYS"),
        (b"SECRET_KEY=x\nKEY_PEPPER=y\n", "FIELD_KEYS"),
        (b"SECRET_KEY=x\nKEY_PEPPER=\nFIELD_KEYS=z", "KEY_PEPPER"),
        (b"just some text", "SECRET_KEY"),
    ],
)
def test_secrets_that_are_damaged_are_neither_used_nor_made_up_again(
    tmp_path: Path, content: bytes, lacks: str
) -> None:
    path = tmp_path / "secrets"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SetupError) as caught:
        secrets_in(tmp_path)
    assert f"it lacks {lacks}" in caught.value.message
    assert str(path) in caught.value.message
    assert path.read_bytes() == content


def test_secrets_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_bytes(b"\xff\xfe\x00")
    path.chmod(0o600)
    with pytest.raises(SetupError, match="cannot be read"):
        secrets_in(tmp_path)
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(SetupError, match="cannot be read"):
        secrets_in(tmp_path)


def test_secrets_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "secrets.new").mkdir()
    with pytest.raises(SetupError, match="cannot be read or written"):
        secrets_in(tmp_path)
    assert not (tmp_path / "secrets").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_secrets_that_others_may_read_are_refused(tmp_path: Path, mode: int) -> None:
    secrets_in(tmp_path)
    (tmp_path / "secrets").chmod(mode)
    with pytest.raises(SetupError, match="chmod 600"):
        secrets_in(tmp_path)
    (tmp_path / "secrets").chmod(0o400)
    assert secrets_in(tmp_path)["SECRET_KEY"]


def test_strange_lines_among_the_secrets_set_nothing(tmp_path: Path) -> None:
    secrets_in(tmp_path)
    path = tmp_path / "secrets"
    path.write_text(path.read_text() + "DEBUG=true\nDATABASE_URL=postgresql://x\nREAD_DOTENV=true\n")
    found = secrets_in(tmp_path)
    assert not {"DEBUG", "DATABASE_URL"} & set(found)
    assert found["READ_DOTENV"] == "false"


def test_of_the_environment_only_our_own_names_and_keys_count(tmp_path: Path) -> None:
    given = {
        "AI_ROUTER_TIMEOUT": "3", "MISTRAL_API_KEY": "k", "DATABASE_URL": "x", "SECRET_KEY": "x", "DEBUG": "1",
        "DATA_DIR": "/elsewhere", "READ_DOTENV": "true", "KEY_PEPPER": "x", "REQUEST_TIMEOUT_S": "1",
    }  # fmt: skip
    with exclusively(tmp_path):
        found = environment_of(tmp_path, given)
    ours = {"SECRET_KEY", "KEY_PEPPER", "FIELD_KEYS", "READ_DOTENV", "DATA_DIR"}
    assert set(found) == ours | {"AI_ROUTER_TIMEOUT", "MISTRAL_API_KEY"}
    assert (found["DATA_DIR"], found["READ_DOTENV"]) == (str(tmp_path), "false")
    assert "x" not in found.values()


def test_inside_of_the_platform_nothing_is_embedded() -> None:
    assert not embedding.is_embedded()
    embedding.prepare()  # again: it is there


# --- what it says ---------------------------------------------------------------------------------------------------


@pytest.fixture
def loggers() -> Iterator[list[logging.Logger]]:
    """Those of the platform, as they were when the test is over."""
    found = [logging.getLogger(name) for name in embedding.APPS]
    before = [(logger, list(logger.handlers), logger.level) for logger in found]
    yield found
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def test_a_library_is_silent_until_it_is_asked(
    loggers: list[logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    logs_to("")
    assert all(isinstance(logger.handlers[-1], logging.NullHandler) for logger in loggers)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("level", ["debug", "INFO", "Warning", "ERROR"])
def test_a_level_may_be_written_in_any_case(loggers: list[logging.Logger], level: str) -> None:
    logs_to(level)
    assert {logging.getLevelName(logger.level) for logger in loggers} == {level.upper()}


def test_lines_go_to_the_program_s_own_handlers_when_it_has_some(
    loggers: list[logging.Logger], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs_to("INFO")
    [handler] = [one for one in loggers[0].handlers if type(one) is logging.StreamHandler]
    record = logging.LogRecord("routing", logging.INFO, "x", 1, "text", None, None)
    monkeypatch.setattr(logging.root, "handlers", [])
    assert handler.filter(record)
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()])
    assert not handler.filter(record)


@pytest.mark.parametrize("level", ["LOUD", "1", "DEBUG,INFO", " "])
def test_a_level_that_is_none_is_named(loggers: list[logging.Logger], level: str) -> None:
    with pytest.raises(SetupError, match="DEBUG, INFO, WARNING, ERROR"):
        logs_to(level)


# --- what it calls of a program -------------------------------------------------------------------------------------


class InstanceOfCallable:
    async def __call__(self, said: str) -> str:
        return f"called {said}"


async def answered_async(said: str) -> str:
    await asyncio.sleep(0)
    return f"async {said}"


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda said: f"plain {said}", "plain x"),
        (answered_async, "async x"),
        (partial(answered_async), "async x"),
        (lambda said: partial(answered_async, said)(), "async x"),
        (InstanceOfCallable(), "called x"),
        (lambda said: None, None),
    ],
)
async def test_functions_of_every_kind_are_called(function: Callable[[str], Any], wanted: Any) -> None:
    assert await ProgramCalls().call(function, "x", loop=None) == wanted
    assert await ProgramCalls().call(function, "x", loop=asyncio.get_running_loop()) == wanted


def raising(error: BaseException) -> Callable[[], None]:
    def plain() -> None:
        raise error

    return plain


def raising_async(error: BaseException) -> Callable[[], Coroutine[Any, Any, None]]:
    async def call() -> None:
        raise error

    return call


@pytest.mark.parametrize("kind", [raising, raising_async])
async def test_what_they_raise_comes_back(kind: Callable[[BaseException], Callable[[], Any]]) -> None:
    with pytest.raises(ValueError, match="why"):
        await ProgramCalls().call(kind(ValueError("why")), loop=None)


@pytest.mark.parametrize("kind", [raising, raising_async])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_none_of_them_ends_the_loop(
    kind: Callable[[BaseException], Callable[[], Any]], error: BaseException
) -> None:
    with pytest.raises(ProgramEnded, match=type(error).__name__):
        await ProgramCalls().call(kind(error), loop=None)


async def test_an_iterator_that_has_run_out_is_an_error_as_any_other() -> None:
    with pytest.raises(ProgramEnded, match="StopIteration"):
        await asyncio.wait_for(ProgramCalls().call(iter([]).__next__, loop=None), PATIENCE_S)


async def test_one_that_hangs_holds_nobody_up_but_its_own_kind() -> None:
    calls, gate = ProgramCalls(most=2), threading.Event()
    hanging = [asyncio.create_task(calls.call(gate.wait, PATIENCE_S, loop=None)) for _ in range(2)]
    third = asyncio.create_task(calls.call(lambda: "third", loop=None))
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "a lookup"), PATIENCE_S) == "a lookup"
    assert not third.done()
    for task in hanging:
        task.cancel()
    await asyncio.wait(hanging)
    assert not third.done()  # their threads are still there
    gate.set()
    assert await asyncio.wait_for(third, PATIENCE_S) == "third"
    names = [thread for thread in threading.enumerate() if thread.name == "program"]
    assert all(thread.daemon for thread in names)


async def test_a_coroutine_runs_in_the_loop_of_whoever_waits() -> None:
    here = asyncio.get_running_loop()

    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def elsewhere() -> asyncio.AbstractEventLoop:
        found: asyncio.AbstractEventLoop = asyncio.run(ProgramCalls().call(where, loop=here))
        return found

    assert await asyncio.to_thread(elsewhere) is here
    closed = asyncio.new_event_loop()
    closed.close()
    assert await ProgramCalls().call(where, loop=closed) is here


# --- what a class of the program's own answers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "text", "usage"),
    [
        ("Hello", "Hello", None),
        ("", "", None),
        ({"text": "Hello"}, "Hello", None),
        ({"response": "Hello"}, "Hello", None),
        ({"text": "Hello", "usage": None}, "Hello", None),
        ({"text": "Hello", "usage": {"input_tokens": 3, "output_tokens": 4}}, "Hello", (3, 4, 7)),
        ({"text": "Hello", "usage": {"input_tokens": 3}}, "Hello", (3, 0, 3)),
        ({"text": "Hello", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, "Hello", (3, 4, 7)),
    ],
)
def test_a_class_answers_with_a_text_or_a_dict(said: Any, text: str, usage: tuple[int, int, int] | None) -> None:
    body = _answer_body(said, {"model": "m"}, "custom")
    assert body["choices"][0]["message"] == {"role": "assistant", "content": text}
    assert body["model"] == "m"
    assert tuple(body["usage"].values()) == usage if usage else "usage" not in body
    pieces = _stream(body).split(b"\n\n")
    assert pieces[-2:] == [b"data: [DONE]", b""]
    assert (b'"usage"' in pieces[0], b'"usage"' in pieces[1]) == (False, usage is not None)


@pytest.mark.parametrize(
    "said", [None, b"Hello", 7, ["Hello"], {}, {"text": None}, {"text": b"x"}, {"answer": "x"}, object()]
)
def test_an_answer_that_is_no_text_is_malformed(said: Any) -> None:
    with pytest.raises(ProviderError, match="return a text, or a dict with “text”") as caught:
        _answer_body(said, {"model": "m"}, "custom")
    assert caught.value.failure.kind is FailureKind.MALFORMED


@pytest.mark.parametrize(
    "usage",
    [
        {}, [1, 2], 12, "12", {"tokens": 4}, {"input_tokens": -1}, {"input_tokens": 1.5}, {"input_tokens": True},
        {"input_tokens": "3", "output_tokens": 4}, {"input_tokens": 10**18, "output_tokens": 1},
        {"output_tokens": float("nan")},
    ],
)  # fmt: skip
def test_a_usage_that_is_none_is_malformed(usage: Any) -> None:
    with pytest.raises(ProviderError, match="is no count of input_tokens and output_tokens"):
        _answer_body({"text": "x", "usage": usage}, {"model": "m"}, "custom")


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        (HI, "Hi"),
        ([{"role": "system", "content": "Be brief."}, *HI], "system: Be brief.\n\nuser: Hi"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "a\nb"),
        ([{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "b"}]}], "\nb"),
        ([{"role": "assistant", "content": None}, *HI], "assistant: \n\nuser: Hi"),
    ],
)
def test_a_class_is_given_one_text(messages: list[Mapping[str, Any]], wanted: str) -> None:
    assert prompt_of(messages) == wanted


# --- a router before anything is asked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"api_key": 7}, {"api_key": b"rp_x"}, {"api_key": None}, {"cost_alert": 1.0}, {"on_alert": print},
        {"cost_alert": 0, "on_alert": print}, {"cost_alert": "1", "on_alert": print},
        {"cost_alert": float("nan"), "on_alert": print}, {"cost_alert": 1.0, "on_alert": "print"},
    ],
)  # fmt: skip
def test_a_router_that_cannot_be_is_refused_and_begins_nothing(said: dict[str, Any]) -> None:
    before = threading.active_count()
    with pytest.raises(BadRequestError):
        AIModelRouter(**said)
    assert threading.active_count() == before
