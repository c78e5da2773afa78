"""What the demo installation holds: invented models and prices, policies, personas, teams. Data only."""

from dataclasses import dataclass
from decimal import Decimal

from providers.domain.types import Capability
from routing.domain.config import TaskType

OPENAI_DEMO = "demo"
ANTHROPIC_DEMO = "demo-anthropic"
DEMO_PROVIDERS = {
    OPENAI_DEMO: ("openai-compatible", "Demo provider (OpenAI protocol)"),
    ANTHROPIC_DEMO: ("anthropic-compatible", "Demo provider (Anthropic protocol)"),
}

_TEXT = (Capability.STREAMING, Capability.TOOL_CALLING, Capability.JSON_SCHEMA, Capability.TEMPERATURE)
_RICH = (*_TEXT, Capability.VISION, Capability.PROMPT_CACHING)


@dataclass(frozen=True, slots=True)
class DemoModel:
    """Prices are invented, USD per million tokens: input, output, cache read, cache write."""

    name: str
    provider: str
    label: str
    cost_tier: str
    strengths: str
    capabilities: tuple[Capability, ...]
    prices: tuple[str, str, str, str]
    expected_latency_ms: int
    context_window: int = 128_000
    max_output_tokens: int = 16_384


DEMO_MODELS = (
    DemoModel(
        "demo-swift", OPENAI_DEMO, "Demo Swift", "economy", "Short answers at once",
        (*_TEXT, Capability.JSON_MODE), ("0.15", "0.60", "0.075", "0.15"), 700,
    ),
    DemoModel(
        "demo-balanced", OPENAI_DEMO, "Demo Balanced", "standard", "Everyday work",
        (*_RICH, Capability.JSON_MODE), ("1.25", "5.00", "0.125", "1.25"), 2_600,
    ),
    DemoModel(
        "demo-deep", OPENAI_DEMO, "Demo Deep", "premium", "Long and thorough answers",
        (*_RICH, Capability.JSON_MODE, Capability.REASONING), ("5.00", "20.00", "0.50", "6.25"), 9_000,
        1_000_000, 65_536,
    ),
    DemoModel(
        "demo-sage", ANTHROPIC_DEMO, "Demo Sage", "standard", "Analysis and writing",
        (*_RICH, Capability.REASONING), ("3.00", "15.00", "0.30", "3.75"), 4_400, 200_000, 64_000,
    ),
    DemoModel(
        "demo-sage-mini", ANTHROPIC_DEMO, "Demo Sage Mini", "economy", "Quick, tidy answers",
        _TEXT, ("0.80", "4.00", "0.08", "1.00"), 700, 200_000,
    ),
)  # fmt: skip

# alias -> (description, deployments in the order of trying)
DEMO_ALIASES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{model.name: (model.strengths, (model.name,)) for model in DEMO_MODELS},
    "fast": ("Whatever answers quickest", ("demo-swift", "demo-sage-mini")),
    "smart": ("Whatever thinks hardest", ("demo-deep", "demo-sage")),
}


@dataclass(frozen=True, slots=True)
class DemoPolicy:
    """`wants_smart`: a real vendor's model for hard work goes first, else its quick one."""

    name: str
    description: str
    task_type: TaskType
    preferred: tuple[str, ...]
    fallbacks: tuple[str, ...]
    wants_smart: bool
    is_default: bool = False


DEMO_POLICIES = (
    DemoPolicy(
        "default", "Serves “auto”: good answers at a moderate price.", TaskType.ANY,
        ("demo-balanced", "demo-sage"), ("demo-swift",), False, is_default=True,
    ),
    DemoPolicy(
        "coding", "Code: careful models first, so that it runs the first time.", TaskType.CODING,
        ("demo-sage", "demo-deep"), ("demo-balanced", "demo-sage-mini"), True,
    ),
    DemoPolicy(
        "chat", "Short questions: the quick and cheap models.", TaskType.SIMPLE_QA,
        ("demo-swift", "demo-sage-mini"), ("demo-balanced",), False,
    ),
    DemoPolicy(
        "analysis", "Figures and long documents: large context, thorough answers.", TaskType.ANALYSIS,
        ("demo-deep", "demo-sage"), ("demo-balanced",), True,
    ),
    DemoPolicy(
        "creative", "Writing with a voice.", TaskType.CREATIVE,
        ("demo-sage", "demo-balanced"), ("demo-swift",), True,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DemoPersona:
    slug: str
    name: str
    description: str
    policy: str
    system_prompt: str


DEMO_PERSONAS = (
    DemoPersona(
        "code_assistant", "Code assistant", "Writes, explains and reviews code.", "coding",
        """You are a senior software engineer who helps colleagues write, understand and review code.

Before you write code, make sure that you know the language, the version and what the code has to do. Ask one short \
question when a missing detail would change the answer; otherwise state your assumption and go on.

Write code that runs as it stands: imports included, errors handled where they can occur, names that say what things \
are. Keep to the style of the code you were given. Change only what the task needs, and say what you changed and why \
in two or three sentences after the code. Put code into fenced blocks with the language named.

When you review, start with what is wrong, worst first, each with the line and a fix. When you are not sure that an \
API exists or behaves as you remember, say so instead of guessing.""",
    ),
    DemoPersona(
        "chatbot", "Chatbot", "Friendly, short answers for customers.", "chat",
        """You are the assistant on a company's website. People come with everyday questions and little time.

Answer in two to four plain sentences, in the language of the question. Give the answer first and the explanation \
after it. Be warm, not chatty: no filler, no exclamation marks in a row, at most one question back.

Never invent orders, prices, dates or policies. If you do not know something, say so and tell the person what they can \
do next. If somebody is upset, acknowledge it once and turn to the solution. Hand over to a person when you are asked \
to, or when it is about health, law, or money that was lost.""",
    ),
    DemoPersona(
        "analyst", "Analyst", "Turns figures and documents into conclusions.", "analysis",
        """You are a data analyst who prepares decisions for people who have to make them today.

Begin with the conclusion in one or two sentences. Then show what it rests on: the figures that matter, compared with \
something (a period before, a target, another group), with units and the time they cover. Prefer a small table to a \
paragraph of numbers. Do arithmetic step by step and check that parts add up to the whole.

Keep apart what the data shows, what you conclude from it, and what you assume. Name the weakest point of your \
analysis and what data would settle it. Do not read a cause into a correlation. If the material does not answer the \
question, say that plainly.""",
    ),
    DemoPersona(
        "creative_writer", "Creative writer", "Texts with a voice: copy, stories, names.", "creative",
        """You are a writer with a good ear. You write copy, stories, speeches, names and headlines.

Find out for whom the text is and what it should do to them; if you are not told, choose and say in one line what you \
chose. Prefer the concrete to the abstract, verbs to adjectives, and the unexpected detail to the safe phrase. Vary \
the length of sentences. Avoid clichés, and words that every advertisement uses.

When somebody asks for ideas, offer three that differ in kind, not in wording. Keep to a given length within a tenth. \
When you revise a text, keep its voice: improve the author's text, do not replace it with your own.""",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DemoTeam:
    """`share` is the team's part of the invented traffic, `prompt_tokens` the size of its usual prompt."""

    slug: str
    name: str
    key_name: str
    monthly_usd: Decimal
    share: int
    prompt_tokens: int
    asks_for: tuple[str, ...]


SUPPORT_BOT = "support-bot"
DEMO_TEAMS = (
    DemoTeam("checkout", "Checkout", "Checkout service", Decimal(20), 22, 12_000, ("auto", "fast", "demo-balanced")),
    DemoTeam(SUPPORT_BOT, "Support bot", "Website", Decimal(2), 38, 10_000, ("chatbot", "chatbot", "fast")),
    DemoTeam("search", "Search", "Query rewriting", Decimal(5), 18, 3_000, ("demo-swift", "fast", "auto")),
    DemoTeam(
        "data-science", "Data science", "Notebooks", Decimal(40), 12, 30_000, ("analyst", "code_assistant", "smart")
    ),
    DemoTeam("marketing", "Marketing", "Campaigns", Decimal(15), 10, 8_000, ("creative_writer", "demo-sage", "auto")),
)
