"""What the demo provider knows by heart: the words of the platform, a few facts, a few comparisons."""

import re

CAPITALS = {
    "argentina": "Buenos Aires",
    "australia": "Canberra",
    "austria": "Vienna",
    "belgium": "Brussels",
    "brazil": "Brasília",
    "canada": "Ottawa",
    "chile": "Santiago",
    "china": "Beijing",
    "denmark": "Copenhagen",
    "egypt": "Cairo",
    "finland": "Helsinki",
    "france": "Paris",
    "germany": "Berlin",
    "greece": "Athens",
    "india": "New Delhi",
    "ireland": "Dublin",
    "italy": "Rome",
    "japan": "Tokyo",
    "kenya": "Nairobi",
    "mexico": "Mexico City",
    "netherlands": "Amsterdam",
    "new zealand": "Wellington",
    "norway": "Oslo",
    "poland": "Warsaw",
    "portugal": "Lisbon",
    "south korea": "Seoul",
    "spain": "Madrid",
    "sweden": "Stockholm",
    "switzerland": "Bern",
    "turkey": "Ankara",
    "united kingdom": "London",
    "united states": "Washington, D.C.",
}
_CAPITAL = re.compile(r"\bcapital(?: city)? of ((?:the )?[a-z ]+)")

# (every one of these words stands in the prompt, the answer); the first that fits is taken
_FACTS: tuple[tuple[frozenset[str], str], ...] = tuple(
    (frozenset(words.split()), answer)
    for words, answer in (
        (
            "circuit breaker",
            "A **circuit breaker** watches one deployment. After several failures in a row it opens: calls fail at "
            "once and other candidates serve. After a pause one trial call is let through, and its result closes the "
            "breaker or opens it again.",
        ),
        (
            "virtual key",
            "A **virtual key** is what an app sends to the gateway. It belongs to a team, can have limits, a budget "
            "and an expiry date, and never shows the provider's real key.",
        ),
        (
            "routing policy",
            "A **routing policy** is an ordered list of candidates with conditions: task type, required capabilities, "
            "the most a request may cost, the longest it may take. The first candidate that may serve, serves.",
        ),
        (
            "what persona",
            "A **persona** is a named way to ask: a system prompt, default parameters and a routing policy under one "
            "word, such as `code_assistant` or `analyst`.",
        ),
        (
            "what fallback",
            "A **fallback** is the next candidate's turn when one fails. It is free until the first token was sent: "
            "the caller only sees the answer that arrived.",
        ),
        (
            "what gateway",
            "An **LLM gateway** stands between apps and model providers: one address, one kind of key. It decides "
            "which model answers, keeps teams inside their limits and budgets, and records what everything cost.",
        ),
        (
            "sky blue",
            "Sunlight holds all colours. Air molecules scatter short waves (blue) far more than long ones (red), so "
            "blue light reaches your eye from every direction. At sunset the light crosses more air, most blue is "
            "scattered away, and red is left.",
        ),
        (
            "sea salty",
            "Rain dissolves minerals out of rock, rivers carry them to the sea, and only the water evaporates again. "
            "Over a very long time the salt stayed: about 35 grams in a litre.",
        ),
        (
            "speed light",
            "Light travels **299,792,458 metres a second** in a vacuum, exactly: the metre is defined by it.",
        ),
        ("who wrote hamlet", "**William Shakespeare** wrote *Hamlet*, around 1600."),
        ("boiling point water", "Water boils at **100 °C** (212 °F) at sea-level pressure, and earlier on a mountain."),
        ("days leap year", "A leap year has **366 days**; the extra one is 29 February."),
        ("meaning life", "**42**, according to Douglas Adams. The question is still being computed."),
        (
            "http 429",
            "**429 Too Many Requests**: you were faster than your limit allows. Look at `retry-after`, wait that long, "
            "then try again, with growing pauses if it goes on.",
        ),
    )
)

# (both of these, headings, rows of a table: what to weigh, first, second)
COMPARISONS: tuple[tuple[tuple[str, str], tuple[str, str], tuple[tuple[str, str, str], ...]], ...] = (
    (
        ("sqlite", "postgres"),
        ("SQLite", "PostgreSQL"),
        (
            ("Runs as", "a library in your process", "a server of its own"),
            ("Writers", "one at a time", "many at once"),
            ("To operate", "a file to copy", "users, backups, upgrades"),
            ("Fits", "one machine, tests, embedded", "several machines, much writing"),
        ),
    ),
    (
        ("rest", "grpc"),
        ("REST", "gRPC"),
        (
            ("Format", "mostly JSON, readable", "Protocol Buffers, compact"),
            ("Contract", "optional (OpenAPI)", "required (`.proto`)"),
            ("Streaming", "by SSE or WebSocket", "built in, both ways"),
            ("Fits", "browsers, public APIs", "services among themselves"),
        ),
    ),
    (
        ("sql", "nosql"),
        ("SQL", "NoSQL"),
        (
            ("Shape", "tables, fixed columns", "documents, keys, graphs"),
            ("Questions", "any, also unplanned ones", "those you designed for"),
            ("Consistency", "transactions by default", "depends on the product"),
            ("Fits", "money, relations, reports", "huge simple access patterns"),
        ),
    ),
    (
        ("python", "go"),
        ("Python", "Go"),
        (
            ("Types", "checked if you want", "checked always"),
            ("Concurrency", "asyncio, processes", "goroutines"),
            ("Ship", "interpreter and packages", "one binary"),
            ("Fits", "data, glue, fast change", "network services, tools"),
        ),
    ),
    (
        ("monolith", "microservice"),
        ("Monolith", "Microservices"),
        (
            ("Change across parts", "one commit", "coordinated releases"),
            ("Scaling", "the whole", "each part alone"),
            ("Failure", "all or nothing", "partial, harder to see"),
            ("Fits", "one team, young product", "many teams, clear borders"),
        ),
    ),
    (
        ("tcp", "udp"),
        ("TCP", "UDP"),
        (
            ("Delivery", "ordered, repeated if lost", "as it comes, or not"),
            ("Start", "handshake first", "just send"),
            ("Cost", "state on both sides", "next to nothing"),
            ("Fits", "files, pages, APIs", "calls, games, DNS"),
        ),
    ),
)


def fact_for(prompt: str, words: set[str]) -> str | None:
    """A true answer known by heart, or None."""
    capital = _CAPITAL.search(prompt.lower())
    if capital:
        article, country = ("the ", capital.group(1)[4:]) if capital.group(1)[:4] == "the " else ("", capital.group(1))
        if country.strip() in CAPITALS:
            return f"The capital of {article}{country.strip().title()} is **{CAPITALS[country.strip()]}**."
    return next((answer for needed, answer in _FACTS if needed <= words), None)


def comparison_for(prompt: str) -> tuple[tuple[str, str], tuple[tuple[str, str, str], ...]] | None:
    """The headings and rows of a comparison known by heart, or None."""
    said = prompt.lower()
    for (first, second), headings, rows in COMPARISONS:
        if all(re.search(rf"\b{word}(?:s|ql|lang)?\b", said) for word in (first, second)):
            return headings, rows
    return None
