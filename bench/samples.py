"""Durations of calls."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

Case = Callable[[], AbstractContextManager[Callable[[], Any]]]
"""What is to be timed: made ready before, and cleared away after, without the clock."""


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


def in_turn(rounds: int, cases: Mapping[str, Case], *, unheeded: int = 1) -> tuple[Sample, ...]:
    """Returns samples of the cases by their names, taken A B A B …; the first rounds only warm up."""
    durations: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(unheeded + rounds):
        for name, case in cases.items():
            with case() as work:
                durations[name].append(timed(work))
    return tuple(Sample(name, taken[unheeded:]) for name, taken in durations.items())
