"""The notebook that is made of a chat's runs."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandkeeper.model import (
    MAX_CODE_CHARS,
    Display,
    EndReason,
    FileReading,
    FileStatus,
    Output,
    Raised,
    RunEnd,
    RunOutcome,
    Stream,
)
from sandkeeper.services import history, notebook
from sandkeeper.services.packages import REPORT
from tests.factories import record
from tests.world import CHAT, World, new_world

LIMIT = 4_000_000
KILOBYTE = Stream("stdout", "x" * 1_000)


def gives(world: World, *outputs: Output, end: RunEnd = RunEnd.FINISHED) -> None:
    """Lets all code give these outputs from now on."""
    world.sandboxes.program = lambda *_: RunOutcome(outputs, end)


def ran(world: World, code: str, *outputs: Output, end: RunEnd = RunEnd.FINISHED) -> str:
    """Runs code that gives these outputs, a second after what was before, and returns the run's id."""
    gives(world, *outputs, end=end)
    world.clock.advance(timedelta(seconds=1))
    return world.run(code).execution.execution_id


def exported(world: World) -> Any:
    """Returns the chat's notebook, which must be a valid one that fits into a reply."""
    content = world.wiring.history.notebook(CHAT)
    assert len(content) <= LIMIT
    made: Any = nbformat.from_dict(json.loads(content))  # type: ignore[no-untyped-call]
    nbformat.validate(made)
    assert (made.nbformat, made.nbformat_minor) == (4, 5)
    return made


def code_cells(made: Any) -> list[Any]:
    """Returns the notebook's code cells."""
    return [cell for cell in made.cells if cell.cell_type == "code"]


def words(made: Any) -> list[str]:
    """Returns what the notebook says between the code."""
    return [cell.source for cell in made.cells if cell.cell_type == "markdown"]


def texts(cell: Any) -> list[str]:
    """Returns the texts that the cell shows."""
    return [output.text for output in cell.outputs if output.output_type == "stream"]


# ── The notebook's cells ────────────────────────────────────────────────────────────────────────────


def test_a_chat_without_runs_gives_a_notebook_without_code(world: World) -> None:
    made = exported(world)

    assert code_cells(made) == []
    assert words(made) == [
        "# Chat `chat-1`\n\nExported by Sandkeeper on 2026-01-02 at 03:04 UTC: 0 runs in the order of time, with"
        " what they put out."
    ]


def test_runs_are_cells_in_the_order_of_time_with_all_that_they_have_shown(world: World) -> None:
    first = ran(world, "print(1)", Stream("stdout", "1\n"), Stream("stderr", "w"))
    second = ran(
        world, "%matplotlib inline\n!ls\nplot()", Display({"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    )
    third = ran(world, "6 * 7", Display({"text/plain": "42"}, is_main_result=True))

    made = exported(world)

    assert [cell.id for cell in code_cells(made)] == [first, second, third]
    assert [cell.source for cell in code_cells(made)] == ["print(1)", "%matplotlib inline\n!ls\nplot()", "6 * 7"]
    assert [cell.execution_count for cell in code_cells(made)] == [1, 2, 3]
    shown = [[output.output_type for output in cell.outputs] for cell in code_cells(made)]
    assert shown == [["stream", "stream"], ["display_data"], ["execute_result"]]
    assert code_cells(made)[2].outputs[0].execution_count == 3
    assert made.metadata.kernelspec.name == "python3"


def test_the_order_is_that_in_which_code_ran_not_that_of_the_ids(world: World) -> None:
    """A call that came first may have waited for another one."""
    late, early = sorted([world.new_id(), world.new_id()])
    ids = iter([early, late])
    vars(world.wiring)["execute"] = world.wiring.execute.__class__(
        **{
            **{name: getattr(world.wiring.execute, name) for name in world.wiring.execute.__dataclass_fields__},
            "new_id": lambda: next(ids),
        }
    )
    for code in ("first", "second"):
        ran(world, code)

    assert [cell.source for cell in code_cells(exported(world))] == ["first", "second"]


def test_cells_keep_their_ids_from_export_to_export(world: World) -> None:
    ran(world, "1")
    world.wiring.control.restart(CHAT)
    ran(world, "2")
    before = [cell.id for cell in exported(world).cells]

    ran(world, "3")

    assert [cell.id for cell in exported(world).cells][: len(before)] == before


def test_a_run_that_goes_on_is_named_but_has_no_cell(world: World) -> None:
    ran(world, "1")
    world.sandboxes.program = lambda *_: None
    world.run("going on", mode="async")

    made = exported(world)

    assert [cell.source for cell in code_cells(made)] == ["1"]
    assert "Not in it yet: 1 that had not ended." in words(made)[0]


def test_code_that_raised_is_marked_so_that_all_cells_can_be_run(world: World) -> None:
    ran(world, "1 / 0", Raised("ZeroDivisionError", "division by zero", "Traceback\n\x1b[31mline 1\x1b[0m"))
    ran(world, "2")

    failed, fine = code_cells(exported(world))

    assert failed.metadata.tags == ["raises-exception"]
    assert failed.outputs[0].ename == "ZeroDivisionError"
    assert "tags" not in fine.metadata


@pytest.mark.parametrize("end", [end for end in RunEnd if end is not RunEnd.FINISHED])
def test_code_that_did_not_end_by_itself_is_marked_and_says_why(world: World, end: RunEnd) -> None:
    ran(world, "while True: pass", Stream("stdout", "half"), end=end)

    (cell,) = code_cells(exported(world))

    assert cell.metadata.tags == ["skip-execution"]
    assert texts(cell)[0] == "half"
    assert texts(cell)[-1] == f"[this run {notebook._ENDS[end]}]\n"


def test_an_installation_reads_as_a_notebook_would_write_it(world: World) -> None:
    report = Display({REPORT: {"installed": {"polars": "1.9.0", "numpy": "2.3.4"}, "code": 0, "text": ""}})
    gives(world, report)
    world.wiring.packages.install(CHAT, ["polars>=1.9", "requests[socks]; python_version > '3'"])

    (cell,) = code_cells(exported(world))

    assert cell.source == """%pip install 'polars>=1.9' 'requests[socks]; python_version > "3"'"""
    assert texts(cell) == ["numpy 2.3.4\npolars 1.9.0\n"]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ([Display({REPORT: {"code": 1, "text": "no such package", "installed": {}}})], "no such package"),
        ([Display({REPORT: {"code": 0, "installed": [1]}})], "pip did not finish\n"),
        ([Display({REPORT: {"code": 0, "installed": {"a": ["\ud800"], "b": None}}})], "a ['\\ud800']\nb None\n"),
        ([Display({REPORT: [1]}), Stream("stdout", "x")], "pip did not finish\n"),
        ([], "pip did not finish\n"),
    ],
)
def test_an_installation_shows_what_pip_said_whatever_that_is(
    world: World, shown: Sequence[Output], text: str
) -> None:
    gives(world, *shown)
    world.wiring.packages.install(CHAT, ["polars"])

    (cell,) = code_cells(exported(world))

    assert texts(cell) == [text]


# ── Where a kernel was fresh ────────────────────────────────────────────────────────────────────────

FRESH = "**A fresh kernel begins here:**"


def test_a_restart_is_told_between_the_cells(world: World) -> None:
    ran(world, "1")
    world.wiring.control.restart(CHAT)
    second = ran(world, "2")

    _, first, fresh, after = exported(world).cells

    assert (first.source, after.source) == ("1", "2")
    assert fresh.id == f"{second}-reset"
    assert fresh.source.startswith(f"{FRESH} the kernel had been restarted")
    assert fresh.source.endswith("Files were still there.")


def lose(world: World) -> None:
    """Ends the chat's sandbox as E2B would."""
    world.lose_sandbox()


def close(world: World) -> None:
    """Closes the session as its caller would."""
    world.sessions.ending.close(CHAT)


def expire(world: World) -> None:
    """Lets the session end for want of use."""
    world.clock.advance(timedelta(hours=1))


@pytest.mark.parametrize(
    ("end", "why"),
    [(lose, EndReason.SANDBOX_LOST), (close, EndReason.CLOSED), (expire, EndReason.EXPIRED)],
)
def test_another_sandbox_is_told_between_the_cells_with_why(world: World, end: Any, why: EndReason) -> None:
    ran(world, "1")
    end(world)
    ran(world, "2")

    _, fresh = words(exported(world))

    assert fresh == (
        f"{FRESH} {notebook._RESETS[why]}, and variables of earlier cells were gone. The chat's files were put"
        " back; others were gone too."
    )


def test_every_reason_and_every_end_has_its_words() -> None:
    assert set(notebook._RESETS) == set(EndReason)
    assert set(notebook._ENDS) == set(RunEnd) - {RunEnd.FINISHED}


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_files_that_code_reads_are_named(world: World) -> None:
    world.add_file("sales.csv", b"a,b")
    world.add_file("unused.csv", b"a,b")
    world.add_file("odd ``name`.csv", b"12")
    world.add_file("broken.csv", b"", status=FileStatus.FAILED)
    ran(world, "read('sales.csv'); read('/home/user/odd ``name`.csv'); read('broken.csv')")

    said = words(exported(world))[0]

    assert said.endswith(
        "It reads these files, which belong in its folder (in the sandbox: `/home/user`):\n\n"
        "- `sales.csv`, 3 bytes\n- ``` odd ``name`.csv ```, 2 bytes"
    )


def test_a_file_is_known_by_its_path_where_its_name_was_taken(world: World) -> None:
    second = record("data.csv", file_id="2", path="/home/user/data-2.csv")
    world.catalog.add(second)
    world.catalog.mark_ready(CHAT, "2", FileReading(size_bytes=7))
    world.contents.put(CHAT, "2", b"a\n1\n")
    ran(world, "read('data-2.csv')")

    assert "- `data-2.csv`, 7 bytes" in words(exported(world))[0]


# ── What does not fit ───────────────────────────────────────────────────────────────────────────────


def test_of_an_output_that_is_too_large_the_forms_that_fit_and_all_others_stay(world: World) -> None:
    """A Plotly figure brings its whole library along as HTML, beside its own few numbers."""
    figure = {"text/html": "<b>" * 600_000, "application/vnd.plotly.v1+json": {"data": [1]}, "text/plain": "Figure"}
    ran(world, "1", KILOBYTE, Display(figure), Display({"image/png": "A" * 1_600_000}), Stream("stderr", "end"))

    (cell,) = code_cells(exported(world))

    assert [output.output_type for output in cell.outputs] == [
        "stream",
        "display_data",
        "stream",
        "stream",
        "stream",
    ]
    assert cell.outputs[1].data == {"application/vnd.plotly.v1+json": {"data": [1]}, "text/plain": "Figure"}
    assert texts(cell) == [
        KILOBYTE.text,
        "[too large for a notebook: text/html of 1,800,002 bytes]\n",
        "[too large for a notebook: image/png of 1,600,002 bytes]\n",
        "end",
    ]


def test_of_text_that_is_too_long_the_middle_is_left_out(world: World) -> None:
    ran(world, "1", Stream("stdout", "a" * 1_000_000 + "z" * 1_000_000))
    ran(world, "2", Raised("E", "e", "a\n" * 500_000 + "z\n" * 500_000))

    printed, failed = code_cells(exported(world))

    (text,) = texts(printed)
    assert 190_000 < len(text) <= notebook.CLIP_CHARS
    assert (text[0], text[-1]) == ("a", "z")
    assert failed.outputs[0].ename == "E"
    assert 90_000 < len(failed.outputs[0].traceback) <= 100_000
    assert (failed.outputs[0].traceback[0], failed.outputs[0].traceback[-2]) == ("a", "z")


def test_outputs_of_older_runs_are_left_out_before_those_of_newer_ones(world: World) -> None:
    for number in range(6):
        ran(world, f"code {number}", Stream("stdout", f"{number}" * 900_000))

    cells = code_cells(exported(world))

    assert [cell.source for cell in cells] == [f"code {number}" for number in range(6)]
    assert [texts(cell)[0][:20] for cell in cells] == [
        *["[900,000 characters "] * 2,
        *[str(number) * 20 for number in range(2, 6)],
    ]


def test_outputs_that_are_surely_left_out_are_not_even_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "READ_CHARS", 1_500)
    for number in range(3):
        ran(world, str(number), KILOBYTE)
    world.calls()

    cells = code_cells(exported(world))

    assert world.calls().count("runs.get") == 1
    assert [texts(cell)[0][:11] for cell in cells] == ["[1,000 char", "[1,000 char", "x" * 11]


def test_code_that_does_not_fit_is_left_out_from_the_oldest_on_and_it_says_so(world: World) -> None:
    for number in range(12):
        ran(world, f"# {number}\n" + "🐎" * (MAX_CODE_CHARS - 10))

    made = exported(world)

    sources = [cell.source.split("\n")[0] for cell in code_cells(made)]
    assert sources == [f"# {number}" for number in range(3, 12)]
    assert "Earlier runs are not in this notebook." in words(made)[0]


def test_a_notebook_has_so_many_runs_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "NOTEBOOK_RUNS", 3)
    for number in range(5):
        ran(world, str(number))

    made = exported(world)

    assert [cell.source for cell in code_cells(made)] == ["2", "3", "4"]
    assert "Earlier runs are not in this notebook." in words(made)[0]


def test_outputs_that_are_gone_are_told_as_left_out(world: World) -> None:
    ran(world, "1", KILOBYTE)
    world.taps["runs"].instead["get"] = lambda *_: None

    (cell,) = code_cells(exported(world))

    assert texts(cell) == ["[1,000 characters of output are left out]\n"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda more: st.lists(more) | st.dictionaries(st.text(), more),
    max_leaves=5,
)
OUTPUTS = st.lists(
    st.builds(Stream, st.sampled_from(["stdout", "stderr"]), st.text())
    | st.builds(
        Display,
        st.dictionaries(st.text() | st.sampled_from(["text/plain", "image/png"]), JSON_VALUES),
        st.booleans(),
    )
    | st.builds(Raised, st.text(), st.text(), st.text()),
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.text(min_size=1), OUTPUTS, st.sampled_from(RunEnd)), max_size=3))
def test_whatever_has_been_run_gives_a_valid_notebook(runs: list[tuple[str, Sequence[Output], RunEnd]]) -> None:
    with new_world() as world:
        for code, outputs, end in runs:
            ran(world, code, *outputs, end=end)

        assert len(code_cells(exported(world))) == len(runs)
