"""Files that runs leave behind are kept, whoever sees the end, and nothing of it keeps a result from its caller."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.errors import ArtifactNotFound, SandboxUnavailable, StoreUnavailable
from sandkeeper.model import (
    Artifact,
    ArtifactStatus,
    ChangedFile,
    Changes,
    ChatKey,
    EndReason,
    RunEnd,
    RunOutcome,
    SandboxRef,
    Stream,
)
from sandkeeper.ports import SandboxGone
from sandkeeper.services import artifacts as service
from sandkeeper.services.artifacts import Artifacts, plan
from tests.factories import having_changed, sandbox
from tests.world import CHAT, CallerDied, Patience, World

TABLE = b"a,b\r\n1,\xff\0\n"
OUT = "/home/user/out.csv"
DOWN = StoreUnavailable("throttled")
LONG = timedelta(seconds=20)
TAKEN_FOR_DEAD = timedelta(seconds=45)
STORED, PENDING, SKIPPED = ArtifactStatus.STORED, ArtifactStatus.PENDING, ArtifactStatus.SKIPPED


@pytest.fixture
def writing(world: World) -> World:
    """A world in which code is `path=content …`: it writes these files."""

    def program(ref: SandboxRef, code: str) -> RunOutcome | None:
        if code == "goes on":
            return None
        files = [word.partition("=")[::2] for word in code.split() if "=" in word]
        world.sandboxes.alive[ref.sandbox_id].update({path: content.encode() for path, content in files})
        return wrote(*(ChangedFile(path, len(content.encode())) for path, content in files))

    world.sandboxes.program = program
    return world


def wrote(*files: ChangedFile) -> RunOutcome:
    """Returns what a run gives that has printed something and written these files."""
    return RunOutcome([Stream("stdout", "done")], RunEnd.FINISHED, Changes([*files]))


def content_of(world: World, artifact: Artifact, key: ChatKey = CHAT) -> bytes:
    """Returns what a download of the artifact gives."""
    found = world.wiring.executions.artifact(key, artifact.artifact_id)
    return world.artifact_contents.content_at(world.wiring.artifacts.url(found, lasts=timedelta(minutes=1)))


def statuses(found: Sequence[Artifact]) -> list[tuple[str, ArtifactStatus]]:
    """Returns what became of which file."""
    return [(each.path, each.status) for each in found]


# ── What is kept ────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_a_run_writes_outlives_the_sandbox(writing: World) -> None:
    reply = writing.run(f"{OUT}=1,2")
    (kept,) = reply.execution.artifacts
    writing.sessions.ending.close(CHAT)

    assert (kept.path, kept.size_bytes, kept.mime_type, kept.status) == (OUT, 3, "text/csv", STORED)
    assert content_of(writing, kept) == b"1,2"
    assert writing.runs.get(CHAT, reply.execution.execution_id) == reply.execution


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("plot.PNG", "image/png"),
        ("notes.md", "text/markdown"),
        ("table.parquet", "application/vnd.apache.parquet"),
        ("rows.jsonl", "application/jsonl"),
        ("table.csv.gz", "application/octet-stream"),
        ("archive.tar.gz", "application/octet-stream"),
        ("unheard.of", "application/octet-stream"),
        ("csv", "application/octet-stream"),
    ],
)
def test_a_file_is_told_as_what_its_name_says_and_a_packed_one_not_as_what_is_in_it(
    writing: World, name: str, told: str
) -> None:
    (kept,) = writing.run(f"{name}=1").execution.artifacts

    assert kept.mime_type == told


def test_a_run_that_writes_nothing_asks_for_nothing(writing: World) -> None:
    writing.run("1")

    taps = writing.taps
    assert not taps["artifact_catalog"].calls
    assert not taps["artifact_contents"].calls


def test_a_later_file_of_the_same_name_is_another_version(writing: World) -> None:
    first = writing.run(f"{OUT}=1").execution
    second = writing.run(f"{OUT}=22 /home/user/b.png=x").execution

    listed = [(each.path, version) for each, version in writing.wiring.artifacts.of_chat(CHAT)]

    assert listed == [(OUT, 2), ("/home/user/b.png", 1), (OUT, 1)]
    assert content_of(writing, first.artifacts[0]) == b"1"
    assert content_of(writing, second.artifacts[0]) == b"22"


def test_what_a_run_leaves_without_anybody_who_listens_is_kept_by_whoever_asks(writing: World) -> None:
    begun = writing.run("goes on", mode="async").execution
    writing.sandboxes.alive["sbx1"][OUT] = b"late"
    writing.sandboxes.finish(begun.execution_id, wrote(ChangedFile(OUT, 4)))

    asked = writing.wiring.executions.get(CHAT, begun.execution_id)

    assert statuses(asked.artifacts) == [(OUT, STORED)]
    assert content_of(writing, asked.artifacts[0]) == b"late"
    assert writing.wiring.executions.get(CHAT, begun.execution_id) == asked


def test_what_nobody_asks_for_is_kept_before_the_sandbox_goes(writing: World) -> None:
    begun = writing.run("goes on", mode="async").execution
    writing.sandboxes.alive["sbx1"][OUT] = b"last"
    writing.sandboxes.finish(begun.execution_id, wrote(ChangedFile(OUT, 4)))
    writing.clock.advance(timedelta(hours=2))

    writing.cleanup(everything=False, time_left_s=lambda: 100)

    assert writing.sandboxes.alive == {}
    (kept,) = writing.wiring.artifacts.of_chat(CHAT)
    assert content_of(writing, kept[0]) == b"last"


# ── Bounds ──────────────────────────────────────────────────────────────────────────────────────────


def sizes(*sizes: int) -> list[tuple[ArtifactStatus, str | None]]:
    """Returns what is to become of files of these sizes, and why."""
    files = [ChangedFile(f"/home/user/{number}", size) for number, size in enumerate(sizes)]
    return [(planned.status, planned.reason) for planned in plan(having_changed(*files))]


def test_so_many_files_of_a_run_are_kept_and_no_more() -> None:
    planned = sizes(*[1] * (service.MAX_FILES + 2))

    assert planned[: service.MAX_FILES] == [(PENDING, None)] * service.MAX_FILES
    assert [status for status, _ in planned[service.MAX_FILES :]] == [SKIPPED] * 2
    assert str(service.MAX_FILES) in str(planned[-1][1])


def test_a_file_that_is_too_large_is_told_and_takes_no_room_from_others() -> None:
    too_large, small = sizes(service.MAX_BYTES + 1, 1)

    assert too_large[0] is SKIPPED
    assert str(service.MAX_BYTES) in str(too_large[1])
    assert small == (PENDING, None)


def test_all_files_of_a_run_together_have_a_bound_too() -> None:
    planned = sizes(service.MAX_BYTES, service.MAX_BYTES, 1)

    assert [status for status, _ in planned] == [PENDING, PENDING, SKIPPED]
    assert str(service.MAX_TOTAL_BYTES) in str(planned[-1][1])


def test_a_file_that_has_grown_beyond_the_bound_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_BYTES", 10)
    live = live_with(world, {OUT: b"x" * 11})

    kept = keep(world, live, ChangedFile(OUT, 10))

    assert statuses(kept) == [(OUT, SKIPPED)]
    assert world.artifact_contents.kept == {}


def test_the_size_that_is_told_is_the_contents(world: World) -> None:
    live = live_with(world, {OUT: TABLE})

    (kept,) = keep(world, live, ChangedFile(OUT, 1))

    assert kept.size_bytes == len(TABLE)
    assert content_of(world, kept) == TABLE


# ── What goes wrong ─────────────────────────────────────────────────────────────────────────────────


def live_with(world: World, files: dict[str, bytes]) -> SandboxRef:
    """Returns a sandbox with these files."""
    world.run("warm")
    world.sandboxes.alive["sbx1"].update(files)
    return replace(sandbox(), sandbox_id="sbx1")


def keep(
    world: World, live: SandboxRef, *files: ChangedFile, again: bool = False, within: timedelta = LONG
) -> tuple[Artifact, ...]:
    """Returns what became of the files of `run-1`."""
    artifacts: Artifacts = world.wiring.artifacts
    return (*artifacts.keep(having_changed(*files), live, within, again=again).artifacts,)


@pytest.mark.parametrize(
    ("port", "method"),
    [("sandboxes", "read_file"), ("artifact_contents", "write"), ("artifact_catalog", "add")],
)
def test_what_cannot_be_kept_now_keeps_no_result_from_its_caller_and_is_kept_by_the_next(
    writing: World, port: str, method: str
) -> None:
    writing.taps[port].fail(method, SandboxUnavailable("slow") if port == "sandboxes" else DOWN)

    told = writing.run(f"{OUT}=1").execution

    assert told.end is RunEnd.FINISHED
    assert statuses(told.artifacts) == [(OUT, PENDING)]
    next_one = writing.run(f"{OUT}=2").execution
    first, second = (writing.wiring.executions.get(CHAT, each.execution_id) for each in (told, next_one))
    assert content_of(writing, first.artifacts[0]) == b"1", "kept before the next run could change it"
    assert content_of(writing, second.artifacts[0]) == b"2"
    assert writing.row().run_count == 2


@pytest.mark.parametrize(
    ("port", "method"),
    [("sandboxes", "read_file"), ("artifact_contents", "write"), ("artifact_catalog", "add")],
)
def test_what_cannot_be_kept_twice_is_given_up_and_told(writing: World, port: str, method: str) -> None:
    error = SandboxUnavailable("slow") if port == "sandboxes" else DOWN
    writing.taps[port].fail(method, error, error)

    told = writing.run(f"{OUT}=1").execution
    assert writing.run("2").execution.end is RunEnd.FINISHED

    (given_up,) = writing.wiring.executions.get(CHAT, told.execution_id).artifacts
    assert given_up.status is SKIPPED
    assert "write it once more" in str(given_up.reason)


def test_whoever_asks_for_a_pending_artifact_has_it_kept(writing: World) -> None:
    writing.taps["artifact_contents"].fail("write", DOWN)
    told = writing.run(f"{OUT}=1").execution

    assert content_of(writing, told.artifacts[0]) == b"1"
    assert not writing.row().is_busy


STEPS = [
    *(("sandboxes", "read_file"), ("artifact_contents", "write"), ("artifact_catalog", "add")),
    *(("runs", "finish"), ("store", "release")),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("port", "method"), STEPS, ids=" ".join)
def test_wherever_a_call_dies_its_file_is_kept_as_the_run_left_it(
    writing: World, port: str, method: str, when: str
) -> None:
    writing.run("warm")
    tap = writing.taps[port]
    if when == "before":
        tap.fail(method, CallerDied())
    else:
        tap.die_after(method)
    with pytest.raises(CallerDied):
        writing.run(f"{OUT}=1")
    writing.beside.settle()
    tap.errors.clear()
    tap.instead.clear()
    writing.clock.advance(TAKEN_FOR_DEAD)

    writing.run(f"{OUT}=2")

    later, earlier = writing.wiring.artifacts.of_chat(CHAT)
    assert (content_of(writing, earlier[0]), earlier[1]) == (b"1", 1)
    assert (content_of(writing, later[0]), later[1]) == (b"2", 2)


def test_a_file_that_is_gone_by_then_is_told(world: World) -> None:
    live = live_with(world, {OUT: b"1"})

    kept = keep(world, live, ChangedFile("/home/user/gone", 1), ChangedFile(OUT, 1))

    assert statuses(kept) == [("/home/user/gone", SKIPPED), (OUT, STORED)]


def test_files_of_a_sandbox_that_is_gone_are_told_and_the_result_too(writing: World) -> None:
    writing.taps["sandboxes"].fail("read_file", SandboxGone("gone"))

    told = writing.run(f"{OUT}=1").execution

    assert statuses(told.artifacts) == [(OUT, SKIPPED)]
    assert not writing.row().is_busy


def test_what_others_have_kept_already_is_not_copied_again(world: World) -> None:
    live = live_with(world, {OUT: b"1"})
    first = keep(world, live, ChangedFile(OUT, 1))
    world.sandboxes.alive["sbx1"][OUT] = b"changed by the next run"

    assert keep(world, live, ChangedFile(OUT, 1), again=True) == first
    assert content_of(world, first[0]) == b"1"


def test_of_two_that_keep_the_same_the_first_to_write_it_down_counts(world: World) -> None:
    live = live_with(world, {OUT: b"1"})
    first = keep(world, live, ChangedFile(OUT, 1))
    world.sandboxes.alive["sbx1"][OUT] = b"changed by the next run"

    assert keep(world, live, ChangedFile(OUT, 1)) == first
    assert content_of(world, first[0]) == b"1"


@pytest.mark.parametrize(("within_s", "status"), [(1, PENDING), (20, SKIPPED)])
def test_a_copy_that_takes_too_long_is_tried_again_unless_there_was_time_enough(
    world: World, patience: Patience, within_s: int, status: ArtifactStatus
) -> None:
    live = live_with(world, {})

    def slow(*_: object) -> object:
        world.clock.advance(timedelta(seconds=30))
        return iter([b"1"])

    world.taps["sandboxes"].instead["read_file"] = slow

    kept = keep(world, live, ChangedFile(OUT, 1), again=True, within=timedelta(seconds=within_s))

    assert statuses(kept) == [(OUT, status)]
    assert world.artifact_contents.kept == {}


def test_a_call_without_time_leaves_its_files_and_its_lease_to_others(writing: World, patience: Patience) -> None:
    """The code took all of the call's time."""
    run = writing.sandboxes.program

    def slow(ref: SandboxRef, code: str) -> RunOutcome | None:
        writing.clock.advance(timedelta(seconds=27))
        return run(ref, code)

    writing.sandboxes.program = slow

    told = writing.run(f"{OUT}=1", limit=timedelta(minutes=1)).execution

    assert told.end is RunEnd.FINISHED
    assert statuses(told.artifacts) == [(OUT, PENDING)]
    assert writing.row().run_id == told.execution_id
    assert not writing.row().is_attended(writing.clock.now)
    assert statuses(writing.wiring.executions.get(CHAT, told.execution_id).artifacts) == [(OUT, STORED)]


# ── Who may have it ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("other", [ChatKey("mallory", CHAT.chat_id), ChatKey(CHAT.owner, "another")])
def test_nobody_else_finds_it(writing: World, other: ChatKey) -> None:
    (kept,) = writing.run(f"{OUT}=1").execution.artifacts

    with pytest.raises(ArtifactNotFound, match=kept.artifact_id):
        content_of(writing, kept, other)
    assert [*writing.wiring.artifacts.of_chat(other)] == []


def test_one_that_was_not_stored_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_BYTES", 1)
    (skipped,) = keep(world, live_with(world, {OUT: b"22"}), ChangedFile(OUT, 2))

    with pytest.raises(ArtifactNotFound, match=r"out\.csv.*larger than"):
        content_of(world, skipped)
    assert [*world.wiring.artifacts.of_chat(CHAT)] == []


def test_a_lost_run_has_no_files(writing: World) -> None:
    begun = writing.run("goes on", mode="async").execution
    writing.sandboxes.kill("sbx1")

    lost = writing.wiring.executions.get(CHAT, begun.execution_id)

    assert (lost.end, lost.artifacts) == (RunEnd.SANDBOX_LOST, ())
    assert writing.run("1").execution.reset_reason is EndReason.SANDBOX_LOST
