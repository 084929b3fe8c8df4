"""The promise of the session protocol, under random interleavings of everything that can happen.

A chat has at most one sandbox in use, callers always learn when state was lost, and nothing is left running that
nobody can reach. Real services take turns between any two of their calls, clocks differ, processes die anywhere,
calls fail before or after they have taken effect, sandboxes vanish and pause, rows are damaged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from typing import Any, Literal, get_args
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sandkeeper.adapters.dynamodb import DynamoRunLog, DynamoSessionStore, DynamoSweepStore, items
from sandkeeper.adapters.memory import MemoryRunLog, MemorySessionStore, MemorySweepStore
from sandkeeper.adapters.s3 import S3RunBodies
from sandkeeper.model import ChatKey, EndReason, RunEnd, SessionState
from sandkeeper.services.budget import Budget
from tests.contract.conftest import Backend, fresh
from tests.interleaved import Process, When
from tests.judge import CHATS, SKEW
from tests.kernels import NO_TIME, Program
from tests.protocol import Damage, Rows, Stage

MOST_PROCESSES = 4
"""No more begin while so many have not ended."""

Deed = Callable[[Stage, ChatKey, timedelta], Process]
Misfortune = Literal["vanished", "paused"] | Damage

LONG = Program(timedelta(seconds=40))
"""Longer than a call may wait."""
TOO_LONG = Program(timedelta(hours=1))
DEADLY = Program(end=RunEnd.KERNEL_DIED)

DEEDS: Mapping[str, Deed] = {
    "run": Stage.call,
    "run or give up": lambda stage, chat, skew: stage.call(chat, skew, on_busy="reject"),
    "run long": lambda stage, chat, skew: stage.call(chat, skew, LONG),
    "run too long": lambda stage, chat, skew: stage.call(chat, skew, TOO_LONG),
    "run what kills the kernel": lambda stage, chat, skew: stage.call(chat, skew, DEADLY),
    "send": lambda stage, chat, skew: stage.call(chat, skew, LONG, mode="async"),
    "run once": lambda stage, chat, skew: stage.repeat(chat, skew, anew=True),
    "repeat": lambda stage, chat, skew: stage.repeat(chat, skew),
    "ask": Stage.ask,
    "follow": Stage.follow,
    "cancel": Stage.cancel,
    "interrupt": Stage.interrupt,
    "look": Stage.look,
    "close": Stage.close,
    "restart": Stage.restart,
    "clean up": lambda stage, _, skew: stage.cleanup(skew),
    "clean up everything": lambda stage, _, skew: stage.cleanup(skew, everything=True),
}
"""What callers and cleanup do; each gets as far as its first call."""
OFTEN = (
    *DEEDS,
    "run",
    "run",
    "run long",
    "send",
    "run once",
    "repeat",
    "ask",
    "look",
    "close",
    "restart",
    "clean up",
)
MISFORTUNES: Sequence[Misfortune] = (*("vanished",) * 5, *("paused",) * 5, "old", "garbage", "nothing left")

HOLDS = (
    *("begin", "create", "point", "activate", "open", "run", "running", "running", "running", "listen"),
    *("leave", "release", "finish", "follow", "following", "connect", "cancel"),
    *("begin_close", "begin_expire", "kill", "end", "restart_kernel", None),
)


@dataclass(frozen=True, slots=True)
class Racer:
    """Who does what, and where in the middle of it others get their turn."""

    deed: str
    skew: timedelta
    holds_before: str | None
    then_pass: timedelta


chats = st.sampled_from([CHATS[0], CHATS[0], CHATS[0], CHATS[1]])
skews = st.sampled_from([NO_TIME, SKEW, -SKEW])
deeds = st.tuples(st.sampled_from(OFTEN), skews)
gaps = st.sampled_from([timedelta(seconds=s) for s in (0, 0, 0, 13, 17, 17, 1900)])
racers = st.builds(
    Racer, st.sampled_from((*OFTEN, "run", "run", "run", "run long", "send")), skews, st.sampled_from(HOLDS), gaps
)
misfortunes = st.sampled_from(MISFORTUNES)
steps = st.sampled_from([timedelta(seconds=s) for s in (1, 6, 11, 16, 21, 61, 330, 1900)])
whens = st.sampled_from(["before", "after"])
numbers = st.integers(0, MOST_PROCESSES - 1)
turns = st.integers(0, 2 * MOST_PROCESSES - 1)
has_room = precondition(lambda machine: len(machine.stage.living) < MOST_PROCESSES)
has_processes = precondition(lambda machine: bool(machine.stage.living))


class InMemory:
    """Rows in memory. What cannot be read there is a session that says so."""

    def __init__(self) -> None:
        self.store, self.sweeps, self.runs = MemorySessionStore(), MemorySweepStore(), MemoryRunLog()

    def damage(self, key: ChatKey, how: Damage) -> None:
        """See `Rows.damage`."""
        row = self.store.read(key)
        if row is None:
            return
        if how == "old":
            self.store.begin(replace(row, pauses_at=None, created_at=row.expires_at), seen=row)
            return
        sandbox_id = row.sandbox.sandbox_id if row.sandbox and how == "garbage" else None
        broken = replace(
            row,
            state=SessionState.CLOSED,
            generation=1,
            sandbox=None,
            predecessor_id=sandbox_id,
            end_reason=EndReason.SANDBOX_LOST,
            unreadable=True,
        )
        self.store.begin(broken, seen=row)


class InDynamo:
    """Rows in a table of an emulator."""

    def __init__(self, backend: Backend) -> None:
        self._table = table = backend.table
        self.store, self.sweeps = DynamoSessionStore(table), DynamoSweepStore(table)
        self.runs = DynamoRunLog(table, S3RunBodies(lambda: backend.client("s3"), backend.name))

    def damage(self, key: ChatKey, how: Damage) -> None:
        """See `Rows.damage`."""
        where = items.row_key(key, items.SESSION)
        row = self._table.get(where)
        if row is None:
            return
        match how:
            case "old":
                kept = {name: value for name, value in row.items() if name not in ("pausesAt", "createdAt")}
                self._table.put(kept)
            case "garbage":
                self._table.put(row | items.pack({"generation": "seven"}))
            case "nothing left":
                self._table.put(where | items.pack({"state": "none of ours"}))


def stage_time(stage: Stage) -> Any:
    """Returns a patch by which calls' budgets run by the stage's time."""
    return mock.patch.object(Budget, "of", stage.budget)


class Protocol(RuleBasedStateMachine):
    """What may happen, in any order."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.stage = Stage(rows)
        self._time = stage_time(self.stage)
        self._time.start()

    @has_room
    @rule(chat=chats, racers=st.lists(racers, min_size=3, max_size=3), order=st.permutations(range(3)))
    def race(self, chat: ChatKey, racers: Sequence[Racer], order: Sequence[int]) -> None:
        """Some begin, one after the other, each to stand still in the middle; then they go on in another order."""
        begun = []
        for racer in racers:
            begun.append(DEEDS[racer.deed](self.stage, chat, racer.skew))
            self.stage.finish(begun[-1], until=racer.holds_before)
            self.stage.time_passes(racer.then_pass)
        for number in order:
            self.stage.finish(begun[number])

    @has_room
    @rule(chat=chats, deed=deeds)
    def begin(self, chat: ChatKey, deed: tuple[str, timedelta]) -> None:
        """A caller or a cleanup begins, and gets as far as its first call."""
        DEEDS[deed[0]](self.stage, chat, deed[1])

    @rule(chat=chats, deed=deeds)
    def do(self, chat: ChatKey, deed: tuple[str, timedelta]) -> None:
        """A caller or a cleanup does all its work, unless it has to wait for others."""
        self.stage.finish(DEEDS[deed[0]](self.stage, chat, deed[1]))

    @has_processes
    @rule(turns=st.lists(turns, min_size=1, max_size=25))
    def go_on(self, turns: Sequence[int]) -> None:
        """Whoever's turn it is goes on by one call."""
        for turn in turns:
            if self.stage.living:
                which, choice = turn % MOST_PROCESSES, turn // MOST_PROCESSES
                self._process(which).step(choice)
                self.stage.bury()

    @has_processes
    @rule(which=numbers)
    def finish(self, which: int) -> None:
        """A process goes on to its end."""
        self.stage.finish(self._process(which))

    @has_processes
    @rule(which=numbers)
    def crash(self, which: int) -> None:
        """A process dies."""
        self._process(which).kill()
        self.stage.bury()

    @has_processes
    @rule(turn=turns, when=whens)
    def fail(self, turn: int, when: When) -> None:
        """A process goes on with a call that fails, and may have taken effect."""
        process = self._process(turn % MOST_PROCESSES)
        process.fails = when
        process.step(turn // MOST_PROCESSES)
        self.stage.bury()

    @rule(step=steps)
    def time_passes(self, step: timedelta) -> None:
        """Time passes."""
        self.stage.time_passes(step)

    @rule(chat=chats, misfortune=misfortunes)
    def suffer(self, chat: ChatKey, misfortune: Misfortune) -> None:
        """A sandbox vanishes or is paused; or an older version, or somebody's hand, writes a row."""
        match misfortune:
            case "vanished":
                self.stage.lose(chat)
            case "paused":
                self.stage.pause(chat)
            case damage:
                self.stage.damage(chat, damage)

    def _process(self, which: int) -> Process:
        return self.stage.living[which % len(self.stage.living)][0]

    @invariant()
    def nothing_has_gone_wrong(self) -> None:
        """Whatever has happened so far was right."""
        assert not self.stage.judge.looks(), self.stage.judge.complaints

    def teardown(self) -> None:
        """All processes die. Then every chat can be used again, and in the end nothing is left."""
        try:
            assert not self.stage.come_to_rest(), self.stage.judge.complaints
        finally:
            self._time.stop()


def prove(make_rows: Callable[[], Any], examples: int) -> None:
    """Fails with the shortest story found in which the promise is broken; the same stories are tried each time."""
    machine: Any = lambda: Protocol(make_rows())  # noqa: E731 - a class is asked for, and called without arguments
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            derandomize=True,
            database=None,
            deadline=None,
            print_blob=True,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[*HealthCheck],
        ),
    )


Start = Literal["nothing", "live", "lost", "expired", "restarted", "running"]
OVERTAKEN = ("run", "send", "repeat", "follow", "close", "restart", "clean up", "clean up everything")
OVERTAKERS = ("run", "close", "restart", "clean up everything")
MORTALS = ("run", "run what kills the kernel", "send", "repeat", "follow", "cancel", "close", "restart")
FINDERS = ("run", "repeat", "look", "ask", "clean up everything")


def started(start: Start) -> Stage:
    """Returns a stage on which the first chat's session is so."""
    stage, chat = Stage(InMemory()), CHATS[0]
    if start == "nothing":
        return stage
    with stage_time(stage):
        stage.finish(stage.call(chat))
        if start == "restarted":
            stage.finish(stage.restart(chat, NO_TIME))
        if start == "running":
            stage.finish(stage.call(chat, NO_TIME, LONG, mode="async"))
    if start == "lost":
        stage.lose(chat)
    if start == "expired":
        stage.time_passes(timedelta(seconds=1900))
    return stage


def calls_of(start: Start, deed: str) -> int:
    """Returns how many calls the deed takes when nobody disturbs it, or until it has to wait for others."""
    stage = started(start)
    with stage_time(stage):
        process = DEEDS[deed](stage, CHATS[0], NO_TIME)
        calls = 0
        while not process.ended and not process.sleeps:
            process.go_on()
            calls += 1
    return calls


@pytest.mark.parametrize("start", get_args(Start))
@pytest.mark.parametrize("first", OVERTAKEN)
def test_whoever_is_overtaken_anywhere_does_no_harm(start: Start, first: str) -> None:
    """One stands still before one of its calls; others begin, the second of them stops too; then all go on."""
    holds = ("running", "kill", None)
    for calls, gap, second, hold in product(range(calls_of(start, first) + 1), (0, 17), OVERTAKERS, holds):
        stage = started(start)
        with stage_time(stage):
            overtaken = DEEDS[first](stage, CHATS[0], NO_TIME)
            for _ in range(calls):
                overtaken.go_on()
            stage.time_passes(timedelta(seconds=gap))
            others = [DEEDS[second](stage, CHATS[0], NO_TIME)]
            stage.finish(others[0], until=hold)
            others.append(stage.call(CHATS[0]))
            stage.finish(others[1], until="running")
            for process in (overtaken, *others):
                stage.finish(process)
            assert not stage.come_to_rest(), (start, first, calls, gap, second, hold, stage.judge.complaints)


@pytest.mark.parametrize("start", get_args(Start))
@pytest.mark.parametrize("first", MORTALS)
def test_wherever_somebody_dies_the_next_finds_out_and_tells(start: Start, first: str) -> None:
    """One dies before one of its calls; when it is taken for dead, or its sandbox is paused too, others come."""
    for calls, gap, second in product(range(calls_of(start, first) + 1), (50, 400), FINDERS):
        stage = started(start)
        with stage_time(stage):
            mortal = DEEDS[first](stage, CHATS[0], NO_TIME)
            for _ in range(calls):
                mortal.go_on()
            mortal.kill()
            stage.time_passes(timedelta(seconds=gap))
            for process in (DEEDS[second](stage, CHATS[0], NO_TIME), stage.call(CHATS[0])):
                stage.finish(process)
            assert not stage.come_to_rest(), (start, first, calls, gap, second, stage.judge.complaints)


def test_the_protocol_keeps_its_promise_in_memory() -> None:
    prove(InMemory, examples=300)


def test_the_protocol_keeps_its_promise_in_dynamodb(moto_clients: dict[str, Any]) -> None:
    prove(lambda: InDynamo(fresh(moto_clients.__getitem__)), examples=5)
