"""The ways to put models in order: each is one class behind `protocol.OrderingStrategy`; `STRATEGIES` has them all."""

from typing import Final

from routing.domain.config import Strategy
from routing.domain.strategies.by_cost import Balanced, LowestCost
from routing.domain.strategies.by_load import LeastBusy, LowestLatency, UsageBased
from routing.domain.strategies.by_quality import BestQuality, TaskBased
from routing.domain.strategies.by_turn import Priority, RoundRobin, Weighted
from routing.domain.strategies.protocol import OrderingStrategy

STRATEGIES: Final[dict[Strategy, OrderingStrategy]] = {
    Strategy.PRIORITY: Priority(),
    Strategy.WEIGHTED: Weighted(),
    Strategy.ROUND_ROBIN: RoundRobin(),
    Strategy.LEAST_BUSY: LeastBusy(),
    Strategy.LOWEST_COST: LowestCost(),
    Strategy.LOWEST_LATENCY: LowestLatency(),
    Strategy.USAGE_BASED: UsageBased(),
    Strategy.TASK_BASED: TaskBased(),
    Strategy.BEST_QUALITY: BestQuality(),
    Strategy.BALANCED: Balanced(),
}
