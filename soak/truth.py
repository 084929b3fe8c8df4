"""What one chat was told, and what contradicts it.

Every run appends its id to a variable and to a file, and shows both. As the service may run code at most once, and
may lose state only if it says so, what a run shows must be what the run before it showed, its own id, and between
them ids of runs whose answer was lost: nothing else, nothing twice, nothing out of order.

A loss that was told in an answer that got lost has been told. Such an answer's run shows in what is there since. A
run goes on though its caller is gone: that alone ends no kernel, and what comes after it finds it ended.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Certainty = Literal["no", "maybe", "yes"]
"""Whether something has happened: `maybe` where the answer was lost, or says that it failed half-way."""

Ids = tuple[str, ...]

EXPIRY_TOLERANCE_S = 1.0
KEPT_GENERATIONS = 5
NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a run found in its sandbox, after it had added its own id. `files` is path → digest."""

    variable: Ids
    lines: Ids
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the service said of a run and its session. Times are seconds of one monotonic clock."""

    run_id: str
    status: str
    generation: int
    state_reset: bool
    reason: str | None
    sandbox_id: str
    snapshot: Snapshot | None
    """None when the run did not come so far that it showed anything."""
    was_interrupted: bool = False
    """The kernel got an interrupt, which now and then ends it."""
    sent_at: float
    at: float
    used_at: float
    """When the session was still in use for the run, at the earliest: `at`, unless that was told later."""


@dataclass(slots=True)
class Truth:
    """One chat's beliefs. `heard` returns what a reply contradicts, and believes it then."""

    session_timeout_s: float
    files: dict[str, str] = field(default_factory=dict)
    """Path → digest of the files that every run must find."""
    generation: int = 0
    sandbox_id: str | None = None
    heard_at: float = 0.0
    closed: Certainty = "no"
    restarted: Certainty = "no"
    interrupted: bool = False
    """The kernel may have ended since the run before, which the next run must be told of."""
    lost_at: float = -1.0
    """When something was last done to the chat's sandbox that may have ended it."""
    _variables: set[Ids] = field(default_factory=lambda: {()})
    """What the variable may hold: one value, or two where it is open whether the kernel was restarted."""
    _lines: Ids = ()
    _open: frozenset[str] = NOBODY
    """Runs that may have taken place, unseen so far."""
    _sandboxes: dict[int, str] = field(default_factory=dict)
    _sent_at: float = 0.0
    _answer_lost: bool = False

    def unknown(self, run_id: str) -> None:
        """Notes a run that may have taken place, to its end: its answer was lost, or says so."""
        self._open |= {run_id}
        self._answer_lost = True

    def heard(self, told: Told, *, beside: frozenset[str] = NOBODY) -> list[str]:
        """Returns in which ways the reply contradicts what was told before.

        `beside`: unknown runs that were under way at the same time, and may come after this one.
        """
        wrong = [*self._wrong_about_session(told)]
        if told.snapshot is not None:
            wrong += self._wrong_about_state(told, told.snapshot)
        self._believe(told, beside)
        return wrong

    def _fresh(self, told: Told) -> bool:
        return told.status in ("new", "recreated")

    def _grew(self, told: Told) -> bool:
        return told.generation > self.generation

    # ── The session ─────────────────────────────────────────────────────────────────────────────────

    def _wrong_about_session(self, told: Told) -> Iterator[str]:
        generation = told.generation
        if generation < self.generation:
            yield f"the generation fell from {self.generation} to {generation}"
        known = self._sandboxes.get(generation, told.sandbox_id)
        if known != told.sandbox_id:
            yield f"generation {generation} has two sandboxes: {known} and {told.sandbox_id}"
        if told.state_reset != (told.reason is not None):
            yield f"stateReset is {told.state_reset}, and the reason {told.reason!r}"
        match told.status:
            case "new":
                yield from self._wrong_about_new(told)
            case "recreated":
                yield from self._wrong_about_recreated(told)
            case "reused" | "resumed":
                yield from self._wrong_about_reused(told)
            case other:
                yield f"there is no status {other!r}"

    def _wrong_about_new(self, told: Told) -> Iterator[str]:
        if told.state_reset:
            yield f"a new session has lost nothing, yet tells of {told.reason!r}"
        if self.generation and self.closed == "no":
            yield "the session is new, though nobody has closed the one before"
        if not self._grew(told):
            yield f"a new session of the same generation {told.generation}"

    def _wrong_about_recreated(self, told: Told) -> Iterator[str]:
        if not self._grew(told):
            yield f"recreated in the same generation {told.generation}"
        match told.reason:
            case "expired":
                idle_s = told.at - self.heard_at
                if self.generation and idle_s < self.session_timeout_s - EXPIRY_TOLERANCE_S:
                    yield f"expired after {idle_s:.1f} s, before its time"
            case "sandbox_lost":
                if self.lost_at < self._sent_at:
                    yield "the sandbox was lost, and nobody had done anything to it"
            case reason:
                yield f"recreated for the reason {reason!r}"

    def _wrong_about_reused(self, told: Told) -> Iterator[str]:
        causes = {"restarted": self.restarted != "no", "kernel_died": self.interrupted}
        if told.state_reset and not causes.get(told.reason or ""):
            yield f"state was reset for {told.reason!r}, of which nobody was the cause"
        if self._grew(told) and not self._open:
            yield f"{told.status} in generation {told.generation}, of which nobody was told"
        if not self._grew(told) and self.closed == "yes":
            yield f"{told.status}, though it was closed"

    # ── The state ───────────────────────────────────────────────────────────────────────────────────

    def _wrong_about_state(self, told: Told, snapshot: Snapshot) -> Iterator[str]:
        began_anew = self._fresh(told) or self._grew(told)
        anew: set[Ids] = {()}
        variables = anew if began_anew else self._possible(told)
        lines = anew if began_anew else {self._lines}
        untold = began_anew and not self._fresh(told)
        # An answer that was lost can have told of a kernel's end only if its run took place.
        may_restart = began_anew or told.state_reset or self.restarted != "no" or () in self._variables
        yield from self._wrong_about_ids(
            "variable", told.run_id, snapshot.variable, variables, untold=untold or not may_restart
        )
        yield from self._wrong_about_ids("file", told.run_id, snapshot.lines, lines, untold=untold)
        for path, digest in self.files.items():
            found = snapshot.files.get(path)
            if found != digest:
                yield f"{path} is {'missing' if found is None else 'not what was uploaded'}"

    def _possible(self, told: Told) -> set[Ids]:
        """Returns with what the variable may begin, in the generation that was there before."""
        if told.state_reset:
            return {()} | (self._variables if self.restarted == "maybe" else set())
        # An answer that was lost may have told of the restart.
        may_be_told = self.restarted != "no" or (self.interrupted and self._answer_lost)
        lost = {()} if self._open and may_be_told else set()
        return lost | (set() if self.restarted == "yes" else self._variables)

    def _wrong_about_ids(
        self, what: str, run_id: str, ids: Ids, beginnings: set[Ids], *, untold: bool
    ) -> Iterator[str]:
        if not ids or ids[-1] != run_id:
            yield f"the {what} does not end with the run's own id"
        if len(set(ids)) != len(ids):
            yield f"a run took place twice: the {what} is {ids}"
        fitting = [beginning for beginning in beginnings if ids[: len(beginning)] == beginning]
        if not fitting:
            yield f"the {what} lost state that nobody told of: it is {ids}, and was {sorted(beginnings)}"
            return
        known = max(fitting, key=len)
        between = ids[len(known) : -1]
        if strangers := [other for other in between if other not in self._open]:
            yield f"the {what} has {strangers}, which were refused, or belong to earlier state"
        if untold and not known and not between:
            yield f"the {what} began anew, and no answer told of it"

    # ── Believing it ────────────────────────────────────────────────────────────────────────────────

    def _believe(self, told: Told, beside: frozenset[str]) -> None:
        if self._fresh(told) or self._grew(told):
            self._variables, self._lines = {()}, ()
        elif told.state_reset:
            self._variables = {()} | (self._variables if self.restarted == "maybe" else set())
        if told.snapshot is not None:
            self._variables, self._lines = {told.snapshot.variable}, told.snapshot.lines
            self._open &= beside - {*told.snapshot.lines}
        else:
            self._open |= {told.run_id}
        self.interrupted, self._answer_lost = told.was_interrupted, False
        self.generation = max(self.generation, told.generation)
        self.sandbox_id = told.sandbox_id
        self._sandboxes[told.generation] = told.sandbox_id
        if len(self._sandboxes) > KEPT_GENERATIONS:
            del self._sandboxes[min(self._sandboxes)]
        self.heard_at, self._sent_at = told.used_at, told.sent_at
        self.closed = self.restarted = "no"
