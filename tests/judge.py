"""Who hears of all that takes effect in the stateful test of the protocol, and says what must not have been."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sandkeeper.model import ChatKey, EndReason, RunEnd, Session, SessionState
from sandkeeper.ports import Granted, SessionStore
from sandkeeper.runs import LAST_NUMBER, Execution
from sandkeeper.services.execute import RunReply
from tests.interleaved import Process, current
from tests.kernels import Kernels, Run

CHATS = (ChatKey("alice", "one"), ChatKey("bob", "two"))
SKEW = timedelta(seconds=5)
"""By how much a clock may be ahead or behind."""
FRESH = ("new", "recreated")
GIVEN_UP = (RunEnd.CANCELLED, RunEnd.SANDBOX_LOST)
"""What is said of a run of which nobody knows the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A run for which its session was given back: whoever asked for it has been told, or can be."""

    event: int
    sandbox_id: str
    kernel: int | None
    """Which of the sandbox's kernels ran it; None when none did."""
    accepted: int
    untold: bool
    """Nobody has been told of the variables that were gone before it."""


@dataclass
class Judge:
    """Hears of all that takes effect. `complaints` says what must not have been."""

    store: SessionStore
    kernels: Kernels
    now: Callable[[], datetime]
    complaints: list[str] = field(default_factory=list)
    rewritten: set[ChatKey] = field(default_factory=set)
    """Chats of which a row was damaged: their generations may begin anew."""
    latest: dict[ChatKey, str] = field(default_factory=dict)
    """The id of the run that last claimed the chat's session."""
    left: dict[str, ChatKey] = field(default_factory=dict)
    """Ids of runs that callers have been told go on."""
    recorded: dict[str, Execution] = field(default_factory=dict)
    vanished: set[str] = field(default_factory=set)
    """Ids of sandboxes that have, with whatever they could have told."""
    unheard: bool = False
    """Somebody could not ask what came of a run, or not write it down: then it is killed all the same."""
    _seen: set[tuple[Process | None, str]] = field(default_factory=set)
    """Who has seen which run go on."""
    _events: Iterator[int] = field(default_factory=lambda: count(1))
    _completed: dict[ChatKey, list[Completed]] = field(default_factory=dict)
    _closed: dict[ChatKey, int] = field(default_factory=dict)
    """When a caller last closed the chat's session."""
    _opened: dict[str, Process | None] = field(default_factory=dict)
    """Who has let a run be known before it ended."""
    _asked: set[tuple[Process | None, str]] = field(default_factory=set)
    """Who wants to know of which run."""
    _left_behind: set[str] = field(default_factory=set)
    """Ids of runs that their calls have left to whoever asks."""
    _pointed: set[str] = field(default_factory=set)
    """Claims from which the way to their chats is known."""
    _given_back: set[str] = field(default_factory=set)
    """Ids of runs for which their sessions were given back."""
    _given_up: set[str] = field(default_factory=set)
    """Sandboxes in which a run had begun for which somebody has made up an end."""
    _expires: dict[ChatKey, datetime] = field(default_factory=dict)
    """When the chat's session expires, as last written."""
    _generations: dict[ChatKey, int] = field(default_factory=dict)

    # ── What it hears ───────────────────────────────────────────────────────────────────────────────

    def count(self) -> int:
        """Returns the number of what happens now."""
        return next(self._events)

    def hears(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outcome: Any) -> None:
        """Hears of a call of the store or the log that has taken effect."""
        event = self.count()
        match name:
            case "release" if outcome:
                self._expires[args[0].key] = kwargs["expires_at"]
                if kwargs["ran"]:
                    self._complete(args[0], event)
            case "begin_close" if isinstance(outcome, Granted):
                self._expires.pop(args[0], None)
                if kwargs["reason"] is EndReason.CLOSED:
                    self._closed[args[0]] = event
            case "claim" | "begin" if isinstance(outcome, Granted) and outcome.session.run_id is not None:
                self.latest[outcome.session.key] = outcome.session.run_id
                self.asks(current(), outcome.session.run_id)
                self._expires[outcome.session.key] = outcome.session.expires_at
            case "begin_expire" if isinstance(outcome, Granted):
                if self._expires.get(args[0], self.now()) > self.now() + SKEW and args[0] not in self.rewritten:
                    self.complaints.append(f"{args[0].chat_id} expired before its time")
            case "reserve":
                self.asks(current(), outcome.execution_id)
            case "leave" if outcome:
                self._left_behind.add(args[0].run_id)
            case "open" if outcome:
                self._opened[args[0].execution_id] = current()
            case "point":
                self._pointed.add(args[0].claim_id)
            case "finish" if outcome:
                self._records(args[0])

    def _complete(self, session: Session, event: int) -> None:
        assert session.sandbox is not None
        sandbox_id, run_id = session.sandbox.sandbox_id, session.run_id or ""
        run = self.kernels.known.get((sandbox_id, run_id))
        self._given_back.add(run_id)
        completed = Completed(
            event=event,
            sandbox_id=sandbox_id,
            kernel=run.kernel if run else None,
            accepted=run.accepted if run else event,
            untold=session.untold is not None or not self._is_heard(run_id),
        )
        self._completed.setdefault(session.key, []).append(completed)

    def _is_heard(self, run_id: str) -> bool:
        """Returns whether whoever gives the session back has somebody to tell of the run, or its call has told."""
        return run_id in self._left_behind or (current(), run_id) in self._asked

    def asks(self, process: Process | None, run_id: str) -> None:
        """Hears of who wants to know what comes of a run."""
        self._asked.add((process, run_id))

    def _records(self, execution: Execution) -> None:
        """Hears of an end that was written down."""
        run_id = execution.execution_id
        if run_id in self.recorded:
            self.complaints.append(f"the end of {run_id} was recorded twice")
        self.recorded[run_id] = execution
        runs = self.kernels.of(run_id)
        if execution.events[-1].number == LAST_NUMBER:
            if execution.end not in GIVEN_UP:
                self.complaints.append(f"{execution.end} was made up for {run_id}")
            self._given_up |= {run.sandbox_id for run in runs}
            for run in runs:
                # A call gives its session back beside recording its run: nobody pursues that if it dies in between.
                could_tell = run.sandbox_id not in self.vanished and run_id not in self._given_back
                could_tell = could_tell and execution.key not in self.rewritten and not self.unheard
                if run.end is not None and could_tell and (current(), run_id) not in self._seen:
                    self.complaints.append(f"{run_id} had {run.end}, and was recorded as {execution.end}")
        elif [*execution.events] not in [run.events for run in runs]:
            self.complaints.append(f"{run_id} was recorded otherwise than it was")

    def sees(self, run: Run) -> None:
        """Hears of a run that goes on while somebody looks at it."""
        self._seen.add((current(), run.run_id))

    def accepted(self, run: Run, before: Sequence[Run]) -> None:
        """Hears of a run that a sandbox takes, in which these have not ended."""
        if len(self.kernels.of(run.run_id)) > 1:
            self.complaints.append(f"{run.run_id} was run twice")
        if run.run_id in self.recorded:
            self.complaints.append(f"{run.run_id} was run after its end had been recorded")
        if run.sandbox_id in self._given_up:
            self.complaints.append(f"{run.sandbox_id} is used in which a run has been given up")
        if not all(other.stood_still for other in before):
            self.complaints.append(f"code is run in {run.sandbox_id} while other code is")

    def kills(self, sandbox_id: str, claim_id: str) -> None:
        """Hears of a sandbox that the service has ended."""
        if (
            claim_id not in self._pointed
        ):  # its creator died before anybody could know: whoever follows begins again
            return
        for chat in CHATS:
            row = self.store.read(chat)
            if row is not None and row.claim_id == claim_id and _is_in_use(row, sandbox_id, self.now()):
                self.complaints.append(f"{sandbox_id} was killed while the row of {chat.chat_id} was {row.state}")

    # ── What callers are told ───────────────────────────────────────────────────────────────────────

    def answers(self, process: Process, reply: RunReply) -> None:
        """Holds what the caller of a run is told against what has been."""
        execution = reply.execution
        self.tells(execution)
        if execution.end is None and not process.failed:
            self.left[execution.execution_id] = execution.key
        run = self.kernels.known.get((execution.context.sandbox_id, execution.execution_id))
        if run is None:
            # A call that goes on for one before it cannot know whether that had tried.
            is_own = not reply.is_repeated and self._opened.get(execution.execution_id, process) is process
            if is_own and not process.failed:
                self.complaints.append(f"{execution.execution_id} is {execution.end}, and was never tried")
            return
        for wrong in self._wrong(run, execution):
            self.complaints.append(f"{run.run_id}, generation {execution.context.generation}: {wrong}")

    def tells(self, execution: Execution) -> None:
        """Holds what anybody is told of a run against what has been."""
        run_id, numbers = execution.execution_id, [event.number for event in execution.events]
        if numbers != sorted({*numbers}):
            self.complaints.append(f"{run_id} is told in the events {numbers}")
        if execution.end is None:
            return
        known = self.recorded.get(run_id)
        could_know = run_id not in self._given_back and not self.unheard
        if known is not None and could_know and known.end is not execution.end:
            self.complaints.append(f"{run_id} is told as {execution.end}, and recorded as {known.end}")
        made_up = execution.events[-1].number == LAST_NUMBER
        if not made_up and [*execution.events] not in [run.events for run in self.kernels.of(run_id)]:
            self.complaints.append(f"{run_id} is told otherwise than it was")

    def _wrong(self, run: Run, execution: Execution) -> Iterator[str]:
        context, key = execution.context, execution.key
        before = [other for other in self._completed.get(key, []) if other.event < run.accepted]
        last = before[-1] if before else None
        goes_on = last is not None and last.sandbox_id == run.sandbox_id
        if goes_on and context.status in FRESH:
            yield f"{context.status}, though a caller had been told so before"
        if not goes_on and context.status not in FRESH:
            yield f"{context.status}, though nobody was told that the state before is gone"
        if last is not None and context.status == "new" and self._closed.get(key, 0) < last.accepted:
            yield "new, though nobody closed what was there before"
        if context.status == "recreated" and execution.reset_reason is None:
            yield "recreated, and no reason told"
        if goes_on and execution.started_at is not None:
            yield from self._wrong_of_variables(run, execution, before)

    def _wrong_of_variables(self, run: Run, execution: Execution, before: Sequence[Completed]) -> Iterator[str]:
        told = [
            other
            for other in before
            if other.sandbox_id == run.sandbox_id and other.kernel is not None and not other.untold
        ]
        if told and told[-1].kernel != run.kernel and execution.reset_reason is None:
            yield "variables are gone, and nobody was told"
        if told and told[-1].kernel == run.kernel and execution.reset_reason is not None:
            yield "told again of variables that are gone"

    def looked(self, process: Process, chat: ChatKey, over: Sequence[str]) -> None:
        """Hears of a look at the chat's session when these runs were over, which nobody attended to."""
        row = self.store.read(chat)
        if row is not None and row.state is SessionState.READY and row.run_id in over and not process.failed:
            self.complaints.append(f"{row.run_id} is over, and has the session of {chat.chat_id} still")

    def over(self, chat: ChatKey) -> Sequence[str]:
        """Returns which run has the chat's session though it is over, and whoever clock one goes by, unattended."""
        row = self.store.read(chat)
        if row is None or row.run_id is None or row.sandbox is None or row.is_attended(self.now() - SKEW):
            return []
        sandbox_id = row.sandbox.sandbox_id
        run = self.kernels.known.get((sandbox_id, row.run_id))
        is_there = sandbox_id in self.kernels.alive and sandbox_id not in self.kernels.paused
        return [row.run_id] if is_there and (run is None or run.end is not None) else []

    def looks(self) -> Sequence[str]:
        """Looks at the rows as they are now, and returns all complaints so far."""
        for chat in CHATS:
            row = self.store.read(chat)
            if row is None or row.unreadable or chat in self.rewritten:
                continue
            if row.generation < self._generations.get(chat, 0):
                self.complaints.append(f"the generation of {chat.chat_id} fell to {row.generation}")
            self._generations[chat] = row.generation
        return self.complaints


def _is_in_use(row: Session, sandbox_id: str, now: datetime) -> bool:
    if row.state is SessionState.READY:
        return row.sandbox is not None and row.sandbox.sandbox_id == sandbox_id and row.expires_at > now + SKEW
    return row.state is SessionState.CREATING and row.is_claimed(now + SKEW)
