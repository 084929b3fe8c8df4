"""A run as it is told: numbered events from its acceptance to its end, and all that is known of it besides.

The runner in the sandbox numbers and keeps the events (see `sandkeeper/runner`). Whoever has seen them all can tell
the whole run, whoever started it: what its caller knew goes along as its `RunContext`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sandkeeper.model import (
    NO_CHANGES,
    Artifact,
    Changes,
    ChatKey,
    EndReason,
    Output,
    RunEnd,
    RunOutcome,
    SessionStatus,
)

MAX_OUTPUT_BYTES = 3_000_000
"""How much text a run may put out: as much as fits into a reply."""
MAX_DISPLAY_BYTES = 20_000_000
"""How much it may display in all: plots, tables, HTML. What is too large for a reply is linked to."""

LAST_NUMBER = 1_000_000_000
"""The number of an end that no runner has told: it comes after whatever there was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What is known of a run when its code is sent: kept with it, so that whoever sees the end can tell it all."""

    claim_id: str
    """Names the generation of the session, and with it the sandbox, in which the run takes place."""
    generation: int
    sandbox_id: str
    status: SessionStatus
    reason: EndReason | None
    """Why state of earlier runs was gone before this one."""
    paths: Sequence[str]
    """Where the call's files are in the sandbox."""
    limit_ms: int
    asked_ms: int
    """The limit that was asked for, where the call's own time allowed less."""
    claim_ms: int
    connect_ms: int
    files_ms: int
    number: int | None = None
    """Which of its session's runs it is. None in what versions before notebooks have kept."""

    @property
    def limit(self) -> timedelta:
        """How long the code may run."""
        return timedelta(milliseconds=self.limit_ms)

    def reset_reason(self, told: EndReason | None) -> EndReason | None:
        """Returns why state of earlier runs was gone when the code began, of which its kernel has told this.

        Where no run had been completed before, there was none that could have been lost.
        """
        return self.reason or (None if self.status == "new" else told)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What a runner is asked for. The same id is never run twice."""

    run_id: str
    code: str
    context: RunContext
    output_bytes: int = MAX_OUTPUT_BYTES
    display_bytes: int = MAX_DISPLAY_BYTES


@dataclass(frozen=True, slots=True)
class Accepted:
    """The runner has the order, and will run it when its turn comes."""

    code: str
    context: RunContext


@dataclass(frozen=True, slots=True)
class Started:
    """The code begins to run. `reset`: why variables of earlier runs in this sandbox are gone."""

    reset: EndReason | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over; nothing comes after this. `reset`: variables are gone now. `changes`: to files."""

    end: RunEnd
    reset: bool = False
    changes: Changes = NO_CHANGES


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened in a run. Numbers begin with 1 and leave none out."""

    number: int
    at: datetime
    what: Accepted | Started | Output | Ended


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What came of asking a run to stop."""

    found: bool
    """There was something to stop."""
    ended: bool
    """It has ended by now."""


ExecutionState = Literal["running", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A run, as far as its events are known. One that has ended has them all."""

    key: ChatKey
    execution_id: str
    code: str
    context: RunContext
    created_at: datetime
    events: Sequence[RunEvent] = ()
    artifacts: Sequence[Artifact] = ()
    """What came of the files that it has changed."""

    @classmethod
    def of(cls, key: ChatKey, execution_id: str, events: Sequence[RunEvent]) -> "Execution":
        """Returns the run that events tell of, the first of which must be there."""
        first = events[0]
        if not isinstance(first.what, Accepted):
            raise ValueError("a run begins with its acceptance")  # noqa: TRY004 - it is not the type of an argument
        return cls(
            key=key,
            execution_id=execution_id,
            code=first.what.code,
            context=first.what.context,
            created_at=first.at,
            events=events,
        )

    @property
    def end(self) -> RunEnd | None:
        """How it ended; None while it goes on, for all that is known."""
        last = self.events[-1].what if self.events else None
        return last.end if isinstance(last, Ended) else None

    @property
    def has_lost_variables(self) -> bool:
        """Whether the run's own end has cost the variables."""
        last = self.events[-1].what if self.events else None
        return isinstance(last, Ended) and last.reset

    @property
    def state(self) -> ExecutionState:
        """Whether it has ended."""
        return "running" if self.end is None else "ended"

    @property
    def outcome(self) -> RunOutcome:
        """What it gave."""
        assert self.end is not None, "the run goes on"  # noqa: S101
        outputs = [event.what for event in self.events if not isinstance(event.what, Accepted | Started | Ended)]
        return RunOutcome(outputs, self.end, self.changes)

    @property
    def changes(self) -> Changes:
        """What it has done to files."""
        last = self.events[-1].what if self.events else None
        return last.changes if isinstance(last, Ended) else NO_CHANGES

    @property
    def reset_reason(self) -> EndReason | None:
        """Why state of earlier runs was gone when the code began; None when it was there, or there was none."""
        told = next((event.what.reset for event in self.events if isinstance(event.what, Started)), None)
        return self.context.reset_reason(told)

    @property
    def started_at(self) -> datetime | None:
        """When the code began to run."""
        return next((event.at for event in self.events if isinstance(event.what, Started)), None)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return self.events[-1].at if self.end is not None else None

    @property
    def run_ms(self) -> int:
        """How long the runner was at it."""
        last = self.events[-1].at if self.events else self.created_at
        return max(0, round((last - self.created_at) / timedelta(milliseconds=1)))

    def ended(self, end: RunEnd, at: datetime) -> "Execution":
        """Returns the run with an end that nobody has told: what became of it is not known better."""
        return replace(self, events=[*self.events, RunEvent(LAST_NUMBER, at, Ended(end))])
