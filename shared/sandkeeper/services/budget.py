"""The time that one call may take, measured on a monotonic clock."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

CALL_BUDGET_S = 28.0
"""Every call answers within this time: the gateway gives up at 30 s."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A deadline that every step of a call looks at. Durations are in seconds."""

    deadline: float
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def of(cls, seconds: float) -> "Budget":
        """Returns a budget that runs from now."""
        return cls(time.monotonic() + seconds)

    def left_s(self) -> float:
        """Returns what is left, never less than 0."""
        return max(0.0, self.deadline - self.monotonic())

    def within(self, at_most_s: float, *, reserve_s: float) -> timedelta:
        """Returns how long one step may take that leaves `reserve_s` for those after it: 1 s or more."""
        return timedelta(seconds=max(1.0, min(at_most_s, self.left_s() - reserve_s)))

    def pause(self, attempt: int, *, reserve_s: float) -> bool:
        """Sleeps with exponential backoff and full jitter: at most 25 ms, then 50 … 800 ms.

        Returns False, at once, when no more than `reserve_s` is left.
        """
        left = self.left_s() - reserve_s
        if left <= 0:
            return False
        ceiling = min(0.8, 0.025 * 2**attempt)
        self.sleep(min(left, random.uniform(ceiling / 4, ceiling)))  # noqa: S311 - jitter is no secret
        return True
