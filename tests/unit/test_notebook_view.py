"""What a run put out, as a notebook's outputs."""

import json
from typing import Any

import nbformat
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.model import Display, Output, Raised, Stream
from sandkeeper.outputs import CHART, notebook_view
from tests.outputs import OUTPUTS


def assert_valid(outputs: list[dict[str, Any]]) -> None:
    """Fails unless the outputs are those of a notebook that can be written and read."""
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "source": "",
        "execution_count": None,
        "outputs": outputs,
    }
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}
    nbformat.validate(json.loads(json.dumps(notebook, allow_nan=False).encode()))
    json.dumps(notebook, ensure_ascii=False).encode()


def test_each_kind_of_output_has_its_form() -> None:
    outputs: list[Output] = [
        Stream("stdout", "a\n"),
        Stream("stdout", "b\n"),
        Stream("stderr", "\x1b[31mwarning\x1b[0m\n"),
        Display({"text/plain": "Figure", "image/png": "iVBO", CHART: {"type": "line"}}),
        Display({"text/plain": "42"}, is_main_result=True),
        Raised("ValueError", "no", "Traceback\n  line 1\nValueError: no"),
    ]

    view = notebook_view(outputs, execution_count=7)

    assert view == [
        {"output_type": "stream", "name": "stdout", "text": "a\nb\n"},
        {"output_type": "stream", "name": "stderr", "text": "\x1b[31mwarning\x1b[0m\n"},
        {
            "output_type": "display_data",
            "data": {"text/plain": "Figure", "image/png": "iVBO", CHART: {"type": "line"}},
            "metadata": {},
        },
        {"output_type": "execute_result", "execution_count": 7, "data": {"text/plain": "42"}, "metadata": {}},
        {
            "output_type": "error",
            "ename": "ValueError",
            "evalue": "no",
            "traceback": ["Traceback", "  line 1", "ValueError: no"],
        },
    ]
    assert_valid(view)


def test_what_is_no_text_becomes_some_where_a_notebook_wants_text() -> None:
    displayed = Display(
        {
            "text/html": ["<b>", "x</b>"],
            "image/svg+xml": {"a": float("nan")},
            "text/plain": None,
            "application/json": [1, float("inf")],
            "odd": 3,
        }
    )

    (cell,) = notebook_view([displayed])

    assert cell["data"] == {
        "text/html": "<b>x</b>",
        "image/svg+xml": '{"a": null}',
        "application/json": [1, None],
        "odd": "3",
    }
    assert_valid([cell])


def test_nothing_displayed_is_no_output() -> None:
    assert notebook_view([Stream("stdout", ""), Display({}), Display({"text/plain": None})]) == []


def test_a_value_that_is_nested_beyond_reason_can_still_be_written() -> None:
    nested: Any = 1
    for _ in range(900):
        nested = {"a": [nested]}

    assert_valid(notebook_view([Display({"application/json": nested, "text/plain": nested})]))


def test_half_a_character_does_not_spoil_the_reply() -> None:
    (cell,) = notebook_view([Stream("stdout", "a\ud83d")])

    assert cell["text"] == "a\N{REPLACEMENT CHARACTER}"


@given(st.lists(OUTPUTS, max_size=12), st.none() | st.integers(min_value=0))
def test_whatever_a_sandbox_sends_is_a_valid_notebook(outputs: list[Output], count: int | None) -> None:
    assert_valid(notebook_view(outputs, count))
