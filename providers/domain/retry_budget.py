"""How much is tried again: a share of the requests, so that retries never make an outage worse. Pure.

The idea is Finagle's (finagle.github.io/blog/2016/02/08/retry-budgets), the share that of .NET's resilience handlers
(learn.microsoft.com, `HttpRetryBudgetOptions.RetryRatio`, 2026-11).
"""

from dataclasses import dataclass, field

RESERVE = 10.0  # retries that even a gateway with little traffic may make


@dataclass(slots=True)
class RetryBudget:
    """Every request earns `share` of a retry, every retry spends a whole one. Belongs to one process."""

    share: float = 0.1
    _tokens: float = field(default=RESERVE)

    def earn(self) -> None:
        self._tokens = min(RESERVE, self._tokens + self.share)

    def spend(self) -> bool:
        """Whether one more retry can be afforded; if so, it is."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
