"""A second upload of a name: beside the first, or in its place, which the first keeps until the second is read."""

from dataclasses import replace

import pytest

from sandkeeper.errors import QuotaExceeded, StoreUnavailable
from sandkeeper.model import FileRecord, FileStatus
from tests.world import CHAT, World

PATH = "/home/user/data.csv"
OLD, NEW = b"a\n1\n", b"a\n2\n"
DOWN = StoreUnavailable("throttled")


def upload(world: World, content: bytes | None, *, in_place: bool = True, name: str = "data.csv") -> FileRecord:
    """Registers a file; unless there is no content yet, uploads it and has it read."""
    record, _ = world.files.register(CHAT, file_name=name, size_bytes=10, content_type="text/csv", replace=in_place)
    if content is not None:
        world.contents.put(CHAT, record.file_id, content)
        world.ingest(CHAT, record.file_id)
    return world.files.get(CHAT, record.file_id)


def in_sandbox(world: World) -> dict[str, bytes]:
    """Returns path → content in the chat's sandbox, before which code is run."""
    paths = world.run().execution.context.paths
    files = world.sandboxes.alive["sbx1"]
    assert sorted(paths) == sorted(files)
    return files


def test_the_new_content_is_in_the_sandbox_before_the_next_run(world: World) -> None:
    old = upload(world, OLD, in_place=False)
    assert in_sandbox(world) == {PATH: OLD}

    new = upload(world, NEW)

    assert in_sandbox(world) == {PATH: NEW}
    assert [file.file_id for file in world.files.of_chat(CHAT)] == [new.file_id]
    assert world.row().hydrated == {new.file_id: PATH}
    with pytest.raises(Exception, match="no content"):
        world.contents.read(CHAT, old.file_id)


def test_without_asking_for_it_nothing_is_replaced(world: World) -> None:
    upload(world, OLD, in_place=False)
    upload(world, NEW, in_place=False)

    assert in_sandbox(world) == {PATH: OLD, "/home/user/data-2.csv": NEW}


@pytest.mark.parametrize("content", [None, b"\0"], ids=["never uploaded", "of no use"])
def test_until_the_new_one_is_read_the_old_one_stays(world: World, content: bytes | None) -> None:
    old = upload(world, OLD, in_place=False)

    new = upload(world, content)

    assert new.status in (FileStatus.PENDING, FileStatus.FAILED)
    assert in_sandbox(world) == {PATH: OLD}
    assert world.files.get(CHAT, old.file_id).status is FileStatus.READY


def test_deleting_one_that_has_replaced_nothing_leaves_the_old_one_in_the_sandbox(world: World) -> None:
    upload(world, OLD, in_place=False)
    assert in_sandbox(world) == {PATH: OLD}
    new = upload(world, None)

    world.files.delete(CHAT, new.file_id)

    assert in_sandbox(world) == {PATH: OLD}


def test_deleting_one_that_has_replaced_another_deletes_its_copy(world: World) -> None:
    upload(world, OLD, in_place=False)
    new = upload(world, NEW)
    assert in_sandbox(world) == {PATH: NEW}

    world.files.delete(CHAT, new.file_id)

    assert in_sandbox(world) == {}
    assert [*world.files.of_chat(CHAT)] == []


@pytest.mark.parametrize(
    ("port", "method"), [("store", "announce_file"), ("store", "forget_file"), ("contents", "delete")]
)
def test_wherever_reading_it_breaks_off_the_repeated_event_finishes_the_work(
    world: World, port: str, method: str
) -> None:
    old = upload(world, OLD, in_place=False)
    assert in_sandbox(world) == {PATH: OLD}
    world.taps[port].fail(method, DOWN)
    with pytest.raises(StoreUnavailable):
        upload(world, NEW)
    (new,) = world.files.of_chat(CHAT)

    world.ingest(CHAT, new.file_id)

    assert in_sandbox(world) == {PATH: NEW}
    assert world.row().hydrated == {new.file_id: PATH}
    with pytest.raises(Exception, match="no content"):
        world.contents.read(CHAT, old.file_id)


def test_a_chat_that_is_full_may_still_replace_but_not_without_end(world: World) -> None:
    world.limit_files(max_files=2)
    upload(world, OLD, in_place=False)
    upload(world, OLD, in_place=False, name="other.csv")

    upload(world, None)
    upload(world, None)
    with pytest.raises(QuotaExceeded):
        upload(world, None)
    with pytest.raises(QuotaExceeded):
        upload(world, None, name="third.csv")


def test_should_a_list_be_read_in_the_middle_of_it_one_of_both_is_used(world: World) -> None:
    first = upload(world, OLD, in_place=False)
    second = upload(world, NEW)
    world.taps["catalog"].instead["of_chat"] = lambda _: [replace(first, status=FileStatus.READY), second]

    assert [file.file_id for file in world.wiring.hydrate.ready(CHAT)] == [second.file_id]
