"""Durations of calls, and how they are told."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


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


def report(console: Console, samples: Sequence[Sample]) -> None:
    """Prints the percentiles."""
    table = Table(title="milliseconds")
    for column in ("call", "n", "p50", "p95", "p99"):
        table.add_column(column, justify="left" if column == "call" else "right")
    for sample in samples:
        percentiles = [f"{sample.quantile(percent):.1f}" for percent in (50, 95, 99)]
        table.add_row(sample.name, str(len(sample.durations)), *percentiles)
    console.print(table)
