"""The soak knows what a chat has been told of its state, and sees what contradicts it."""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from soak.program import program, snapshot_of
from soak.truth import Snapshot, Told, Truth

TIMEOUT_S = 60.0
NOTHING: Mapping[str, str] = {}


def shown(*ids: str, lines: tuple[str, ...] | None = None, files: Mapping[str, str] = NOTHING) -> Snapshot:
    """Returns what a run showed; the file has the same as the variable unless told."""
    return Snapshot(variable=ids, lines=ids if lines is None else lines, files=files)


def told(run_id: str, snapshot: Snapshot | None, *, at: float = 10.0, **changes: Any) -> Told:
    """Returns a reply of the first generation's sandbox, in use before."""
    values: dict[str, Any] = {
        "status": "reused",
        "generation": 1,
        "state_reset": False,
        "reason": None,
        "sandbox_id": f"sbx{changes.get('generation', 1)}",
        "sent_at": at - 0.1,
        "used_at": at,
    }
    return Told(**values | {"run_id": run_id, "snapshot": snapshot, "at": at} | changes)


def recreated(
    run_id: str, snapshot: Snapshot | None, reason: str, *, at: float = 10.0, generation: int = 2
) -> Told:
    """Returns a reply that tells of a loss."""
    changes: dict[str, Any] = {"status": "recreated", "state_reset": True, "reason": reason}
    return told(run_id, snapshot, at=at, generation=generation, **changes)


@pytest.fixture
def truth() -> Truth:
    """A chat that has run `a`, told at second 10."""
    made = Truth(TIMEOUT_S)
    assert made.heard(told("a", shown("a"), status="new")) == []
    return made


def test_a_state_that_grows_by_each_run_is_right(truth: Truth) -> None:
    assert truth.heard(told("b", shown("a", "b"))) == []
    assert truth.heard(told("c", shown("a", "b", "c"), status="resumed")) == []


def test_a_run_that_took_place_twice_is_seen(truth: Truth) -> None:
    assert "twice" in " ".join(truth.heard(told("b", shown("a", "b", "b"))))


def test_a_run_that_took_place_twice_in_the_file_alone_is_seen(truth: Truth) -> None:
    assert "twice" in " ".join(truth.heard(told("b", shown("a", "b", lines=("a", "b", "b")))))


@pytest.mark.parametrize("ids", [("b",), ("x", "a", "b"), ("a", "x", "b"), ("a",), ()])
def test_state_that_is_lost_changed_or_not_there_is_seen(truth: Truth, ids: tuple[str, ...]) -> None:
    assert truth.heard(told("b", shown(*ids))) != []


def test_a_run_that_was_refused_must_not_show_later(truth: Truth) -> None:
    assert "refused" in " ".join(truth.heard(told("c", shown("a", "b", "c"))))


def test_a_run_of_unknown_end_may_have_taken_place_or_not(truth: Truth) -> None:
    truth.unknown("b")
    truth.unknown("c")
    assert truth.heard(told("d", shown("a", "c", "d"))) == []
    assert truth.heard(told("e", shown("a", "c", "d", "b", "e"))) != [], "b showed too late"


def test_a_run_under_way_beside_another_may_come_after_it(truth: Truth) -> None:
    truth.unknown("b")
    assert truth.heard(told("c", shown("a", "c")), beside=frozenset({"b"})) == []
    assert truth.heard(told("d", shown("a", "c", "b", "d"))) == []


def test_a_reply_without_output_leaves_open_whether_the_run_took_place(truth: Truth) -> None:
    assert truth.heard(told("b", None)) == []
    assert truth.heard(told("c", shown("a", "b", "c"))) == []


def test_a_loss_that_was_told_is_right(truth: Truth) -> None:
    truth.lost_at = 11
    assert truth.heard(recreated("b", shown("b"), "sandbox_lost", at=12)) == []
    assert truth.heard(recreated("c", shown("c"), "expired", at=80, generation=3)) == []


def test_state_of_before_a_told_loss_must_be_gone(truth: Truth) -> None:
    truth.lost_at = 11
    assert truth.heard(recreated("b", shown("a", "b"), "sandbox_lost", at=12)) != []


def test_a_loss_that_nobody_caused_is_seen(truth: Truth) -> None:
    assert "nobody" in " ".join(truth.heard(recreated("b", shown("b"), "sandbox_lost", at=12)))


def test_an_expiry_before_its_time_is_seen(truth: Truth) -> None:
    assert "before its time" in " ".join(truth.heard(recreated("b", shown("b"), "expired", at=60)))


def test_an_expiry_counts_from_when_the_session_was_used_and_not_from_when_that_was_told(truth: Truth) -> None:
    assert truth.heard(told("b", shown("a", "b"), at=50, used_at=20)) == []
    assert truth.heard(recreated("c", shown("c"), "expired", at=81)) == []


def test_a_silent_loss_in_a_new_generation_is_seen(truth: Truth) -> None:
    assert truth.heard(told("b", shown("b"), generation=2)) != []


def test_a_loss_may_have_been_told_in_an_answer_that_was_lost(truth: Truth) -> None:
    truth.unknown("b")
    assert truth.heard(told("c", shown("b", "c"), generation=2)) == []


def test_a_lost_answer_excuses_nothing_when_its_run_did_not_take_place(truth: Truth) -> None:
    truth.unknown("b")
    assert "no answer told of it" in " ".join(truth.heard(told("c", shown("c"), generation=2)))


def test_a_new_session_needs_somebody_who_closed_the_old_one(truth: Truth) -> None:
    assert truth.heard(told("b", shown("b"), status="new", generation=2)) != []
    truth.closed = "maybe"
    assert truth.heard(told("c", shown("c"), status="new", generation=3)) == []


def test_a_closed_session_must_not_go_on(truth: Truth) -> None:
    truth.closed = "yes"
    assert "closed" in " ".join(truth.heard(told("b", shown("a", "b"))))


def test_a_kernel_that_an_interrupt_ended_must_be_told(truth: Truth) -> None:
    assert truth.heard(told("b", shown("a", "b"), was_interrupted=True)) == []
    reset: dict[str, Any] = {"state_reset": True, "reason": "kernel_died"}
    assert truth.heard(told("c", shown("c", lines=("a", "b", "c")), **reset)) == []
    assert "nobody was the cause" in " ".join(
        truth.heard(told("d", shown("d", lines=("a", "b", "c", "d")), **reset))
    )


def test_a_kernel_that_an_interrupt_ended_without_a_word_is_seen(truth: Truth) -> None:
    assert truth.heard(told("b", None, was_interrupted=True)) == []
    assert "nobody told of" in " ".join(truth.heard(told("c", shown("c", lines=("a", "b", "c")))))


def test_a_kernels_end_may_have_been_told_in_an_answer_that_was_lost_if_its_run_took_place(truth: Truth) -> None:
    truth.unknown("b")
    truth.interrupted = True
    assert truth.heard(told("c", shown("b", "c", lines=("a", "b", "c")))) == []
    truth.unknown("d")
    truth.interrupted = True
    assert "no answer told of it" in " ".join(truth.heard(told("e", shown("e", lines=("a", "b", "c", "e")))))


def test_a_lost_answer_alone_ends_no_kernel(truth: Truth) -> None:
    truth.unknown("b")
    assert "nobody told of" in " ".join(truth.heard(told("c", shown("b", "c", lines=("a", "b", "c")))))


@pytest.mark.parametrize(("reason", "cause"), [("restarted", "interrupted"), ("kernel_died", "restarted")])
def test_a_reset_has_the_reason_of_its_own_cause(truth: Truth, reason: str, cause: str) -> None:
    truth.interrupted, truth.restarted = cause == "interrupted", "yes" if cause == "restarted" else "no"
    answer = told("b", shown("b", lines=("a", "b")), state_reset=True, reason=reason)
    assert "nobody was the cause" in " ".join(truth.heard(answer))


def test_a_restart_takes_the_variables_and_leaves_the_files(truth: Truth) -> None:
    truth.restarted = "yes"
    assert truth.heard(told("b", shown("b", lines=("a", "b")), state_reset=True, reason="restarted")) == []
    assert truth.heard(told("c", shown("b", "c", lines=("a", "b", "c")))) == []


def test_a_restart_that_nobody_is_told_of_is_seen(truth: Truth) -> None:
    truth.restarted = "yes"
    assert truth.heard(told("b", shown("b", lines=("a", "b")))) != []


def test_a_restart_that_took_no_variables_is_seen(truth: Truth) -> None:
    truth.restarted = "yes"
    assert truth.heard(told("b", shown("a", "b"), state_reset=True, reason="restarted")) != []


@pytest.mark.parametrize("ids", [("b",), ("a", "b")])
def test_a_restart_that_may_have_failed_is_told_either_way(truth: Truth, ids: tuple[str, ...]) -> None:
    truth.restarted = "maybe"
    snapshot = shown(*ids, lines=("a", "b"))
    assert truth.heard(told("b", snapshot, state_reset=True, reason="restarted")) == []


def test_a_restart_that_nobody_asked_for_is_seen(truth: Truth) -> None:
    assert truth.heard(told("b", shown("b", lines=("a", "b")), state_reset=True, reason="restarted")) != []


def test_a_generation_never_falls_and_has_one_sandbox(truth: Truth) -> None:
    assert "two sandboxes" in " ".join(truth.heard(told("b", shown("a", "b"), sandbox_id="other")))
    truth.lost_at = 11
    truth.heard(recreated("c", shown("c"), "sandbox_lost", at=12))
    assert "fell" in " ".join(truth.heard(told("d", shown("a", "b", "d"))))


@pytest.mark.parametrize("found", [{}, {"/home/user/up.csv": "other"}])
def test_a_file_that_is_missing_or_another_is_seen(truth: Truth, found: Mapping[str, str]) -> None:
    truth.files["/home/user/up.csv"] = "digest"
    assert truth.heard(told("b", shown("a", "b", files={"/home/user/up.csv": "digest"}))) == []
    assert truth.heard(told("c", shown("a", "b", "c", files=found))) != []


def test_the_program_adds_its_id_to_its_state_and_shows_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "up-1.csv").write_text("n\n1\n")
    kernel: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program("a", home=str(tmp_path)), kernel)  # noqa: S102 - it is ours
        printed.truncate(printed.seek(0))
        exec(program("b", home=str(tmp_path)), kernel)  # noqa: S102
    snapshot = snapshot_of([{"type": "text", "content": printed.getvalue()}])
    assert snapshot is not None
    assert (snapshot.variable, snapshot.lines) == (("a", "b"), ("a", "b"))
    assert [*snapshot.files] == [str(tmp_path / "up-1.csv")]


@pytest.mark.parametrize("text", ["", "SOAK [[", 'SOAK [["a"], ["a"], {}]'])
def test_a_line_that_was_cut_shows_nothing(text: str) -> None:
    assert snapshot_of([{"type": "text", "content": text}]) is None
