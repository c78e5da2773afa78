"""The models that the demo provider serves."""

from dataclasses import dataclass
from enum import StrEnum


class WireName(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Length(StrEnum):
    """How much a model likes to say."""

    TERSE = "terse"
    MIDDLE = "middle"
    LONG = "long"


@dataclass(frozen=True, slots=True)
class DemoModel:
    """One model; its times hold at pace factor 1."""

    id: str
    label: str
    wire: WireName
    length: Length
    first_token_ms: float
    token_ms: float


MODELS: dict[str, DemoModel] = {
    model.id: model
    for model in (
        DemoModel("demo-swift", "Demo Swift", WireName.OPENAI, Length.TERSE, 60, 8),
        DemoModel("demo-balanced", "Demo Balanced", WireName.OPENAI, Length.MIDDLE, 150, 12),
        DemoModel("demo-deep", "Demo Deep", WireName.OPENAI, Length.LONG, 400, 25),
        DemoModel("demo-sage", "Demo Sage", WireName.ANTHROPIC, Length.LONG, 150, 12),
        DemoModel("demo-sage-mini", "Demo Sage Mini", WireName.ANTHROPIC, Length.TERSE, 60, 8),
    )
}


def models_of(wire: WireName) -> list[DemoModel]:
    return [model for model in MODELS.values() if model.wire is wire]
