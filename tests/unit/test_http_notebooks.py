"""The endpoints of notebooks: how they are made, read, edited, cleared and removed."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.errors import StoreUnavailable
from sandkeeper.http.app import create_app
from sandkeeper.model import Display, RunEnd, RunOutcome
from sandkeeper.notebooks import MAX_CELLS, MAX_METADATA_BYTES, MAX_NOTEBOOKS, Change
from tests.world import CHAT, World

ROOT = "/api/chats/chat-1/notebooks"
CELLS = [{"cellId": "a", "source": "1"}, {"cellId": "b", "source": "# b", "type": "markdown"}]


class Editor:
    """A tab in which one notebook is open."""

    def __init__(self, client: TestClient, cells: list[dict[str, Any]] | None = None) -> None:
        self.client = client
        reply = client.post(ROOT, json={"title": "Salaries", "cells": CELLS if cells is None else cells})
        assert reply.status_code == 201, reply.text
        self.made = reply.json()
        self.url = f"{ROOT}/{self.made['notebookId']}"
        assert reply.headers["location"] == self.url

    def read(self) -> Any:
        """Returns the notebook as it is now."""
        reply = self.client.get(self.url)
        assert reply.status_code == 200, reply.text
        assert reply.headers["etag"] == reply.json()["etag"]
        return reply.json()

    def cell(self, cell_id: str = "a") -> Any:
        """Returns a cell as it is now."""
        reply = self.client.get(f"{self.url}/cells/{cell_id}")
        assert reply.status_code == 200, reply.text
        assert reply.headers["etag"] == reply.json()["etag"]
        return reply.json()

    def put(self, etag: str | None = None, **fields: Any) -> Any:
        """Replaces the notebook."""
        headers = {} if etag is None else {"If-Match": etag}
        return self.client.put(self.url, json={"title": "Salaries", "cells": CELLS} | fields, headers=headers)

    def put_cell(self, cell_id: str = "a", etag: str | None = None, source: str = "2", **fields: Any) -> Any:
        """Replaces what a cell says."""
        headers = {} if etag is None else {"If-Match": etag}
        return self.client.put(f"{self.url}/cells/{cell_id}", json={"source": source} | fields, headers=headers)

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """Does something to the notebook."""
        return self.client.post(f"{self.url}/{path}", json=fields, headers=headers)

    def run(self, cell_id: str = "a", **fields: Any) -> Any:
        """Runs a cell, which must come to an end."""
        reply = self.post(f"cells/{cell_id}/run", **fields)
        assert reply.status_code == 200, reply.text
        return reply.json()


@pytest.fixture
def editor(client: TestClient) -> Editor:
    """A tab with a notebook of two cells."""
    return Editor(client)


def slug_of(reply: Any, status: int) -> str:
    """Returns what kind of problem is told with this status."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    return str(reply.json()["type"].removeprefix("urn:sandkeeper:problem:"))


def sources(notebook: Any) -> dict[str, str]:
    """Returns cell id → what it says."""
    return {cell["cellId"]: cell["source"] for cell in notebook["cells"]}


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


# ── Edited ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_cell_is_edited_by_who_has_seen_what_it_says(editor: Editor) -> None:
    reply = editor.put_cell("a", '"1"', "2")

    assert (reply.status_code, reply.json()["source"], reply.headers["etag"]) == (200, "2", '"2"')
    assert sources(editor.read()) == {"a": "2", "b": "# b"}


def test_whoever_does_not_say_what_they_have_seen_overwrites_nothing(editor: Editor) -> None:
    replies = [
        editor.put(),
        editor.put_cell(),
        editor.client.delete(editor.url),
        editor.client.delete(f"{editor.url}/cells/a"),
    ]

    assert {slug_of(reply, 428) for reply in replies} == {"version-missing"}
    assert {reply.headers["etag"] for reply in replies} == {'"1"'}
    assert all("send If-Match with the ETag of" in reply.json()["detail"] for reply in replies)
    assert editor.read() == editor.made


def test_of_two_tabs_that_edit_one_cell_the_second_is_told_and_overwrites_nothing(editor: Editor) -> None:
    editor.put_cell("a", '"1"', "first")

    reply = editor.put_cell("a", '"1"', "second")

    assert slug_of(reply, 412) == "version-stale"
    assert reply.headers["etag"] == '"2"'
    assert "cell 'a' has changed since version 1: somebody else has edited it." in reply.json()["detail"]
    assert sources(editor.read())["a"] == "first"
    assert editor.put_cell("a", reply.headers["etag"], "second").status_code == 200


def test_tabs_that_edit_different_cells_are_not_in_each_others_way(editor: Editor) -> None:
    assert editor.put_cell("a", '"1"', "2").status_code == 200
    assert editor.put_cell("b", '"1"', "# c").status_code == 200

    assert sources(editor.read()) == {"a": "2", "b": "# c"}


def test_a_whole_notebook_is_not_put_over_what_somebody_else_has_edited(editor: Editor) -> None:
    editor.put_cell("a", '"1"', "theirs")
    editor.post("cells", source="new", cellId="c")
    editor.client.delete(f"{editor.url}/cells/b", headers={"If-Match": '"1"'})

    reply = editor.put('"1"')

    assert slug_of(reply, 412) == "version-stale"
    assert reply.headers["etag"] == '"4"'
    assert "cell 'a' was edited, cell 'c' was inserted, cell 'b' was deleted" in reply.json()["detail"]
    assert sources(editor.read()) == {"a": "theirs", "c": "new"}


def test_who_overwrites_whatever_there_is_says_so(editor: Editor) -> None:
    editor.put_cell("a", '"1"', "theirs")

    assert editor.put("*").status_code == 200
    assert sources(editor.read()) == {"a": "1", "b": "# b"}


def test_a_replaced_notebook_has_exactly_these_cells_and_those_kept_show_what_they_did(editor: Editor) -> None:
    editor.run("a")
    cells = [{"source": "new", "cellId": "c"}, {"source": "1", "cellId": "a"}]

    replaced = editor.put('"1"', title="Wages", cells=cells).json()

    assert replaced == editor.read()
    assert (replaced["title"], sources(replaced)) == ("Wages", {"c": "new", "a": "1"})
    new, kept = replaced["cells"]
    assert (new["outputs"], new["lastRun"]) == ([], None)
    assert (kept["etag"], kept["outputs"], kept["lastRun"]["isCurrent"]) == (
        '"1"',
        [{"output_type": "stream", "name": "stdout", "text": "1"}],
        True,
    )


def test_as_many_cells_as_there_may_be_are_replaced(client: TestClient) -> None:
    editor = Editor(client, [{"source": "1"}] * MAX_CELLS)
    cells = [{"source": "2", "cellId": cell["cellId"]} for cell in editor.made["cells"]]

    assert {cell["source"] for cell in editor.put('"1"', cells=cells).json()["cells"]} == {"2"}


def test_a_cell_keeps_what_an_edit_leaves_out(client: TestClient) -> None:
    kept = {"metadata": {"tags": ["x"]}, "attachments": {"i.png": {"image/png": "aGk="}}}
    editor = Editor(client, [{"cellId": "m", "source": "![](i.png)", "type": "markdown", **kept}])

    edited = editor.put_cell("m", "*", "more").json()

    assert edited["type"] == "markdown"
    assert {name: edited[name] for name in kept} == kept
    assert editor.put_cell("m", "*", "more", metadata={}).json()["metadata"] == {}


def test_a_cell_of_another_type_shows_nothing_of_what_it_did(editor: Editor) -> None:
    editor.run("a")

    changed = editor.put_cell("a", "*", "# a", type="markdown").json()

    assert (changed["outputs"], changed["executionCount"], changed["lastRun"]) == ([], None, None)


def test_cells_are_inserted_where_they_are_to_stand(editor: Editor) -> None:
    places: dict[str, dict[str, Any]] = {"c": {}, "d": {"after": "a"}, "e": {"index": 0}, "f": {"index": 99}}
    for cell_id, place in places.items():
        reply = editor.post("cells", source=cell_id, cellId=cell_id, **place)
        assert (reply.status_code, reply.headers["location"]) == (201, f"{editor.url}/cells/{cell_id}")

    assert [*sources(editor.read())] == ["e", "a", "d", "b", "c", "f"]
    assert slug_of(editor.post("cells", source="x", cellId="a"), 422) == "invalid-request"
    assert slug_of(editor.post("cells", source="x", after="a", index=1), 422) == "invalid-request"


def test_cells_are_moved(editor: Editor) -> None:
    editor.post("cells", source="c", cellId="c")

    assert editor.post("cells/a/move", after="b").json()["cellCount"] == 3
    assert [*sources(editor.read())] == ["b", "a", "c"]
    editor.post("cells/c/move", after=None)
    assert [*sources(editor.read())] == ["c", "b", "a"]
    assert slug_of(editor.post("cells/a/move", after="a"), 422) == "invalid-request"


def test_what_cells_show_is_cleared(editor: Editor) -> None:
    editor.run("a")

    cleared = editor.post("clear").json()

    assert [(cell["outputs"], cell["executionCount"], cell["lastRun"]) for cell in cleared["cells"]] == [
        ([], None, None)
    ] * 2
    assert cleared["etag"] == '"1"', "outputs are nobody's edit"


def test_a_deleted_notebook_is_gone_with_all_it_had(world: World, editor: Editor) -> None:
    editor.run("a")

    assert editor.client.delete(editor.url, headers={"If-Match": '"1"'}).status_code == 204

    assert slug_of(editor.client.get(editor.url), 404) == "notebook-not-found"
    assert world.notebook_store.parts == {}
    assert slug_of(editor.client.delete(editor.url, headers={"If-Match": '"1"'}), 404) == "notebook-not-found"


def test_what_was_edited_is_not_deleted_by_who_has_not_seen_it(editor: Editor) -> None:
    editor.put_cell("a", '"1"', "2")

    assert slug_of(editor.client.delete(editor.url, headers={"If-Match": '"1"'}), 412) == "version-stale"
    reply = editor.client.delete(f"{editor.url}/cells/a", headers={"If-Match": '"1"'})
    assert slug_of(reply, 412) == "version-stale"
    assert sources(editor.read())["a"] == "2"


# ── At once ─────────────────────────────────────────────────────────────────────────────────────────


def in_between(world: World, *others: Callable[[], object]) -> None:
    """Lets others do these things right before what is about to be written, one each time."""
    coming = iter(others)

    def commit(change: Change) -> bool:
        other = next(coming, None)
        if other is not None:
            del world.taps["notebook_store"].instead["commit"]
            other()
            world.taps["notebook_store"].instead["commit"] = commit
        return world.notebook_store.commit(change)

    world.taps["notebook_store"].instead["commit"] = commit


def test_an_edit_is_made_although_other_cells_change_meanwhile(world: World, editor: Editor) -> None:
    in_between(world, lambda: editor.put_cell("b", "*", "theirs"), lambda: editor.post("clear"))

    assert editor.put_cell("a", '"1"', "mine").status_code == 200
    assert sources(editor.read()) == {"a": "mine", "b": "theirs"}


def test_an_edit_is_refused_that_another_one_of_the_same_cell_overtakes(world: World, editor: Editor) -> None:
    in_between(world, lambda: editor.put_cell("a", "*", "theirs"))

    assert slug_of(editor.put_cell("a", '"1"', "mine"), 412) == "version-stale"
    assert sources(editor.read())["a"] == "theirs"


def test_a_notebook_is_read_as_it_is_at_one_moment(world: World, editor: Editor) -> None:
    """Between its head and its parts somebody edits a cell."""

    def texts(*given: Any) -> Any:
        del world.taps["notebook_store"].instead["texts"]
        editor.put_cell("a", "*", "2")
        return world.notebook_store.texts(*given)

    world.taps["notebook_store"].instead["texts"] = texts

    notebook = editor.read()

    assert (notebook["version"], sources(notebook)["a"]) == (2, "2")


def test_a_store_that_fails_leaves_the_notebook_as_it_was(world: World, editor: Editor) -> None:
    world.taps["notebook_store"].fail("commit", StoreUnavailable("throttled"))

    assert slug_of(editor.put_cell("a", '"1"', "2"), 503) == "store-unavailable"
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
