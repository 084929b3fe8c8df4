"""E2B's own deadline: it lies behind every run, and moving it costs a warm call nothing."""

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from sandkeeper.errors import CapacityExhausted, SandboxUnavailable
from sandkeeper.model import EndReason, Stream
from sandkeeper.ports import SandboxGone
from tests.world import World, told

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
LIMIT = 5 * SECOND
PAUSE = 5 * MINUTE
DOWN = SandboxUnavailable("down")


@pytest.fixture
def lifetimes(world: World) -> list[timedelta]:
    """Returns for how long E2B has been asked to leave the sandbox running, each time that it has been."""
    asked: list[timedelta] = []

    def asking(method: str) -> Callable[..., Any]:
        def ask(sandbox_id: str, lifetime: timedelta, **options: Any) -> Any:
            asked.append(lifetime)
            return getattr(world.sandboxes, method)(sandbox_id, lifetime, **options)

        return ask

    world.taps["sandboxes"].instead.update(connect=asking("connect"), extend=asking("extend"))
    return asked


def in_order(world: World) -> list[str]:
    """Returns what the sandboxes were asked since the last time, in order."""
    world.beside.settle()
    calls = [*world.taps["sandboxes"].calls]
    world.calls()
    return calls


def test_a_new_sandbox_pauses_once_it_has_been_idle(world: World) -> None:
    world.run()

    spec = world.sandboxes.specs["sbx1"]
    assert spec.pauses
    assert spec.lifetime == timedelta(seconds=30) + PAUSE
    assert world.row().pauses_at == world.clock() + spec.lifetime


def test_the_deadline_is_moved_when_the_sandbox_would_pause_too_soon_and_only_then(world: World) -> None:
    world.run()
    moved: list[int] = []
    for second in range(10, 601, 10):
        world.clock.advance(10 * SECOND)
        world.run()
        if "extend" in in_order(world):
            moved.append(second)
        assert world.row().pauses_at >= world.clock() + PAUSE * 4 / 5  # type: ignore[operator]

    assert moved
    assert all(later - earlier >= 60 for earlier, later in pairwise(moved)), "once a minute at most"


def test_the_moved_deadline_lies_the_idle_pause_behind_the_runs_limit_and_is_noted(
    world: World, lifetimes: list[timedelta]
) -> None:
    world.run()
    world.clock.advance(2 * MINUTE)

    world.run(limit=20 * SECOND)

    world.beside.settle()
    assert lifetimes == [20 * SECOND + PAUSE]
    assert world.row().pauses_at == world.clock() + 20 * SECOND + PAUSE


def test_a_deadline_that_takes_long_to_move_does_not_hold_the_reply_up(world: World) -> None:
    world.run()
    world.clock.advance(2 * MINUTE)
    hanging = threading.Event()
    world.taps["sandboxes"].instead["extend"] = lambda *_: hanging.wait(10)

    try:
        reply = world.run("x")
        assert reply.execution.outcome.outputs == [Stream("stdout", "x")]
        assert not all(beside.done() for beside in world.beside.futures), "the deadline is still being moved"
        world.assert_free()
    finally:
        hanging.set()


@pytest.mark.parametrize("error", [DOWN, CapacityExhausted("full"), SandboxGone("sbx1")], ids=repr)
def test_a_deadline_that_could_not_be_moved_is_noted_and_costs_the_caller_nothing(
    world: World, error: Exception
) -> None:
    world.run()
    world.clock.advance(2 * MINUTE)
    was = world.row().pauses_at
    world.taps["sandboxes"].fail("extend", error)

    reply = world.run("x")

    assert reply.execution.outcome.outputs == [Stream("stdout", "x")]
    world.beside.settle()
    assert ("sandbox.extend_failed", {"error": type(error).__name__}) in world.journal.notes
    assert world.row().pauses_at == was


def test_the_next_call_moves_a_deadline_that_could_not_be_moved(world: World) -> None:
    world.run()
    world.clock.advance(2 * MINUTE)
    world.taps["sandboxes"].fail("extend", DOWN)
    world.run()
    world.run()

    world.beside.settle()
    assert world.row().pauses_at == world.clock() + LIMIT + PAUSE


# ── A deadline that may fall into the run ───────────────────────────────────────────────────────────


def test_a_sandbox_that_would_pause_during_the_run_is_connected_to_first(
    world: World, lifetimes: list[timedelta]
) -> None:
    world.run()
    world.clock.advance(timedelta(seconds=30) + PAUSE - LIMIT - 9 * SECOND)
    in_order(world)

    reply = world.run(limit=LIMIT)

    assert in_order(world) == ["connect", "run"]
    assert told(reply) == ("reused", 1, None), "it had not paused yet"
    assert lifetimes == [LIMIT + PAUSE]


def test_a_sandbox_that_lasts_for_the_run_and_a_margin_is_not(world: World) -> None:
    world.run()
    world.clock.advance(timedelta(seconds=30) + PAUSE - LIMIT - 10 * SECOND)
    in_order(world)

    world.run(limit=LIMIT)

    assert sorted(in_order(world)) == ["extend", "run"]


def use_margin_up(world: World) -> None:
    """Lets the sandbox's deadline just cover the next run, and the transfer of a file take a second of that."""
    world.run()
    world.clock.advance(timedelta(seconds=30) + PAUSE - LIMIT - 10 * SECOND)
    world.add_file("a.csv", b"a")
    write = world.sandboxes.write_file

    def write_slowly(*args: Any) -> None:
        world.clock.advance(SECOND)
        write(*args)

    world.taps["sandboxes"].instead["write_file"] = write_slowly
    in_order(world)


def test_a_deadline_that_came_too_near_on_the_way_is_moved_before_the_run(
    world: World, lifetimes: list[timedelta]
) -> None:
    use_margin_up(world)

    world.run(limit=LIMIT)

    assert in_order(world) == ["write_file", "extend", "run"]
    assert lifetimes == [LIMIT + PAUSE]


def test_where_it_cannot_be_moved_the_code_is_not_run(world: World) -> None:
    use_margin_up(world)
    world.taps["sandboxes"].fail("extend", DOWN)

    with pytest.raises(SandboxUnavailable):
        world.run(limit=LIMIT)

    assert in_order(world) == ["write_file", "extend"]
    world.assert_free()


def test_where_the_sandbox_turns_out_to_be_gone_it_is_replaced(world: World) -> None:
    use_margin_up(world)

    def vanish(sandbox_id: str, _: timedelta) -> None:
        world.lose_sandbox()
        raise SandboxGone(sandbox_id)

    world.taps["sandboxes"].instead["extend"] = vanish

    assert told(world.run(limit=LIMIT)) == ("recreated", 2, EndReason.SANDBOX_LOST)


@pytest.mark.parametrize("idle_for", [timedelta(0), 6 * MINUTE], ids=["found by the run", "deadline passed"])
def test_who_connects_says_for_how_long(world: World, lifetimes: list[timedelta], idle_for: timedelta) -> None:
    world.run()
    world.pause_sandbox()
    world.clock.advance(idle_for)

    world.run(limit=20 * SECOND)

    assert lifetimes == [20 * SECOND + PAUSE]


# ── Long limits ─────────────────────────────────────────────────────────────────────────────────────

HOUR = timedelta(hours=1)


def test_a_sandbox_stays_awake_for_a_long_limit_before_the_code_starts(
    world: World, lifetimes: list[timedelta]
) -> None:
    world.run()
    in_order(world)
    world.sandboxes.program = lambda *_: None

    world.run(limit=HOUR)

    assert in_order(world) == ["connect", "run"]
    assert lifetimes == [HOUR + PAUSE]
    assert world.row().pauses_at == world.clock() + HOUR + PAUSE


def test_a_new_sandbox_is_made_like_any_other_and_stays_awake_for_a_long_limit_then(
    world: World, lifetimes: list[timedelta]
) -> None:
    """Whoever takes a dead creator's claim over asks for the very same sandbox, whatever its own limit is."""
    world.run(limit=HOUR)

    assert world.sandboxes.specs["sbx1"].lifetime == timedelta(seconds=30) + PAUSE
    assert [call for call in in_order(world) if call != "prepare"][:3] == ["create", "extend", "run"]
    assert lifetimes[0] == HOUR + PAUSE


def test_a_sandbox_pauses_as_soon_as_ever_after_a_long_run_that_was_over_sooner(
    world: World, lifetimes: list[timedelta]
) -> None:
    world.run()
    in_order(world)

    world.run(limit=HOUR)

    assert in_order(world) == ["connect", "run", "extend"]
    assert lifetimes == [HOUR + PAUSE, PAUSE]
    assert world.row().pauses_at == world.clock() + PAUSE
    world.assert_free()


def test_it_is_shortened_while_no_other_run_can_be_in_it(world: World, lifetimes: list[timedelta]) -> None:
    world.run()
    busy: list[bool] = []

    def extend(sandbox_id: str, lifetime: timedelta) -> None:
        busy.append(world.row().is_busy)

    world.taps["sandboxes"].instead["extend"] = extend
    world.run(limit=HOUR)

    assert busy == [True]


def test_where_it_cannot_be_shortened_it_costs_the_caller_nothing(world: World) -> None:
    world.run()
    world.taps["sandboxes"].fail("extend", DOWN)

    assert world.run("x", limit=HOUR).execution.outcome.outputs == [Stream("stdout", "x")]
    assert ("sandbox.extend_failed", {"error": "SandboxUnavailable"}) in world.journal.notes
    world.assert_free()


@pytest.mark.parametrize("limit", [LIMIT, 2 * MINUTE])
def test_after_a_short_run_nothing_is_shortened(world: World, lifetimes: list[timedelta], limit: timedelta) -> None:
    world.run()
    in_order(world)

    world.run(limit=limit)

    assert in_order(world).count("run") == 1
    assert lifetimes in ([], [limit + PAUSE])


def test_a_run_that_goes_on_keeps_its_sandbox_awake(world: World, lifetimes: list[timedelta]) -> None:
    world.run()
    world.sandboxes.program = lambda *_: None

    world.run(limit=HOUR)

    assert lifetimes == [HOUR + PAUSE]


# ── Where sandboxes never pause ─────────────────────────────────────────────────────────────────────


def test_without_pausing_the_deadline_is_the_sessions(world: World) -> None:
    world.configure(e2b_idle_pause=0)
    world.run()
    moved = 0
    for _ in range(40):
        world.clock.advance(MINUTE)
        world.run()
        moved += "extend" in in_order(world)
        assert world.row().pauses_at >= world.row().expires_at  # type: ignore[operator]

    assert not world.sandboxes.specs["sbx1"].pauses
    assert 1 <= moved <= 10


def test_without_pausing_a_sandbox_that_is_gone_is_replaced(world: World) -> None:
    world.configure(e2b_idle_pause=0)
    world.run()
    world.lose_sandbox()

    assert told(world.run()) == ("recreated", 2, EndReason.SANDBOX_LOST)
