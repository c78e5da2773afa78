"""What was needed lately, in memory: a dictionary that forgets what nobody asks for, and what is too old."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Holds at most `most` values, each for `ttl_s` after it was put (None: for ever). Belongs to one event loop."""

    def __init__(self, *, most: int, ttl_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._ttl_s = ttl_s
        self._clock = clock
        self._held: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: K) -> V | None:
        held = self._held.get(key)
        if held is None:
            return None
        if self._ttl_s is not None and self._clock() - held[0] > self._ttl_s:
            del self._held[key]
            return None
        self._held.move_to_end(key)
        return held[1]

    def put(self, key: K, value: V) -> None:
        self._held[key] = (self._clock() if self._ttl_s is not None else 0.0, value)
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
