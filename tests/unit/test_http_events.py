"""Following a run: server-sent events, from wherever a client has come to."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from sandkeeper.errors import SandboxUnavailable, StoreUnavailable
from sandkeeper.http import execute_routes
from sandkeeper.http.app import create_app
from sandkeeper.http.event_schemas import NotebookEvents, RunEvents
from sandkeeper.http.execute_routes import PAUSE_S, SLICE_S, STREAM_S
from sandkeeper.model import Display, Raised, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.runs import LAST_NUMBER, RunEvent
from tests.factories import context, opened
from tests.world import CHAT, TOKEN, World

RUN_ID = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"
OUTCOME = RunOutcome([Stream("stdout", "a\n"), Display({"text/plain": "5"}, is_main_result=True)], RunEnd.FINISHED)
Frame = dict[str, str]
DOCUMENTED: dict[str, Any] = {
    field.alias or name: field.annotation
    for events in (RunEvents, NotebookEvents)
    for name, field in events.model_fields.items()
}
"""An event's name → what the document says of its data."""


def frames(text: str) -> list[Frame]:
    """Returns the fields of each event of a stream, comments left out. Each is as the document has it."""
    *whole, _ = text.split("\n\n")
    lines = [[line for line in frame.split("\n") if not line.startswith(":")] for frame in whole]
    found = [dict(line.split(": ", 1) for line in each) for each in lines]
    for frame in found:
        if "event" in frame:
            DOCUMENTED[frame["event"]].model_validate_json(frame["data"])
    return found


def told(text: str) -> list[tuple[int, str]]:
    """Returns number and name of a stream's events."""
    return [(int(frame["id"]), frame["event"]) for frame in frames(text)]


ALL = [(1, "accepted"), (2, "started"), (3, "output"), (4, "output"), (5, "end")]


@dataclass
class Time:
    """A clock that stands still but for those who sleep."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Returns what time it is."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Returns what time it is for whoever tells a run."""
    made = Time()
    monkeypatch.setattr(execute_routes, "time", made)
    return made


def begin(world: World, outcome: RunOutcome | None = None) -> str:
    """Begins a run that ends so, or goes on, and returns its id."""
    world.sandboxes.program = lambda *_: outcome
    return world.run(mode="async").execution.execution_id


def follow(client: TestClient, run_id: str, last: int | str | None = None) -> Any:
    """Returns the reply to whoever follows the run."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    return client.get(f"/api/chats/chat-1/executions/{run_id}/events", headers=headers)


def on_follow(world: World, *happen: Callable[[str], object]) -> list[timedelta]:
    """Lets these things happen to the run while it is followed, one each time; returns for how long it is."""
    waits: list[timedelta] = []
    coming = iter(happen)

    def look(where: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        if wait:
            waits.append(wait)
            next(coming, lambda _: None)(run_id)
        return world.sandboxes.follow(where, run_id, after=after, wait=wait)

    world.taps["sandboxes"].instead["follow"] = look
    return waits


# ── What an event is ────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_is_over_is_told_from_its_acceptance_to_its_end(world: World, client: TestClient) -> None:
    run_id = begin(world, OUTCOME)

    reply = follow(client, run_id)

    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")
    at = {"at": "2026-01-02T03:04:05.678000Z"}
    assert frames(reply.text)[0]["retry"] == "200"
    assert [json.loads(frame["data"]) for frame in frames(reply.text)] == [
        {**at, "executionId": run_id, "limitMs": 5_000},
        {**at, "stateReset": False, "reason": None},
        {**at, "results": [{"type": "text", "content": "a\n", "mimeType": "text/plain"}]},
        {**at, "results": [{"type": "text", "content": "5", "mimeType": "text/plain"}]},
        {**at, "success": True, "error": None, "errorDetail": None, "artifacts": []},
    ]
    assert told(reply.text) == ALL


def test_an_event_is_framed_so_that_any_text_fits_into_it(world: World, client: TestClient) -> None:
    run_id = begin(world, RunOutcome([Stream("stdout", "a\n\ndata: b\r\n: é\u2028")], RunEnd.FINISHED))

    reply = follow(client, run_id, last=2)

    frame = next(frame for frame in reply.text.split("\n\n") if "event: output" in frame)
    assert sorted(line.partition(":")[0] for line in frame.split("\n")) == ["data", "event", "id", "retry"]
    assert json.loads(frames(reply.text)[0]["data"])["results"][0]["content"] == "a\n\ndata: b\r\n: é\u2028"


def test_the_end_tells_why_a_program_did_not_succeed(world: World, client: TestClient) -> None:
    run_id = begin(world, RunOutcome([Raised("E", "e", "E: e")], RunEnd.FINISHED))

    end = json.loads(frames(follow(client, run_id, last=3).text)[-1]["data"])

    assert (end["success"], end["error"], end["errorDetail"]["kind"]) == (False, "E: e", "user_code")


def test_the_beginning_tells_of_variables_that_are_gone(world: World, client: TestClient) -> None:
    world.run()
    world.wiring.control.restart(CHAT)
    run_id = begin(world, OUTCOME)

    started = json.loads(frames(follow(client, run_id).text)[1]["data"])

    assert (started["stateReset"], started["reason"]) == (True, "restarted")


# ── From where a client is ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("last", range(5))
def test_a_client_that_comes_again_misses_nothing_and_hears_nothing_twice(
    world: World, client: TestClient, last: int
) -> None:
    run_id = begin(world, OUTCOME)

    assert told(follow(client, run_id, last).text) == ALL[last:]


@pytest.mark.parametrize("last", [5, 6, LAST_NUMBER])
def test_where_nothing_is_left_to_tell_a_client_is_told_not_to_come_again(
    world: World, client: TestClient, last: int
) -> None:
    run_id = begin(world, OUTCOME)

    reply = follow(client, run_id, last)

    assert (reply.status_code, reply.content) == (204, b"")


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "1 2", "²", "9" * 13, "0x1"])
def test_what_is_no_events_id_is_refused(world: World, client: TestClient, last: str) -> None:
    run_id = begin(world, OUTCOME)

    reply = client.get(
        f"/api/chats/chat-1/executions/{run_id}/events", headers={b"Last-Event-ID": last.encode("latin-1")}
    )

    assert reply.status_code == 422
    assert [field["pointer"] for field in reply.json()["errors"]] == ["header/last-event-id"]


def test_an_empty_id_is_as_good_as_none(world: World, client: TestClient) -> None:
    assert told(follow(client, begin(world, OUTCOME), "").text) == ALL


def test_an_end_that_no_runner_has_told_comes_last_and_once(world: World, client: TestClient) -> None:
    world.runs.open(opened(execution_id=RUN_ID, context=context(claim_id="gone")))

    reply = follow(client, RUN_ID, last=2)

    assert told(reply.text) == [(LAST_NUMBER, "end")]
    assert json.loads(frames(reply.text)[0]["data"])["errorDetail"]["kind"] == "sandbox_lost"
    assert follow(client, RUN_ID, last=LAST_NUMBER).status_code == 204


# ── As it happens ───────────────────────────────────────────────────────────────────────────────────


def test_a_run_that_goes_on_is_told_as_it_happens_and_its_end_gives_the_session_back(
    world: World, client: TestClient, time: Time
) -> None:
    run_id = begin(world)
    on_follow(world, lambda _: None, lambda run_id: world.sandboxes.finish(run_id, OUTCOME))

    reply = follow(client, run_id)

    assert told(reply.text) == ALL
    assert reply.text.count("\n:\n") == 1, "a sign of life between the two"
    world.assert_free()
    recorded = world.runs.get(CHAT, run_id)
    assert recorded is not None
    assert recorded.end is RunEnd.FINISHED


def test_a_connection_ends_after_a_while_and_a_client_comes_again(
    world: World, client: TestClient, time: Time
) -> None:
    run_id = begin(world)

    reply = follow(client, run_id)

    assert (reply.status_code, told(reply.text)) == (200, ALL[:2])
    assert time.now == STREAM_S


def unreachable(_: str) -> None:
    """Stands for a sandbox that does not answer just now."""
    raise SandboxUnavailable("down")


@pytest.mark.parametrize("port", ["sandboxes", "store", "runs"])
def test_where_nobody_can_tell_for_a_moment_it_is_asked_again_and_not_without_a_pause(
    world: World, client: TestClient, time: Time, port: str
) -> None:
    run_id = begin(world)
    throttled = {"store": "read", "runs": "get"}.get(port, "none")
    on_follow(
        world,
        unreachable if port == "sandboxes" else lambda _: None,
        lambda _: world.taps[port].fail(throttled, StoreUnavailable("throttled")),
        lambda run_id: world.sandboxes.finish(run_id, OUTCOME),
    )

    assert told(follow(client, run_id).text) == ALL
    assert set(time.slept) <= {PAUSE_S}


def test_a_sandbox_that_vanishes_while_it_is_followed_is_told_as_the_end(
    world: World, client: TestClient, time: Time
) -> None:
    run_id = begin(world)
    on_follow(world, lambda _: None, lambda _: world.lose_sandbox())

    reply = follow(client, run_id)

    assert told(reply.text) == [*ALL[:2], (LAST_NUMBER, "end")]
    assert json.loads(frames(reply.text)[-1]["data"])["errorDetail"]["kind"] == "sandbox_lost"


# ── Where replies are sent whole ────────────────────────────────────────────────────────────────────


@pytest.fixture
def behind_a_gateway(world: World) -> Iterator[TestClient]:
    """A caller whose replies are sent once they are whole."""
    app = create_app(world.wiring)

    async def in_lambda(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "aws.event": {}}, receive, send)

    with TestClient(in_lambda, headers={"Authorization": f"Bearer {TOKEN}"}) as caller:
        yield caller


def test_a_reply_that_is_sent_whole_tells_what_there_is_and_does_not_wait_for_the_end(
    world: World, behind_a_gateway: TestClient
) -> None:
    run_id = begin(world)
    waits = on_follow(world)

    reply = follow(behind_a_gateway, run_id)

    assert (reply.status_code, told(reply.text)) == (200, ALL[:2])
    assert waits[0] == timedelta(seconds=SLICE_S)
    assert all(wait < timedelta(seconds=1) for wait in waits[1:])


def test_a_reply_that_is_sent_whole_has_nothing_to_tell_after_a_while(
    world: World, behind_a_gateway: TestClient
) -> None:
    run_id = begin(world)

    reply = follow(behind_a_gateway, run_id, last=2)

    assert (reply.status_code, reply.text) == (200, "retry: 200\n:\n")


def test_replies_that_are_sent_whole_tell_a_run_to_its_end(world: World, behind_a_gateway: TestClient) -> None:
    run_id = begin(world)
    heard = told(follow(behind_a_gateway, run_id).text)
    world.sandboxes.finish(run_id, OUTCOME)
    heard += told(follow(behind_a_gateway, run_id, last=heard[-1][0]).text)

    assert heard == ALL
    assert follow(behind_a_gateway, run_id, last=5).status_code == 204
    world.assert_free()
