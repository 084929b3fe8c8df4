"""A chat's files are in its sandbox before its code runs there, and every one of them costs one transfer."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from sandkeeper.errors import (
    FileNotFound,
    FileNotReady,
    FileUnusable,
    SandboxUnavailable,
    SandkeeperError,
    StoreUnavailable,
)
from sandkeeper.model import ChatKey, FileRecord, FileStatus, SandboxRef
from sandkeeper.ports import SandboxSpec
from tests.world import CHAT, World, told


def in_sandbox(world: World) -> dict[str, bytes]:
    """Returns what the chat's sandbox holds: path → content."""
    live = world.row().sandbox
    assert live is not None
    return world.sandboxes.alive[live.sandbox_id]


def transfers(world: World) -> int:
    """Returns how many files have been written since the last look."""
    return world.calls().count("sandboxes.write_file")


def test_all_files_that_are_ready_are_there_when_none_is_named(world: World) -> None:
    world.add_file("a.csv", b"a")
    world.add_file("b.csv", b"b")
    world.add_file("pending.csv", b"", status=FileStatus.PENDING)
    world.add_file("failed.csv", b"", status=FileStatus.FAILED)

    reply = world.run()

    assert in_sandbox(world) == {"/home/user/a.csv": b"a", "/home/user/b.csv": b"b"}
    assert sorted(reply.execution.context.paths) == ["/home/user/a.csv", "/home/user/b.csv"]


def test_named_files_are_there_once_each_and_told_in_the_callers_order(world: World) -> None:
    a, b = world.add_file("a.csv", b"a"), world.add_file("b.csv", b"b")

    reply = world.run(file_ids=[b.file_id, a.file_id, b.file_id])

    assert reply.execution.context.paths == [b.path, a.path]
    assert transfers(world) == 2


def test_no_file_is_there_when_an_empty_list_is_named(world: World) -> None:
    world.add_file("a.csv", b"a")

    assert world.run(file_ids=[]).execution.context.paths == []
    assert in_sandbox(world) == {}


def test_a_file_is_put_there_once(world: World) -> None:
    file = world.add_file("a.csv", b"a")
    world.run()
    world.calls()

    again, named = world.run(), world.run(file_ids=[file.file_id])

    assert transfers(world) == 0
    assert again.execution.context.paths == named.execution.context.paths == [file.path]


def test_a_file_that_came_later_is_put_beside_the_others(world: World) -> None:
    world.add_file("a.csv", b"a")
    world.run()
    world.add_file("b.csv", b"b")
    world.calls()

    world.run()

    assert transfers(world) == 1
    assert set(in_sandbox(world)) == {"/home/user/a.csv", "/home/user/b.csv"}
    world.run()
    assert transfers(world) == 0


def test_all_files_are_put_there_again_after_a_loss(world: World) -> None:
    world.add_file("a.csv", b"a")
    world.run()
    world.sandboxes.kill("sbx1")

    reply = world.run()

    assert told(reply)[0] == "recreated"
    assert in_sandbox(world) == {"/home/user/a.csv": b"a"}


def test_a_sandbox_that_is_gone_when_a_file_is_put_there_is_replaced(world: World) -> None:
    world.run()
    world.add_file("a.csv", b"a")
    world.sandboxes.kill("sbx1")

    reply = world.run()

    assert told(reply)[0] == "recreated"
    assert transfers(world) == 2, "the first found the sandbox gone"
    assert in_sandbox(world) == {"/home/user/a.csv": b"a"}


# ── What a call leaves to the next one ──────────────────────────────────────────────────────────────


def test_files_that_a_call_did_not_name_are_there_for_the_next_that_names_none(world: World) -> None:
    a, b = world.add_file("a.csv", b"a"), world.add_file("b.csv", b"b")
    world.run(file_ids=[a.file_id])

    reply = world.run()

    assert sorted(reply.execution.context.paths) == [a.path, b.path]
    assert set(in_sandbox(world)) == {a.path, b.path}


def test_a_later_file_that_a_call_did_not_name_is_there_for_the_next_that_names_none(world: World) -> None:
    world.run()
    later = world.add_file("a.csv", b"a")
    world.run(file_ids=[])

    assert world.run().execution.context.paths == [later.path]


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "first call"])
def test_a_file_that_could_not_be_put_there_is_put_there_by_the_next_call(world: World, warm: bool) -> None:
    if warm:
        world.run()
    file = world.add_file("a.csv", b"a")
    world.taps["contents"].fail("read", StoreUnavailable("slow down"))
    with pytest.raises(StoreUnavailable):
        world.run()

    assert world.run().execution.context.paths == [file.path]
    assert in_sandbox(world) == {file.path: b"a"}


def test_files_are_not_forgotten_by_a_call_whose_run_did_not_start(world: World) -> None:
    file = world.add_file("a.csv", b"a")
    world.taps["sandboxes"].fail("run", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        world.run()

    assert world.run().execution.context.paths == [file.path]
    assert transfers(world) == 1


def test_a_file_that_becomes_ready_while_the_sandbox_is_made_is_put_there_by_the_next_call(world: World) -> None:
    """It came after the files had been looked up, and before the session was known to be ready."""
    looked_up = threading.Event()

    def look_up(key: ChatKey) -> Sequence[FileRecord]:
        found = world.catalog.of_chat(key)
        looked_up.set()
        return found

    def create(spec: SandboxSpec, *, within: timedelta) -> SandboxRef:
        assert looked_up.wait(10)
        world.add_file("late.csv", b"late")
        return world.sandboxes.create(spec, within=within)

    world.taps["catalog"].instead["of_chat"] = look_up
    world.taps["sandboxes"].instead["create"] = create

    assert world.run().execution.context.paths == []
    assert world.run().execution.context.paths == ["/home/user/late.csv"]


# ── Files that cannot be used ───────────────────────────────────────────────────────────────────────


def unknown(world: World) -> str:
    """Returns the id of a file that never was."""
    return world.new_id()


def foreign(world: World) -> str:
    """Returns the id of another owner's file, in a chat of the same name."""
    return world.add_file("a.csv", b"a", key=ChatKey("bob", CHAT.chat_id)).file_id


def of_another_chat(world: World) -> str:
    """Returns the id of a file in another chat of this owner."""
    return world.add_file("a.csv", b"a", key=ChatKey(CHAT.owner, "chat-2")).file_id


def pending(world: World) -> str:
    """Returns the id of a file that has not been uploaded."""
    return world.add_file("a.csv", b"a", status=FileStatus.PENDING).file_id


def failed(world: World) -> str:
    """Returns the id of a file that could not be read."""
    return world.add_file("a.csv", b"a", status=FileStatus.FAILED).file_id


@pytest.mark.parametrize(
    ("file_id_of", "error"),
    [
        (unknown, FileNotFound),
        (foreign, FileNotFound),
        (of_another_chat, FileNotFound),
        (pending, FileNotReady),
        (failed, FileUnusable),
    ],
)
def test_a_named_file_that_cannot_be_used_stops_the_call_before_anything_is_claimed(
    world: World, file_id_of: Callable[[World], str], error: type[SandkeeperError]
) -> None:
    good = world.add_file("good.csv", b"good")
    file_id = file_id_of(world)

    with pytest.raises(error, match=file_id):
        world.run(file_ids=[good.file_id, file_id])

    assert world.calls() == ["catalog.of_chat"]
    assert world.store.read(CHAT) is None
    assert world.sandboxes.specs == {}


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "first call"])
def test_a_file_whose_content_is_gone_stops_the_call_and_leaves_the_session_free(world: World, warm: bool) -> None:
    if warm:
        world.run()
    file = world.add_file("a.csv", b"a")
    world.contents.delete(CHAT, file.file_id)
    world.calls()

    with pytest.raises(FileUnusable, match=r"'a.csv'"):
        world.run()

    assert "sandboxes.run" not in world.calls()
    world.assert_free()
    world.run(file_ids=[], on_busy="reject")


def test_one_file_that_fails_is_told_once_the_others_have_been_put_there(world: World) -> None:
    names = [f"{number}.csv" for number in range(6)]
    files = [world.add_file(name, b"x") for name in names]
    world.contents.delete(CHAT, files[2].file_id)

    with pytest.raises(FileUnusable):
        world.run()

    assert len(in_sandbox(world)) == 5


def test_a_lookup_that_fails_leaves_the_session_free(world: World) -> None:
    world.taps["catalog"].fail("of_chat", StoreUnavailable("throttled"))
    with pytest.raises(StoreUnavailable):
        world.run()
    file = world.add_file("a.csv", b"a")

    assert world.run(on_busy="reject").execution.context.paths == [file.path]
