"""What a program says of a model, and what it is told of one."""

from dataclasses import dataclass
from typing import Any, Final

CHAT: Final = ("streaming", "temperature")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model and who serves it.

    Prices are USD per 1,000 tokens, None where nobody knows. `cost_per_1k_tokens` is one round figure: of the catalogue
    the list price, else the mean of input and output; of a model that a program adds, it is billed for both, unless
    they are given. `max_tokens` is the longest answer, `avg_latency` the usual seconds to a whole one. `strengths` are
    texts, or kinds of work: for those the model is then chosen from. `base_url` is where a server of one's own is; of
    private addresses only that one is called, or those of `allowed_networks` (CIDR), where the address is a name.
    """

    name: str
    provider: str
    cost_per_1k_tokens: float | None = None
    max_tokens: int | None = None
    strengths: tuple[str, ...] | list[Any] | str = ()
    avg_latency: float | None = None
    input_cost_per_1k: float | None = None
    output_cost_per_1k: float | None = None
    context_window: int | None = None
    capabilities: tuple[str, ...] | list[str] = CHAT
    base_url: str = ""
    allowed_networks: tuple[str, ...] | list[str] = ()
    is_callable: bool = False
    is_retired: bool = False
    replaced_by: str = ""
