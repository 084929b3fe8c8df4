"""`SweepStore` on memory and on two DynamoDB emulators."""

from typing import Any

import pytest

from sandkeeper.adapters.dynamodb import DynamoSessionStore, DynamoSweepStore, Table
from sandkeeper.adapters.dynamodb.items import pack
from sandkeeper.adapters.memory import MemorySweepStore
from sandkeeper.ports import Sweep, SweepStore
from tests.contract.conftest import Backend
from tests.contract.sessions import due, live

NONSENSE: dict[str, dict[str, Any]] = {
    "empty": {},
    "a token that is a number": {"token": 5, "seen": 5},
    "a count that is text": {"token": "abc", "seen": "five"},
    "a count that is missing": {"token": "abc"},
    "a token that is missing": {"seen": 5},
    "lists": {"token": ["abc"], "seen": [5]},
}


class SweepStoreContract:
    """The cases; a subclass gives `sweeps`."""

    def test_before_the_first_write_it_is_a_new_sweep(self, sweeps: SweepStore) -> None:
        assert sweeps.read() == Sweep()

    @pytest.mark.parametrize("sweep", [Sweep("abc", 500), Sweep("größer =/+", 1), Sweep("x" * 3_000, 0)])
    def test_a_sweep_reads_as_it_was_written(self, sweeps: SweepStore, sweep: Sweep) -> None:
        sweeps.write(sweep)

        assert sweeps.read() == sweep

    def test_the_last_write_counts_and_nothing_of_the_one_before_is_left(self, sweeps: SweepStore) -> None:
        for sweep in (Sweep("abc", 100), Sweep("def", 200)):
            sweeps.write(sweep)
        assert sweeps.read() == Sweep("def", 200)

        sweeps.write(Sweep())

        assert sweeps.read() == Sweep()


class TestInMemory(SweepStoreContract):
    @pytest.fixture
    def sweeps(self) -> SweepStore:
        return MemorySweepStore()


class DynamoSweepContract(SweepStoreContract):
    """With rows that others have written; a subclass gives `table`."""

    @pytest.fixture
    def sweeps(self, table: Table) -> SweepStore:
        return DynamoSweepStore(table)

    @pytest.mark.parametrize("name", NONSENSE)
    def test_nonsense_is_a_new_sweep_and_can_be_written_over(
        self, sweeps: SweepStore, table: Table, name: str
    ) -> None:
        row = pack({"pk": "SWEEP", "sk": "SWEEP", **NONSENSE[name]})
        table.client.put_item(TableName=table.name, Item=row)

        assert sweeps.read() == Sweep()
        sweeps.write(Sweep("abc", 100))
        assert sweeps.read() == Sweep("abc", 100)

    def test_a_sweep_is_no_session(self, sweeps: SweepStore, table: Table) -> None:
        sweeps.write(Sweep("abc", 100))

        store = DynamoSessionStore(table)
        assert live(store) == due(store) == []


class TestOnMoto(DynamoSweepContract):
    @pytest.fixture
    def table(self, moto: Backend) -> Table:
        return moto.table


class TestOnMinistack(DynamoSweepContract):
    @pytest.fixture
    def table(self, ministack: Backend) -> Table:
        return ministack.table
