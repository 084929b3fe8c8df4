"""Files: their names and places, their limits, and how they go."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.errors import FileNotFound, InvalidRequest, QuotaExceeded, SandboxUnavailable, StoreUnavailable
from sandkeeper.model import ChatKey, FileRecord, FileStatus
from sandkeeper.ports import SandboxGone
from sandkeeper.services.files import MAX_NAME_BYTES, clean_name
from tests.world import CHAT, World


def register(world: World, name: str = "data.csv", size_bytes: int = 10, key: ChatKey = CHAT) -> FileRecord:
    """Registers a file as a request would."""
    return world.files.register(key, file_name=name, size_bytes=size_bytes, content_type="text/csv")[0]


# ── Names ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("data.csv", "data.csv"),
        ("Größe 2026 (final).csv", "Größe 2026 (final).csv"),
        ("資料.csv", "資料.csv"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\data.csv", "data.csv"),
        ("a/b\\c.csv", "c.csv"),
        ("da\x00ta\n.csv", "data.csv"),
        ("evil\u202etxt.csv", "eviltxt.csv"),
        ("  data.csv  ", "data.csv"),
        (".bashrc", ".bashrc"),
        ("...", "..."),
        ("-rf", "-rf"),
        ("$(reboot).csv", "$(reboot).csv"),
    ],
)
def test_a_name_is_kept_less_path_parts_and_control_characters(given_name: str, name: str) -> None:
    assert clean_name(given_name) == name


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/", "a/..", "\\", "\x00", "\u200b"])
def test_a_name_with_nothing_in_it_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="has no name in it"):
        clean_name(name)


@pytest.mark.parametrize("name", ["x" * (MAX_NAME_BYTES + 1), "ü" * (MAX_NAME_BYTES // 2 + 1)])
def test_a_name_that_no_file_system_takes_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="longer than 200 bytes"):
        clean_name(name)


@given(st.text(max_size=60))
def test_whatever_the_name_its_file_lies_in_the_home_directory(name: str) -> None:
    try:
        cleaned = clean_name(name)
    except InvalidRequest:
        return
    assert "/" not in cleaned
    assert cleaned not in ("", ".", "..")
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in cleaned)
    assert clean_name(cleaned) == cleaned


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("data.csv", ["data.csv", "data-2.csv", "data-3.csv"]),
        ("data.tar.gz", ["data.tar.gz", "data.tar-2.gz", "data.tar-3.gz"]),
        ("README", ["README", "README-2", "README-3"]),
        (".env", [".env", ".env-2", ".env-3"]),
    ],
)
def test_files_of_one_name_get_paths_of_their_own(world: World, name: str, paths: list[str]) -> None:
    records = [register(world, name) for _ in paths]

    assert [record.path for record in records] == [f"/home/user/{path}" for path in paths]
    assert {record.name for record in records} == {name}


def test_a_racing_upload_of_the_same_name_takes_the_next_path(world: World) -> None:
    world.taps["catalog"].instead["of_chat"] = lambda key: []
    first, second = register(world), register(world)

    assert [first.path, second.path] == ["/home/user/data.csv", "/home/user/data-2.csv"]


# ── Registering ─────────────────────────────────────────────────────────────────────────────────────


def test_a_registered_file_is_pending_and_may_be_uploaded(world: World) -> None:
    record, ticket = world.files.register(CHAT, file_name="a.csv", size_bytes=10, content_type="text/csv")

    assert (record.status, record.size_bytes, record.created_at) == (FileStatus.PENDING, 10, world.clock())
    assert ticket.fields["key"] == record.file_id
    assert world.files.get(CHAT, record.file_id) == record


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(world: World) -> None:
    world.limit_files(max_bytes=10)

    register(world, size_bytes=10)
    with pytest.raises(InvalidRequest, match="size 11 is over the limit of 10 bytes"):
        register(world, size_bytes=11)

    assert len(world.files.of_chat(CHAT)) == 1


def test_a_chat_at_its_limit_says_so_and_what_frees_it(world: World) -> None:
    world.limit_files(max_files=2)
    first = register(world)
    register(world)

    with pytest.raises(QuotaExceeded, match=r"'chat-1' has 2 files.*delete one first"):
        register(world)
    world.files.delete(CHAT, first.file_id)
    register(world)


def test_the_limit_of_one_chat_is_not_anothers(world: World) -> None:
    world.limit_files(max_files=1)
    register(world)

    register(world, key=ChatKey(CHAT.owner, "chat-2"))


def test_the_files_of_others_are_unknown(world: World) -> None:
    record = register(world)

    for key in (ChatKey("bob", CHAT.chat_id), ChatKey(CHAT.owner, "chat-2")):
        with pytest.raises(FileNotFound, match=record.file_id):
            world.files.get(key, record.file_id)
        with pytest.raises(FileNotFound):
            world.files.delete(key, record.file_id)
    assert world.files.get(CHAT, record.file_id) == record


# ── Deleting ────────────────────────────────────────────────────────────────────────────────────────


def test_a_deleted_file_is_gone_from_everywhere(world: World) -> None:
    file = world.add_file("a.csv", b"a")
    world.run()

    world.files.delete(CHAT, file.file_id)

    assert world.sandboxes.alive["sbx1"] == {}
    assert world.row().hydrated == {}
    assert list(world.files.of_chat(CHAT)) == []
    with pytest.raises(FileNotFound):
        world.contents.read(CHAT, file.file_id)
    assert world.run().execution.context.paths == []


def test_a_deleted_files_path_is_free_and_the_new_content_gets_there(world: World) -> None:
    old = world.add_file("a.csv", b"old")
    world.run()
    world.files.delete(CHAT, old.file_id)
    world.add_file("a.csv", b"new")

    world.run()

    assert world.sandboxes.alive["sbx1"] == {"/home/user/a.csv": b"new"}


@pytest.mark.parametrize("error", [SandboxGone("sbx1"), SandboxUnavailable("down")], ids=["gone", "unreachable"])
def test_a_sandbox_that_does_not_answer_keeps_no_file_from_being_deleted(
    world: World, error: BaseException
) -> None:
    file = world.add_file("a.csv", b"a")
    world.run()
    world.taps["sandboxes"].fail("delete_file", error)

    world.files.delete(CHAT, file.file_id)

    assert list(world.files.of_chat(CHAT)) == []


def test_a_file_is_deleted_in_a_paused_sandbox_too(world: World) -> None:
    """It would be there again once the sandbox is resumed."""
    file = world.add_file("a.csv", b"a")
    world.run()
    world.pause_sandbox()

    world.files.delete(CHAT, file.file_id)

    assert world.sandboxes.alive["sbx1"] == {}
    assert world.row().pauses_at == world.clock() + timedelta(minutes=5)


def test_a_paused_sandbox_that_cannot_be_resumed_keeps_no_file_from_being_deleted(world: World) -> None:
    file = world.add_file("a.csv", b"a")
    world.run()
    world.pause_sandbox()
    world.taps["sandboxes"].fail("connect", SandboxUnavailable("down"))

    world.files.delete(CHAT, file.file_id)

    assert list(world.files.of_chat(CHAT)) == []
    assert ("file.copy_not_deleted", {"error": "SandboxUnavailable"}) in world.journal.notes


def test_without_a_live_session_no_sandbox_is_asked(world: World) -> None:
    file = world.add_file("a.csv", b"a")

    world.files.delete(CHAT, file.file_id)

    assert "sandboxes.delete_file" not in world.calls()


def test_a_deletion_that_failed_half_way_is_finished_by_the_same_call(world: World) -> None:
    file = world.add_file("a.csv", b"a")
    world.taps["contents"].fail("delete", StoreUnavailable("slow down"))
    with pytest.raises(StoreUnavailable):
        world.files.delete(CHAT, file.file_id)

    world.files.delete(CHAT, file.file_id)

    assert list(world.files.of_chat(CHAT)) == []
