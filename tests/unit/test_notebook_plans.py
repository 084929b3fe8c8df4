"""All cells of a notebook, one after another: begun by whoever looks, each once."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from sandkeeper.errors import NotConfigured
from sandkeeper.notebooks import Change
from sandkeeper.services.cell_runs import GIVEN_UP
from tests.editor import (
    CODE,
    DONE,
    Editor,
    goes_on,
    ran,
    slug_of,
    states,
)
from tests.world import CHAT, CallerDied, World


@pytest.fixture
def editor(client: TestClient) -> Editor:
    """A tab with a notebook of three code cells."""
    return Editor(client, CODE)


def test_all_code_cells_run_in_their_order(world: World, editor: Editor) -> None:
    noted = ran(world)
    editor.post("cells", source="# text", type="markdown", after="a")

    reply = editor.post("run")

    assert (reply.status_code, noted) == (200, ["a", "b", "c"])
    assert states(reply.json()) == dict.fromkeys("abc", ("ended", True))
    assert [cell["executionCount"] for cell in reply.json()["cells"]] == [1, None, 2, 3]
    assert reply.json()["plan"] is None


def test_the_first_cell_that_fails_is_the_last_that_runs(world: World, editor: Editor) -> None:
    noted = ran(world)
    editor.put_cell("b", "*", "fails")

    reply = editor.post("run")

    assert (reply.status_code, noted, reply.json()["plan"]) == (200, ["a", "fails"], None)
    assert states(reply.json()) == {"a": ("ended", True), "b": ("ended", False)}


def test_a_cell_that_fails_may_be_passed_over(world: World, editor: Editor) -> None:
    noted = ran(world)
    editor.put_cell("b", "*", "fails")

    assert states(editor.post("run", stopOnError=False).json())["c"] == ("ended", True)
    assert noted == ["a", "fails", "c"]


def test_what_is_left_is_begun_by_whoever_looks_next(world: World, editor: Editor) -> None:
    goes_on(world)

    reply = editor.post("run", mode="async")

    assert (reply.status_code, reply.json()["plan"]) == (202, {"left": ["b", "c"], "stopOnError": True})
    for place, cell_id in enumerate("abc"):
        assert states(editor.read())[cell_id] == ("running", None)
        assert len(world.sandboxes.runs) == place + 1
        _, run_id = [*world.sandboxes.runs][-1]
        world.sandboxes.finish(run_id, DONE)
    notebook = editor.read()
    assert (states(notebook), notebook["plan"]) == (dict.fromkeys("abc", ("ended", True)), None)


def test_a_plan_waits_for_what_else_runs_in_the_session(world: World, editor: Editor) -> None:
    goes_on(world)
    editor.post("run", mode="async")
    _, run_id = [*world.sandboxes.runs][-1]
    world.sandboxes.finish(run_id, DONE)
    other = world.run("other", mode="async").execution.execution_id
    before = editor.read()
    assert before["plan"]["left"] == ["b", "c"]
    assert editor.read()["version"] == before["version"]

    world.sandboxes.finish(other, DONE)

    assert states(editor.read())["b"] == ("running", None)


def test_two_who_look_at_once_begin_a_cell_once(world: World, editor: Editor) -> None:
    goes_on(world)
    editor.post("run", mode="async")
    _, run_id = [*world.sandboxes.runs][-1]
    world.sandboxes.finish(run_id, DONE)
    editor.client.get(f"{editor.url}/cells/a")  # settles it, and begins nothing
    real = world.notebook_store.commit

    def commit(change: Change) -> bool:
        del world.taps["notebook_store"].instead["commit"]
        assert states(editor.read())["b"] == ("running", None)
        return real(change)

    world.taps["notebook_store"].instead["commit"] = commit

    editor.read()

    assert len(world.sandboxes.runs) == 2


def test_a_cell_whose_beginner_has_died_is_begun_again_and_runs_once(world: World, editor: Editor) -> None:
    goes_on(world)
    editor.post("run", mode="async")
    _, run_id = [*world.sandboxes.runs][-1]
    world.sandboxes.finish(run_id, DONE)
    editor.client.get(f"{editor.url}/cells/a")
    world.taps["notebook_store"].die_after("commit")
    with pytest.raises(CallerDied):
        world.wiring.notebook_plans.moved_on(world.wiring.notebooks.get(CHAT, editor.made["notebookId"]))
    assert states(editor.read())["b"] == ("running", None)
    assert len(world.sandboxes.runs) == 1

    world.clock.advance(GIVEN_UP + timedelta(seconds=1))
    editor.read()

    assert states(editor.read())["b"] == ("running", None)
    assert len(world.sandboxes.runs) == 2


def test_a_plan_that_cannot_begin_is_none(world: World, editor: Editor) -> None:
    world.taps["sandboxes"].fail("create", NotConfigured("no key"))

    assert slug_of(editor.post("run"), 500) == "not-configured"
    assert (editor.read()["plan"], states(editor.read())) == (None, {})


def test_a_cell_of_a_plan_that_cannot_begin_now_is_left_to_the_next_who_looks(world: World, editor: Editor) -> None:
    goes_on(world)
    editor.post("run", mode="async")
    _, run_id = [*world.sandboxes.runs][-1]
    world.sandboxes.finish(run_id, DONE)
    editor.client.get(f"{editor.url}/cells/a")
    world.lose_sandbox()
    world.taps["sandboxes"].fail("create", NotConfigured("no key"))

    assert editor.read()["plan"]["left"] == ["b", "c"]
    assert "plan.not_moved" in world.events()
    assert len(world.sandboxes.runs) == 1
    assert states(editor.read())["b"] == ("running", None)


def test_all_cells_do_not_run_twice_at_once(world: World, editor: Editor) -> None:
    goes_on(world)
    editor.post("run", mode="async")

    assert slug_of(editor.post("run"), 409) == "session-busy"


def test_a_repeated_request_to_run_all_runs_them_once(world: World, editor: Editor) -> None:
    noted = ran(world)
    once = {"Idempotency-Key": "once"}
    first, again = (editor.post("run", headers=once) for _ in range(2))

    assert (first.status_code, again.status_code, noted) == (200, 200, ["a", "b", "c"])
    assert editor.post("run").status_code == 200
    assert noted == ["a", "b", "c"] * 2


def test_cells_that_are_edited_before_their_turn_run_as_they_are_then(world: World, editor: Editor) -> None:
    goes_on(world)
    editor.post("run", mode="async")
    _, run_id = [*world.sandboxes.runs][-1]
    noted = ran(world)
    editor.put_cell("c", "*", "edited")
    editor.client.delete(f"{editor.url}/cells/b", headers={"If-Match": "*"})
    world.sandboxes.finish(run_id, DONE)

    editor.read()

    assert noted == ["edited"]
    assert editor.read()["plan"] is None


def test_what_runs_is_stopped_and_nothing_else_begins(world: World, editor: Editor) -> None:
    goes_on(world)
    editor.post("run", mode="async")

    stopped = editor.client.post(f"{editor.url}/stop").json()

    assert (stopped["plan"], states(stopped)) == (None, {"a": ("ended", False)})
    assert "was stopped by a caller" in stopped["cells"][0]["outputs"][0]["text"]
    assert len(world.sandboxes.runs) == 1
    world.assert_free()


def test_a_notebook_without_code_has_nothing_to_run(world: World, client: TestClient) -> None:
    editor = Editor(client, [{"source": "# text", "type": "markdown"}])

    assert editor.post("run").status_code == 200
    assert world.store.read(CHAT) is None
