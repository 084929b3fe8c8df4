"""What a chat's context gathers, and the text that a model reads."""

from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.errors import CapacityExhausted, NotConfigured, SandboxUnavailable, StoreUnavailable
from sandkeeper.model import (
    ChatKey,
    Column,
    EndReason,
    FileKind,
    FileReading,
    FileStatus,
    SandboxRef,
    SessionState,
    Table,
)
from sandkeeper.ports import PackageList, SandboxGone
from sandkeeper.services import briefing as words
from sandkeeper.services.briefing import MAX_CHARS, briefing
from sandkeeper.services.context import ASSUMED, FRESH, ChatContext, Installed
from tests.factories import busy, creating, idle, record
from tests.world import CHAT, OWNER, START, World

TEMPLATE = "code-interpreter-v1"
OTHER = ChatKey(OWNER, "chat-2")


def context(world: World, key: ChatKey = CHAT) -> ChatContext:
    """Returns the chat's context."""
    return world.wiring.context.of(key)


def text(world: World) -> str:
    """Returns the chat's context as a model reads it, which must be short."""
    told = briefing(context(world))
    assert len(told) <= MAX_CHARS
    return told


def section(told: str, title: str) -> str:
    """Returns what the text says under this title."""
    return told.split(f"## {title}\n\n")[1].split("\n\n## ", maxsplit=1)[0].strip()


def known(packages: dict[str, str], *, run_count: int = 0) -> PackageList:
    """Returns a list of packages that was told just now."""
    return PackageList(packages=packages, run_count=run_count, told_at=START)


def put(world: World, *tables: Table, name: str = "data.csv", kind: FileKind = FileKind.CSV) -> None:
    """Adds a file that holds these tables."""
    file = record(name)
    world.catalog.add(file)
    world.catalog.mark_ready(CHAT, file.file_id, FileReading(size_bytes=1_234, kind=kind, tables=tables))


def table(columns: int = 2, rows: int = 15, name: str | None = None) -> Table:
    """Returns a table with so many columns and rows."""
    made = [Column(name=f"column_{number}", type="integer", nulls=0) for number in range(columns)]
    return Table(name=name, columns=made, row_count=rows)


# ── State ───────────────────────────────────────────────────────────────────────────────────────────


def outlook(world: World) -> tuple[str, bool, EndReason | None]:
    """Returns what the next run will find."""
    found = context(world).outlook
    return found.session, found.has_variables, found.reason


def test_a_chat_in_which_nothing_has_run_has_nothing_to_lose(world: World) -> None:
    assert outlook(world) == ("none", False, None)
    assert "No code has run in this chat yet" in section(text(world), "State")


def test_variables_of_earlier_calls_are_told_as_there(world: World) -> None:
    world.run()
    assert outlook(world) == ("idle", True, None)
    assert "files of 1 call so far are there" in section(text(world), "State")

    world.run()
    assert "files of 2 calls so far are there" in section(text(world), "State")


def test_a_paused_session_keeps_its_variables_and_stays_paused(world: World) -> None:
    world.run()
    world.clock.advance(timedelta(minutes=6))
    world.pause_sandbox()
    world.calls()

    assert outlook(world) == ("paused", True, None)
    assert "files of 1 call so far are there" in section(text(world), "State")
    assert [call for call in world.calls() if call.startswith("sandboxes.")] == []
    assert world.sandboxes.paused == {"sbx1"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (creating(), ("creating", False, None)),
        (creating(end_reason=EndReason.EXPIRED, generation=2), ("creating", False, EndReason.EXPIRED)),
        (busy(), ("running", False, None)),
        (busy(run_count=2), ("running", True, None)),
        (idle(run_count=2, untold=EndReason.KERNEL_DIED), ("idle", False, EndReason.KERNEL_DIED)),
        (idle(run_count=2, expires_at=START), ("ended", False, EndReason.EXPIRED)),
        (
            busy(state=SessionState.CLOSING, claim_until=START, end_reason=EndReason.FORCED),
            ("ended", False, EndReason.FORCED),
        ),
    ],
)
def test_every_state_is_told(world: World, row: Any, told: tuple[str, bool, EndReason | None]) -> None:
    world.store.begin(row, seen=None)

    assert outlook(world) == told
    said = section(text(world), "State")
    assert ("variables of earlier calls are gone" in said or "its variables are gone" in said) == (
        told[2] is not None
    )
    assert ("are there, and will stay" in said) == told[1]
    assert ("Code is running in it now." in said) == (told[0] == "running")


def test_a_session_that_was_closed_is_told_as_ended(world: World) -> None:
    world.run()
    world.sessions.ending.close(CHAT)

    assert outlook(world) == ("ended", False, EndReason.CLOSED)
    assert "has ended (it was closed)" in section(text(world), "State")


# ── Packages ────────────────────────────────────────────────────────────────────────────────────────


def test_a_live_sandbox_is_asked_and_its_answer_serves_chats_without_one(world: World) -> None:
    world.run()

    assert context(world).installed == Installed(source="sandbox", versions=world.sandboxes.installed)
    assert context(world, OTHER).installed == Installed(source="template", versions=world.sandboxes.installed)
    assert "Installed: pandas 2.3.3, numpy 2.3.4." in section(text(world), "Packages")


def test_where_nobody_has_looked_the_usual_ones_are_told_without_versions(world: World) -> None:
    assert context(world).installed == Installed(source="assumed", versions=dict.fromkeys(ASSUMED))
    assert "Usually installed (nobody has looked yet): pandas, numpy," in section(text(world), "Packages")
    assert world.sandboxes.specs == {}


@pytest.mark.parametrize(
    "error", [SandboxGone("x"), SandboxUnavailable("x"), CapacityExhausted("x"), NotConfigured("x")]
)
def test_a_sandbox_that_cannot_be_asked_is_no_error(world: World, error: Exception) -> None:
    world.run()
    world.package_lists.keep(TEMPLATE, known({"pandas": "1"}))
    world.taps["sandboxes"].fail("packages", error)

    assert context(world).installed == Installed(source="template", versions={"pandas": "1"})


def test_a_list_that_cannot_be_kept_is_told_all_the_same(world: World) -> None:
    world.run()
    world.taps["package_lists"].fail("keep", StoreUnavailable("x"))

    assert context(world).installed.source == "sandbox"


def test_what_a_sandbox_has_beside_its_templates_packages_is_told_first(world: World) -> None:
    world.package_lists.keep(TEMPLATE, known(world.sandboxes.installed))
    world.sandboxes.installed = {**world.sandboxes.installed, "zebra": "0.1"}
    world.run()

    assert context(world).installed.added == ("zebra",)
    assert "Installed: zebra 0.1, pandas" in section(text(world), "Packages")


@pytest.mark.parametrize(
    ("run_count", "age", "is_kept"),
    [
        (0, timedelta(0), False),
        (1, timedelta(0), True),
        (5, timedelta(0), True),
        (0, FRESH, False),
        (0, FRESH + timedelta(minutes=1), True),
    ],
)
def test_the_list_of_the_sandbox_that_has_run_least_is_kept_for_others(
    world: World, run_count: int, age: timedelta, is_kept: bool
) -> None:
    """Each run may have installed something that other sandboxes do not have."""
    world.package_lists.keep(TEMPLATE, known({"pandas": "1"}, run_count=run_count))
    world.clock.advance(age)
    world.run()

    context(world)

    kept = world.package_lists.recall(TEMPLATE)
    assert kept is not None
    assert (kept.packages == world.sandboxes.installed) == is_kept


def test_a_list_that_is_known_already_is_not_written_again(world: World) -> None:
    world.run()
    context(world)
    world.calls()

    context(world)

    assert "package_lists.keep" not in world.calls()


def test_of_many_packages_those_that_matter_are_named(world: World) -> None:
    world.sandboxes.installed = {f"package-{number}": "1.0" for number in range(300)} | {"pandas": "2.3.3"}
    world.run()

    said = section(text(world), "Packages")

    assert said.startswith("Installed: pandas 2.3.3, package-0 1.0,")
    assert said.endswith("more. `%pip install NAME` adds others.")
    assert len(said) < 650


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_told_with_its_columns_types_and_rows(world: World) -> None:
    columns = [
        Column(name="Salary", type="number", nulls=0),
        Column(name="Hire Date", type="date", nulls=2),
        Column(name='odd "\n', type="text", nulls=0),
    ]
    put(world, Table(columns=columns, row_count=1_500))

    assert section(text(world), "Files") == (
        "- `/home/user/data.csv`: delimited text, 1,234 bytes; 1,500 rows × 3 columns: Salary (number),"
        " 'Hire Date' (date, 2 empty), 'odd \"\\n' (text)"
    )


def test_a_workbook_is_told_sheet_by_sheet(world: World) -> None:
    put(world, table(1, name="Q1"), table(2, rows=1, name="All of it"), name="book.xlsx", kind=FileKind.EXCEL)

    assert section(text(world), "Files") == (
        "- `/home/user/book.xlsx`: Excel, 1,234 bytes\n"
        "  - Q1: 15 rows × 1 column: column_0 (integer)\n"
        "  - 'All of it': 1 row × 2 columns: column_0 (integer), column_1 (integer)"
    )


@pytest.mark.parametrize(
    ("kind", "details", "told"),
    [
        (FileKind.CSV, {"encoding": "utf-8", "delimiter": ",", "quote": '"'}, ""),
        (FileKind.CSV, {"encoding": "cp1252", "delimiter": "\t"}, ", encoding 'cp1252', delimiter '\\t'"),
        (FileKind.TEXT, {"encoding": "utf-8", "lines": 12_000}, ", lines 12,000"),
        (FileKind.IMAGE, {"format": "PNG", "width": 640, "height": 480}, ", width 640, height 480"),
        (FileKind.PDF, {"pages": 3}, ", pages 3"),
        (FileKind.OTHER, {"encoding": ["odd"], "lines": None, "delimiter": "x" * 500}, f", delimiter '{'x' * 80}'"),
    ],
)
def test_what_readers_have_to_be_told_of_a_file_is_told(
    world: World, kind: FileKind, details: dict[str, Any], told: str
) -> None:
    file = record("f")
    world.catalog.add(file)
    world.catalog.mark_ready(CHAT, file.file_id, FileReading(size_bytes=1_234, kind=kind, details=details))

    assert section(text(world), "Files") == f"- `/home/user/f`: {words._KINDS[kind]}, 1,234 bytes{told}"


def test_files_that_cannot_be_used_are_told_as_such(world: World) -> None:
    world.add_file("late.csv", b"", status=FileStatus.PENDING)
    world.add_file("broken.csv", b"", status=FileStatus.FAILED)

    assert section(text(world), "Files") == (
        "- `/home/user/late.csv`: not there yet; it is being uploaded or read\n"
        "- `/home/user/broken.csv`: cannot be used (it is broken)"
    )


@pytest.mark.parametrize(
    ("files", "columns", "shown"),
    [(1, 40, 40), (1, 1_000, 40), (4, 100, 15), (10, 100, 5), (25, 100, 0)],
)
def test_fewer_columns_are_told_where_there_are_more(world: World, files: int, columns: int, shown: int) -> None:
    for number in range(files):
        put(world, table(columns), name=f"f{number}.csv")

    lines = section(text(world), "Files").split("\n")

    assert len(lines) == files
    for line in lines:
        assert line.count("(integer)") == shown
        assert f"{columns:,} columns" in line
        assert (f"and {columns - shown:,} more" in line) == (0 < shown < columns)


def test_files_that_do_not_fit_are_counted(world: World) -> None:
    for number in range(100):
        put(world, *[table(500, name="x" * 500)] * 20, name=f"{'n' * 190}{number}.csv")

    lines = section(text(world), "Files").split("\n")

    assert lines[-1] == f"- and {100 - len(lines) + 1} more: see `os.listdir('/home/user')`"


def test_a_name_of_any_length_takes_little_room(world: World) -> None:
    put(world, Table(columns=[Column(name="x" * 5_000, type="text", nulls=0)], row_count=1))

    assert f"'{'x' * 80}'… (text)" in section(text(world), "Files")


# ── The rest ────────────────────────────────────────────────────────────────────────────────────────


def test_limits_are_those_of_the_deployment(world: World) -> None:
    world.configure(e2b_sandbox_timeout=90_500)

    assert section(text(world), "Limits") == (
        "Code is stopped after 90.5 s, or after `timeoutMs`, which may be up to 3,600 s; variables stay. Printed"
        " text ends at 3 MB, and a whole reply holds 4 MB."
    )


def test_every_reason_and_every_kind_of_file_has_its_words() -> None:
    assert set(words._REASONS) == set(EndReason)
    assert set(words._KINDS) == set(FileKind)


def test_asking_costs_little_and_changes_nothing(world: World) -> None:
    world.run()
    context(world)
    world.calls()
    before = world.row()

    context(world)

    assert world.calls() == ["catalog.of_chat", "package_lists.recall", "sandboxes.packages", "store.read"]
    assert world.row() == before


def test_a_sandbox_is_asked_by_its_coordinates_also_while_code_runs(world: World) -> None:
    asked: list[SandboxRef] = []

    def packages(sandbox: SandboxRef) -> dict[str, str]:
        asked.append(sandbox)
        return {"numpy": "1"}

    world.taps["sandboxes"].instead["packages"] = packages
    world.sandboxes.program = lambda *_: None
    world.run("going on", mode="async")

    assert context(world).installed.versions == {"numpy": "1"}
    assert asked == [world.row().sandbox]
