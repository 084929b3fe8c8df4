"""`FileCatalog` of files that take the place of others: on memory and on two DynamoDB emulators."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sandkeeper.adapters.dynamodb import DynamoFileCatalog
from sandkeeper.adapters.memory import MemoryFileCatalog
from sandkeeper.model import FileReading, FileRecord, FileStatus
from sandkeeper.ports import FileCatalog
from tests.contract.conftest import Backend
from tests.factories import record
from tests.world import CHAT

READING = FileReading(size_bytes=7)


def add(catalog: FileCatalog, file_id: str, *, replaces: bool = True) -> FileRecord:
    """Adds a file of the one path, and returns it."""
    added = record(file_id=file_id, replaces=replaces)
    assert catalog.add(added)
    return added


def ids(catalog: FileCatalog) -> list[str]:
    """Returns the ids of the chat's files."""
    return [file.file_id for file in catalog.of_chat(CHAT)]


class FileReplacingContract:
    """The cases; a subclass gives `catalog`."""

    def test_a_file_has_its_path_until_the_one_that_replaces_it_is_ready(self, catalog: FileCatalog) -> None:
        add(catalog, "1", replaces=False)
        add(catalog, "2")
        assert ids(catalog) == ["1", "2"]

        assert catalog.mark_ready(CHAT, "2", READING)

        (left,) = catalog.of_chat(CHAT)
        assert (left.file_id, left.status, left.size_bytes) == ("2", FileStatus.READY, 7)
        assert (left.replaces, left.replaced_id) == (True, "1")
        assert not catalog.add(record(file_id="3"))

    def test_one_that_turns_out_to_be_of_no_use_replaces_nothing(self, catalog: FileCatalog) -> None:
        first = add(catalog, "1", replaces=False)
        add(catalog, "2")

        assert catalog.mark_failed(CHAT, "2", "it is broken")

        assert catalog.get(CHAT, "1") == first
        assert not catalog.add(record(file_id="3"))

    def test_one_that_goes_before_it_is_ready_leaves_the_path_where_it_was(self, catalog: FileCatalog) -> None:
        first = add(catalog, "1", replaces=False)
        catalog.delete(add(catalog, "2"))

        assert [*catalog.of_chat(CHAT)] == [first]
        assert not catalog.mark_ready(CHAT, "2", READING)
        assert not catalog.add(record(file_id="3"))

    def test_one_that_has_nothing_to_replace_takes_a_path_that_is_free(self, catalog: FileCatalog) -> None:
        add(catalog, "1")

        assert catalog.mark_ready(CHAT, "1", READING)

        (left,) = catalog.of_chat(CHAT)
        assert left.replaced_id is None
        assert not catalog.add(record(file_id="2"))

    def test_reading_it_again_changes_nothing(self, catalog: FileCatalog) -> None:
        add(catalog, "1", replaces=False)
        add(catalog, "2")
        catalog.mark_ready(CHAT, "2", READING)
        before = catalog.get(CHAT, "2")

        assert catalog.mark_ready(CHAT, "2", READING)

        assert catalog.get(CHAT, "2") == before
        assert ids(catalog) == ["2"]

    def test_it_is_replaced_in_its_turn_and_frees_the_path_when_it_goes(self, catalog: FileCatalog) -> None:
        for file_id in ("1", "2", "3"):
            add(catalog, file_id)
            catalog.mark_ready(CHAT, file_id, READING)
        (left,) = catalog.of_chat(CHAT)
        assert (left.file_id, left.replaced_id) == ("3", "2")

        catalog.delete(left)

        assert ids(catalog) == []
        assert catalog.add(record(file_id="4"))

    def test_of_many_that_become_ready_at_once_one_is_left_and_each_other_was_replaced(
        self, catalog: FileCatalog
    ) -> None:
        for number in range(4):
            add(catalog, f"{number}")

        with ThreadPoolExecutor(4) as threads:
            marked = list(threads.map(lambda number: catalog.mark_ready(CHAT, f"{number}", READING), range(4)))

        assert all(marked)
        assert len(ids(catalog)) == 1
        assert not catalog.add(record(file_id="9"))


class TestInMemory(FileReplacingContract):
    @pytest.fixture
    def catalog(self) -> FileCatalog:
        return MemoryFileCatalog()


class TestOnMoto(FileReplacingContract):
    @pytest.fixture
    def catalog(self, moto: Backend) -> FileCatalog:
        return DynamoFileCatalog(moto.table)


class TestOnMinistack(FileReplacingContract):
    @pytest.fixture
    def catalog(self, ministack: Backend) -> FileCatalog:
        return DynamoFileCatalog(ministack.table)
