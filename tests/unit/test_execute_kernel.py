"""A kernel that ends under the code, or between two calls, in a sandbox that stays: whoever runs next is told."""

from datetime import timedelta

import pytest

from sandkeeper.errors import StoreUnavailable
from sandkeeper.model import EndReason, RunEnd, RunOutcome, Stream
from tests.world import CHAT, World, told


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "the store fails"])
def test_a_kernel_that_died_under_the_code_is_told_to_the_next_call(world: World, noted: bool) -> None:
    world.run()
    world.sandboxes.program = lambda _, __: RunOutcome([Stream("stdout", "half")], RunEnd.KERNEL_DIED)
    if not noted:
        world.taps["store"].fail("note_restart", StoreUnavailable("throttled"))

    reply = world.run()

    assert reply.outcome == RunOutcome([Stream("stdout", "half")], RunEnd.KERNEL_DIED)
    assert ("session.restart_not_noted" in world.events()) is not noted
    world.assert_free()
    world.sandboxes.program = lambda _, __: RunOutcome([], RunEnd.FINISHED)
    assert told(world.run()) == ("reused", 1, EndReason.RESTARTED if noted else None)
    assert told(world.run()) == ("reused", 1, None)


def counting(world: World, *counts: int | None) -> None:
    """Lets the kernel number the coming runs so."""
    numbers = iter(counts)
    world.sandboxes.program = lambda _, __: RunOutcome([], RunEnd.FINISHED, next(numbers))


RESET = ("reused", 1, EndReason.RESTARTED)
SAME = ("reused", 1, None)


def test_a_kernel_that_was_replaced_behind_our_back_is_told_once_by_the_run_that_finds_it(world: World) -> None:
    """Its runs are numbered from 1 again. Found by the soak: an interrupt had met code that was just over."""
    counting(world, 1, 2, 5, 1, 2)
    assert [told(world.run()) for _ in range(5)] == [("new", 1, None), SAME, SAME, RESET, SAME]
    assert world.events().count("session.kernel_replaced") == 1


def test_a_kernel_that_was_replaced_after_its_first_run_is_told(world: World) -> None:
    counting(world, 1, 1, 2)
    assert [told(world.run()) for _ in range(3)] == [("new", 1, None), RESET, SAME]


def test_a_run_that_was_cut_off_tells_no_number_and_the_next_one_does(world: World) -> None:
    counting(world, 1, None, 1, None, 2)
    assert [told(world.run()) for _ in range(5)] == [("new", 1, None), SAME, RESET, SAME, SAME]


def test_a_restart_that_was_asked_for_is_told_once(world: World) -> None:
    counting(world, 4, 1, 2, 1)
    world.run()
    world.store.note_restart(CHAT, now=world.clock())
    assert [told(world.run()) for _ in range(3)] == [RESET, SAME, RESET]


def test_a_restart_that_was_told_to_a_run_that_was_cut_off_is_not_told_again(world: World) -> None:
    """Found by the soak: that run has told no number, and the one before it belonged to the kernel before."""
    counting(world, 4, None, 2, 3, 1)
    world.run()
    world.store.note_restart(CHAT, now=world.clock())
    assert [told(world.run()) for _ in range(4)] == [RESET, SAME, SAME, RESET]


def test_a_new_sandbox_numbers_its_runs_anew_and_that_alone_is_no_loss(world: World) -> None:
    counting(world, 8, 1, 2)
    world.run()
    world.lose_sandbox()
    assert [told(world.run()) for _ in range(2)] == [
        ("recreated", 2, EndReason.SANDBOX_LOST),
        ("reused", 2, None),
    ]


def test_a_replaced_kernel_is_told_again_when_the_session_could_not_be_given_back(world: World) -> None:
    """The one who is told first may have died before it could tell."""
    counting(world, 8, 1, 2, 3)
    world.run()
    world.taps["store"].fail("release", StoreUnavailable("throttled"))
    assert told(world.run()) == RESET
    world.clock.advance(timedelta(minutes=5))
    assert [told(world.run()) for _ in range(2)] == [RESET, SAME]
