"""What the demo provider says: kinds of answers, personas, snippets that run, JSON that fits, tokens that add up."""

import ast
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from string import Formatter
from typing import Any, get_args

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.demo.answers import compose, kind_of, pick, quoted, speaker_of, subject_of
from providers.demo.exchange import MODELS, Ask, count, tokenize
from providers.demo.json_answers import fill
from providers.demo.markers import Markers
from providers.demo.replies import choose_calls, plan_reply
from providers.demo.texts import ANSWERS, SNIPPETS, Kind, Snippet, snippet_for


def ask(prompt: str, *, model: str = "demo-balanced", system: str = "", **fields: Any) -> Ask:
    known = {"stream": False, "history": (), "digest": "d" * 64, "input_tokens": 9, **fields}
    return Ask(model=MODELS[model], system=system, prompt=prompt, **known)


# --- kinds ----------------------------------------------------------------------------------------------------


def test_every_kind_has_texts_and_every_text_asks_only_for_what_is_filled_in() -> None:
    assert set(ANSWERS.kinds) == set(get_args(Kind))
    filled = {
        "subject", "Subject", "hello", "command", "prompt", "language", "model", "earlier", "count", "first", "second",
        "rows", "left",
    }  # fmt: skip
    texts = [*ANSWERS.phrases.values(), *(verse for verses in ANSWERS.verses.values() for verse in verses)]
    for kind in ANSWERS.kinds.values():
        texts += [kind.terse, kind.full, kind.follow_up or "", *kind.leads]
    assert {name for text in texts for _, name, _, _ in Formatter().parse(text) if name is not None} == filled


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("", "empty"),
        ("?!", "empty"),
        ("Hi!", "greeting"),
        ("Good morning, dear demo", "greeting"),
        ("bonjour", "greeting"),
        ("what is 12 * 7?", "arithmetic"),
        ("What is the capital of Japan?", "fact"),
        ("why is the sky blue", "fact"),
        ("What is a circuit breaker?", "fact"),
        ("Why did our costs rise?", "analysis"),
        ("compare REST and gRPC", "analysis"),
        ("Should we use Postgres or MySQL?", "analysis"),
        ("write a Python function that sorts", "code"),
        ("reverse a string in javascript", "code"),
        ("a haiku about rain", "verse"),
        ("tell me a story", "verse"),
        ("Summarize: One. Two.", "summary"),
        ("how do I bake bread", "steps"),
        ("Bauhaus", "open"),
        ("high time to leave", "open"),
    ],
)
def test_the_prompt_decides_the_kind(prompt: str, kind: Kind) -> None:
    assert kind_of(prompt, "") == kind


@pytest.mark.parametrize(
    ("system", "kind"),
    [
        ("You are an analyst. Be exact.", "analysis"),
        ("You are a creative writer.", "verse"),
        ("You are a coding assistant.", "steps"),
        ("You are a friendly chatbot.", "open"),
    ],
)
def test_the_persona_decides_where_the_prompt_is_open(system: str, kind: Kind) -> None:
    assert kind_of("Bauhaus furniture", system) == kind
    assert kind_of("compare tea and coffee", system) == "analysis"


PROMPTS = [
    "", "Hi!", "2+2", "capital of France?", "why is it late", "compare tea and coffee", "a poem about a very long road",
    "a story about bread", "haiku", "summarize", "summarise this: One. Two! Three? Four.", "how to move a house",
    "SQL query for top customers", "something else entirely", "Which is better: a or b?", "x" * 5000, "| a | `b` | <c>",
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_answer_says_what_it_is_and_how_to_get_a_real_model(prompt: str, model: str) -> None:
    answer = compose(ask(prompt, model=model, system="You are a helpful assistant."))
    closing = answer.rsplit("\n\n", 1)[1]
    assert f"`{model}` of the demo provider" in closing
    assert "add a provider key in the admin" in closing
    assert "\n" not in closing
    assert answer == compose(ask(prompt, model=model, system="You are a helpful assistant."))
    assert count(answer) < 500
    assert "{" not in answer.replace("{\n", "") or "```" in answer


def test_a_huge_prompt_is_answered_at_once() -> None:
    for prompt in (" " * 1_000_000, "word " * 200_000, "why " + "x" * 1_000_000, "summarize: " + "A b. " * 200_000):
        assert count(compose(ask(prompt))) < 500


def test_a_terse_model_says_less_than_a_deep_one() -> None:
    for prompt in ("Hi!", "how do I bake bread", "why is it late", "a poem about rain", "a Python function"):
        terse, middle, long = (
            count(compose(ask(prompt, model=model)).rsplit("\n\n", 1)[0])
            for model in ("demo-swift", "demo-balanced", "demo-deep")
        )
        assert terse < middle <= long


def test_a_system_prompt_can_ask_for_brevity() -> None:
    brief = compose(ask("how do I bake bread", model="demo-deep", system="You are a cook. Be brief."))
    assert count(brief) < count(compose(ask("how do I bake bread", model="demo-deep", system="You are a cook.")))
    assert brief.startswith("As a cook, ")


def test_an_analysis_has_a_table_and_a_list() -> None:
    for prompt in ("why is it late", "compare tea and coffee", "compare SQLite and Postgres", "analyse our churn"):
        answer = compose(ask(prompt))
        assert "\n| --- | --- | --- |\n" in answer
        assert "\n- " in answer or "\n1. " in answer


@pytest.mark.parametrize(
    ("prompt", "headings"),
    [
        ("compare tea and coffee", "|  | Tea | Coffee |"),
        ("Tea or coffee, which is better?", "|  | Tea | Coffee |"),
        ("Which is better: vim or emacs?", "|  | Vim | Emacs |"),
        ("What is the difference between a fork and a spoon?", "|  | A fork | A spoon |"),
        ("should we use Kafka or RabbitMQ?", "|  | Kafka | RabbitMQ |"),
        ("python vs go", "|  | Python | Go |"),
    ],
)
def test_a_comparison_names_both_sides(prompt: str, headings: str) -> None:
    assert headings in compose(ask(prompt))


def test_markup_in_a_prompt_does_not_break_the_table_or_the_quote() -> None:
    answer = compose(ask("why is `a|b` <script>alert(1)</script> *late*"))
    assert "“why is a b script alert(1) /script late”" in answer
    assert "<script>" not in answer


@pytest.mark.parametrize(
    ("prompt", "result"),
    [
        ("what is 12 * 7.5?", "12 × 7.5 = **90**"),
        ("2+2", "2 + 2 = **4**"),
        ("10 / 4", "10 ÷ 4 = **2.5**"),
        ("1/0", "1 ÷ 0 has no answer"),
        ("-3 - 4", "-3 - 4 = **-7**"),
    ],
)
def test_small_sums_are_right(prompt: str, result: str) -> None:
    assert result in compose(ask(prompt))


def test_a_summary_keeps_sentences_of_the_text() -> None:
    answer = compose(ask("Summarize: The cat sat. The dog ran. It rained. Nobody cared."))
    assert "- The cat sat.\n- The dog ran.\n- It rained." in answer
    assert "(3 of 4 sentences kept)" in answer
    assert "Paste the text" in compose(ask("summarize"))


def test_a_poem_is_about_its_subject_and_keeps_its_lines() -> None:
    answer = compose(ask("Write a poem about the sea"))
    assert answer.startswith("**The sea**")
    assert answer.count("\\\n") == 6


def test_what_came_before_is_mentioned() -> None:
    answer = compose(ask("why is it late", history=("hello [[pace=3]]", "how do I sort a list [[cut=4]]")))
    assert "(Before that it was “how do I sort a list”.)" in answer


def test_tool_results_are_listed() -> None:
    answer = compose(ask("weather?", tool_results=("sunny", "")))
    assert "The 2 tools answered" in answer
    assert "- sunny\n- (an empty result)" in answer


# --- phrasing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "speaker"),
    [
        ("You are a patient teacher.", "As a patient teacher, "),
        ("Rules first. You are the data analyst who never guesses", "As the data analyst, "),
        ("You are Ada, an assistant", "Ada here: "),
        ("Answer in English.", ""),
        ("", ""),
    ],
)
def test_the_speaker_is_the_one_of_the_system_prompt(system: str, speaker: str) -> None:
    assert speaker_of(system) == speaker


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("Write a poem about the sea.", "the sea"),
        ("How do I migrate a database?", "migrate a database"),
        ("explain recursion in simple terms", "recursion"),
        ("???", "this"),
        ("a poem about " + "very " * 40 + "long roads", "very very very very very very very very very…"),
    ],
)
def test_a_subject_is_short_and_fits_in_a_sentence(prompt: str, subject: str) -> None:
    assert subject_of(prompt) == subject


def test_choices_are_made_by_hash() -> None:
    assert pick("seed", "abc") == pick("seed", "abc")
    assert {pick(str(number), "abc") for number in range(50)} == set("abc")


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_quote_is_short_plain_and_on_one_line(text: str) -> None:
    quote = quoted(text)
    assert len(quote) <= 80
    assert not set(quote) & set("`|<>*#[]\n")


# --- snippets -------------------------------------------------------------------------------------------------


def of_language(language: str) -> list[Snippet]:
    return [snippet for snippet in SNIPPETS.snippets if snippet.language == language]


@pytest.mark.parametrize("snippet", of_language("python"), ids=lambda snippet: snippet.note[:30])
def test_python_snippets_run_and_their_checks_hold(snippet: Snippet) -> None:
    assert any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(snippet.code)))
    exec(compile(snippet.code, "snippet", "exec"), {})  # noqa: S102 - our own text


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
@pytest.mark.parametrize("snippet", of_language("javascript"), ids=lambda snippet: snippet.note[:30])
def test_javascript_snippets_run_and_their_checks_hold(snippet: Snippet) -> None:
    done = subprocess.run(["node", "-e", snippet.code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize("snippet", of_language("bash"), ids=lambda snippet: snippet.note[:30])
def test_bash_snippets_parse(snippet: Snippet) -> None:
    done = subprocess.run(["bash", "-n"], input=snippet.code, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_sql_snippets_run() -> None:
    database = sqlite3.connect(":memory:")
    try:
        database.execute("CREATE TABLE orders (customer_id, total, ordered_at)")
        database.execute("CREATE TABLE usage (team, created_at, cost)")
        for snippet in of_language("sql"):
            assert database.execute(snippet.code).fetchall() == []
    finally:
        database.close()


@pytest.mark.parametrize(
    ("prompt", "language", "part"),
    [
        ("fibonacci in go", "go", "func fibonacci"),
        ("fibonacci", "python", "def fibonacci"),
        ("fetch a url in javascript", "javascript", "AbortSignal"),
        ("write some rust code", "rust", "HashMap"),
        ("a SQL query for the top customers", "sql", "GROUP BY customer_id"),
        ("find the largest files with bash", "bash", "find . -type f"),
        ("write a function", "python", "def group_by"),
        ("center a div in css", "css", "place-items: center"),
    ],
)
def test_a_snippet_fits_topic_and_language(prompt: str, language: str, part: str) -> None:
    snippet = snippet_for(prompt)
    assert snippet.language == language
    assert part in snippet.code
    assert f"```{language}\n{snippet.code}\n```" in compose(ask(f"{prompt} (code)"))


# --- JSON and tools -------------------------------------------------------------------------------------------

SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
    {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "additionalProperties": False},
    {"type": "array", "items": {"type": "number", "minimum": 3, "maximum": 4}, "minItems": 3},
    {"type": "string", "minLength": 50, "maxLength": 60},
    {"type": "string", "format": "date-time"},
    {"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 12},
    {"type": "integer", "minimum": -9, "maximum": -5},
    {"type": "number", "exclusiveMinimum": 7},
    {"type": "number", "maximum": -0.5},
    {"type": ["null", "boolean"]},
    {"const": {"x": 1}},
    {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}]},
    {"$defs": {"node": {"type": "object", "properties": {"name": {"type": "string"}, "children": {
        "type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["name"]}}, "$ref": "#/$defs/node"},
    {"properties": {"list": {"items": {"type": "string"}}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:50])
def test_values_fit_their_schema(schema: dict[str, Any]) -> None:
    for prompt in ("", "a good answer about 11 things, 3.5 each"):
        jsonschema.validate(fill(schema, prompt), schema)


def deep_all_of() -> dict[str, Any]:
    return {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}


def wide_recursion() -> dict[str, Any]:
    properties = {f"p{number}": {"$ref": "#"} for number in range(100)}
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    "schema",
    [
        deep_all_of,
        wide_recursion,
        lambda: {"$ref": "#"},
        lambda: {"$ref": "#/nowhere"},
        lambda: {"type": "nonsense"},
        lambda: {"type": "object", "properties": [], "required": 5},
        lambda: {"enum": [], "type": "integer", "minimum": 10**300, "multipleOf": 1e-300},
        lambda: {"type": "array", "minItems": 10**9, "items": True},
        lambda: {"type": "string", "minLength": "x", "maxLength": -1, "format": ["uri"]},
        lambda: {"anyOf": 5, "oneOf": [1], "allOf": "x"},
        lambda: {"type": "string", "minLength": 10**12},
        lambda: {"type": "integer", "minimum": 1e300},
        lambda: {"type": "number", "maximum": -(10**400)},
        lambda: {"type": [5, None], "enum": [{}, []]},
    ],
)
def test_a_hostile_schema_ends_soon_and_with_json(schema: Callable[[], dict[str, Any]]) -> None:
    assert len(msgspec.json.encode(fill(schema(), "hello"))) < 1_000_000


def test_fields_are_filled_from_the_prompt() -> None:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in ("city", "title", "summary")}}
    value = fill(schema, "A trip about the old harbour in Lisbon")
    assert value["city"] == "Lisbon"
    assert value["title"] == "the old harbour in Lisbon"
    assert "old harbour" in value["summary"]


TOOLS: dict[str, Any] = {"get_weather": {"properties": {"city": {"type": "string"}}}, "sendEmail": {}}


@pytest.mark.parametrize(
    ("prompt", "fields", "calls"),
    [
        ("What is the weather in Paris?", {}, [("get_weather", '{"city":"Paris"}')]),
        ("weather for Paris and Rome", {}, [("get_weather", '{"city":"Paris"}'), ("get_weather", '{"city":"Rome"}')]),
        ("weather in Paris and Rome", {"parallel_calls": False}, [("get_weather", '{"city":"Paris"}')]),
        ("send an email", {}, [("sendEmail", "{}")]),
        ("get me the list", {}, []),
        ("weather", {"may_call": False}, []),
        ("weather", {"tool_results": ("sunny",)}, []),
        ("hello", {"forced_tool": ""}, [("get_weather", '{"city":"Paris"}')]),
        ("hello", {"forced_tool": "sendEmail"}, [("sendEmail", "{}")]),
    ],
)
def test_tools_are_called_when_asked_for(prompt: str, fields: dict[str, Any], calls: list[tuple[str, str]]) -> None:
    assert choose_calls(ask(prompt, tools=TOOLS, **fields), ()) == calls


# --- tokens ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(max_size=400))
def test_tokens_are_the_text_again_and_never_more_than_its_bytes(text: str) -> None:
    assert "".join(tokenize(text)) == text
    assert count(text) <= len(text.encode())


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(min_value=0, max_value=50))
def test_what_was_streamed_can_be_counted_again(text: str, sent: int) -> None:
    tokens = tokenize(text)
    assert tokenize("".join(tokens[:sent])) == tokens[:sent]


def test_english_has_about_four_characters_a_token() -> None:
    text = "A gateway stands between apps and model providers, and records what everything cost. " * 20
    assert 3.5 < len(text) / count(text) < 5


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(min_value=0, max_value=400), st.integers(min_value=0, max_value=200))
def test_a_reply_has_exactly_the_tokens_it_is_billed_for(prompt: str, wanted: int, limit: int) -> None:
    reply = plan_reply(ask(prompt, limit=limit), Markers(tokens=wanted), created=0)
    assert len(reply.pieces) == reply.usage.output_tokens == min(wanted, limit)
    assert all(piece.call is None for piece in reply.pieces)
    assert count(reply.text()) == len(reply.pieces)
