"""A sandbox that is gone when the code may have started: it is asked again where it is, and never run elsewhere."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.errors import SandboxUnavailable, StoreUnavailable
from sandkeeper.model import EndReason, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.ports import RunLost, SandboxGone
from sandkeeper.runs import Execution, RunEvent, RunOrder
from sandkeeper.services.execute import Mode, Once
from tests.world import CHAT, Patience, World, told

MINUTE = timedelta(minutes=1)
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


def lose_next_run(world: World, *, begun: bool, meanwhile: Callable[[], Any]) -> None:
    """Lets the connection of the next run break, with its code started or not, and something happen by then."""

    def run(where: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        del world.taps["sandboxes"].instead["run"]
        if begun:
            list(world.sandboxes.run(where, order, wait=wait))
        meanwhile()
        raise RunLost(where.sandbox_id)

    world.taps["sandboxes"].instead["run"] = run


def record_of(world: World, execution: Execution) -> Execution:
    """Returns what the log has of the run, which must be there."""
    found = world.runs.get(CHAT, execution.execution_id)
    assert found is not None
    return found


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
@pytest.mark.parametrize("once", [None, ONCE], ids=["", "with a key"])
def test_in_a_sandbox_that_was_paused_it_is_asked_again_and_runs_once(
    world: World, ran: list[str], begun: bool, once: Once | None
) -> None:
    world.run("a")
    lose_next_run(world, begun=begun, meanwhile=world.pause_sandbox)

    reply = world.run("b", once=once)

    assert told(reply) == ("resumed" if not begun else "reused", 1, None)
    assert reply.execution.outcome.outputs == [Stream("stdout", "b")]
    assert ran == ["sbx1: a", "sbx1: b"]
    world.assert_free()


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
@pytest.mark.parametrize("mode", ["auto", "inline", "async"])
def test_where_the_sandbox_is_gone_nobody_can_tell_and_that_is_recorded(
    world: World, ran: list[str], begun: bool, mode: Mode
) -> None:
    world.run("a")
    lose_next_run(world, begun=begun, meanwhile=world.lose_sandbox)

    reply = world.run("b", mode=mode)

    assert reply.execution.outcome == RunOutcome([], RunEnd.SANDBOX_LOST)
    assert record_of(world, reply.execution) == reply.execution
    assert "sbx2: b" not in ran
    world.assert_free()
    assert told(world.run("c")) == ("recreated", 2, EndReason.SANDBOX_LOST)


def test_one_that_was_opened_before_is_lost_too_and_stays_so_for_whoever_repeats_it(
    world: World, ran: list[str]
) -> None:
    world.run("a")
    lose_next_run(world, begun=True, meanwhile=world.lose_sandbox)

    first, again = world.run("b", once=ONCE), world.run("b", once=ONCE)

    assert first.execution == again.execution
    assert again.execution.end is RunEnd.SANDBOX_LOST
    assert ran == ["sbx1: a", "sbx1: b"]


def test_a_sandbox_that_is_gone_after_the_second_attempt_may_have_run_the_first(
    world: World, ran: list[str]
) -> None:
    """The second one found it gone for sure: that says nothing of the first."""
    world.run("a")

    def pause() -> None:
        world.pause_sandbox()

        def gone(where: SandboxRef, *_: Any, **__: Any) -> Iterator[RunEvent]:
            world.lose_sandbox()
            raise SandboxGone(where.sandbox_id)

        world.taps["sandboxes"].instead["run"] = gone

    lose_next_run(world, begun=True, meanwhile=pause)

    assert world.run("b").execution.end is RunEnd.SANDBOX_LOST
    assert ran == ["sbx1: a", "sbx1: b"]


@pytest.mark.parametrize(
    ("port", "method", "error"),
    [
        ("sandboxes", "connect", SandboxUnavailable("down")),
        ("store", "note_sandbox", StoreUnavailable("throttled")),
        ("sandboxes", "connect", RuntimeError("boom")),
    ],
)
def test_where_that_cannot_be_found_out_now_the_run_is_left_to_be_found(
    world: World, ran: list[str], port: str, method: str, error: Exception
) -> None:
    """To tell the caller that it failed would be a lie: the code may run."""
    world.run("a")
    lose_next_run(world, begun=True, meanwhile=world.pause_sandbox)
    world.taps[port].fail(method, error)

    reply = world.run("b")

    assert reply.execution.end is None
    assert not world.row().is_attended(world.clock())
    found = world.wiring.executions.get(CHAT, reply.execution.execution_id)
    assert found.outcome.outputs == [Stream("stdout", "b")]
    world.assert_free()
    assert ran == ["sbx1: a", "sbx1: b"]


def test_a_sandbox_that_never_stays_awake_for_it_leaves_the_run_to_be_found(
    world: World, ran: list[str], patience: Patience
) -> None:
    world.run("a")

    def never(where: SandboxRef, *_: Any, **__: Any) -> Iterator[RunEvent]:
        world.pause_sandbox()
        raise RunLost(where.sandbox_id)

    world.taps["sandboxes"].instead["run"] = never

    reply = world.run("b")

    assert reply.execution.end is None
    assert world.taps["sandboxes"].calls.count("connect") == 3
    assert record_of(world, reply.execution).end is None


def test_a_loss_that_could_not_be_recorded_is_told_all_the_same(world: World, ran: list[str]) -> None:
    world.run("a")
    lose_next_run(world, begun=True, meanwhile=world.lose_sandbox)
    world.taps["runs"].fail("finish", StoreUnavailable("throttled"), StoreUnavailable("throttled"))

    assert world.run("b").execution.end is RunEnd.SANDBOX_LOST
    assert "run.not_recorded" in world.events()
    world.assert_free()


def test_whoever_closed_the_session_meanwhile_has_seen_more_and_is_believed(world: World, ran: list[str]) -> None:
    world.run("a")
    lose_next_run(world, begun=True, meanwhile=lambda: world.sessions.ending.close(CHAT))

    reply = world.run("b")

    assert reply.execution.outcome.outputs == [Stream("stdout", "b")]
    assert record_of(world, reply.execution) == reply.execution
