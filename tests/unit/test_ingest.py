"""Recording what an uploaded file holds."""

from datetime import timedelta

import pytest

from sandkeeper.adapters.reading.process import ProcessContentReader
from sandkeeper.errors import StoreUnavailable
from sandkeeper.model import FileKind, FileStatus
from tests.files import PNG
from tests.world import CHAT, World

TABLE = "name,age\nAda,36\nAlan,41\n"


def test_a_table_becomes_ready_and_its_session_hears_of_it(world: World) -> None:
    world.run()
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)

    world.ingest(CHAT, file.file_id)

    read_file = world.files.get(CHAT, file.file_id)
    assert (read_file.status, read_file.headers, read_file.row_count) == (FileStatus.READY, ["name", "age"], 2)
    assert (read_file.kind, read_file.size_bytes) == (FileKind.CSV, len(TABLE))
    assert [column.type for column in read_file.tables[0].columns] == ["text", "integer"]
    assert world.run().execution.context.paths == [file.path]


def test_a_repeated_event_does_no_harm(world: World) -> None:
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)
    world.ingest(CHAT, file.file_id)
    once = world.files.get(CHAT, file.file_id)

    world.ingest(CHAT, file.file_id)

    assert world.files.get(CHAT, file.file_id) == once


def test_what_cannot_be_read_fails_with_a_reason_and_is_put_in_no_sandbox(world: World) -> None:
    file = world.add_file("data.csv", PNG, status=FileStatus.PENDING)

    world.ingest(CHAT, file.file_id)

    failed = world.files.get(CHAT, file.file_id)
    assert failed.status is FileStatus.FAILED
    assert failed.reason is not None
    assert "'data.csv' is an image" in failed.reason
    assert world.run().execution.context.paths == []


def test_a_file_that_takes_too_long_fails_and_is_not_tried_again(world: World) -> None:
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)
    world.reader = ProcessContentReader(time_limit=timedelta(milliseconds=1))

    world.ingest(CHAT, file.file_id)

    failed = world.files.get(CHAT, file.file_id)
    assert failed.status is FileStatus.FAILED
    assert failed.reason is not None
    assert "'data.csv' takes longer than 0.001 s" in failed.reason


def test_a_file_that_was_deleted_meanwhile_is_left_alone(world: World) -> None:
    world.ingest(CHAT, "never")
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)
    world.contents.delete(CHAT, file.file_id)

    world.ingest(CHAT, file.file_id)

    assert world.files.get(CHAT, file.file_id).status is FileStatus.PENDING
    assert world.events() == ["file.unknown", "file.unknown"]


def test_a_store_that_fails_is_told_so_that_the_event_comes_again(world: World) -> None:
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)
    world.taps["contents"].fail("read", StoreUnavailable("slow down"))

    with pytest.raises(StoreUnavailable):
        world.ingest(CHAT, file.file_id)

    assert world.files.get(CHAT, file.file_id).status is FileStatus.PENDING


def test_neither_names_nor_contents_are_noted(world: World) -> None:
    for content in (b"canary,b\n", PNG + b"canary"):
        file = world.add_file(f"canary-{len(content)}.csv", content, status=FileStatus.PENDING)
        world.ingest(CHAT, file.file_id)

    assert "canary" not in repr(world.journal.notes)
