"""Following a notebook: its changes, and what its cells put out, from wherever a client has come to."""

import json
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from sandkeeper.errors import SandboxUnavailable
from sandkeeper.http import notebook_events
from sandkeeper.http.app import create_app
from sandkeeper.http.execute_routes import GATHER_S
from sandkeeper.model import Stream
from sandkeeper.runs import RunEvent
from sandkeeper.services.notebook_feed import Position
from tests.editor import CODE, DONE, Editor, began, goes_on, slug_of
from tests.unit.test_http_events import Frame, frames
from tests.world import TOKEN, Patience, World


@pytest.fixture(autouse=True)
def time(patience: Patience, monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Lets no time pass for whoever follows but what the world's clock shows."""

    class Time:
        monotonic = staticmethod(patience._now)
        sleep = staticmethod(patience._sleep)

    monkeypatch.setattr(notebook_events, "time", Time)
    return patience


@pytest.fixture
def editor(client: TestClient) -> Editor:
    """A tab with a notebook of three code cells."""
    return Editor(client, CODE)


def follow(editor: Editor, last: str | None = None, **params: Any) -> list[Frame]:
    """Returns the events of one connection."""
    reply = editor.client.get(
        f"{editor.url}/events", params=params, headers={} if last is None else {"Last-Event-ID": last}
    )
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    return [frame for frame in frames(reply.text) if "event" in frame]


def told(events: list[Frame]) -> list[tuple[str, str]]:
    """Returns id and name of each."""
    return [(frame["id"].partition(".")[0], frame["event"]) for frame in events]


def data(frame: Frame) -> Any:
    """Returns what an event tells."""
    return json.loads(frame["data"])


def write(world: World, run_id: str, *texts: str) -> None:
    """Lets a run that goes on print these."""
    (where,) = (known for known in world.sandboxes.runs if known[1] == run_id)
    world.sandboxes._add(where, *(Stream("stdout", text) for text in texts))


# ── Changes ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_change_is_told_with_what_it_came_to(editor: Editor) -> None:
    editor.put_cell("a", "*", "2")
    editor.post("cells", source="d", cellId="d", index=0)
    editor.post("cells/d/move", after="a")
    editor.client.delete(f"{editor.url}/cells/b", headers={"If-Match": "*"})
    editor.run("a")
    editor.post("clear")
    editor.put("*", title="Wages", cells=[{"cellId": "a", "source": "3"}])

    events = follow(editor, after=1)

    assert told(events) == [
        ("2", "cell.updated"),
        ("3", "cell.inserted"),
        ("4", "cell.moved"),
        ("5", "cell.deleted"),
        ("6", "cell.started"),
        ("7", "cell.finished"),
        ("8", "notebook.cleared"),
        ("9", "notebook.updated"),
    ]
    first = data(events[0])
    assert (first["cellId"], first["cell"]["source"], first["change"]) == ("a", "3", 2)
    assert {name: first[name] for name in ("version", "etag", "title", "cells", "plan")} == {
        "version": 9,
        "etag": '"9"',
        "title": "Wages",
        "cells": [{"cellId": "a", "etag": '"9"'}],
        "plan": None,
    }
    assert data(events[3])["cell"] is None
    assert [data(events[place])["cell"]["outputs"] for place in (0, 5)] == [[], []]
    assert data(events[4])["executionId"] == data(events[5])["executionId"]


def test_a_client_goes_on_from_where_it_was(editor: Editor) -> None:
    for source in "23":
        editor.put_cell("a", "*", source)

    assert told(follow(editor, "2")) == [("3", "cell.updated")]
    assert told(follow(editor, "3")) == []


def test_without_a_place_to_begin_one_is_told_first(editor: Editor) -> None:
    editor.put_cell("a", "*", "2")

    (event,) = follow(editor)

    assert (event["id"], event["event"], data(event)["version"]) == ("2", "reset", 2)


def test_what_is_not_remembered_any_more_is_to_be_read_again(world: World, editor: Editor) -> None:
    editor.put_cell("a", "*", "2")
    editor.put_cell("a", "*", "3")
    world.notebook_store.forget_deltas()
    editor.put_cell("a", "*", "4")

    assert told(follow(editor, "2")) == [("4", "reset")]
    assert told(follow(editor, "3")) == [("4", "cell.updated")]


@pytest.mark.parametrize("last", ["99", "99.5.01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"])
def test_a_place_that_there_is_not_is_to_be_read_again(editor: Editor, last: str) -> None:
    assert told(follow(editor, last)) == [("1", "reset")]


@pytest.mark.parametrize("last", ["x", "-1", "1.2", "1.2.3", "1" * 13])
def test_what_is_no_place_is_refused(editor: Editor, last: str) -> None:
    reply = editor.client.get(f"{editor.url}/events", headers={"Last-Event-ID": last})

    assert slug_of(reply, 422) == "invalid-request"


def test_a_change_is_told_while_somebody_follows(editor: Editor, patience: Patience) -> None:
    patience.events.append(lambda: None)
    patience.events.append(lambda: editor.put_cell("a", "*", "2"))

    assert told(follow(editor, after=1)) == [("2", "cell.updated")]


def test_a_notebook_that_is_deleted_ends_its_events(editor: Editor, patience: Patience) -> None:
    editor.put_cell("a", "*", "2")
    patience.events.append(lambda: editor.client.delete(editor.url, headers={"If-Match": "*"}))

    events = follow(editor, after=1)

    assert told(events) == [("2", "cell.updated"), ("3", "notebook.deleted")]
    assert slug_of(editor.client.get(f"{editor.url}/events"), 404) == "notebook-not-found"


def test_what_was_done_right_before_a_notebook_was_deleted_is_told_too(editor: Editor, patience: Patience) -> None:
    def edit_and_delete() -> None:
        editor.put_cell("a", "*", "2")
        editor.client.delete(editor.url, headers={"If-Match": "*"})

    patience.events.append(edit_and_delete)

    assert told(follow(editor, after=1)) == [("2", "cell.updated"), ("3", "notebook.deleted")]


def test_changes_of_which_only_some_are_remembered_are_to_be_read_again(world: World, editor: Editor) -> None:
    """The table forgets rows in no order, and a little late."""
    for source in "234":
        editor.put_cell("a", "*", source)
    (known,) = world.notebook_store._deltas.values()
    del known[1]

    assert told(follow(editor, after=1)) == [("4", "reset")]


@pytest.mark.parametrize("text", ["7", "7.3.01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"])
def test_a_position_is_told_and_understood(text: str) -> None:
    assert str(Position.of(text)) == text


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_cell_puts_out_is_told_while_it_runs(world: World, editor: Editor, patience: Patience) -> None:
    goes_on(world)
    run_id = began(editor)
    write(world, run_id, "one")
    patience.events += [lambda: write(world, run_id, "two"), lambda: world.sandboxes.finish(run_id, DONE)]

    events = follow(editor, after=1)

    assert [(frame["id"], frame["event"]) for frame in events] == [
        ("2", "cell.started"),
        (f"2.3.{run_id}", "cell.output"),
        (f"2.4.{run_id}", "cell.output"),
        (f"2.5.{run_id}", "cell.output"),
        ("3", "cell.finished"),
    ]
    outputs = [data(frame) for frame in events[1:4]]
    assert [output["results"][0]["content"] for output in outputs] == ["one", "two", "done"]
    assert {(output["cellId"], output["executionId"]) for output in outputs} == {("a", run_id)}
    assert data(events[4])["cell"]["outputs"][0]["text"] == "onetwodone"
    assert editor.read()["version"] == 3


def test_whoever_comes_back_in_the_middle_of_a_run_misses_nothing_and_hears_nothing_twice(
    world: World, editor: Editor, patience: Patience
) -> None:
    goes_on(world)
    run_id = began(editor)
    write(world, run_id, "one", "two")
    first = follow(editor, after=1)
    write(world, run_id, "three")
    patience.events += [lambda: editor.put_cell("b", "*", "edited"), lambda: write(world, run_id, "four")]

    second = follow(editor, first[1]["id"])
    third = follow(editor, second[-1]["id"])

    assert [(frame["id"], frame["event"]) for frame in (*first, *second, *third)] == [
        ("2", "cell.started"),
        (f"2.3.{run_id}", "cell.output"),
        (f"2.4.{run_id}", "cell.output"),
        (f"2.4.{run_id}", "cell.output"),
        (f"2.5.{run_id}", "cell.output"),
        (f"3.5.{run_id}", "cell.updated"),
        (f"3.6.{run_id}", "cell.output"),
    ]


def test_who_comes_back_after_a_run_is_told_its_end_with_all_of_it(world: World, editor: Editor) -> None:
    goes_on(world)
    run_id = began(editor)
    write(world, run_id, "one")
    last = follow(editor, after=1)[-1]["id"]
    world.sandboxes.finish(run_id, DONE)
    editor.read()

    (event,) = follow(editor, last)

    assert (event["id"], event["event"]) == ("3", "cell.finished")
    assert data(event)["cell"]["outputs"][0]["text"] == "onedone"


def test_who_follows_begins_what_is_left(world: World, editor: Editor, patience: Patience) -> None:
    goes_on(world)
    editor.post("run", mode="async")

    def finish() -> None:
        _, run_id = [*world.sandboxes.runs][-1]
        world.sandboxes.finish(run_id, DONE)

    finishes: list[Callable[[], object]] = [finish, finish, finish]
    patience.events += finishes

    events = follow(editor, after=1)

    assert [name for _, name in told(events)] == [
        "plan.started",
        *("cell.started", "cell.output", "cell.finished") * 3,
    ]
    assert data(events[-1])["plan"] is None
    assert editor.read()["plan"] is None


def test_a_sandbox_that_does_not_answer_keeps_nobody_from_the_changes(
    world: World, editor: Editor, patience: Patience
) -> None:
    goes_on(world)
    began(editor)

    def fail(*_: Any, **__: Any) -> list[RunEvent]:
        raise SandboxUnavailable("no answer")

    world.taps["sandboxes"].instead["follow"] = fail
    patience.events.append(lambda: editor.put_cell("b", "*", "2"))

    assert told(follow(editor, after=1)) == [("2", "cell.started"), ("3", "cell.updated")]


def test_nobody_is_asked_for_more_than_changes_while_nothing_happens(world: World, editor: Editor) -> None:
    world.calls()

    follow(editor, after=1)

    calls = world.calls()
    assert calls.count("notebook_store.deltas") <= 31
    assert calls.count("notebook_store.get") <= 7
    assert not [call for call in calls if call.startswith(("store", "sandboxes", "runs"))]


def test_a_change_that_is_made_between_two_looks_is_told_once(world: World, editor: Editor) -> None:
    real, seen = world.notebook_store.deltas, list[int]()

    def deltas(*given: Any, **more: Any) -> Any:
        found = real(*given, **more)
        if found and not seen:
            seen.append(1)
            editor.put_cell("b", "*", "3")
        return found

    editor.put_cell("a", "*", "2")
    world.taps["notebook_store"].instead["deltas"] = deltas

    assert told(follow(editor, after=1)) == [("2", "cell.updated"), ("3", "cell.updated")]


def test_more_changes_than_are_read_at_once_are_all_told(editor: Editor) -> None:
    for number in range(120):
        editor.put_cell("a", "*", str(number))

    assert [version for version, _ in told(follow(editor, after=1))] == [str(number) for number in range(2, 122)]


# ── Where replies are sent whole ────────────────────────────────────────────────────────────────────


@pytest.fixture
def behind_a_gateway(world: World, editor: Editor) -> Iterator[Editor]:
    """The same tab, whose replies are sent once they are whole."""
    app = create_app(world.wiring)

    async def in_lambda(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "aws.event": {}}, receive, send)

    with TestClient(in_lambda, headers={"Authorization": f"Bearer {TOKEN}"}) as caller:
        whole = copy(editor)
        whole.client = caller
        yield whole


def test_a_reply_that_is_sent_whole_tells_what_there_is_and_a_little_more(
    world: World, behind_a_gateway: Editor, patience: Patience
) -> None:
    goes_on(world)
    run_id = began(behind_a_gateway)
    write(world, run_id, "one")
    patience.events += [lambda: None, lambda: write(world, run_id, "too late")]

    first = follow(behind_a_gateway, after=1)
    waited = sum(patience.slept)
    rest = follow(behind_a_gateway, first[-1]["id"])

    assert told(first) == [("2", "cell.started"), ("2", "cell.output")]
    assert waited <= GATHER_S
    assert told(rest) == [("2", "cell.output")]


def test_a_reply_that_is_sent_whole_waits_for_something_to_tell(
    behind_a_gateway: Editor, patience: Patience
) -> None:
    patience.events += [lambda: None, lambda: behind_a_gateway.put_cell("a", "*", "2")]

    assert told(follow(behind_a_gateway, after=1)) == [("2", "cell.updated")]
    assert follow(behind_a_gateway, after=2) == []


def test_a_deletion_is_told_in_a_reply_that_is_sent_whole(behind_a_gateway: Editor, patience: Patience) -> None:
    behind_a_gateway.put_cell("a", "*", "2")
    patience.events += [
        lambda: behind_a_gateway.client.delete(behind_a_gateway.url, headers={"If-Match": "*"}),
    ]

    first = follow(behind_a_gateway, after=1)

    assert told(first) == [("2", "cell.updated"), ("3", "notebook.deleted")]


def test_whoever_does_not_want_to_wait_is_told_what_there_is(editor: Editor, patience: Patience) -> None:
    editor.put_cell("a", "*", "2")

    assert told(follow(editor, after=1, waitMs=0)) == [("2", "cell.updated")]
    assert follow(editor, after=2, waitMs=0) == []
    assert patience.slept == []
