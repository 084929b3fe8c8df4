"""The warm pool of sandboxes."""

from typing import cast

import pytest

from local.sandbox.cell import Cell, CellStuckError
from local.sandbox.pool import Pool


def outcome_of(*starts: object) -> tuple[object, int]:
    """Returns what a take gives when the starts end so, one after the other, and how many were made."""
    pending = [*starts]
    made = 0

    async def start(_: bool) -> Cell:
        nonlocal made
        made += 1
        outcome = pending.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return cast(Cell, outcome)

    async def take() -> Cell:
        return await Pool(start, size=0, network=False).take(network=False)

    # Nothing in it waits, so that it needs no event loop.
    try:
        take().send(None)
    except StopIteration as done:
        return done.value, made
    raise AssertionError("a take waited for something")


def test_an_agent_that_gets_stuck_is_replaced() -> None:
    assert outcome_of(CellStuckError("stuck"), CellStuckError("stuck"), "cell") == ("cell", 3)


def test_a_start_that_gets_stuck_every_time_is_given_up() -> None:
    with pytest.raises(CellStuckError):
        outcome_of(*[CellStuckError("stuck")] * 3)
