"""What a text answer says: markdown that reacts to the prompt, the system prompt and the conversation.

Nothing is random: choices hang on a hash of the prompt. Every composed answer ends by saying that it comes from the
demo provider, and how to get a real one.
"""

import re
from enum import StrEnum

from providers.demo.catalogue import Length
from providers.demo.exchange import Ask
from providers.demo.facts import comparison_for, fact_for
from providers.demo.markers import without_markers
from providers.demo.phrasing import pick, quoted, sentence_case, speaker_of, subject_of, words_of
from providers.demo.snippets import has_topic, named_language, snippet_for
from providers.demo.verses import HAIKU, POEMS, STORIES

FENCE = "```"
MOST_READ = 20_000  # characters of a prompt that an answer looks at
LANGUAGE_NAMES = {"css": "CSS", "html": "HTML", "javascript": "JavaScript", "sql": "SQL", "typescript": "TypeScript"}


class Kind(StrEnum):
    """What sort of answer a prompt wants."""

    EMPTY = "empty"
    GREETING = "greeting"
    ARITHMETIC = "arithmetic"
    VERSE = "verse"
    CODE = "code"
    FACT = "fact"
    SUMMARY = "summary"
    ANALYSIS = "analysis"
    STEPS = "steps"
    OPEN = "open"


_GREETINGS = {
    "hello": "Hello",
    "hi": "Hi",
    "hey": "Hey",
    "moin": "Moin",
    "hallo": "Hallo",
    "bonjour": "Bonjour",
    "salut": "Salut",
    "hola": "Hola",
    "ciao": "Ciao",
    "good morning": "Good morning",
    "good evening": "Good evening",
    "good afternoon": "Good afternoon",
}
_GREETING = re.compile(rf"^\W*({'|'.join(_GREETINGS)})\b(?:\W+\w+){{0,3}}\W*$", re.IGNORECASE)
_ARITHMETIC = re.compile(r"(?<![\w.])(-?\d{1,12}(?:\.\d{1,6})?)\s*([-+*/×÷x])\s*(-?\d{1,12}(?:\.\d{1,6})?)(?![\w.])")
_VERSE = re.compile(r"\b(?:poem|haiku|story|tale|song|limerick|verse|lyrics|fairy tale)\b", re.IGNORECASE)
_CODE = re.compile(
    r"\b(?:code|function|script|program|class|method|regex|algorithm|snippet|query|implement|refactor|debug"
    r"|unit test)\b",
    re.IGNORECASE,
)
_SUMMARY = re.compile(r"\b(?:summari[sz]e|summary|tl;?dr|shorten|key points?)\b", re.IGNORECASE)
_ANALYSIS = re.compile(
    r"\b(?:why|compare|comparison|analy[sz]e|analysis|versus|vs|difference|differences|pros and cons|trade-?offs?"
    r"|evaluate|assess|better|should (?:i|we))\b",
    re.IGNORECASE,
)
_EXPLAIN = re.compile(r"\W*(?:please\s+)?(?:explain|describe|define|what(?:'s| is| are))\b", re.IGNORECASE)
_STEPS = re.compile(r"\b(?:how (?:do|can|should|would|to)|steps?|plan|guide|checklist|tips|ideas)\b", re.IGNORECASE)
_BRIEF = re.compile(
    r"\b(?:brief|briefly|concise|concisely|short answers?|one sentence|one line|terse)\b", re.IGNORECASE
)
_PAIR = re.compile(
    r"\b(?:compare|comparison of|between)\s+(?P<first>.+?)\s+(?:and|with|to|vs\.?|versus|or)\s+(?P<second>.+)"
    r"|(?P<left>.+?)\s+(?:vs\.?|versus|or)\s+(?P<right>.+)",
    re.IGNORECASE,
)
_NO_NAME = {
    "should",
    "i",
    "we",
    "use",
    "take",
    "choose",
    "pick",
    "which",
    "is",
    "what",
    "better",
    "the",
    "prefer",
    "do",
}


def compose(ask: Ask) -> str:
    """The answer in markdown."""
    prompt = without_markers(ask.prompt).strip()[:MOST_READ]
    length = Length.TERSE if _BRIEF.search(ask.system) or _BRIEF.search(prompt) else ask.model.length
    if ask.tool_results:
        parts = [_tool_answer(ask)]
    else:
        kind = kind_of(prompt, ask.system)
        body = _BODIES[kind](prompt, length)
        parts = [_images(ask), _opening(ask, prompt, kind, length), body, _follow_up(prompt, kind, length)]
    return "\n\n".join(part for part in (*parts, _closing(ask)) if part)


def kind_of(prompt: str, system: str) -> Kind:
    """The prompt decides; where it is open, the persona in the system prompt does."""
    words = words_of(prompt)
    tests: tuple[tuple[Kind, bool], ...] = (
        (Kind.EMPTY, not words),
        (Kind.GREETING, bool(_GREETING.match(prompt))),
        (Kind.ARITHMETIC, _ARITHMETIC.search(prompt) is not None and len(words) < 12),
        (Kind.VERSE, bool(_VERSE.search(prompt))),
        (Kind.SUMMARY, bool(_SUMMARY.search(prompt))),
        (Kind.FACT, fact_for(prompt, words) is not None),
        (Kind.ANALYSIS, bool(_ANALYSIS.search(prompt))),
        (Kind.CODE, bool(_CODE.search(prompt) or (named_language(prompt) and has_topic(prompt)))),
        (Kind.STEPS, bool(_STEPS.search(prompt))),
    )
    return next((kind for kind, fits in tests if fits), _kind_of_persona(system))


def _kind_of_persona(system: str) -> Kind:
    said = words_of(system)
    if said & {"analyst", "analysis", "analytical", "data"}:
        return Kind.ANALYSIS
    if said & {"creative", "writer", "poet", "storyteller", "novelist"}:
        return Kind.VERSE
    if said & {"code", "coding", "programmer", "developer", "engineer"}:
        return Kind.STEPS
    return Kind.OPEN


_BARE = {Kind.EMPTY, Kind.GREETING, Kind.ARITHMETIC, Kind.FACT, Kind.VERSE}  # these speak for themselves


# --- the parts around the answer ------------------------------------------------------------------------------


_LEADS: dict[Kind, tuple[str, ...]] = {
    Kind.GREETING: ("I am glad you are here.",),
    Kind.CODE: ("here is a short version in {language}:", "this is how I would write it in {language}:"),
    Kind.SUMMARY: ("the short form:", "what is left when I cut:"),
    Kind.ANALYSIS: ("“{prompt}” deserves a table before an opinion:", "let me take “{prompt}” apart:"),
    Kind.STEPS: ("here is a plan that you can start today:", "one step after the other:"),
    Kind.OPEN: ("you ask: “{prompt}”",),
}


def _opening(ask: Ask, prompt: str, kind: Kind, length: Length) -> str:
    """Who speaks, what was asked, and what came before."""
    speaker = speaker_of(ask.system)
    lead = pick(prompt, _LEADS.get(kind, ("here it is:",)))
    lead = lead.format(prompt=quoted(prompt), language=_language_name(prompt))
    if not speaker and (length is Length.TERSE or kind in _BARE):
        return ""
    opening = f"{speaker}{lead}" if speaker else sentence_case(lead)
    earlier = without_markers(ask.history[-1]) if ask.history else ""
    if words_of(earlier) and length is not Length.TERSE:
        opening += f" (Before that it was “{quoted(earlier, 48)}”.)"
    return opening


def _images(ask: Ask) -> str:
    if not ask.images:
        return ""
    count = "an image" if ask.images == 1 else f"{ask.images} images"
    return f"I received {count}. I can count pictures, but not look at them."


def _follow_up(prompt: str, kind: Kind, length: Length) -> str:
    """What a model that likes to talk adds."""
    if length is not Length.LONG or kind in {Kind.EMPTY, Kind.GREETING, Kind.ARITHMETIC}:
        return ""
    if kind is Kind.VERSE:
        return f"*Give me a mood or a first line, and {subject_of(prompt)} gets a second chance.*"
    if kind is Kind.CODE:
        return (
            "**Before you use it**\n\n- add a test with an empty and with a huge input\n- name the error it may raise"
        )
    return (
        "**Worth a second look**\n\n"
        "- What would have to be true for the opposite to hold?\n"
        "- Which number would change your mind, and where would you get it?"
    )


def _closing(ask: Ask) -> str:
    return f"*`{ask.model.id}` of the demo provider, no real model: add a provider key in the admin to talk to one.*"


def _tool_answer(ask: Ask) -> str:
    results = "\n".join(f"- {quoted(result, 200) or '(an empty result)'}" for result in ask.tool_results)
    heading = "The tool answered" if len(ask.tool_results) == 1 else f"The {len(ask.tool_results)} tools answered"
    return f"{heading}, about “{quoted(without_markers(ask.prompt))}”:\n\n{results}"


# --- the answers, one for each kind ---------------------------------------------------------------------------


def _empty(prompt: str, length: Length) -> str:
    return "There was nothing to read in that message. Ask me something, for example *“compare SQLite and Postgres”*."


def _greeting(prompt: str, length: Length) -> str:
    match = _GREETING.match(prompt)
    hello = _GREETINGS[match.group(1).lower()] if match else "Hello"
    if length is Length.TERSE:
        return f"{hello}! Ask me for code, a comparison, a plan or a poem."
    return (
        f"{hello}! Nice to meet you. I can show what this platform does with an answer:\n\n"
        "- **code**: *write a Python function that finds primes*\n"
        "- **a comparison**: *compare SQLite and Postgres*\n"
        "- **a plan**: *how do I move a service to a new host?*\n"
        "- **a poem**: *a poem about rain*"
    )


def _arithmetic(prompt: str, length: Length) -> str:
    match = _ARITHMETIC.search(prompt)
    if match is None:
        return ""
    left, sign, right = float(match[1]), match[2], float(match[3])
    if sign in "/÷" and right == 0:
        return f"{match[1]} ÷ 0 has no answer: nothing times zero gives {match[1]}."
    shown = {"*": "×", "x": "×", "/": "÷"}.get(sign, sign)
    result = {"+": left + right, "-": left - right, "×": left * right}.get(shown)
    value = result if result is not None else left / right
    return f"{match[1]} {shown} {match[3]} = **{_number(value)}**"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else f"{value:.10g}"


def _verse(prompt: str, length: Length) -> str:
    subject = subject_of(prompt)
    title = f"**{sentence_case(subject)}**"
    said = words_of(prompt)
    if "haiku" in said:
        return f"{title}\n\n{_lines(pick(prompt, HAIKU))}"
    if said & {"story", "tale"}:
        parts = pick(prompt, STORIES).format(subject=subject).split("\n\n")
        return "\n\n".join([title, *(parts if length is not Length.TERSE else parts[::2])])
    poem = pick(prompt, POEMS).format(subject=subject, Subject=sentence_case(subject))
    verses = poem.split("\n\n")
    return "\n\n".join([title, *(_lines(verse) for verse in verses[: 1 if length is Length.TERSE else 2])])


def _lines(verse: str) -> str:
    """Markdown joins lines unless they end with a backslash."""
    return "\\\n".join(verse.split("\n"))


def _language_name(prompt: str) -> str:
    language = snippet_for(prompt).language
    return LANGUAGE_NAMES.get(language, language.title())


def _code(prompt: str, length: Length) -> str:
    snippet = snippet_for(prompt)
    block = f"{FENCE}{snippet.language}\n{snippet.code}\n{FENCE}"
    return block if length is Length.TERSE else f"{block}\n\n{snippet.note}"


def _fact(prompt: str, length: Length) -> str:
    answer = fact_for(prompt, words_of(prompt)) or ""
    return answer.split(". ")[0].rstrip(".") + "." if length is Length.TERSE else answer


def _summary(prompt: str, length: Length) -> str:
    """The first sentences of what was pasted: a summary that at least invents nothing."""
    command, _, pasted = prompt.partition(":" if ":" in prompt[:120] else "\n")
    sentences = re.split(r"(?<=[.!?])\s+", (pasted or "").strip())
    sentences = [sentence for sentence in sentences if words_of(sentence)]
    if not sentences:
        return f"Paste the text after a colon, like *“{quoted(command, 40)}: …”*, and I shorten it."
    kept = sentences[: 1 if length is Length.TERSE else 3]
    points = "\n".join(f"- {quoted(sentence, 160)}" for sentence in kept)
    return f"{points}\n\n({len(kept)} of {len(sentences)} sentences kept)"


def _analysis(prompt: str, length: Length) -> str:
    known = comparison_for(prompt)
    if known:
        headings, rows = known
        return f"{_table(('', *headings), rows)}\n\n{_advice(*headings)}"
    pair = _pair(prompt)
    if pair:
        first, second = pair
        rows = (
            ("It wins when", f"your case is the one {first} was made for", f"your limits are the ones {second} lifts"),
            ("It costs", "what you must learn and run", "what you must give up or migrate"),
            ("You find out by", "one week on a real task", "the same task, the same week"),
        )
        return f"{_table(('', first, second), rows)}\n\n{_advice(first, second)}"
    return _reasons() if re.match(r"\W*why\b", prompt, re.IGNORECASE) else _review(subject_of(prompt))


def _pair(prompt: str) -> tuple[str, str] | None:
    """The two things that a prompt compares, when they can be told."""
    match = None if re.match(r"\W*why\b", prompt, re.IGNORECASE) else _PAIR.search(prompt[:300])
    if match is None:
        return None
    sides = (match["first"] or match["left"], match["second"] or match["right"])
    names = []
    for side in sides:
        words = quoted(re.split(r"[,;?!:]|\. | for | in ", side.strip())[-1 if side == sides[0] else 0], 60).split()
        while words and words[0].lower() in _NO_NAME:
            words.pop(0)
        if not 1 <= len(words) <= 4:
            return None
        names.append(sentence_case(" ".join(words)).rstrip("."))
    return names[0], names[1]


def _reasons() -> str:
    rows = (
        ("It has always been so", "look at the oldest record you have", "minutes"),
        ("Something changed", "lay the dates of changes over the curve", "an hour"),
        ("It is counted differently", "count a small sample by hand", "a day"),
    )
    return (
        f"{_table(('Possible reason', 'How to check', 'Effort'), rows)}\n\n"
        "1. Write down what you expect to see, before you look.\n"
        "2. Check the cheap rows first; most surprises end there.\n"
        "3. Keep the one that explains the exceptions too."
    )


def _review(subject: str) -> str:
    rows = (
        ("What is it for?", "the one result nobody would give up", "who pays for it"),
        ("How is it doing?", "the same number last month and last year", "a trend, not a point"),
        ("What is at risk?", "the last time it went wrong", "what was not fixed since"),
    )
    return (
        f"{_table(('Question', 'Look at', 'Then note'), rows)}\n\n"
        f"- Begin with one page about {subject}: facts on the left, guesses on the right.\n"
        "- Turn the most expensive guess into a fact.\n"
        "- Stop when the next fact would not change what you do."
    )


def _table(headings: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _advice(first: str, second: str) -> str:
    return (
        f"- Choose **{first}** if most of the left column describes your situation.\n"
        f"- Choose **{second}** if the right one does.\n"
        "- If both do, take the one your team already knows."
    )


def _steps(prompt: str, length: Length) -> str:
    subject = subject_of(prompt)
    steps = (
        f"**Write down what done looks like** for “{subject}”, in one sentence that somebody else can check.",
        "**Find the smallest version** that would already help, and leave the rest for later.",
        "**Do the riskiest part first**, on a copy, with a way back.",
        "**Measure** before and after with the same yardstick.",
        "**Tell the people it touches** what changes for them, and when.",
    )
    kept = steps[:3] if length is Length.TERSE else steps
    return "\n".join(f"{number}. {step}" for number, step in enumerate(kept, 1))


def _open(prompt: str, length: Length) -> str:
    subject = subject_of(prompt)
    said = f"There is no model behind me, so I will not pretend to know about “{subject}”."
    if length is Length.TERSE:
        return f"{said} Try *“compare SQLite and Postgres”*."
    if _EXPLAIN.match(prompt):
        return (
            f"{said} What a good explanation of it should answer:\n\n"
            "- **What is it**, in one sentence without a word that needs explaining itself?\n"
            "- **What changes** for somebody who has it, seen from outside?\n"
            "- **Where does it end?** A case it does not cover says more than three it does."
        )
    return (
        f"{said} What I can do is show you how an answer travels:\n\n"
        "- every word here was streamed, counted and billed like a real one\n"
        "- ask for **code**, **a comparison**, **a plan** or **a poem** and the answer changes its shape\n"
        "- put a marker such as `[[cut=20]]` or `[[status=503]]` into a prompt to watch the platform handle trouble"
    )


_BODIES = {
    Kind.EMPTY: _empty,
    Kind.GREETING: _greeting,
    Kind.ARITHMETIC: _arithmetic,
    Kind.VERSE: _verse,
    Kind.CODE: _code,
    Kind.FACT: _fact,
    Kind.SUMMARY: _summary,
    Kind.ANALYSIS: _analysis,
    Kind.STEPS: _steps,
    Kind.OPEN: _open,
}
