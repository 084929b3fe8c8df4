"""Notebooks that are edited, also by several at once: nothing is overwritten that was not seen."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.errors import StoreUnavailable
from sandkeeper.notebooks import MAX_CELLS, Change
from tests.editor import (
    Editor,
    slug_of,
    sources,
)
from tests.world import World


@pytest.fixture
def editor(client: TestClient) -> Editor:
    """A tab with a notebook of two cells."""
    return Editor(client)


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
