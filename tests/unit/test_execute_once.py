"""A request that is sent again: its run is found, whatever became of the call before, and never made twice."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.errors import InvalidRequest, SandboxUnavailable, SessionBusy
from sandkeeper.model import EndReason, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.runs import Execution
from sandkeeper.services.execute import Mode, Once
from tests.world import CHAT, CallerDied, Patience, World, told

TAKEN_FOR_DEAD = timedelta(seconds=45)
ONCE = Once("key-1", "digest-1")


@pytest.fixture
def ran(world: World) -> list[str]:
    """Returns what is run from now on, as `sandbox: code`; what it puts out is its code."""
    noted: list[str] = []

    def program(where: SandboxRef, code: str) -> RunOutcome:
        noted.append(f"{where.sandbox_id}: {code}")
        return RunOutcome([Stream("stdout", code)], RunEnd.FINISHED)

    world.sandboxes.program = program
    return noted


# ── Repeated ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["auto", "inline", "async"])
def test_a_repeated_request_is_answered_as_the_first_one_and_not_run_again(
    world: World, ran: list[str], mode: Mode
) -> None:
    first = world.run("x", once=ONCE, mode=mode)
    world.calls()
    again = world.run("x", once=ONCE, mode=mode)

    assert again.execution == first.execution
    assert (first.is_repeated, again.is_repeated) == (False, True)
    assert world.calls() == ["runs.get", "runs.reserve"]
    assert ran == ["sbx1: x"]


def test_a_warm_call_with_a_key_is_known_before_it_asks_for_its_run(world: World, ran: list[str]) -> None:
    world.run()
    world.calls()

    world.run("x", once=ONCE)

    assert world.calls() == [
        "runs.finish",
        "runs.open",
        "runs.reserve",
        "sandboxes.run",
        "store.claim",
        "store.release",
    ]


def test_it_is_answered_so_long_after_its_session_has_ended(world: World, ran: list[str]) -> None:
    first = world.run("x", once=ONCE)
    world.sessions.ending.close(CHAT)
    world.clock.advance(timedelta(days=1))

    again = world.run("x", once=ONCE)

    assert (again.execution, again.expires_in) == (first.execution, timedelta(0))
    assert ran == ["sbx1: x"]


def test_a_key_stands_for_one_request_alone(world: World, ran: list[str]) -> None:
    world.run("x", once=ONCE)

    with pytest.raises(InvalidRequest, match="'key-1' was used for a request with another body; use a new key"):
        world.run("y", once=replace(ONCE, digest="digest-2"))

    assert ran == ["sbx1: x"]


def test_a_key_is_its_owners_own(world: World, ran: list[str]) -> None:
    world.run("x", once=ONCE)
    world.run("y", once=Once("key-1", "digest-2"), key=replace(CHAT, owner="bob"))

    assert ran == ["sbx1: x", "sbx2: y"]


def test_another_key_is_another_run(world: World, ran: list[str]) -> None:
    world.run("x", once=ONCE)
    world.run("x", once=replace(ONCE, idempotency_key="key-2"))

    assert ran == ["sbx1: x"] * 2


def test_a_request_that_failed_before_its_run_is_made_when_it_is_repeated(world: World, ran: list[str]) -> None:
    world.taps["sandboxes"].fail("create", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        world.run("x", once=ONCE)

    again = world.run("x", once=ONCE)

    assert (again.is_repeated, ran) == (False, ["sbx1: x"])


def test_one_whose_order_was_surely_not_heard_is_made_when_it_is_repeated(
    world: World, ran: list[str], patience: Patience
) -> None:
    world.run("warm")
    world.taps["sandboxes"].fail("run", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        world.run("x", once=ONCE)

    again = world.run("x", once=ONCE)

    assert again.execution.outcome.outputs == [Stream("stdout", "x")]
    assert ran == ["sbx1: warm", "sbx1: x"]


@pytest.mark.parametrize("mode", ["auto", "async"])
def test_one_whose_sandbox_was_gone_before_its_order_was_heard_is_run_in_a_new_one(
    world: World, ran: list[str], mode: Mode
) -> None:
    world.run("warm")
    world.lose_sandbox()

    reply = world.run("x", once=ONCE if mode == "auto" else None, mode=mode)

    assert (told(reply), reply.is_repeated) == (("recreated", 2, EndReason.SANDBOX_LOST), False)
    assert ran == ["sbx1: warm", "sbx2: x"]
    assert world.wiring.executions.get(CHAT, reply.execution.execution_id) == reply.execution


def test_two_at_the_same_time_are_one_run(world: World) -> None:
    begun, may_end = threading.Event(), threading.Event()
    ran: list[str] = []

    def program(_: SandboxRef, code: str) -> RunOutcome:
        ran.append(code)
        begun.set()
        assert may_end.wait(10)
        return RunOutcome([Stream("stdout", code)], RunEnd.FINISHED)

    world.sandboxes.program = program
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(world.run, "x", once=ONCE)
        assert begun.wait(10)
        second = callers.submit(world.run, "x", once=ONCE, mode="async")
        repeated = second.result(10)
        may_end.set()
        answer = first.result(10)

    assert repeated.execution.execution_id == answer.execution.execution_id
    assert (repeated.execution.end, repeated.is_repeated) == (None, True)
    assert (answer.execution.end, ran) == (RunEnd.FINISHED, ["x"])


def test_one_that_is_repeated_while_its_run_goes_on_is_told_that_it_does(world: World) -> None:
    world.sandboxes.program = lambda *_: None
    first = world.run("x", once=ONCE)

    again = world.run("x", once=ONCE)

    assert (again.execution.end, again.is_repeated) == (None, True)
    assert again.execution.execution_id == first.execution.execution_id
    assert len(world.sandboxes.runs) == 1


# ── Repeated after the first caller's death ─────────────────────────────────────────────────────────

WARM = [
    ("before", "store", "claim"),
    ("after", "store", "claim"),
    ("before", "runs", "open"),
    ("after", "runs", "open"),
    ("before", "sandboxes", "run"),
    ("after", "sandboxes", "run"),
    ("before", "runs", "finish"),
    ("after", "runs", "finish"),
    ("before", "store", "release"),
    ("after", "store", "release"),
]
FIRST = [
    ("after", "store", "begin"),
    ("after", "store", "point"),
    ("before", "sandboxes", "create"),
    ("after", "sandboxes", "create"),
    ("before", "store", "activate"),
    ("after", "store", "activate"),
    ("after", "sandboxes", "prepare"),
    *WARM[2:],
]


def die(world: World, when: str, port: str, method: str) -> None:
    """Lets the caller die there."""
    tap = world.taps[port]
    if when == "before":
        tap.fail(method, CallerDied())
    else:
        tap.die_after(method)
    with pytest.raises(CallerDied):
        world.run("x", once=ONCE)
    world.beside.settle()
    tap.errors.clear()
    tap.instead.clear()


@pytest.mark.parametrize("stage", FIRST, ids=" ".join)
def test_wherever_the_first_caller_of_a_chat_died_its_code_runs_once(
    world: World, ran: list[str], stage: tuple[str, str, str]
) -> None:
    die(world, *stage)
    world.clock.advance(TAKEN_FOR_DEAD)

    again = world.run("x", once=ONCE)

    assert again.execution.outcome.outputs == [Stream("stdout", "x")]
    assert ran == ["sbx1: x"]
    assert world.run("x", once=ONCE).execution == again.execution
    world.run("next", on_busy="reject")
    assert list(world.sandboxes.alive) == ["sbx1"]


@pytest.mark.parametrize("stage", WARM, ids=" ".join)
def test_wherever_a_caller_died_its_code_runs_once(
    world: World, ran: list[str], stage: tuple[str, str, str]
) -> None:
    world.run("warm")
    die(world, *stage)
    world.clock.advance(TAKEN_FOR_DEAD)

    again = world.run("x", once=ONCE)

    assert again.execution.outcome.outputs == [Stream("stdout", "x")]
    assert ran == ["sbx1: warm", "sbx1: x"]
    assert told(again) == ("reused", 1, None)
    world.run("next", on_busy="reject")
    assert world.row().run_count == 3


@pytest.mark.parametrize("stage", WARM, ids=" ".join)
def test_one_that_is_repeated_at_once_is_answered_as_soon_as_that_can_be_told(
    world: World, ran: list[str], patience: Patience, stage: tuple[str, str, str]
) -> None:
    """A caller that has died cannot be told from one that is slow, for as long as a call may take."""
    world.run("warm")
    die(world, *stage)
    answers: list[Execution] = []
    for _ in range(3):
        try:
            answers.append(world.run("x", once=ONCE).execution)
        except SessionBusy:
            continue

    assert answers
    assert answers[-1].outcome.outputs == [Stream("stdout", "x")]
    assert ran == ["sbx1: warm", "sbx1: x"]


@pytest.mark.parametrize("stage", WARM, ids=" ".join)
def test_where_the_sandbox_is_gone_by_then_nothing_is_run_again_that_may_have_run(
    world: World, ran: list[str], stage: tuple[str, str, str]
) -> None:
    world.run("warm")
    die(world, *stage)
    world.clock.advance(TAKEN_FOR_DEAD)
    world.lose_sandbox()

    again = world.run("x", once=ONCE)

    assert sum(code.endswith(": x") for code in ran) <= 1
    recorded = stage[1] == "store" or stage == ("after", "runs", "finish")
    opened_before = WARM.index(stage) > WARM.index(("before", "runs", "open"))
    if opened_before and not recorded:
        assert (again.execution.end, "sbx2: x" in ran) == (RunEnd.SANDBOX_LOST, False)
    else:
        assert again.execution.outcome.outputs == [Stream("stdout", "x")]
    world.run("next", on_busy="reject")


def test_a_run_that_was_opened_in_a_sandbox_that_is_gone_is_lost_and_not_run_again(
    world: World, ran: list[str]
) -> None:
    world.run("warm")
    die(world, "after", "runs", "open")
    world.clock.advance(TAKEN_FOR_DEAD)
    world.lose_sandbox()

    again, thrice = world.run("x", once=ONCE), world.run("x", once=ONCE)

    assert again.execution.end is thrice.execution.end is RunEnd.SANDBOX_LOST
    assert ran == ["sbx1: warm"]
    assert told(world.run("next")) == ("recreated", 2, EndReason.SANDBOX_LOST)


def test_one_that_was_not_opened_is_run_in_the_sandbox_that_took_the_place(world: World, ran: list[str]) -> None:
    world.run("warm")
    die(world, "after", "store", "claim")
    world.clock.advance(TAKEN_FOR_DEAD)
    world.lose_sandbox()

    again = world.run("x", once=ONCE)

    assert told(again) == ("recreated", 2, EndReason.SANDBOX_LOST)
    assert ran == ["sbx1: warm", "sbx2: x"]
