"""Cells that run in the chat's session, and whoever sees the end."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.errors import NotConfigured, StoreUnavailable
from sandkeeper.model import Display, RunEnd, RunOutcome, Stream
from sandkeeper.notebooks import Change
from sandkeeper.services.cell_runs import GIVEN_UP
from tests.editor import (
    CODE,
    DONE,
    FAILED,
    Editor,
    began,
    goes_on,
    ran,
    run_directly,
    slug_of,
    states,
)
from tests.world import CHAT, CallerDied, World

TEXT = [{"output_type": "stream", "name": "stdout", "text": "done"}]


@pytest.fixture
def editor(client: TestClient) -> Editor:
    """A tab with a notebook of three code cells."""
    return Editor(client, CODE)


# ── One cell ────────────────────────────────────────────────────────────────────────────────────────


def test_a_cell_shows_what_its_code_puts_out(world: World, editor: Editor) -> None:
    value = Display({"text/plain": "5"}, is_main_result=True)
    world.sandboxes.program = lambda *_: RunOutcome([Stream("stdout", "x\n"), value], RunEnd.FINISHED)
    world.run("before")

    answer = editor.run("a")

    assert (answer["success"], answer["error"]) == (True, None)
    assert answer["cell"]["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": "x\n"},
        {"output_type": "execute_result", "execution_count": 2, "data": {"text/plain": "5"}, "metadata": {}},
    ]
    assert answer["cell"]["executionCount"] == 2
    assert answer["cell"] == editor.cell("a")
    run = answer["cell"]["lastRun"]
    assert (run["executionId"], run["state"], run["success"]) == (answer["executionId"], "ended", True)
    assert world.runs.get(CHAT, answer["executionId"]) is not None


def test_code_that_raises_is_a_result(world: World, editor: Editor) -> None:
    world.sandboxes.program = lambda *_: FAILED

    answer = editor.run("a")

    assert (answer["success"], answer["error"]) == (False, "ValueError: no")
    assert answer["cell"]["outputs"][0]["ename"] == "ValueError"
    assert answer["cell"]["lastRun"]["success"] is False


@pytest.mark.parametrize("end", [RunEnd.TIMEOUT, RunEnd.CANCELLED, RunEnd.KERNEL_DIED])
def test_code_that_was_stopped_says_so_in_its_cell(world: World, editor: Editor, end: RunEnd) -> None:
    world.sandboxes.program = lambda *_: RunOutcome([], end)

    assert editor.run("a")["cell"]["outputs"][0]["text"].startswith("[this run ")


def test_a_cell_that_goes_on_is_answered_with_where_to_follow_it(world: World, editor: Editor) -> None:
    goes_on(world)

    reply = editor.post("cells/a/run", mode="async")

    answer = reply.json()
    url = f"/api/chats/chat-1/executions/{answer['executionId']}"
    assert reply.status_code == 202
    assert reply.headers["location"] == answer["statusUrl"] == url
    assert answer["eventsUrl"] == f"{url}/events"
    assert answer["notebookEventsUrl"] == f"{editor.url}/events"
    assert states(editor.read()) == {"a": ("running", None)}


def test_whoever_reads_next_sees_what_has_come_of_a_run(world: World, editor: Editor) -> None:
    goes_on(world)
    run_id = began(editor)
    world.sandboxes.finish(run_id, DONE)

    notebook = editor.read()

    assert states(notebook) == {"a": ("ended", True)}
    assert notebook["cells"][0]["outputs"] == TEXT
    assert notebook["version"] == 3
    assert editor.read() == notebook, "the end is settled once"


def test_what_a_run_shows_is_kept_although_its_call_dies(world: World, editor: Editor) -> None:
    """The code has run, and its end is recorded; then the machine of the call is gone."""
    world.taps["store"].die_after("release")
    with pytest.raises(CallerDied):
        run_directly(world, editor)
    world.clock.advance(timedelta(minutes=2))

    notebook = editor.read()

    assert states(notebook) == {"a": ("ended", True)}
    assert notebook["cells"][0]["outputs"][0]["text"] == "a"


def test_a_run_that_never_began_is_given_up_after_a_while(world: World, editor: Editor) -> None:
    def die(*_: Any, **__: Any) -> Any:
        raise CallerDied

    world.taps["sandboxes"].instead["create"] = die
    with pytest.raises(CallerDied):
        run_directly(world, editor)
    del world.taps["sandboxes"].instead["create"]

    assert states(editor.read()) == {"a": ("running", None)}
    assert slug_of(editor.post("cells/a/run"), 409) == "session-busy"
    world.clock.advance(GIVEN_UP + timedelta(seconds=1))

    assert states(editor.read()) == {}
    assert editor.run("a")["success"] is True


def test_a_run_that_cannot_begin_leaves_the_cell_as_it_was(world: World, editor: Editor) -> None:
    before = editor.run("a")["cell"]
    world.lose_sandbox()
    world.taps["sandboxes"].fail("create", NotConfigured("no key"))

    assert slug_of(editor.post("cells/a/run"), 500) == "not-configured"
    assert editor.cell("a") == before


def test_a_store_that_fails_at_the_end_keeps_nobody_from_the_answer(world: World, editor: Editor) -> None:
    real = world.notebook_store.commit

    def commit(change: Change) -> bool:
        if change.delta.kind == "cell.finished":
            del world.taps["notebook_store"].instead["commit"]
            raise StoreUnavailable("throttled")
        return real(change)

    world.taps["notebook_store"].instead["commit"] = commit

    answer = editor.run("a")

    assert answer["success"] is True
    assert answer["cell"]["lastRun"]["state"] == "running"
    assert "cell.not_settled" in world.events()
    assert states(editor.read()) == {"a": ("ended", True)}


def test_a_cell_that_runs_is_not_run_again(world: World, editor: Editor) -> None:
    goes_on(world)
    run_id = began(editor)

    reply = editor.post("cells/a/run")

    assert slug_of(reply, 409) == "session-busy"
    assert run_id in reply.json()["detail"]
    assert len(world.sandboxes.runs) == 1


def test_a_cell_runs_as_it_was_read_or_not_at_all(world: World, editor: Editor) -> None:
    noted = ran(world)
    editor.put_cell("a", '"1"', "theirs")

    assert slug_of(editor.post("cells/a/run", headers={"If-Match": '"1"'}), 412) == "version-stale"
    assert noted == []
    assert editor.post("cells/a/run", headers={"If-Match": '"2"'}).status_code == 200
    assert noted == ["theirs"]


def test_what_a_cell_shows_after_an_edit_is_told_to_be_of_what_it_said_before(world: World, editor: Editor) -> None:
    goes_on(world)
    run_id = began(editor)
    editor.put_cell("a", '"1"', "2")
    world.sandboxes.finish(run_id, DONE)

    cell = editor.cell("a")

    assert (cell["source"], cell["outputs"], cell["lastRun"]["isCurrent"]) == ("2", TEXT, False)
    assert cell["etag"] == '"3"'


def test_outputs_that_arrive_make_nobodys_edit_stale(world: World, editor: Editor) -> None:
    goes_on(world)
    run_id = began(editor)
    world.sandboxes.finish(run_id, DONE)
    editor.read()

    assert editor.put_cell("a", '"1"', "2").status_code == 200
    assert editor.put('"4"', cells=CODE).status_code == 200


def test_a_cell_that_is_deleted_while_it_runs_leaves_its_run_to_the_history(world: World, editor: Editor) -> None:
    goes_on(world)
    run_id = began(editor)
    editor.client.delete(f"{editor.url}/cells/a", headers={"If-Match": "*"})
    world.sandboxes.finish(run_id, DONE)

    assert states(editor.read()) == {}
    assert editor.client.get(f"/api/chats/chat-1/executions/{run_id}").json()["result"]["success"] is True


def test_only_code_runs(client: TestClient) -> None:
    editor = Editor(client)

    assert slug_of(editor.post("cells/b/run"), 422) == "invalid-request"


def test_an_empty_cell_runs_as_nothing(world: World, client: TestClient) -> None:
    noted = ran(world)
    editor = Editor(client, [{"cellId": "a", "source": " \n"}])

    assert editor.run("a")["success"] is True
    assert noted == ["pass"]


def test_a_session_that_is_busy_may_refuse(world: World, editor: Editor) -> None:
    goes_on(world)
    world.run(mode="async")

    assert slug_of(editor.post("cells/a/run", onBusy="reject"), 409) == "session-busy"
    assert states(editor.read()) == {}


# ── The same request again ──────────────────────────────────────────────────────────────────────────


def test_a_repeated_request_is_answered_with_the_first_run(world: World, editor: Editor) -> None:
    noted = ran(world)
    once = {"Idempotency-Key": "once"}

    first = editor.post("cells/a/run", headers=once)
    editor.put_cell("a", "*", "another")
    again = editor.post("cells/a/run", headers=once)

    assert first.json()["executionId"] == again.json()["executionId"]
    assert again.headers["idempotency-replayed"] == "true"
    assert noted == ["a"]


def test_a_repeated_request_finds_the_run_that_its_call_has_died_over(world: World, editor: Editor) -> None:
    noted = ran(world)
    once = {"Idempotency-Key": "once"}
    world.taps["sandboxes"].die_after("run")
    with pytest.raises(CallerDied):
        run_directly(world, editor, idempotency_key="once")

    reply = editor.post("cells/a/run", headers=once)

    assert (reply.status_code, noted) == (200, ["a"])
    assert reply.json()["cell"]["outputs"] == TEXT


def test_a_repeated_request_that_has_come_to_nothing_yet_is_shown_in_its_cell(world: World, editor: Editor) -> None:
    """The first call dies when the cell names its run, and before anybody else hears of that."""
    noted = ran(world)
    world.taps["notebook_store"].die_after("commit")
    with pytest.raises(CallerDied):
        run_directly(world, editor, idempotency_key="once", expected=1)
    world.clock.advance(GIVEN_UP + timedelta(seconds=1))
    editor.read()
    editor.put_cell("b", "*", "another")

    reply = editor.post("cells/a/run", headers={"Idempotency-Key": "once", "If-Match": '"1"'})

    assert reply.status_code == 200, reply.text
    assert (noted, reply.json()["cell"]["outputs"]) == (["a"], TEXT)


def test_the_same_key_for_another_request_is_refused(world: World, editor: Editor) -> None:
    noted = ran(world)
    editor.post("cells/a/run", headers={"Idempotency-Key": "once"})

    reply = editor.post("cells/a/run", headers={"Idempotency-Key": "once"}, timeoutMs=9_000)

    assert slug_of(reply, 422) == "invalid-request"
    assert "'once'" in reply.json()["detail"]
    assert noted == ["a"]
