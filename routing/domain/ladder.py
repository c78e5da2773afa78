"""What a policy does as a budget fills: shorter answers, cheaper models, kept answers only, and then a refusal."""

from dataclasses import dataclass

from routing.domain.config import Ladder


@dataclass(frozen=True, slots=True)
class Step:
    """Where on the ladder a request stands; `name` is the last step reached: “”, “cap”, “cheaper”, “cache”, “refuse”.

    The earlier steps hold as well: `max_tokens` is the longest answer, None where it is not shortened.
    """

    name: str = ""
    max_tokens: int | None = None

    @property
    def is_cheaper(self) -> bool:
        return self.name in {"cheaper", "cache"}

    @property
    def is_cache_only(self) -> bool:
        return self.name == "cache"

    @property
    def refuses(self) -> bool:
        return self.name == "refuse"

    def capped(self, max_tokens: int | None) -> int | None:
        """The answer's length, in tokens, of a request that asks for `max_tokens`."""
        if self.max_tokens is None:
            return max_tokens
        return min(max_tokens, self.max_tokens) if max_tokens else self.max_tokens


def step_of(ladder: Ladder, budget_used: float) -> Step:
    """The step that is reached when `budget_used` (0 to 1) of a budget is gone."""
    marks = (
        ("cap", ladder.cap_at),
        ("cheaper", ladder.cheaper_at),
        ("cache", ladder.cache_only_at),
        ("refuse", ladder.refuse_at),
    )
    reached = [name for name, at in marks if at is not None and budget_used >= at / 100]
    is_capped = ladder.cap_at is not None and budget_used >= ladder.cap_at / 100
    return Step(reached[-1] if reached else "", ladder.cap_tokens if is_capped else None)


def refusal_of(policy: str, budget_used: float) -> str:
    return f"{budget_used:.0%} of a budget is used, and from there on policy “{policy}” refuses."


def step_in_words(step: Step, budget_used: float) -> str:
    """For the explanation, headers and notices; empty on no step."""
    used = f"{budget_used:.0%} of a budget is used"
    match step.name:
        case "cap":
            return f"{used}: answers have at most {step.max_tokens:,} tokens"
        case "cheaper":
            return f"{used}: cheaper models go first"
        case "cache":
            return f"{used}: only kept answers are given"
        case "refuse":
            return f"{used}: nothing is served"
    return ""
