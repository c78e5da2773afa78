"""What a text answer says: markdown that reacts to the prompt, the system prompt and the conversation.

The words are in texts/answers.toml. Nothing is random: choices hang on a hash of the prompt. Every composed answer
ends by saying that it comes from the demo provider, and how to get a real one.
"""

import hashlib
import re
from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

from providers.demo.exchange import Ask, Length
from providers.demo.markers import without_markers
from providers.demo.texts import ANSWERS, Kind, comparison_for, fact_for, named_language, snippet_for, snippets_on

T = TypeVar("T")
_SAY = ANSWERS.phrases

FENCE = "```"
MOST_READ = 20_000  # characters of a prompt that an answer looks at
LANGUAGE_NAMES = {"css": "CSS", "html": "HTML", "javascript": "JavaScript", "sql": "SQL", "typescript": "TypeScript"}


def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    """Finds one of `words`, each a pattern, in any case."""
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


_GREETING = re.compile(rf"^\W*({'|'.join(ANSWERS.words['greetings'])})\b(?:\W+\w+){{0,3}}\W*$", re.IGNORECASE)
_ARITHMETIC = re.compile(r"(?<![\w.])(-?\d{1,12}(?:\.\d{1,6})?)\s*([-+*/×÷x])\s*(-?\d{1,12}(?:\.\d{1,6})?)(?![\w.])")
_SAYS = {kind: _any_of(texts.says) for kind, texts in ANSWERS.kinds.items() if texts.says}
_BRIEF = _any_of(ANSWERS.words["brief"])
_EXPLAIN = re.compile(rf"\W*(?:please\s+)?(?:{'|'.join(ANSWERS.words['explain'])})\b", re.IGNORECASE)
_SIGNS = str.maketrans("*x/", "××÷")
_WHY = re.compile(r"\W*why\b", re.IGNORECASE)
_PAIR = re.compile(
    r"\b(?:compare|comparison of|between)\s+(?P<first>.+?)\s+(?:and|with|to|vs\.?|versus|or)\s+(?P<second>.+)"
    r"|(?P<left>.+?)\s+(?:vs\.?|versus|or)\s+(?P<right>.+)",
    re.IGNORECASE,
)
_NO_NAME = set("should i we use take choose pick which is what better the prefer do".split())


def compose(ask: Ask) -> str:
    """The answer in markdown."""
    prompt = without_markers(ask.prompt).strip()[:MOST_READ]
    length = "terse" if _BRIEF.search(ask.system) or _BRIEF.search(prompt) else ask.model.length
    if ask.tool_results:
        parts = [_tool_answer(ask)]
    else:
        kind = kind_of(prompt, ask.system)
        texts = ANSWERS.kinds[kind]
        body = _BODIES.get(kind, _told)(kind, prompt, length)
        images = ("", _SAY["one_image"], _SAY["images"])[min(ask.images, 2)].format(count=ask.images)
        follow_up = _SAY["follow_up"] if texts.follow_up is None else texts.follow_up
        more = follow_up.format(subject=subject_of(prompt)) if length == "long" else ""
        parts = [images, _opening(ask, prompt, kind, length), body, more]
    return "\n\n".join(part for part in (*parts, _SAY["closing"].format(model=ask.model.id)) if part)


def kind_of(prompt: str, system: str) -> Kind:
    """The prompt decides; where it is open, the persona in the system prompt does."""
    words = words_of(prompt)
    fits: dict[Kind, object] = {
        "empty": not words,
        "greeting": _GREETING.match(prompt),
        "arithmetic": len(words) < 12 and _ARITHMETIC.search(prompt),
        "fact": fact_for(prompt, words),
        "code": named_language(prompt) and snippets_on(prompt),
    }
    by_prompt = (k for k in ANSWERS.kinds if fits.get(k) or (k in _SAYS and _SAYS[k].search(prompt)))
    by_persona = (kind for kind, wanted in ANSWERS.personas.items() if wanted & words_of(system))
    return next(chain(by_prompt, by_persona), "open")


def _opening(ask: Ask, prompt: str, kind: Kind, length: Length) -> str:
    """Who speaks, what was asked, and what came before."""
    speaker, texts = speaker_of(ask.system), ANSWERS.kinds[kind]
    if not speaker and (length == "terse" or texts.bare):
        return ""
    language = snippet_for(prompt).language
    name = LANGUAGE_NAMES.get(language, language.title())
    lead = pick(prompt, texts.leads).format(prompt=quoted(prompt), language=name)
    opening = f"{speaker}{lead}" if speaker else sentence_case(lead)
    earlier = without_markers(ask.history[-1]) if ask.history else ""
    if words_of(earlier) and length != "terse":
        opening += _SAY["earlier"].format(earlier=quoted(earlier, 48))
    return opening


def _tool_answer(ask: Ask) -> str:
    results = "\n".join(f"- {quoted(result, 200) or '(an empty result)'}" for result in ask.tool_results)
    heading = _SAY["one_tool"] if len(ask.tool_results) == 1 else _SAY["tools"]
    prompt = quoted(without_markers(ask.prompt))
    return f"{heading.format(count=len(ask.tool_results), prompt=prompt)}\n\n{results}"


def _told(kind: Kind, prompt: str, length: Length) -> str:
    """An answer that only repeats the subject."""
    texts = ANSWERS.kinds[kind]
    text = texts.terse if length == "terse" and texts.terse else texts.full
    if kind == "open" and length != "terse" and _EXPLAIN.match(prompt):
        text = _SAY["explanation"]
    hello = _GREETING.match(prompt)
    return text.format(subject=subject_of(prompt), hello=hello[1].capitalize() if hello else "")


def _arithmetic(kind: Kind, prompt: str, length: Length) -> str:
    match = _ARITHMETIC.search(prompt)
    assert match is not None, "kind_of found one"
    left, sign, right = float(match[1]), match[2].translate(_SIGNS), float(match[3])
    if sign == "÷" and right == 0:
        return _SAY["no_division"].format(left=match[1])
    results = {"+": left + right, "-": left - right, "×": left * right}
    value = results[sign] if sign in results else left / right
    number = str(int(value)) if value == int(value) and abs(value) < 2**53 else f"{value:.10g}"
    return f"{match[1]} {sign} {match[3]} = **{number}**"


def _verse(kind: Kind, prompt: str, length: Length) -> str:
    """A story as it stands; markdown joins the lines of a poem unless they end with a backslash."""
    subject, said, terse = subject_of(prompt), words_of(prompt), length == "terse"
    title = f"**{sentence_case(subject)}**"
    if said & {"story", "tale"} and "haiku" not in said:
        parts = pick(prompt, ANSWERS.verses["stories"]).format(subject=subject).split("\n\n")
        return "\n\n".join([title, *parts[:: 2 if terse else 1]])
    verses = ANSWERS.verses["haiku"] if "haiku" in said else ANSWERS.verses["poems"]
    parts = pick(prompt, verses).format(subject=subject, Subject=sentence_case(subject)).split("\n\n")
    return "\n\n".join([title, *(part.replace("\n", "\\\n") for part in parts[: 1 if terse else 2])])


def _code(kind: Kind, prompt: str, length: Length) -> str:
    snippet = snippet_for(prompt)
    block = f"{FENCE}{snippet.language}\n{snippet.code}\n{FENCE}"
    return block if length == "terse" else f"{block}\n\n{snippet.note}"


def _fact(kind: Kind, prompt: str, length: Length) -> str:
    answer = fact_for(prompt, words_of(prompt)) or ""
    return answer.split(". ")[0].rstrip(".") + "." if length == "terse" else answer


def _summary(kind: Kind, prompt: str, length: Length) -> str:
    """The first sentences of what was pasted: a summary that at least invents nothing."""
    command, _, pasted = prompt.partition(":" if ":" in prompt[:120] else "\n")
    sentences = [sentence for sentence in re.split(r"(?<=[.!?])\s+", pasted.strip()) if words_of(sentence)]
    if not sentences:
        return ANSWERS.kinds[kind].full.format(command=quoted(command, 40))
    kept = sentences[: 1 if length == "terse" else 3]
    points = "\n".join(f"- {quoted(sentence, 160)}" for sentence in kept)
    return f"{points}\n\n({len(kept)} of {len(sentences)} sentences kept)"


def _analysis(kind: Kind, prompt: str, length: Length) -> str:
    known = comparison_for(prompt)
    names = known.names if known else _pair(prompt)
    if names is None:
        return _SAY["reasons"] if _WHY.match(prompt) else _told(kind, prompt, length)
    first, second = names
    rows = known.rows if known else _SAY["any_two"].format(first=first, second=second)
    return _SAY["comparison"].format(first=first, second=second, rows=rows)


def _pair(prompt: str) -> tuple[str, str] | None:
    """The two things that a prompt compares, when they can be told."""
    match = None if _WHY.match(prompt) else _PAIR.search(prompt[:300])
    if match is None:
        return None
    sides = (match["first"] or match["left"], match["second"] or match["right"])
    names = []
    for side, end in zip(sides, (-1, 0), strict=True):
        words = quoted(re.split(r"[,;?!:]|\. | for | in ", side.strip())[end], 60).split()
        while words and words[0].lower() in _NO_NAME:
            words.pop(0)
        if not 1 <= len(words) <= 4:
            return None
        names.append(sentence_case(" ".join(words)).rstrip("."))
    return names[0], names[1]


_BODIES = {
    "arithmetic": _arithmetic,
    "verse": _verse,
    "code": _code,
    "fact": _fact,
    "summary": _summary,
    "analysis": _analysis,
}

_MARKUP = re.compile(r"[`|<>*#\[\]]+")
_ABOUT = re.compile(r"\b(?:about|on|of|for|regarding)\s+(.{2,}?)[.?!]*$", re.IGNORECASE)
_LEAD = re.compile(
    r"^(?:please\s+|(?:can|could|would) you\s+|i (?:want|need) to\s+|help me\s+|how (?:do|can|should) (?:i|we)\s+"
    r"|how to\s+|what(?:'s| is| are)\s+|why (?:do|does|did|is|are|was|were)\s+|(?:tell|give|show) me\s+"
    r"|(?:explain|describe|analy[sz]e|assess|evaluate|write|plan)\s+)+",
    re.IGNORECASE,
)
_ROLE = re.compile(r"\byou are (?:(an?|the) )?([^.,;:\n]{3,60}?)(?= who | that | which |[.,;:\n]|$)", re.IGNORECASE)
_STYLE = re.compile(r"\s+(?:in simple terms|in plain words|step by step|briefly|please)$", re.IGNORECASE)


def pick(seed: str, options: Sequence[T]) -> T:
    """One of `options`, always the same for the same seed."""
    return options[int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) % len(options)]


def quoted(text: str, most: int = 80) -> str:
    """`text` on one line, without the signs of markdown, short enough to stand in quotation marks."""
    text = " ".join(_MARKUP.sub(" ", text).split())
    return text if len(text) <= most else text[: most - 1].rsplit(" ", 1)[0] + "…"


def subject_of(prompt: str) -> str:
    """What the prompt is about, for a title or in the middle of a sentence: "the sea" in "a poem about the sea"."""
    line = quoted(prompt[:600], 600)
    match = _ABOUT.search(line)
    subject = match.group(1) if match else _LEAD.sub("", line)
    return quoted(_STYLE.sub("", subject.rstrip(" .?!")), 48) or "this"


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def speaker_of(system: str) -> str:
    """ "As a patient teacher, " for a system prompt that begins "You are a patient teacher."; else empty."""
    match = _ROLE.search(system)
    if match is None:
        return ""
    article, role = match.groups()
    return f"As {article.lower()} {quoted(role)}, " if article else f"{sentence_case(quoted(role))} here: "


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-zà-ÿ0-9#+]+", text.lower()))
