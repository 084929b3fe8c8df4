"""What came of a run, as one bounded text for a language model."""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.model import Display, Output, Raised, Stream
from sandkeeper.outputs import CHART, DATA, Failure, as_shown, model_view
from sandkeeper.outputs.terminal import WINDOW
from tests.outputs import OUTPUTS, TEXT

PNG = "iVBORw0KGgo" + "A" * 45_322


@dataclass(frozen=True)
class Made:
    """A file that a run has made."""

    path: str
    size_bytes: int


NO_NAME = Failure(
    kind="user_code", name="NameError", value="name 'x' is not defined", hint="The code raised an exception."
)
TIMEOUT = Failure(
    kind="timeout",
    name="TimeoutError",
    value="the code ran longer than its limit",
    hint="Do less at once.",
    traceback="-----------------------------\nKeyboardInterrupt   Traceback (most recent call last)\n"
    "Cell In[3], line 2\n----> 2 time.sleep(20)\n\nKeyboardInterrupt: ",
)
TRACEBACK = """\
---------------------------------------------------------------------------
FileNotFoundError                         Traceback (most recent call last)
Cell In[8], line 5
      4 def g(): pd.read_csv('nope')
----> 5 f()

Cell In[8], line 3, in f()
----> 3   g()

File /opt/site/pandas/io/parsers/readers.py:1866, in read_csv(filepath_or_buffer, sep)
-> 1866 return _read(filepath_or_buffer, kwds)

File /opt/site/pandas/io/common.py:926, in get_handle(path_or_buf, mode)
--> 926 handle = open(

File /home/user/helpers.py:7, in opened(path)
----> 7 raise

File ~/.local/lib/python3.12/site-packages/mine.py:7, in lib(path)
----> 7 raise

FileNotFoundError: [Errno 2] No such file or directory: 'nope'"""


def told(*outputs: Output, **asked: Any) -> str:
    """Returns the view of these outputs."""
    return model_view(outputs, **asked)


def test_everything_is_told_in_its_order_with_the_loss_first_and_the_failure_and_files_last() -> None:
    text = told(
        Stream("stdout", "a\n"),
        Stream("stdout", "b\n"),
        Stream("stderr", "careful\n"),
        Display({"text/plain": "42"}, is_main_result=True),
        Raised("NameError", "name 'x' is not defined", "NameError: name 'x' is not defined"),
        failure=NO_NAME,
        reset_reason="expired",
        artifacts=[Made("/home/user/out.csv", 512), Made("/home/user/plot.png", 34_000)],
    )

    assert text.split("\n") == [
        "Warning: variables of earlier calls are gone (expired): define again what is needed.",
        "stdout:",
        "a",
        "b",
        "stderr:",
        "careful",
        "42",
        "NameError: name 'x' is not defined",
        "Error (user_code): NameError: name 'x' is not defined",
        "The code raised an exception.",
        "Files made: /home/user/out.csv (512 bytes), /home/user/plot.png (34 KB)",
    ]


def test_a_run_that_put_out_nothing_says_so() -> None:
    assert told() == "(The code ran and put out nothing.)"
    assert told(Stream("stdout", "\n")) == "(The code ran and put out nothing.)"


def test_a_run_that_was_stopped_tells_where_it_was() -> None:
    assert told(failure=TIMEOUT).split("\n") == [
        "KeyboardInterrupt   Traceback (most recent call last)",
        "Cell In[3], line 2",
        "----> 2 time.sleep(20)",
        "KeyboardInterrupt: ",
        "Error (timeout): TimeoutError: the code ran longer than its limit",
        "Do less at once.",
    ]


def test_long_output_keeps_its_ends_and_says_how_much_is_between() -> None:
    lines = [f"line {number}" for number in range(100_000)]

    text = told(Stream("stdout", "\n".join(lines)), max_chars=2_000)

    first, note, last = text.split("\n[…")[0], text.split("[… ")[1].split(" ")[0], text.split("…]\n")[1]
    assert first.split("\n")[:3] == ["stdout:", "line 0", "line 1"]
    assert last.split("\n")[-1] == lines[-1]
    assert set(first.split("\n")[1:] + last.split("\n")) <= set(lines), "cut at the ends of lines"
    assert int(note.replace(",", "")) == len("stdout:\n" + "\n".join(lines)) - len(first) - len(last)
    assert 1_800 < len(text) <= 2_000


def test_a_large_output_leaves_the_others_their_room() -> None:
    html_free = [Display({"text/plain": f"value {number}"}) for number in range(10)]

    text = told(Stream("stdout", "x" * 100_000), *html_free, Stream("stderr", "y" * 100_000), failure=NO_NAME)

    assert all(f"value {number}" in text for number in range(10))
    assert "xxxx" in text
    assert "yyyy" in text
    assert text.endswith("Error (user_code): NameError: name 'x' is not defined\nThe code raised an exception.")


def test_of_very_many_outputs_those_in_the_middle_are_left_out() -> None:
    text = told(*(Display({"text/plain": f"value {number:06} " + "x" * 200}) for number in range(5_000)))

    assert "value 000000" in text
    assert "value 004999" in text
    assert "[… 4,920 outputs left out …]" in text


def test_a_table_is_its_first_rows() -> None:
    data = {"name": [f"n{row}" for row in range(1_000)], "pay": [row * 1.5 for row in range(1_000)]}

    text = told(Display({"text/plain": "row\n" * 1_000, "text/html": "<table>" * 9_000, DATA: data}))

    assert text.split("\n") == [
        "[table of 1,000 rows × 2 columns: shown to the user]",
        "name | pay",
        "n0 | 0.0",
        "n1 | 1.5",
        "n2 | 3.0",
        "n3 | 4.5",
        "n4 | 6.0",
        "… 995 more rows",
    ]


def test_a_small_table_is_as_it_prints_itself() -> None:
    """Of what `describe()` gives, the data alone do not say which row is which."""
    text = told(Display({"text/plain": "        a\ncount  3\nmean   2", "text/html": "…", DATA: {"a": [3, 2]}}))

    assert text == "[table of 2 rows × 1 column: shown to the user]\n        a\ncount  3\nmean   2"


def test_a_wide_table_with_long_cells_stays_short() -> None:
    text = told(Display({DATA: {f"column {number}": ["long " * 500] for number in range(400)}}))

    assert "… 388 more columns" in text
    assert len(text) < 1_500


def test_a_plot_is_a_reference_and_what_it_shows() -> None:
    chart = {
        "type": "line",
        "title": "Pay",
        "x_label": "year",
        "y_label": None,
        "elements": [{"label": "mean", "points": [[number, number / 3] for number in range(50)]}],
    }

    text = told(Display({"text/plain": "<Figure size 640x480 with 1 Axes>", "image/png": PNG, CHART: chart}))

    assert text == (
        "[image/png, 34 KB: shown to the user]\n"
        "[chart: line; title 'Pay'; x 'year'; mean: 50 points (0, 0), (1, 0.333333), (2, 0.666667), (3, 1),"
        " (4, 1.33333), …]"
    )


@pytest.mark.parametrize(
    ("chart", "told_as"),
    [
        (
            {"type": "bar", "elements": [{"label": "a", "group": "G", "value": 1.0}]},
            "[chart: bar; a: value 1]",
        ),
        (
            {"type": "pie", "elements": [{"label": "p", "angle": 120.0, "radius": 1.0}]},
            "[chart: pie; p: angle 120, radius 1]",
        ),
        (
            {"type": "superchart", "elements": [{"type": "pie", "elements": [{"label": "p", "angle": 9}]}]},
            "[chart: superchart; (pie; p: angle 9)]",
        ),
        ({"type": None, "elements": "odd", "title": ["x"]}, "[chart: null; title '[1 items]']"),
        ("odd", f"[{CHART}, 3 bytes: shown to the user]"),
    ],
)
def test_each_kind_of_chart_is_told(chart: Any, told_as: str) -> None:
    assert told(Display({CHART: chart})) == told_as


def test_a_figure_of_plotly_is_told() -> None:
    figure = {
        "data": [
            {"type": "bar", "name": "pay", "x": ["a", "b"], "y": {"dtype": "i1", "bdata": "AQI="}},
            {"type": "scatter", "x": [1, 2, 3, 4, 5, 6], "y": [1.5]},
        ],
        "layout": {"title": {"text": "P"}, "xaxis": {"title": {"text": "who"}}},
    }

    assert told(Display({"application/vnd.plotly.v1+json": figure, "text/html": "<div>" * 10_000})) == (
        "[chart: title 'P'; x 'who'; bar pay: x [a, b], y [1, 2]; scatter : x [1, 2, 3, 4, 5, …], y [1.5]]"
    )


@pytest.mark.parametrize(
    ("packed", "numbers"),
    [
        ({"dtype": "f8", "bdata": base64.b64encode(struct.pack("<9d", *range(9))).decode()}, "[0, 1, 2, 3, 4, …]"),
        ({"dtype": "i2", "bdata": base64.b64encode(struct.pack("<2h", -1, 1)).decode()}, "[-1, 1]"),
        ({"dtype": "f8", "bdata": "AAAA"}, "[…]"),
        ({"dtype": "odd", "bdata": "AAAA"}, "[…]"),
        ({"dtype": "i1", "bdata": "A"}, "[…]"),
        ({"dtype": ["i1"]}, "[…]"),
        (None, "[…]"),
    ],
)
def test_numbers_that_plotly_packs_are_unpacked(packed: Any, numbers: str) -> None:
    figure = {"data": [{"type": "bar", "y": packed}]}

    assert told(Display({"application/vnd.plotly.v1+json": figure})) == f"[chart: bar : y {numbers}]"


@pytest.mark.parametrize(
    ("data", "told_as"),
    [
        ({"text/html": "<b>x</b> &amp; <style>b {}</style><i>y</i>", "text/plain": "<HTML object>"}, "x & y"),
        ({"text/html": "<b>x</b>" * 5_000, "text/plain": "<HTML object>"}, "[text/html, 40 KB: shown to the user]"),
        ({"text/html": "<b>x</b>" * 5_000, "text/plain": "Summary of it"}, "Summary of it"),
        ({"image/svg+xml": "<svg>é</svg>"}, "[image/svg+xml, 13 bytes: shown to the user]"),
        ({"text/markdown": "# h", "text/plain": "<Markdown object>"}, "# h"),
        ({"text/latex": "$x$", "text/plain": "<Latex object>"}, "$x$"),
        ({"application/json": {"a": [1, float("nan")]}, "text/plain": "<JSON object>"}, '{"a": [1, null]}'),
        ({"text/javascript": "alert(1)"}, "[text/javascript, 8 bytes: shown to the user]"),
        ({"text/plain": "<Figure size 1x1>"}, "<Figure size 1x1>"),
        ({DATA: {"a": "odd"}, "text/plain": "a table"}, "a table"),
    ],
)
def test_each_object_is_told_by_the_form_that_says_most(data: dict[str, Any], told_as: str) -> None:
    assert told(Display(data)) == told_as


def test_a_traceback_keeps_the_users_own_frames() -> None:
    text = told(Raised("FileNotFoundError", "nope", f"\x1b[31m{TRACEBACK}\x1b[0m"))

    assert text.split("\n") == [
        "FileNotFoundError                         Traceback (most recent call last)",
        "Cell In[8], line 5",
        "      4 def g(): pd.read_csv('nope')",
        "----> 5 f()",
        "Cell In[8], line 3, in f()",
        "----> 3   g()",
        "[… 2 frames of libraries …]",
        "File /home/user/helpers.py:7, in opened(path)",
        "----> 7 raise",
        "[… 1 frame of libraries …]",
        "FileNotFoundError: [Errno 2] No such file or directory: 'nope'",
    ]


def test_a_syntax_error_stays_whole() -> None:
    traceback = "  Cell In[13], line 1\n    def :\n        ^\nSyntaxError: invalid syntax\n"

    assert told(Raised("SyntaxError", "invalid syntax", traceback)) == traceback.rstrip("\n")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("0%\r50%\r100%\n", "100%\n"),
        ("100 files\r2", "200 files"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("abc\b\bX", "aXc"),
        ("\b\bX", "X"),
        ("\x1b[31mred\x1b[0m and \x1b[1;4mmore\x1b[m", "red and more"),
        ("\x1b]0;title\x07text", "text"),
        ("long line\r\x1b[Kshort", "short"),
        ("long line\x1b[2K\rshort", "short"),
        ("one\ntwo\x1b[A\rONE\n", "ONE\ntwo"),
        ("first: 1\nsecond: 1\x1b[1A\rfirst: 2\nsecond: 2", "first: 2\nsecond: 2"),
        ("tab\tbell\x07", "tab\tbell"),
    ],
)
def test_text_is_what_a_terminal_would_show(written: str, shown: str) -> None:
    assert as_shown(written) == shown


def test_a_long_progress_bar_is_its_last_state() -> None:
    bar = "".join(f"\r{percent:6.2f}% " + "#" * 60 for percent in range(10_000))

    assert as_shown(f"begin\n{bar}\nend") == f"begin\n9999.00% {'#' * 60}\nend"


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b[A" * 900_000,
        "\n" * 30_000 + "x" * 80_000 + "\x1b[Ay" * 30_000,
        "x" * 90_000 + "\b\x1b[K" * 30_000,
        "\x1b]" * 900_000,
        "\x1b[" + "1;" * 900_000,
        "\x1b[999999999999999999A",
        "x\x1b[2K" * 900_000,
    ],
)
def test_nothing_that_is_written_makes_a_screen_without_bounds(hostile: str) -> None:
    assert len(as_shown(hostile)) < 40 * WINDOW


@given(st.lists(OUTPUTS, max_size=12), TEXT, st.integers(0, 3_000), st.booleans())
def test_the_view_is_never_longer_than_asked_for(
    outputs: Sequence[Output], text: str, max_chars: int, is_much: bool
) -> None:
    much: list[Output] = [Stream("stdout", text * 200), Raised("E", text, text * 200)] if is_much else []
    failure = Failure(kind="user_code", name=text, value=text * 50, hint=text, traceback=text * 50)

    view = model_view(
        [*outputs, *much],
        failure=failure,
        reset_reason=text,
        artifacts=[Made(text, 1)] * 50,
        max_chars=max_chars,
    )

    assert len(view) <= max_chars
    view.encode()
