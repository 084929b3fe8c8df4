"""Figures of a soak, its violations, and the page that tells of both."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SHOWN_VIOLATIONS = 50


@dataclass(frozen=True, slots=True)
class Violation:
    """What must not be, and what the chat had done before; never any code."""

    what: str
    where: str
    history: Sequence[str] = ()


@dataclass(slots=True)
class Tally:
    """All that is counted while the soak runs."""

    calls: Counter[str] = field(default_factory=Counter)
    """Kind of call and HTTP status → how often; `cut` and `refused` stand for connections that broke."""
    runs: Counter[str] = field(default_factory=Counter)
    """`session.status`, with the reason of a reset → how often."""
    ends: Counter[str] = field(default_factory=Counter)
    """How answered runs ended → how often."""
    told: Counter[str] = field(default_factory=Counter)
    """Whether the request that began a run was answered with its result, or a later one → how often."""
    problems: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    """Server → how often it was killed."""
    cleanup: Counter[str] = field(default_factory=Counter)
    facts: dict[str, str] = field(default_factory=dict)
    """Whatever else is worth a line of the report."""
    took_s: list[float] = field(default_factory=list)
    """Of runs that were answered at once."""
    violations: list[Violation] = field(default_factory=list)
    violated: int = 0
    finished: bool = False

    def violate(self, what: str, where: str, history: Iterable[str] = ()) -> None:
        """Counts a violation; the first ones are kept with their history."""
        self.violated += 1
        if len(self.violations) < SHOWN_VIOLATIONS:
            self.violations.append(Violation(what, where, tuple(history)))

    def report(self) -> str:
        """Returns the page, as Markdown."""
        verdict = "held" if self.finished else "did not come to its end"
        if self.violated:
            verdict = f"BROKEN: {self.violated} violations"
        parts = [
            "# Soak\n",
            f"**{verdict}.**\n",
            _table("", "", self.facts),
            _table("latency of runs, s", "", self._latencies()),
            _table("call", "times", _sorted(self.calls)),
            _table("a run's session", "times", _sorted(self.runs)),
            _table("a run's end", "times", _sorted(self.ends)),
            _table("a run's result told", "times", _sorted(self.told)),
            _table("problem", "times", _sorted(self.problems)),
            _table("fault", "times", _sorted(self.faults)),
            _table("server killed", "times", _sorted(self.kills)),
            _table("cleanup", "sum of all ticks", _sorted(self.cleanup)),
        ]
        return "\n".join([*filter(None, parts), *map(_told, self.violations)])

    def _latencies(self) -> dict[str, str]:
        if len(self.took_s) < 2:
            return {}
        percentiles = statistics.quantiles(self.took_s, n=100, method="inclusive")
        shown = {f"p{percent}": f"{percentiles[percent - 1]:.3f}" for percent in (50, 90, 99)}
        return {**shown, "longest": f"{max(self.took_s):.3f}"}


def _sorted(counter: Counter[str]) -> dict[str, str]:
    return {name: str(counter[name]) for name in sorted(counter)}


def _table(name: str, value: str, rows: Mapping[str, str]) -> str:
    if not rows:
        return ""
    lines = [f"| {name} | {value} |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows.items())]
    return "\n".join(lines) + "\n"


def _told(violation: Violation) -> str:
    lines = [f"## {violation.where}: {violation.what}\n", *(f"    {line}" for line in violation.history)]
    return "\n".join(lines) + "\n"
