"""What the demo installation holds: invented models and prices, who serves what, teams. Data only."""

from dataclasses import dataclass
from decimal import Decimal

from providers.domain.types import Capability

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
    max_output_tokens: int | None = 16_384


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
    DemoModel(
        "demo-embed", OPENAI_DEMO, "Demo Embed", "economy", "Texts as vectors, for search",
        (Capability.EMBEDDINGS,), ("0.02", "0", "0.02", "0.02"), 100, 8_192, None,
    ),
)  # fmt: skip

# alias -> (description, deployments in the order of trying)
DEMO_ALIASES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{model.name: (model.strengths, (model.name,)) for model in DEMO_MODELS},
    "fast": ("Whatever answers quickest", ("demo-swift", "demo-sage-mini")),
    "smart": ("Whatever thinks hardest", ("demo-deep", "demo-sage")),
}


# starter policy -> (preferred, fallbacks), aliases in the order of trying
DEMO_CANDIDATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": (("demo-balanced", "demo-sage"), ("demo-swift",)),
    "coding": (("demo-sage", "demo-deep"), ("demo-balanced", "demo-sage-mini")),
    "chat": (("demo-swift", "demo-sage-mini"), ("demo-balanced",)),
    "analysis": (("demo-deep", "demo-sage"), ("demo-balanced",)),
    "creative": (("demo-sage", "demo-balanced"), ("demo-swift",)),
}


@dataclass(frozen=True, slots=True)
class DemoTeam:
    """`share` is the team's part of the invented traffic, `prompt_tokens` the size of its usual prompt.

    `mode` is that of its monthly budget. With `key_daily_usd` its key has a strict one per day as well.
    """

    slug: str
    name: str
    key_name: str
    monthly_usd: Decimal
    share: int
    prompt_tokens: int
    asks_for: tuple[str, ...]
    mode: str = "strict"
    key_daily_usd: Decimal | None = None


SUPPORT_BOT = "support-bot"
DEMO_TEAMS = (
    DemoTeam("checkout", "Checkout", "Checkout service", Decimal(20), 22, 12_000, ("auto", "fast", "demo-balanced")),
    DemoTeam(SUPPORT_BOT, "Support bot", "Website", Decimal(2), 38, 10_000, ("chatbot", "chatbot", "fast"), "soft"),
    DemoTeam("search", "Search", "Query rewriting", Decimal(5), 18, 3_000, ("demo-swift", "fast", "auto"), "shadow"),
    DemoTeam(
        "data-science", "Data science", "Notebooks", Decimal(80), 12, 30_000, ("analyst", "code_assistant", "smart"),
        key_daily_usd=Decimal(4),
    ),
    DemoTeam(
        "marketing", "Marketing", "Campaigns", Decimal(15), 10, 8_000, ("creative_writer", "demo-sage", "auto"),
        "expected",
    ),
)  # fmt: skip
