"""Durations of calls."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """Durations of one kind of call, in milliseconds."""

    name: str
    durations: Sequence[float]

    def quantile(self, percent: int) -> float:
        """Returns a percentile."""
        return statistics.quantiles(self.durations, n=100, method="inclusive")[percent - 1]

    @property
    def median(self) -> float:
        """The 50th percentile."""
        return self.quantile(50)


def timed(work: Callable[[], Any]) -> float:
    """Returns how long the work took, in milliseconds."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000
