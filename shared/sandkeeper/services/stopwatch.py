"""Where a call's time goes."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long each step of a call took, in milliseconds."""

    claim_ms: int
    connect_ms: int
    files_ms: int
    run_ms: int
    release_ms: int
    total_ms: int


@dataclass(slots=True)
class Stopwatch:
    """Splits one stretch of time into named laps, in milliseconds."""

    started: float = field(default_factory=time.perf_counter)
    laps: dict[str, float] = field(default_factory=dict)
    lapped: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        """Adds the time since the last lap to `name`."""
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + (now - self.lapped) * 1000
        self.lapped = now

    def timings(self) -> Timings:
        """Returns all laps so far. A step that did not take place took no time."""
        names = ("claim", "connect", "files", "run", "release")
        laps = {f"{name}_ms": round(self.laps.get(name, 0.0)) for name in names}
        return Timings(**laps, total_ms=round((time.perf_counter() - self.started) * 1000))
