"""A kernel that ends under the code, or between two calls, in a sandbox that stays: whoever runs next is told."""

from datetime import timedelta

import pytest

from sandkeeper.errors import StoreUnavailable
from sandkeeper.model import EndReason, RunEnd, RunOutcome, Stream
from tests.world import CallerDied, World, told

SAME = ("reused", 1, None)
RESTARTED = ("reused", 1, EndReason.RESTARTED)
DIED = ("reused", 1, EndReason.KERNEL_DIED)
LATER = timedelta(minutes=1)


def restart(world: World) -> None:
    """Gives the chat's sandbox a fresh kernel, as a caller would."""
    world.wiring.control.restart(world.row().key)


def end_next_run(world: World, end: RunEnd) -> RunOutcome:
    """Lets the next run print something and end so; those after it finish."""
    outcome = RunOutcome([Stream("stdout", "half")], end)
    coming = iter([outcome])
    world.sandboxes.program = lambda *_: next(coming, RunOutcome([], RunEnd.FINISHED))
    return outcome


@pytest.mark.parametrize("end", [RunEnd.KERNEL_DIED, RunEnd.OUT_OF_MEMORY])
def test_a_kernel_that_died_under_the_code_is_told_to_the_next_call(world: World, end: RunEnd) -> None:
    world.run()
    outcome = end_next_run(world, end)

    assert world.run().execution.outcome == outcome
    world.assert_free()
    assert [told(world.run()) for _ in range(2)] == [DIED, SAME]


@pytest.mark.parametrize("end", [RunEnd.TIMEOUT, RunEnd.CANCELLED, RunEnd.OUTPUT_LIMIT])
def test_a_kernel_that_was_interrupted_keeps_its_variables_and_nobody_is_told_otherwise(
    world: World, end: RunEnd
) -> None:
    world.run()
    outcome = end_next_run(world, end)

    assert world.run().execution.outcome == outcome
    assert told(world.run()) == SAME


def test_a_kernel_that_died_in_the_very_first_run_is_told(world: World) -> None:
    end_next_run(world, RunEnd.KERNEL_DIED)

    assert [told(world.run()) for _ in range(3)] == [("new", 1, None), DIED, SAME]


def test_a_restart_that_was_asked_for_is_told_once(world: World) -> None:
    world.run()
    restart(world)

    assert [told(world.run()) for _ in range(2)] == [RESTARTED, SAME]


def test_a_restart_that_was_told_to_a_run_that_was_cut_off_is_not_told_again(world: World) -> None:
    world.run()
    restart(world)
    end_next_run(world, RunEnd.SANDBOX_LOST)

    assert [told(world.run()) for _ in range(2)] == [RESTARTED, SAME]


def test_a_new_sandbox_has_a_new_kernel_and_that_alone_is_the_loss_that_is_told(world: World) -> None:
    world.run()
    restart(world)
    world.lose_sandbox()

    assert [told(world.run()) for _ in range(2)] == [
        ("recreated", 2, EndReason.SANDBOX_LOST),
        ("reused", 2, None),
    ]


# ── Told to a caller who was not there any more ─────────────────────────────────────────────────────


def test_what_was_told_to_a_caller_who_died_before_it_could_hear_is_told_to_the_next(world: World) -> None:
    world.run()
    restart(world)
    world.taps["sandboxes"].die_after("run")
    with pytest.raises(CallerDied):
        world.run()
    world.clock.advance(LATER)

    assert [told(world.run()) for _ in range(2)] == [RESTARTED, SAME]


def test_it_is_told_until_somebody_is_there_to_hear_it(world: World) -> None:
    world.run()
    restart(world)
    for _ in range(3):
        world.taps["sandboxes"].die_after("run")
        with pytest.raises(CallerDied):
            world.run()
        world.clock.advance(LATER)

    assert [told(world.run()) for _ in range(2)] == [RESTARTED, SAME]


def test_what_may_not_have_been_told_is_told_again(world: World) -> None:
    """That the session was not given back looks the same as a call that died just before it answered."""
    world.run()
    restart(world)
    world.taps["store"].fail("release", StoreUnavailable("throttled"))
    assert told(world.run()) == RESTARTED
    world.clock.advance(LATER)

    assert [told(world.run()) for _ in range(2)] == [RESTARTED, SAME]


def test_a_new_sandbox_of_which_nobody_has_heard_is_told_to_the_next(world: World) -> None:
    """Its first run is over, but whoever asked for that died: nobody knows yet that state was lost."""
    world.run()
    world.lose_sandbox()
    world.taps["sandboxes"].die_after("run")
    with pytest.raises(CallerDied):
        world.run()
    world.clock.advance(LATER)

    assert [told(world.run()) for _ in range(2)] == [
        ("recreated", 2, EndReason.SANDBOX_LOST),
        ("reused", 2, None),
    ]
