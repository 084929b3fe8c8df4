"""The warm pool of sandboxes."""

import asyncio
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import pytest

from local.sandbox.cell import Cell, CellFailedError
from local.sandbox.pool import Pool


@dataclass
class Started:
    """A cell without processes."""

    number: int
    network: bool
    is_alive: bool = True
    destroyed: bool = False

    async def destroy(self) -> None:
        self.destroyed = True


class Starts:
    """Starts cells, of which the first `dead` have ended by the time they are taken."""

    def __init__(self, *, dead: int = 0) -> None:
        self.made: list[Started] = []
        self._dead = dead

    async def __call__(self, network: bool) -> Cell:
        number = len(self.made)
        self.made.append(Started(number, network, is_alive=number >= self._dead))
        return cast(Cell, self.made[-1])


def take(starts: Starts, *, size: int, network: bool = False) -> Started:
    """Returns what a pool of cells without network gives; the others are gone afterwards."""

    async def taken() -> Started:
        pool = Pool(starts, size=size, network=False)
        pool.fill()
        cell = await pool.take(network=network)
        await pool.close()
        return cast(Started, cell)

    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(taken())


def test_a_warm_cell_that_has_ended_meanwhile_is_not_given_out() -> None:
    starts = Starts(dead=1)
    assert take(starts, size=1).number == 1
    assert starts.made[0].destroyed


def test_a_cell_of_another_network_is_started_for_who_asks() -> None:
    assert take(Starts(), size=1, network=True).network


def test_a_start_that_fails_is_told_to_who_asked() -> None:
    async def fail(_: bool) -> Cell:
        raise CellFailedError("no memory")

    async def taken() -> None:
        with pytest.raises(CellFailedError, match="no memory"):
            await Pool(fail, size=0, network=False).take(network=False)

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(taken())
