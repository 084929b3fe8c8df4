"""Sandboxes for the stateful test of the protocol: they keep to their deadlines, and run code as the runner does.

One run at a time, in the order in which they came, whether anybody listens or not; a paused sandbox stands still.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sandkeeper.adapters.memory import MemorySandboxProvider
from sandkeeper.errors import SandboxUnavailable
from sandkeeper.model import EndReason, RunEnd, SandboxRef
from sandkeeper.ports import RunLost, RunUnknown, SandboxGone, SandboxSpec
from sandkeeper.runs import Accepted, Cancelled, Ended, RunEvent, RunOrder, Started
from tests.interleaved import fails_now, pause

NO_TIME = timedelta(0)
LOSES_VARIABLES = (RunEnd.KERNEL_DIED, RunEnd.OUT_OF_MEMORY)


@dataclass(frozen=True, slots=True)
class Program:
    """What code does: how long it takes, and how it ends unless it is ended. No time: until somebody waits."""

    lasts: timedelta = NO_TIME
    end: RunEnd = RunEnd.FINISHED


SHORT = Program()


@dataclass(slots=True, kw_only=True)
class Run:
    """A run that a sandbox has accepted."""

    run_id: str
    sandbox_id: str
    accepted: int
    """When it was accepted, in the judge's count of events."""
    left: timedelta
    """How much longer it takes, once it has begun."""
    program: Program
    events: list[RunEvent]
    kernel: int | None = None
    """Which of the sandbox's kernels runs it, once it has begun."""
    stood_still: bool = False
    """Its sandbox was paused before it had ended."""

    @property
    def end(self) -> RunEnd | None:
        """How it ended; None while it goes on."""
        last = self.events[-1].what
        return last.end if isinstance(last, Ended) else None


@dataclass
class Kernels(MemorySandboxProvider):
    """`SandboxProvider` of which the test decides what code does; it tells the judge of runs."""

    deadlines: dict[str, datetime] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    """Code → what it does."""
    known: dict[tuple[str, str], Run] = field(default_factory=dict)
    """Sandbox id and run id → the run."""
    kernels: dict[str, int] = field(default_factory=dict)
    """Sandbox id → how many kernels it has had before the present one."""
    judge: Any = None

    # ── Made, and paused ────────────────────────────────────────────────────────────────────────────

    def create(self, spec: SandboxSpec, *, within: timedelta) -> SandboxRef:
        """See `SandboxProvider.create`."""
        ref = super().create(spec, within=within)
        self.deadlines.setdefault(ref.sandbox_id, self.clock() + spec.lifetime)
        return ref

    def connect(self, sandbox_id: str, lifetime: timedelta, *, within: timedelta) -> SandboxRef:
        """See `SandboxProvider.connect`."""
        was_paused = sandbox_id in self.paused
        ref = super().connect(sandbox_id, lifetime, within=within)
        deadline = self.clock() + lifetime
        self.deadlines[sandbox_id] = deadline if was_paused else max(deadline, self.deadlines[sandbox_id])
        return ref

    def extend(self, sandbox_id: str, lifetime: timedelta) -> None:
        """See `SandboxProvider.extend`."""
        super().extend(sandbox_id, lifetime)
        self.deadlines[sandbox_id] = self.clock() + lifetime

    def stop(self, sandbox_id: str) -> None:
        """Pauses the sandbox, if there is one."""
        if sandbox_id in self.alive:
            self.paused.add(sandbox_id)
            for run in self._open(sandbox_id):
                run.stood_still = True

    def lapse(self, step: timedelta) -> None:
        """Lets this time, which has passed, take its effect: runs come to their ends, and deadlines too."""
        begun = self.clock() - step
        for sandbox_id in [*self.alive]:
            if sandbox_id not in self.paused:
                self._work(sandbox_id, min(step, self.deadlines[sandbox_id] - begun))
                if self.deadlines[sandbox_id] <= self.clock():
                    self.stop(sandbox_id)

    # ── Runs ────────────────────────────────────────────────────────────────────────────────────────

    def run(self, sandbox: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        """See `SandboxProvider.run`. The code has had its effect before others get a turn."""
        pause("run")
        if fails_now("before"):
            raise SandboxUnavailable("the sandbox cannot be reached")
        self._files(sandbox.sandbox_id)
        run = self.known.get((sandbox.sandbox_id, order.run_id)) or self._accept(sandbox.sandbox_id, order)
        try:
            yield from self._listen(run, 0, wait, "running")
        except SandboxGone as gone:
            raise RunLost(str(gone)) from gone
        except SandboxUnavailable:
            return

    def follow(self, sandbox: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        """See `SandboxProvider.follow`."""
        pause("follow")
        if fails_now("before"):
            self.judge.unheard = True
            raise SandboxUnavailable("the sandbox cannot be reached")
        yield from self._listen(self._find(sandbox, run_id), after, wait, "following")

    def _listen(self, run: Run, after: int, wait: timedelta, doing: str) -> Iterator[RunEvent]:
        """Yields events as they come; whoever has time to wait gives others a turn, and time to the run."""
        until = self.clock() + wait
        told = after
        if wait:
            pause(doing)
            if run.sandbox_id in self.alive and run.sandbox_id not in self.paused:
                self._work(run.sandbox_id, NO_TIME)
        while True:
            self._files(run.sandbox_id)
            if fails_now("after"):
                self.judge.unheard = True
                raise SandboxUnavailable("the sandbox cannot be reached any more")
            yield from run.events[told:]
            told = max(told, len(run.events))
            if run.end is not None:
                return
            self.judge.sees(run)
            if self.clock() >= until:
                return
            pause("listen")

    def cancel(self, sandbox: SandboxRef, run_id: str | None = None) -> Cancelled:
        """See `SandboxProvider.cancel`."""
        self._files(sandbox.sandbox_id)
        under_way = next(iter(self._open(sandbox.sandbox_id)), None)
        run = under_way if run_id is None else self._find(sandbox, run_id)
        if run is None or run.end is not None:
            return Cancelled(found=False, ended=True)
        self._end(run, RunEnd.CANCELLED)
        return Cancelled(found=True, ended=True)

    def restart_kernel(self, sandbox: SandboxRef) -> None:
        """See `SandboxProvider.restart_kernel`."""
        self._files(sandbox.sandbox_id)
        self._lose_variables(sandbox.sandbox_id, EndReason.RESTARTED)
        for run in self._open(sandbox.sandbox_id)[:1]:
            self._end(run, RunEnd.KERNEL_DIED)

    def of(self, run_id: str) -> list[Run]:
        """Returns the runs of this id in all sandboxes, of which there ought to be one at most."""
        return [run for run in self.known.values() if run.run_id == run_id]

    def _find(self, sandbox: SandboxRef, run_id: str) -> Run:
        self._files(sandbox.sandbox_id)
        try:
            return self.known[sandbox.sandbox_id, run_id]
        except KeyError:
            raise RunUnknown(run_id) from None

    def _open(self, sandbox_id: str) -> list[Run]:
        """Returns what has not ended, in order."""
        return [run for run in self.known.values() if run.sandbox_id == sandbox_id and run.end is None]

    def _accept(self, sandbox_id: str, order: RunOrder) -> Run:
        before = self._open(sandbox_id)
        program = self.programs[order.code]
        run = Run(
            run_id=order.run_id,
            sandbox_id=sandbox_id,
            accepted=self.judge.count(),
            left=min(program.lasts, order.context.limit),
            program=program,
            events=[RunEvent(1, self.clock(), Accepted(order.code, order.context))],
        )
        self.known[sandbox_id, order.run_id] = run
        self.judge.accepted(run, before)
        if not before:
            self._start(run)
        return run

    def _start(self, run: Run) -> None:
        run.kernel = self.kernels.get(run.sandbox_id, 0)
        self._tell(run, Started(self.resets.pop(run.sandbox_id, None)))

    def _work(self, sandbox_id: str, time: timedelta) -> None:
        """Lets the sandbox's runs have this time, one after the other."""
        for run in self._open(sandbox_id):
            if run.kernel is None:
                self._start(run)
            if run.left > time:
                run.left -= time
                return
            time -= run.left
            if run.program.lasts > _limit(run):
                self._end(run, RunEnd.TIMEOUT)
                continue
            if run.program.end in LOSES_VARIABLES:
                self._lose_variables(sandbox_id, EndReason.KERNEL_DIED)
            self._end(run, run.program.end)

    def _end(self, run: Run, end: RunEnd) -> None:
        self._tell(run, Ended(end))
        for following in self._open(run.sandbox_id)[:1]:
            if following.kernel is None:
                self._start(following)

    def _lose_variables(self, sandbox_id: str, reason: EndReason) -> None:
        self.kernels[sandbox_id] = self.kernels.get(sandbox_id, 0) + 1
        self.resets[sandbox_id] = reason

    def _tell(self, run: Run, what: Started | Ended) -> None:
        run.events.append(RunEvent(len(run.events) + 1, self.clock(), what))


def _limit(run: Run) -> timedelta:
    accepted = run.events[0].what
    assert isinstance(accepted, Accepted)
    return accepted.context.limit
