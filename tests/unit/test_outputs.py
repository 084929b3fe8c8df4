"""What a run put out, as the `results` of a reply."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.model import Display, Output, Raised, Stream
from sandkeeper.outputs import CHART, DATA, STDERR, ResultItem, plain, simple_view
from tests.outputs import OUTPUTS


def item(kind: Any, content: Any, mime_type: str) -> ResultItem:
    """Returns a result."""
    return ResultItem(type=kind, content=content, mime_type=mime_type)


@pytest.mark.parametrize(
    ("mime_type", "kind"),
    [
        ("text/plain", "text"),
        ("text/html", "html"),
        ("text/markdown", "markdown"),
        ("text/latex", "latex"),
        ("image/png", "image"),
        ("image/jpeg", "image"),
        ("image/svg+xml", "image"),
        ("application/pdf", "image"),
        ("application/json", "json"),
        (CHART, "chart"),
        (DATA, "table"),
        ("text/javascript", "text"),
    ],
)
def test_every_form_has_its_kind(mime_type: str, kind: str) -> None:
    assert simple_view([Display({mime_type: "content"})]) == [item(kind, "content", mime_type)]


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        ({"text/plain": "Figure", "image/png": "…", CHART: {"type": "line"}}, ["image", "chart"]),
        ({"text/plain": "   a", "text/html": "<table>", DATA: {"a": [1]}}, ["html", "table"]),
        ({"text/plain": "x", "text/latex": "$x$"}, ["latex"]),
        ({"text/plain": "x", CHART: {}}, ["text", "chart"]),
        ({"image/jpeg": "…", "image/png": "…"}, ["image"]),
        ({"application/geo+json": {"type": "Point"}}, ["json"]),
        ({}, []),
    ],
)
def test_an_object_gives_its_richest_form_and_its_data(data: dict[str, Any], kinds: list[str]) -> None:
    assert [result.type for result in simple_view([Display(data)])] == kinds


def test_what_was_raised_is_plain_text() -> None:
    raised = Raised("ZeroDivisionError", "division by zero", "\x1b[0;31mZeroDivisionError\x1b[0m: division by zero")

    assert simple_view([raised]) == [item("error", "ZeroDivisionError: division by zero", "text/plain")]


def test_the_order_of_appearance_is_kept() -> None:
    outputs: list[Output] = [
        Stream("stdout", "a\n"),
        Stream("stdout", "b\n"),
        Stream("stderr", "warning\n"),
        Display({"text/plain": "1"}),
        Stream("stdout", "c\n"),
        Raised("E", "e", "E: e"),
    ]

    assert simple_view(outputs) == [
        item("text", "a\nb\n", "text/plain"),
        item("text", "warning\n", STDERR),
        item("text", "1", "text/plain"),
        item("text", "c\n", "text/plain"),
        item("error", "E: e", "text/plain"),
    ]


STREAMS = st.builds(Stream, st.sampled_from(["stdout", "stderr"]), st.text(max_size=5))
DISPLAYS = st.builds(Display, st.fixed_dictionaries({"text/html": st.text(max_size=5)}))


@given(st.lists(STREAMS | DISPLAYS, max_size=30))
def test_consecutive_text_of_one_stream_is_one_item_and_no_text_is_lost(outputs: list[Output]) -> None:
    results = simple_view(outputs)

    for mime_type, name in [("text/plain", "stdout"), (STDERR, "stderr")]:
        written = "".join(out.text for out in outputs if isinstance(out, Stream) and out.name == name)
        assert "".join(result.content for result in results if result.mime_type == mime_type) == written
    assert [result.content for result in results if result.type == "html"] == [
        out.data["text/html"] for out in outputs if isinstance(out, Display)
    ]
    assert not any(a.type == b.type == "text" and a.mime_type == b.mime_type for a, b in pairwise(results))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x1b")))
def test_text_without_colours_stays_as_it_is(text: str) -> None:
    assert plain(text) == text
    assert plain(f"\x1b[1;31m{text}\x1b[0m") == text


@given(st.lists(OUTPUTS, max_size=12))
def test_whatever_a_sandbox_sends_can_be_told_as_json(outputs: list[Output]) -> None:
    told = [(result.content, result.mime_type) for result in simple_view(outputs)]

    assert json.loads(json.dumps(told, allow_nan=False, ensure_ascii=False).encode()) == [[*each] for each in told]


@pytest.mark.parametrize(
    "mime_type",
    ["application/vnd.plotly.v1+json", "application/vnd.vega.v5+json", "application/vnd.vegalite.v5+json"],
)
def test_a_figure_that_a_client_can_draw_is_a_chart(mime_type: str) -> None:
    displayed = Display({mime_type: {"data": []}, "text/html": "<div>", "text/plain": "Figure"})

    assert [(result.type, result.mime_type) for result in simple_view([displayed])] == [
        ("html", "text/html"),
        ("chart", mime_type),
    ]


def test_what_is_missing_and_what_is_no_text_is_no_failure() -> None:
    displayed = Display({"text/html": None, "image/svg+xml": ["<svg>", "</svg>"], DATA: {"a": [float("nan")]}})

    assert simple_view([displayed]) == [
        item("image", "<svg></svg>", "image/svg+xml"),
        item("table", {"a": [None]}, DATA),
    ]
