"""Two machines whose clocks differ by five seconds: one sandbox, one run at a time, no silent loss."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from sandkeeper.errors import SessionBusy
from sandkeeper.model import EndReason, RunEnd, RunOutcome, SandboxRef
from sandkeeper.services.sessions import CONTROL_S
from tests.world import FakeClock, Patience, World, note, told

SECOND = timedelta(seconds=1)
SKEW = 5 * SECOND
LIMIT = 5 * SECOND
IDLE = timedelta(minutes=30)


@pytest.fixture(params=[SKEW, -SKEW], ids=["the other is ahead", "the other is behind"])
def other(world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """Returns the same service on another machine, of which the clock goes wrong by this much."""
    shared = ("store", "sandboxes", "catalog", "contents", "keys", "runs", "sweeps")
    same = {name: getattr(world, name) for name in shared}
    made = World(clock=FakeClock(world.clock.now + request.param), **same)
    yield made
    made.close()


@pytest.fixture
def advance(world: World, other: World) -> Callable[[timedelta], None]:
    """Returns a function that lets time pass on both machines."""

    def pass_by(step: timedelta) -> None:
        world.clock.advance(step)
        other.clock.advance(step)

    return pass_by


def assert_busy(other: World) -> None:
    """Fails unless the other machine waits for the session."""
    with pytest.raises(SessionBusy):
        other.run("other", on_busy="reject")


def test_a_run_is_left_alone_until_its_limit(
    world: World, other: World, advance: Callable[[timedelta], None]
) -> None:
    def program(_: SandboxRef, __: str) -> RunOutcome:
        assert_busy(other)
        advance(LIMIT)
        assert_busy(other)
        return RunOutcome([], RunEnd.TIMEOUT)

    world.run()
    world.sandboxes.program = program

    world.run(limit=LIMIT)

    world.sandboxes.program = lambda where, code: note([], where, code)
    assert told(other.run()) == ("reused", 1, None)


def test_a_creation_is_left_alone_for_as_long_as_it_may_take(
    world: World, other: World, advance: Callable[[timedelta], None]
) -> None:
    def create(spec: Any, *, within: timedelta) -> SandboxRef:
        advance(CONTROL_S * SECOND)
        assert_busy(other)
        return world.sandboxes.create(spec, within=within)

    world.taps["sandboxes"].instead["create"] = create

    assert told(world.run()) == ("new", 1, None)
    assert told(other.run()) == ("reused", 1, None)
    assert list(world.sandboxes.specs) == ["sbx1"]


def test_a_creator_that_was_overtaken_shares_the_sandbox_and_runs_after_the_other(
    world: World, other: World, advance: Callable[[timedelta], None], patience: Patience
) -> None:
    """It took longer than its window, so that the other took its claim over."""
    ran: list[str] = []
    world.sandboxes.program = lambda where, code: note(ran, where, code)
    times = count()

    def create(spec: Any, *, within: timedelta) -> SandboxRef:
        made = world.sandboxes.create(spec, within=within)
        if next(times) == 0:
            advance(35 * SECOND)
            assert told(other.run("other")) == ("new", 1, None)
        return made

    world.taps["sandboxes"].instead["create"] = create

    assert told(world.run("late")) == ("reused", 1, None)
    assert ran == ["sbx1: other", "sbx1: late"]
    assert list(world.sandboxes.alive) == ["sbx1"]


def test_a_session_is_used_or_told_as_expired_never_silently_replaced(
    world: World, other: World, advance: Callable[[timedelta], None]
) -> None:
    world.run()
    advance(IDLE - SECOND)
    expired = other.clock() - world.clock() > timedelta(0)

    reply = other.run()

    assert told(reply) == (("recreated", 2, EndReason.EXPIRED) if expired else ("resumed", 1, None))


def test_a_session_that_the_other_has_just_used_does_not_expire(
    world: World, other: World, advance: Callable[[timedelta], None]
) -> None:
    world.run()
    advance(IDLE - 10 * SECOND)
    other.run()
    advance(20 * SECOND)

    assert told(world.run())[1:] == (1, None)
    assert world.cleanup(everything=False, time_left_s=lambda: 60).ended == 0
    assert other.cleanup(everything=False, time_left_s=lambda: 60).ended == 0


def test_cleanup_leaves_alone_what_the_other_is_creating(
    world: World, other: World, advance: Callable[[timedelta], None]
) -> None:
    def create(spec: Any, *, within: timedelta) -> SandboxRef:
        made = world.sandboxes.create(spec, within=within)
        advance(CONTROL_S * SECOND)
        assert other.cleanup(everything=False, time_left_s=lambda: 60).orphans == 0
        return made

    world.taps["sandboxes"].instead["create"] = create

    assert world.run().execution.context.sandbox_id == "sbx1"
    assert list(world.sandboxes.alive) == ["sbx1"]


@pytest.mark.parametrize("left", [seconds * SECOND for seconds in (1, 6, 12, 20)], ids=str)
def test_the_deadline_that_the_other_has_noted_never_falls_into_a_run(
    world: World, other: World, advance: Callable[[timedelta], None], left: timedelta
) -> None:
    """E2B counts from when it was asked: neither machine's clock tells it anything."""
    world.run(limit=LIMIT)
    advance(world.sandboxes.specs["sbx1"].lifetime - left)

    other.run(limit=LIMIT)

    assert other.taps["sandboxes"].calls[0] == "connect" or left >= LIMIT
