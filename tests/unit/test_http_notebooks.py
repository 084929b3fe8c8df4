"""The endpoints of notebooks: how they are made, read, refused and fitted into replies."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.http.app import create_app
from sandkeeper.model import Display, RunEnd, RunOutcome
from sandkeeper.notebooks import MAX_CELLS, MAX_METADATA_BYTES, MAX_NOTEBOOKS
from tests.editor import ROOT, Editor, slug_of
from tests.world import CHAT, World


@pytest.fixture
def editor(client: TestClient) -> Editor:
    """A tab with a notebook of two cells."""
    return Editor(client)


# ── Made and read ───────────────────────────────────────────────────────────────────────────────────


def test_a_notebook_is_read_as_it_was_made(editor: Editor) -> None:
    notebook = editor.read()

    assert notebook == editor.made
    assert (notebook["title"], notebook["version"], notebook["etag"], notebook["plan"]) == (
        "Salaries",
        1,
        '"1"',
        None,
    )
    assert notebook["cells"][0] == {
        "cellId": "a",
        "type": "code",
        "source": "1",
        "metadata": {},
        "attachments": {},
        "etag": '"1"',
        "executionCount": None,
        "outputs": [],
        "lastRun": None,
    }
    assert editor.cell("b") == notebook["cells"][1]


def test_cells_without_ids_are_given_some(client: TestClient) -> None:
    made = Editor(client, [{"source": "1"}, {"source": "2"}]).made

    assert len({cell["cellId"] for cell in made["cells"]}) == 2


def test_notebooks_are_listed_latest_first_and_in_pages(client: TestClient) -> None:
    made = [Editor(client).made["notebookId"] for _ in range(3)]

    first = client.get(ROOT, params={"limit": 2}).json()
    rest = client.get(ROOT, params={"limit": 2, "next": first["next"]}).json()

    assert [each["notebookId"] for each in (*first["notebooks"], *rest["notebooks"])] == sorted(made, reverse=True)
    assert rest["next"] is None
    assert "cells" not in first["notebooks"][0]
    assert client.get("/api/chats/chat-2/notebooks").json() == {"notebooks": [], "next": None}


def test_a_chat_has_so_many_notebooks_and_no_more(client: TestClient) -> None:
    for _ in range(MAX_NOTEBOOKS):
        editor = Editor(client)

    reply = client.post(ROOT, json={"title": "one more"})

    assert slug_of(reply, 429) == "quota-exceeded"
    assert client.delete(editor.url, headers={"If-Match": '"1"'}).status_code == 204
    assert client.post(ROOT, json={"title": "one more"}).status_code == 201


@pytest.mark.parametrize("path", ["", "/ipynb", "/events", "/cells/a"], ids=["notebook", "file", "events", "cell"])
def test_what_is_not_there_is_not_found(client: TestClient, path: str) -> None:
    assert slug_of(client.get(f"{ROOT}/01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z{path}"), 404) == "notebook-not-found"


def test_a_cell_that_is_not_there_is_not_found(editor: Editor) -> None:
    replies = [
        editor.client.get(f"{editor.url}/cells/x"),
        editor.put_cell("x", "*"),
        editor.client.delete(f"{editor.url}/cells/x", headers={"If-Match": "*"}),
        editor.post("cells/x/run"),
        editor.post("cells/x/move", after=None),
        editor.post("cells/a/move", after="x"),
        editor.post("cells", source="1", after="x"),
    ]

    assert {slug_of(reply, 404) for reply in replies} == {"cell-not-found"}
    assert editor.read() == editor.made


def test_another_owners_notebook_is_not_found(world: World, editor: Editor) -> None:
    world.issue_key("sk_bob", "bob")
    with TestClient(create_app(world.wiring), headers={"Authorization": "Bearer sk_bob"}) as bob:
        assert slug_of(bob.get(editor.url), 404) == "notebook-not-found"
        assert bob.get(ROOT).json()["notebooks"] == []


# ── What is no notebook ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"title": ""}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"cells": [{"source": "x" * 50_001}]}, "/cells/0/source"),
        ({"cells": [{"source": "1"}] * (MAX_CELLS + 1)}, "/cells"),
        ({"cells": [{"source": "1", "type": "sql"}]}, "/cells/0/type"),
        ({"cells": [{"source": "1", "cellId": "a b"}]}, "/cells/0/cellId"),
        ({"cells": [{"source": "1", "cellId": "a"}, {"source": "2", "cellId": "a"}]}, "/cells/1/cellId"),
        ({"cells": [{"source": "1", "outputs": []}]}, "/cells/0/outputs"),
        ({"cells": [{"source": "1", "metadata": {"x": "y" * MAX_METADATA_BYTES}}]}, "/cells/0/metadata"),
        ({"metadata": {"x": "y" * MAX_METADATA_BYTES}}, "/metadata"),
    ],
)
def test_what_is_over_a_limit_is_refused_and_named(editor: Editor, fields: dict[str, Any], pointer: str) -> None:
    made = editor.client.post(ROOT, json={"title": "x"} | fields)
    replaced = editor.put("*", **fields)

    assert slug_of(made, 422) == slug_of(replaced, 422) == "invalid-request"
    assert pointer in {problem["pointer"] for problem in made.json()["errors"]}
    assert editor.read() == editor.made


def test_a_cell_more_than_there_may_be_is_refused(client: TestClient) -> None:
    editor = Editor(client, [{"source": "1"}] * MAX_CELLS)

    reply = editor.post("cells", source="one more")

    assert slug_of(reply, 422) == "invalid-request"
    assert f"at most {MAX_CELLS} cells" in reply.json()["detail"]
    assert editor.read() == editor.made


def test_cells_have_room_for_so_much_together(client: TestClient) -> None:
    """A request has 1 MB, so that a notebook can always be put as a whole."""
    editor = Editor(client, [{"source": "é" * 50_000}] * 8)
    assert editor.post("cells", source="é" * 50_000).status_code == 201

    reply = editor.post("cells", source="é" * 50_000)

    assert slug_of(reply, 422) == "invalid-request"
    assert "1,000,000 bytes" in reply.json()["detail"]


@pytest.mark.parametrize("if_match", ["7", 'W/"7"', '"x"', '"1", "2"', '""'])
def test_an_etag_that_is_none_is_refused(editor: Editor, if_match: str) -> None:
    assert slug_of(editor.put(if_match), 422) == "invalid-request"
    assert slug_of(editor.put_cell(etag=if_match), 422) == "invalid-request"
    assert editor.read() == editor.made


# ── Room ────────────────────────────────────────────────────────────────────────────────────────────


def test_outputs_that_have_no_room_in_a_reply_are_asked_for_cell_by_cell(world: World, client: TestClient) -> None:
    ids = [f"c{number}" for number in range(5)]
    editor = Editor(client, [{"cellId": cell_id, "source": cell_id} for cell_id in ids])
    shown = {cell_id: "aaaa" * (300_000 - number) for number, cell_id in enumerate(ids)}
    world.sandboxes.program = lambda _, code: RunOutcome([Display({"image/png": shown[code]})], RunEnd.FINISHED)
    for cell_id in ids:
        editor.run(cell_id)

    reply = client.get(editor.url)

    assert len(reply.content) <= 4_000_000
    outputs = {cell["cellId"]: cell["outputs"] for cell in reply.json()["cells"]}
    assert [cell_id for cell_id, told in outputs.items() if told is None] == ["c0", "c1"]
    for cell_id in ids:
        told = outputs[cell_id] or editor.cell(cell_id)["outputs"]
        assert told[0]["data"]["image/png"] == shown[cell_id]


def test_the_chat_of_a_notebook_needs_no_session(world: World, editor: Editor) -> None:
    editor.put_cell("a", "*", "2")
    editor.read()

    assert world.store.read(CHAT) is None
