"""E2B has no room just now: a call tries again for as long as its caller can wait."""

from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.errors import CapacityExhausted
from sandkeeper.model import SandboxRef
from sandkeeper.services.execute import CALL_BUDGET_S
from tests.world import Patience, World, told

MINUTE = timedelta(minutes=1)
FULL = CapacityExhausted("full")


def test_a_creation_that_finds_no_room_is_tried_again(world: World, patience: Patience) -> None:
    world.taps["sandboxes"].fail("create", FULL, FULL, FULL)

    assert told(world.run()) == ("new", 1, None)
    assert len(patience.slept) == 3
    assert list(world.sandboxes.specs) == ["sbx1"]


def test_a_resume_that_finds_no_room_is_tried_again(world: World, patience: Patience) -> None:
    world.run()
    world.clock.advance(6 * MINUTE)
    world.taps["sandboxes"].fail("connect", FULL, FULL)

    assert told(world.run()) == ("resumed", 1, None)
    assert len(patience.slept) == 2


@pytest.mark.parametrize("method", ["create", "connect"])
def test_where_there_stays_no_room_the_caller_is_told_in_time_and_the_session_is_free(
    world: World, patience: Patience, method: str
) -> None:
    if method == "connect":
        world.run()
        world.clock.advance(6 * MINUTE)
    world.taps["sandboxes"].fail(method, *[FULL] * 1000)
    world.calls()

    with pytest.raises(CapacityExhausted):
        world.run()

    assert CALL_BUDGET_S / 2 < sum(patience.slept) < CALL_BUDGET_S
    assert 10 < world.calls().count(f"sandboxes.{method}") < 100
    world.assert_free()


def test_a_step_of_the_control_plane_gets_no_more_time_than_the_call_has_left(
    world: World, patience: Patience
) -> None:
    given: list[timedelta] = []

    def slow(*_: Any, within: timedelta) -> SandboxRef:
        given.append(within)
        world.clock.advance(within)
        raise FULL

    world.taps["sandboxes"].instead["create"] = slow
    started = world.clock()
    with pytest.raises(CapacityExhausted):
        world.run()

    assert given[0] == timedelta(seconds=15)
    assert world.clock() - started < timedelta(seconds=CALL_BUDGET_S)
