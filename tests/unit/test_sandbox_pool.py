"""The warm pool of sandboxes."""

import asyncio
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import pytest

from local.sandbox import pool as pool_module
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


@pytest.mark.parametrize("calm_s, made", [(0, 3), (3600, 2)])
def test_what_was_taken_is_replaced_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch, calm_s: float, made: int
) -> None:
    """Starting one takes a whole core, which the first run in the one that was taken can use better."""
    monkeypatch.setattr(pool_module, "_CALM_S", calm_s)
    starts = Starts()

    async def taken() -> None:
        pool = Pool(starts, size=2, network=False)
        pool.fill()
        await pool.take(network=False)
        for _ in range(100):
            await asyncio.sleep(0)
        await pool.close()

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(taken())
    assert len(starts.made) == made


def test_who_waits_for_a_replacement_does_not_wait_for_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_CALM_S", 3600)
    starts = Starts()

    async def taken() -> list[Cell]:
        pool = Pool(starts, size=2, network=False)
        pool.fill()
        cells = [await pool.take(network=False) for _ in range(5)]
        cells += await asyncio.gather(*(pool.take(network=False) for _ in range(5)))
        await pool.close()
        return cells

    with closing(asyncio.new_event_loop()) as loop:
        cells = loop.run_until_complete(asyncio.wait_for(taken(), 10))
    assert sorted(cast(Started, cell).number for cell in cells) == [*range(10)]
