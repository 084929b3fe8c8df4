"""The time that one call may take, measured on a monotonic clock."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


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

    def pause(self, attempt: int) -> bool:
        """Sleeps with exponential backoff and full jitter: at most 25 ms, then 50 … 800 ms.

        Returns False, at once, when nothing is left to wait for.
        """
        left = self.left_s()
        if left <= 0:
            return False
        ceiling = min(0.8, 0.025 * 2**attempt)
        self.sleep(min(left, random.uniform(ceiling / 4, ceiling)))  # noqa: S311 - jitter is no secret
        return True
