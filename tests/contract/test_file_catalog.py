"""`FileCatalog` on memory and on two DynamoDB emulators."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sandkeeper.adapters.dynamodb import DynamoFileCatalog, DynamoSessionStore
from sandkeeper.adapters.memory import MemoryFileCatalog
from sandkeeper.model import ChatKey, FileKind, FileReading, FileStatus
from sandkeeper.ports import FileCatalog
from tests.contract.conftest import Backend
from tests.factories import idle, record, table
from tests.world import CHAT

READING = FileReading(
    size_bytes=2048,
    kind=FileKind.EXCEL,
    tables=[
        table("name", "größe, cm", "", name="Sheet1"),
        table("a", name="Ünder 2", sample=[[None, 1.5, "x", [1]]]),
    ],
    details={"sheets": 3, "cut": ["2 of 3 sheets are read"]},
)


class FileCatalogContract:
    """The cases; a subclass gives `catalog`."""

    def test_a_record_reads_as_it_was_added(self, catalog: FileCatalog) -> None:
        added = record("Bericht 2026 – größer.csv", content_type="text/csv; charset=utf-8")

        assert catalog.add(added)
        assert catalog.get(CHAT, added.file_id) == added
        assert list(catalog.of_chat(CHAT)) == [added]

    def test_a_file_that_never_was_is_none(self, catalog: FileCatalog) -> None:
        assert catalog.get(CHAT, "never") is None
        assert list(catalog.of_chat(CHAT)) == []

    def test_files_are_listed_oldest_first(self, catalog: FileCatalog) -> None:
        for file_id in ("03", "01", "02"):
            catalog.add(record(f"{file_id}.csv", file_id=file_id))

        assert [file.file_id for file in catalog.of_chat(CHAT)] == ["01", "02", "03"]

    def test_two_files_never_share_a_path(self, catalog: FileCatalog) -> None:
        catalog.add(record(file_id="1"))

        assert not catalog.add(record(file_id="2"))
        assert catalog.get(CHAT, "2") is None

    def test_of_racing_files_with_one_path_one_is_added(self, catalog: FileCatalog) -> None:
        with ThreadPoolExecutor(16) as threads:
            added = list(threads.map(lambda number: catalog.add(record(file_id=f"{number:02}")), range(16)))

        assert sum(added) == 1
        assert [file.file_id for file in catalog.of_chat(CHAT)] == [f"{added.index(True):02}"]

    def test_other_chats_and_owners_may_have_the_same_path(self, catalog: FileCatalog) -> None:
        theirs = [ChatKey("alice", "chat-2"), ChatKey("bob", "chat-1"), ChatKey("alice#chat-1", "chat-1")]

        assert all(catalog.add(record(key=key)) for key in [CHAT, *theirs])
        assert all(len(catalog.of_chat(key)) == 1 for key in theirs)

    @pytest.mark.parametrize("owner", ["auth0|x", "a#b", ".", "..", "two words", "žluťoučký 🐎"])
    def test_owners_of_any_name_have_files_of_their_own(self, catalog: FileCatalog, owner: str) -> None:
        theirs = record(key=ChatKey(owner, CHAT.chat_id))
        catalog.add(theirs)

        assert catalog.get(theirs.key, theirs.file_id) == theirs
        assert catalog.get(CHAT, theirs.file_id) is None

    def test_a_reading_makes_a_file_ready(self, catalog: FileCatalog) -> None:
        file = record()
        catalog.add(file)

        assert catalog.mark_ready(CHAT, file.file_id, READING)
        read = catalog.get(CHAT, file.file_id)
        assert read == replace(
            file,
            status=FileStatus.READY,
            size_bytes=2048,
            kind=FileKind.EXCEL,
            tables=READING.tables,
            details=READING.details,
        )
        assert (read.headers, read.row_count) == (["name", "größe, cm", ""], 3)

    @pytest.mark.parametrize(
        "reading",
        [FileReading(size_bytes=7), FileReading(size_bytes=9, tables=[table("a", row_count=0, sample=[])])],
    )
    def test_a_reading_keeps_the_difference_of_none_and_nothing(
        self, catalog: FileCatalog, reading: FileReading
    ) -> None:
        file = record()
        catalog.add(file)

        catalog.mark_ready(CHAT, file.file_id, reading)

        read = catalog.get(CHAT, file.file_id)
        assert read is not None
        assert (read.size_bytes, read.kind, read.tables) == (reading.size_bytes, reading.kind, reading.tables)
        assert (read.headers is None) == (not reading.tables)

    def test_a_failure_says_why_and_a_later_reading_takes_it_back(self, catalog: FileCatalog) -> None:
        file = record()
        catalog.add(file)

        assert catalog.mark_failed(CHAT, file.file_id, "it is empty")
        failed = catalog.get(CHAT, file.file_id)
        catalog.mark_ready(CHAT, file.file_id, READING)
        mended = catalog.get(CHAT, file.file_id)

        assert failed == replace(file, status=FileStatus.FAILED, reason="it is empty")
        assert mended is not None
        assert (mended.status, mended.reason) == (FileStatus.READY, None)

    def test_a_deleted_file_is_gone_and_stays_so(self, catalog: FileCatalog) -> None:
        file = record()
        catalog.add(file)

        catalog.delete(file)
        catalog.delete(file)

        assert not catalog.mark_ready(CHAT, file.file_id, READING)
        assert not catalog.mark_failed(CHAT, file.file_id, "too late")
        assert catalog.get(CHAT, file.file_id) is None
        assert list(catalog.of_chat(CHAT)) == []

    def test_a_deleted_file_frees_its_path(self, catalog: FileCatalog) -> None:
        catalog.add(record(file_id="1"))
        catalog.delete(record(file_id="1"))

        assert catalog.add(record(file_id="2"))

    def test_more_files_than_a_page_holds_are_all_listed(self, catalog: FileCatalog) -> None:
        """A page of a query ends at 1 MB; records with many headers fill several."""
        wide = table(*["x" * 100] * 1_000)
        for number in range(15):
            catalog.add(record(f"{number}.csv", kind=FileKind.CSV, tables=[wide]))

        assert len(catalog.of_chat(CHAT)) == 15


class TestInMemory(FileCatalogContract):
    @pytest.fixture
    def catalog(self) -> FileCatalog:
        return MemoryFileCatalog()


class TestOnMoto(FileCatalogContract):
    @pytest.fixture
    def catalog(self, moto: Backend) -> FileCatalog:
        return DynamoFileCatalog(moto.table)


class TestOnMinistack(FileCatalogContract):
    @pytest.fixture
    def catalog(self, ministack: Backend) -> FileCatalog:
        return DynamoFileCatalog(ministack.table)

    def test_files_and_the_session_of_a_chat_do_not_mix(self, ministack: Backend, catalog: FileCatalog) -> None:
        DynamoSessionStore(ministack.table).begin(idle(), seen=None)
        catalog.add(record())

        assert list(catalog.of_chat(CHAT)) == [record()]
