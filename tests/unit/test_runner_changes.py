"""Which files a run has changed: what the runner sees of them on a real disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandkeeper.runner import changes
from sandkeeper.runner.changes import changed_since, states_of
from sandkeeper.runner.runs import Run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home."""
    return tmp_path


def written_at(path: Path, text: str = "x") -> int:
    """Writes a file, and returns when by the file system's clock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path.stat().st_ctime_ns


def later(home: Path, mark: int) -> None:
    """Returns once the file system's clock has gone on, which goes in steps."""
    probe = home / ".probe"
    while written_at(probe) <= mark:
        pass


def marked(home: Path) -> int:
    """Returns a mark behind all that has been written so far."""
    mark = written_at(home / ".mark")
    later(home, mark)
    return written_at(home / ".mark")


def paths(home: Path, mark: int, given: dict[str, tuple[int, int, int, int]] | None = None) -> set[str]:
    """Returns which files have changed since the mark."""
    found, more, all_seen = changed_since(str(home), mark, given or {})
    assert (more, all_seen) == (0, True)
    return {file["path"] for file in found}


def test_created_and_changed_files_are_told_with_their_sizes(home: Path) -> None:
    for name in ("old.csv", "same.csv"):
        written_at(home / name)
    mark = marked(home)

    written_at(home / "old.csv", "changed")
    written_at(home / "a" / "b" / "new.png", "12")

    found, more, all_seen = changed_since(str(home), mark, {})
    assert sorted((file["path"], file["size"]) for file in found) == [("a/b/new.png", 2), ("old.csv", 7)]
    assert (more, all_seen) == (0, True)


def test_a_file_that_is_renamed_appended_to_or_dated_back_has_changed(home: Path) -> None:
    for name in ("renamed", "appended", "copied"):
        written_at(home / name)
    mark = marked(home)

    (home / "renamed").rename(home / "to")
    with (home / "appended").open("a") as file:
        file.write("more")
    os.utime(home / "copied", (0, 0))

    assert paths(home, mark) == {"to", "appended", "copied"}


def test_what_was_put_there_right_before_is_not_the_runs_until_it_changes(home: Path) -> None:
    """The file system's clock goes in steps: a file may bear the very mark of the run's beginning."""
    mark = written_at(home / "data.csv")
    given = states_of(str(home), ["data.csv", "gone.csv"])

    assert paths(home, mark, given) == set()
    assert paths(home, mark) == {"data.csv"}

    written_at(home / "data.csv", "changed at once, within the same step perhaps")
    assert paths(home, mark, given) == {"data.csv"}


def test_hidden_files_caches_links_and_what_is_no_file_are_passed_over(home: Path) -> None:
    mark = marked(home)
    for name in (".hidden", ".cache/x", ".sandkeeper/runs/1", "__pycache__/m.pyc", "a/node_modules/x.js"):
        written_at(home / name)
    (home / "link").symlink_to("/etc/passwd")
    (home / "folder-link").symlink_to("/etc")
    (home / "loop").symlink_to(home)
    os.mkfifo(home / "pipe")
    (home / "empty").mkdir()

    assert paths(home, mark) == set()


def test_names_that_are_no_text_or_cannot_be_printed_are_only_counted(home: Path) -> None:
    mark = marked(home)
    for name in (b"\xff\xfe", b"two\nlines", "\u202e".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(home), name))).write_text("x")  # noqa: PTH118 - bytes
    written_at(home / "žluťoučký 🐎.csv")

    found, more, _ = changed_since(str(home), mark, {})
    assert [file["path"] for file in found] == ["žluťoučký 🐎.csv"]
    assert more == 3


def test_more_files_than_are_told_are_counted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_REPORTED", 3)
    mark = marked(home)
    for number in range(5):
        written_at(home / "deep" / f"{number}.txt")
    written_at(home / "near.txt")

    found, more, all_seen = changed_since(str(home), mark, {})

    assert (len(found), more, all_seen) == (3, 3, True)
    assert found[0]["path"] == "near.txt"


def test_so_many_files_are_looked_at_and_no_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_ENTRIES", 10)
    for number in range(20):
        written_at(home / "many" / f"{number}.txt")

    assert changed_since(str(home), 0, {})[2] is False


def test_a_home_that_is_gone_or_closed_tells_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert changed_since(str(home / "gone"), 0, {}) == ([], 0, True)
    assert "not all files can be seen" in capsys.readouterr().err


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run that has begun."""
    begun = Run("run-1", str(tmp_path / "run-1.jsonl"), [])
    begun.add("accepted")
    yield begun
    begun.add("end")


def test_a_runs_mark_lies_between_what_was_written_before_and_after(run: Run, tmp_path: Path) -> None:
    before = written_at(tmp_path / "before")
    run.add("started")
    mark = run.written_ns()
    after = written_at(tmp_path / "after")

    assert before <= mark <= after


def test_a_run_whose_spool_cannot_be_written_has_a_mark_too(tmp_path: Path) -> None:
    lost = Run("run-1", str(tmp_path / "gone" / "run-1.jsonl"), [])
    lost.add("accepted")

    assert lost.written_ns() > written_at(tmp_path / "before") - 10**9
