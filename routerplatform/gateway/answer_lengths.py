"""How long answers usually are, by the kind of traffic: what a request will cost depends on it."""

from typing import Final

from routerplatform.gateway.recent import Recent

MOST: Final = 10_000  # kinds of traffic
ENOUGH: Final = 5  # answers, before their mean is worth more than the request's own limit
MEMORY: Final = 100  # from so many on, each new one counts for one in a hundred


class AnswerLengths:
    """Running means of output tokens. Belongs to one event loop."""

    def __init__(self) -> None:
        self._means: Recent[str, tuple[float, int]] = Recent(most=MOST)

    def usual(self, kind: str) -> int | None:
        """Tokens of each choice, at least 1; None until enough answers were seen."""
        mean, count = self._means.get(kind) or (0.0, 0)
        return max(1, round(mean)) if count >= ENOUGH else None

    def saw(self, kind: str, tokens: float) -> None:
        mean, count = self._means.get(kind) or (0.0, 0)
        count = min(count + 1, MEMORY)
        self._means.put(kind, (mean + (tokens - mean) / count, count))
