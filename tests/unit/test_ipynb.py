"""Notebooks as files: what is read of them, what is refused, and what is written."""

import json
from typing import Any

import nbformat
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandkeeper.errors import InvalidRequest
from sandkeeper.model import Display, RunEnd, RunOutcome, Stream
from sandkeeper.services import ipynb
from tests.editor import ROOT, Editor, slug_of
from tests.world import CHAT, World, new_world

OUTPUTS: list[dict[str, Any]] = [
    {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]},
    {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": ["x", "y"]}, "metadata": {}},
    {
        "output_type": "execute_result",
        "execution_count": 3,
        "data": {"application/json": {"a": [1]}},
        "metadata": {},
    },
    {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]},
]
FILE: dict[str, Any] = {
    "nbformat": 4,
    "nbformat_minor": 4,
    "metadata": {"kernelspec": {"name": "ir", "display_name": "R"}, "title": "From afar"},
    "cells": [
        {"cell_type": "code", "source": ["x = 1\n", "x"], "metadata": {}, "outputs": OUTPUTS, "execution_count": 3},
        {
            "cell_type": "markdown",
            "id": "text",
            "source": "![](a.png)",
            "metadata": {"tags": ["x"]},
            "attachments": {"a.png": {"image/png": "aGk="}},
        },
        {"cell_type": "raw", "id": "text", "source": "raw", "metadata": {}},
    ],
}


def taken_in(client: TestClient, document: Any, **params: str) -> Any:
    """Returns the reply to an import."""
    return client.post(f"{ROOT}/import", json=document, params=params)


def exported(client: TestClient, notebook: Any) -> Any:
    """Returns the notebook as a file, which must be a valid one of 4.5."""
    reply = client.get(f"{ROOT}/{notebook['notebookId']}/ipynb")
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-ipynb+json"
    assert reply.headers["content-disposition"] == f'attachment; filename="{notebook["notebookId"]}.ipynb"'
    assert len(reply.content) <= 4_000_000
    return valid(json.loads(reply.content))


def valid(document: Any) -> Any:
    """Returns the document, which must be a valid notebook of 4.5."""
    made: Any = nbformat.from_dict(document)  # type: ignore[no-untyped-call]
    nbformat.validate(made)
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    return document


# ── Read ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_taken_in_with_what_it_shows(client: TestClient) -> None:
    reply = taken_in(client, FILE)

    notebook = reply.json()
    assert (reply.status_code, notebook["title"]) == (201, "From afar")
    assert reply.headers["location"] == f"{ROOT}/{notebook['notebookId']}"
    code, text, raw = notebook["cells"]
    assert (code["source"], code["executionCount"], code["lastRun"]) == ("x = 1\nx", 3, None)
    assert code["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": "a\nb"},
        {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": "xy"}, "metadata": {}},
        OUTPUTS[2],
        OUTPUTS[3],
    ]
    assert (text["cellId"], text["metadata"], text["attachments"]) == (
        "text",
        {"tags": ["x"]},
        {"a.png": {"image/png": "aGk="}},
    )
    assert raw["type"] == "raw"
    assert raw["cellId"] != "text", "an id that another cell has is drawn anew"


def test_a_file_comes_out_as_it_went_in(client: TestClient) -> None:
    first = exported(client, taken_in(client, FILE).json())
    again = exported(client, taken_in(client, first).json())

    assert again == first
    assert first["metadata"]["kernelspec"]["name"] == "ir"
    assert first["metadata"]["title"] == "From afar"
    assert first["cells"][1] == FILE["cells"][1]


@pytest.mark.parametrize(
    ("params", "metadata", "title"),
    [
        ({"title": "Mine"}, {"title": "Its own"}, "Mine"),
        ({}, {"title": "x" * 300}, "x" * 200),
        ({}, {"title": 7}, "Untitled"),
        ({}, {}, "Untitled"),
    ],
)
def test_a_title_is_given_or_found(
    client: TestClient, params: dict[str, str], metadata: dict[str, Any], title: str
) -> None:
    assert taken_in(client, {**FILE, "metadata": metadata}, **params).json()["title"] == title


def cells_of(**fields: Any) -> dict[str, Any]:
    """Returns a file with one cell that has these fields."""
    return {"nbformat": 4, "cells": [{"cell_type": "code", "source": "1", "metadata": {}, "outputs": []} | fields]}


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, "/nbformat"),
        ([], ""),
        ({"nbformat": 3, "worksheets": []}, "/cells"),
        ({"nbformat": 3, "cells": []}, "/nbformat"),
        ({"nbformat": 5, "cells": []}, "/nbformat"),
        ({"nbformat": "4", "cells": {}}, "/cells"),
        ({"nbformat": 4, "cells": [], "metadata": []}, "/metadata"),
        ({"nbformat": 4, "cells": [{"source": "1"}]}, "/cells/0/cell_type"),
        ({"nbformat": 4, "cells": [{"cell_type": "heading", "source": "1"}]}, "/cells/0/cell_type"),
        ({"nbformat": 4, "cells": [{"cell_type": "raw", "source": ""}] * 201}, "/cells"),
        (cells_of(source=7), "/cells/0/source"),
        (cells_of(source=["a", 7]), "/cells/0/source"),
        (cells_of(source="x" * 50_001), "/cells/0/source"),
        (cells_of(metadata=[]), "/cells/0/metadata"),
        (cells_of(attachments=[]), "/cells/0/attachments"),
        (cells_of(attachments={"a.png": "aGk="}), "/cells/0/attachments/a.png"),
        (cells_of(outputs={}), "/cells/0/outputs"),
        (cells_of(outputs=[{"output_type": "pyout"}]), "/cells/0/outputs/0"),
        (cells_of(outputs=[7]), "/cells/0/outputs/0"),
        (cells_of(outputs=[{"output_type": "stream", "name": "stdout"}]), "/cells/0/outputs/0/text"),
        (cells_of(outputs=[{"output_type": "display_data", "data": []}]), "/cells/0/outputs/0"),
    ],
)
def test_what_is_no_notebook_is_refused_with_the_place(client: TestClient, document: Any, pointer: str) -> None:
    reply = taken_in(client, document)

    assert slug_of(reply, 422) == "invalid-request"
    assert pointer in {problem["pointer"] for problem in reply.json()["errors"]}
    assert client.get(ROOT).json()["notebooks"] == []


@pytest.mark.parametrize("text", ["", "no JSON", "[" * 100_000, '{"nbformat": 4, "cells": [' + "1," * 10])
def test_what_is_no_json_is_refused(client: TestClient, text: str) -> None:
    reply = client.post(f"{ROOT}/import", content=text, headers={"Content-Type": "application/json"})

    assert slug_of(reply, 422) == "invalid-request"


def test_a_file_over_the_size_of_a_request_is_refused(client: TestClient) -> None:
    assert slug_of(taken_in(client, cells_of(source="x" * 1_000_001)), 413) == "payload-too-large"


def test_values_that_json_has_no_word_for_do_not_get_in(client: TestClient) -> None:
    shown = {"output_type": "display_data", "data": {"application/json": float("nan")}}
    text = json.dumps(cells_of(outputs=[shown]))
    reply = client.post(f"{ROOT}/import", content=text, headers={"Content-Type": "application/json"})

    (output,) = exported(client, reply.json())["cells"][0]["outputs"]
    assert output["data"] == {"application/json": None}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
OUTPUT = st.fixed_dictionaries(
    {"output_type": st.sampled_from(["stream", "display_data", "execute_result", "error", "x"])},
    optional={
        **dict.fromkeys(("text", "metadata", "execution_count", "ename", "evalue", "traceback"), JSON),
        "name": st.sampled_from(["stdout", "stderr", "x"]),
        "data": st.dictionaries(st.sampled_from(["text/plain", "application/json", "image/png"]), JSON),
    },
)
KNOWN = ("name", "tags", "collapsed", "scrolled", "jupyter", "execution", "format", "kernelspec", "language_info")
METADATA = st.fixed_dictionaries(
    {}, optional=dict.fromkeys((*KNOWN, "authors", "orig_nbformat", "title", "own"), JSON)
)
ANY_CELL = st.fixed_dictionaries(
    {"cell_type": st.sampled_from(["code", "markdown", "raw"])},
    optional={
        **dict.fromkeys(("source", "id", "execution_count"), JSON),
        "metadata": METADATA,
        "attachments": st.dictionaries(st.text(max_size=9), st.dictionaries(st.text(max_size=9), JSON)) | JSON,
        "outputs": st.lists(OUTPUT),
    },
)


@given(st.lists(ANY_CELL, max_size=3), METADATA)
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_is_read_can_be_written_as_a_valid_file(cells: list[Any], metadata: dict[str, Any]) -> None:
    try:
        drafts = ipynb.read({"nbformat": 4, "cells": cells})
    except InvalidRequest as error:
        assert error.problems[0].pointer.startswith("/cells/")
        return
    with new_world() as world:
        made = world.wiring.notebooks.create(CHAT, "any", drafts, metadata)
        valid(json.loads(ipynb.written(*world.wiring.notebooks.read(CHAT, made.notebook_id))))


# ── Written ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_notebook_is_written_with_what_its_cells_have_come_to(world: World, client: TestClient) -> None:
    value = Display({"text/plain": "5", "image/png": "aGk="}, is_main_result=True)
    world.sandboxes.program = lambda *_: RunOutcome([Stream("stdout", "x\n"), value], RunEnd.FINISHED)
    editor = Editor(client)
    editor.run("a")

    file = exported(client, editor.made)

    assert [(cell["cell_type"], cell["id"], cell["source"]) for cell in file["cells"]] == [
        ("code", "a", "1"),
        ("markdown", "b", "# b"),
    ]
    assert file["cells"][0]["execution_count"] == 1
    assert [output["output_type"] for output in file["cells"][0]["outputs"]] == ["stream", "execute_result"]
    assert file["metadata"]["kernelspec"]["name"] == "python3"


def test_what_is_too_large_for_a_file_is_left_out_and_it_says_so(world: World, client: TestClient) -> None:
    ids = [f"c{number}" for number in range(5)]
    editor = Editor(client, [{"cellId": cell_id, "source": cell_id} for cell_id in ids])
    shown = Display({"image/png": "aaaa" * 300_000})
    world.sandboxes.program = lambda *_: RunOutcome([shown], RunEnd.FINISHED)
    for cell_id in ids:
        editor.run(cell_id)

    file = exported(client, editor.made)

    texts = [cell["outputs"][0].get("text", "") for cell in file["cells"]]
    assert sum("are left out: the file would be too large" in text for text in texts) == 2
    assert [cell["source"] for cell in file["cells"]] == ids
