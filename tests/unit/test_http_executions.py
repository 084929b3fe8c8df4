"""The endpoints of runs: modes, what is asked of a run that goes on, and the reasons for which one ends."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.errors import SandboxUnavailable
from sandkeeper.model import Output, Raised, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.runs import Cancelled, RunEvent
from tests.factories import busy, opened
from tests.world import CHAT, World, orders

EXECUTE = "/api/jupyter/execute"
RUNS = "/api/chats/chat-1/executions"
RUN_ID = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"
DONE = RunOutcome([Stream("stdout", "done")], RunEnd.FINISHED)


def execute(client: TestClient, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """Returns the reply to a run."""
    return client.post(EXECUTE, json={"chatId": "chat-1", "code": "print(1)"} | fields, headers=headers)


@pytest.fixture
def goes_on(world: World, client: TestClient) -> str:
    """Returns the id of a run that goes on."""
    world.sandboxes.program = lambda *_: None
    run_id: str = execute(client, mode="async").json()["executionId"]
    return run_id


# ── Modes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "limit_s"),
    [
        ({}, 60),
        ({"mode": "async"}, 60),
        ({"mode": "inline"}, 25),
        ({"timeoutMs": 2_000}, 2),
        ({"timeoutMs": 3_600_000}, 3_600),
    ],
    ids=str,
)
def test_a_run_without_a_limit_gets_the_default_but_no_more_than_fits(
    world: World, client: TestClient, fields: dict[str, Any], limit_s: int
) -> None:
    asked = orders(world)

    execute(client, **fields)

    assert [order.context.limit for order, _ in asked] == [timedelta(seconds=limit_s)]


@pytest.mark.parametrize("mode", ["auto", "async"])
def test_a_run_that_goes_on_answers_202_with_where_to_ask(world: World, client: TestClient, mode: str) -> None:
    world.sandboxes.program = lambda *_: None

    reply = execute(client, mode=mode)

    run_id = reply.json()["executionId"]
    assert reply.status_code == 202
    assert reply.headers["Location"] == f"{RUNS}/{run_id}"
    assert reply.json() == {
        "executionId": run_id,
        "state": "running",
        "statusUrl": f"{RUNS}/{run_id}",
        "eventsUrl": f"{RUNS}/{run_id}/events",
    }


def test_a_run_that_is_over_within_the_call_answers_200_in_every_mode(client: TestClient) -> None:
    assert {execute(client, mode=mode).status_code for mode in ("auto", "inline", "async")} == {200}


# ── Status ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_status_of_a_run_follows_it_to_what_the_call_would_have_answered(
    world: World, client: TestClient, goes_on: str
) -> None:
    running = client.get(f"{RUNS}/{goes_on}").json()
    world.clock.advance(timedelta(seconds=2))
    world.sandboxes.finish(goes_on, DONE)
    world.clock.advance(timedelta(seconds=1))

    ended = client.get(f"{RUNS}/{goes_on}").json()

    assert running == {
        "executionId": goes_on,
        "chatId": "chat-1",
        "state": "running",
        "createdAt": "2026-01-02T03:04:05.678000Z",
        "startedAt": "2026-01-02T03:04:05.678000Z",
        "endedAt": None,
        "limitMs": 60_000,
        "result": None,
    }
    result = ended.pop("result")
    assert ended == {name: value for name, value in running.items() if name != "result"} | {
        "state": "ended",
        "endedAt": "2026-01-02T03:04:07.678000Z",
    }
    timings = result.pop("timings")
    assert (timings["runMs"], timings["releaseMs"]) == (2_000, 0)
    assert result.pop("executionTime") == sum(timings.values())
    assert result == {
        "success": True,
        "results": [{"type": "text", "content": "done", "mimeType": "text/plain"}],
        "error": None,
        "sandboxId": "sbx1",
        "uploadedFiles": [],
        "expiresIn": 1_799_000,
        "executionId": goes_on,
        "errorDetail": None,
        "artifacts": [],
        "moreFiles": 0,
        "outputs": None,
        "model": None,
        "session": {"status": "new", "generation": 1, "stateReset": False, "reason": None},
    }


def test_a_status_that_waits_is_answered_with_the_end(world: World, client: TestClient, goes_on: str) -> None:
    waits: list[timedelta] = []

    def follow(where: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        waits.append(wait)
        if wait:
            world.sandboxes.finish(run_id, DONE)
        return world.sandboxes.follow(where, run_id, after=after, wait=wait)

    world.taps["sandboxes"].instead["follow"] = follow

    assert client.get(f"{RUNS}/{goes_on}").json()["state"] == "running"
    assert client.get(f"{RUNS}/{goes_on}", params={"waitMs": 20_000}).json()["state"] == "ended"
    assert waits == [timedelta(0), timedelta(seconds=20)]


@pytest.mark.parametrize("wait_ms", [-1, 20_001, "long", 0.5])
def test_a_wait_that_does_not_fit_into_a_call_is_refused(client: TestClient, goes_on: str, wait_ms: Any) -> None:
    reply = client.get(f"{RUNS}/{goes_on}", params={"waitMs": wait_ms})

    assert reply.status_code == 422
    assert [field["pointer"] for field in reply.json()["errors"]] == ["query/waitMs"]


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
def test_a_run_that_there_is_not_answers_404_and_a_bad_id_422(
    client: TestClient, goes_on: str, method: str, suffix: str
) -> None:
    unknown = client.request(method, f"{RUNS}/{RUN_ID}{suffix}")
    bad = client.request(method, f"{RUNS}/{goes_on.lower()}{suffix}")

    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:sandkeeper:problem:execution-not-found")
    assert RUN_ID in unknown.json()["detail"]
    assert bad.status_code == 422
    assert [field["pointer"] for field in bad.json()["errors"]] == ["path/executionId"]


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
def test_another_owners_run_answers_as_one_that_never_was(
    world: World, client: TestClient, goes_on: str, method: str, suffix: str
) -> None:
    world.issue_key("sk_bob", "bob")

    reply = client.request(method, f"{RUNS}/{goes_on}{suffix}", headers={"Authorization": "Bearer sk_bob"})

    assert reply.status_code == 404
    assert client.get(f"{RUNS}/{goes_on}").json()["state"] == "running"


def test_a_sandbox_that_does_not_answer_is_told_with_when_to_try_again(
    world: World, client: TestClient, goes_on: str
) -> None:
    world.taps["sandboxes"].fail("follow", SandboxUnavailable("down"))

    reply = client.get(f"{RUNS}/{goes_on}")

    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "5")


# ── Cancelling ──────────────────────────────────────────────────────────────────────────────────────


def test_a_cancel_answers_with_the_run_that_has_ended_and_again_with_the_same(
    world: World, client: TestClient, goes_on: str
) -> None:
    first, second = (client.post(f"{RUNS}/{goes_on}/cancel") for _ in range(2))

    assert (first.status_code, first.json()["state"]) == (200, "ended")
    assert first.json()["result"]["errorDetail"]["kind"] == "cancelled"
    assert second.json() == first.json()
    world.assert_free()


def test_code_that_does_not_stop_answers_409_with_when_to_try_again(
    world: World, client: TestClient, goes_on: str
) -> None:
    world.taps["sandboxes"].instead["cancel"] = lambda *_: Cancelled(found=True, ended=False)

    reply = client.post(f"{RUNS}/{goes_on}/cancel")

    assert (reply.status_code, reply.headers["Retry-After"]) == (409, "2")


# ── Idempotency-Key ─────────────────────────────────────────────────────────────────────────────────


def test_a_repeated_request_is_answered_as_the_first_one_and_says_so(client: TestClient) -> None:
    first, second = (execute(client, {"Idempotency-Key": "key-1"}) for _ in range(2))

    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    varying = ("timings", "executionTime", "expiresIn")
    told = [
        {name: value for name, value in reply.json().items() if name not in varying} for reply in (first, second)
    ]
    assert told[0] == told[1]


def test_a_repeated_request_of_a_run_that_goes_on_is_answered_with_where_to_ask(
    world: World, client: TestClient
) -> None:
    world.sandboxes.program = lambda *_: None

    first, second = (execute(client, {"Idempotency-Key": "key-1"}, mode="async") for _ in range(2))

    assert (second.status_code, second.headers["Idempotency-Replayed"]) == (202, "true")
    assert first.json() == second.json()


@pytest.mark.parametrize(
    "fields",
    [
        {"code": "2"},
        {"chatId": "chat-2"},
        {"timeoutMs": 1_000},
        {"mode": "async"},
        {"onBusy": "reject"},
        {"fileIds": []},
    ],
    ids=str,
)
def test_a_key_stands_for_all_of_a_request(client: TestClient, fields: dict[str, Any]) -> None:
    execute(client, {"Idempotency-Key": "key-1"})

    reply = execute(client, {"Idempotency-Key": "key-1"}, **fields)

    assert (reply.status_code, reply.json()["type"]) == (422, "urn:sandkeeper:problem:invalid-request")
    assert "'key-1' was used for a request with another body; use a new key" in reply.json()["detail"]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é", "a\tb"], ids=ascii)
def test_a_key_that_is_none_is_refused_and_nothing_is_done(world: World, client: TestClient, key: str) -> None:
    reply = execute(client, {"Idempotency-Key": key.encode()})  # type: ignore[dict-item]

    assert reply.status_code == 422
    assert [field["pointer"] for field in reply.json()["errors"]] == ["header/Idempotency-Key"]
    assert world.sandboxes.specs == {}


@pytest.mark.parametrize("key", ["!", "~" * 255, '"quoted"', "a;b,c=d"])
def test_a_key_is_any_visible_text(client: TestClient, key: str) -> None:
    assert execute(client, {"Idempotency-Key": key}).status_code == 200


# ── Why a run has ended ─────────────────────────────────────────────────────────────────────────────

ENDS = {
    RunEnd.TIMEOUT: ("timeout", "TimeoutError", False, "Variables are still there"),
    RunEnd.CANCELLED: ("cancelled", "Cancelled", False, "Variables are still there"),
    RunEnd.OUTPUT_LIMIT: ("output_limit", "OutputLimit", False, "Variables are still there"),
    RunEnd.OUT_OF_MEMORY: ("out_of_memory", "OutOfMemory", False, "Variables are lost, files are still there"),
    RunEnd.KERNEL_DIED: ("kernel_died", "KernelDied", False, "Variables are lost, files are still there"),
    RunEnd.SANDBOX_LOST: ("sandbox_lost", "SandboxLost", True, "How far the code came is unknown"),
}


def test_every_end_but_a_good_one_is_told() -> None:
    assert set(ENDS) == set(RunEnd) - {RunEnd.FINISHED}


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_did_not_finish_tells_why_and_gives_what_there_was(
    world: World, client: TestClient, end: RunEnd
) -> None:
    world.sandboxes.program = lambda _, __: RunOutcome([Stream("stdout", "half")], end)
    kind, name, retryable, hint = ENDS[end]

    body = execute(client).json()

    detail = body["errorDetail"]
    assert body["success"] is False
    assert (detail["kind"], detail["name"], detail["retryable"]) == (kind, name, retryable)
    assert hint in detail["hint"]
    assert body["error"] == f"{name}: {detail['value']}"
    assert body["results"] == [{"type": "text", "content": "half", "mimeType": "text/plain"}]


@pytest.mark.parametrize("end", [RunEnd.TIMEOUT, RunEnd.CANCELLED, RunEnd.OUTPUT_LIMIT])
def test_the_interrupt_that_stopped_a_program_is_part_of_the_reason_and_no_output(
    world: World, client: TestClient, end: RunEnd
) -> None:
    said: list[Output] = [Stream("stdout", "half"), Raised("KeyboardInterrupt", "", "\x1b[31mline 3\x1b[0m")]
    world.sandboxes.program = lambda _, __: RunOutcome(said, end)

    body = execute(client).json()

    assert [result["content"] for result in body["results"]] == ["half"]
    assert (body["errorDetail"]["kind"], body["errorDetail"]["traceback"]) == (end, "line 3")


def test_what_a_program_raised_by_itself_before_it_was_stopped_stays_an_output(
    world: World, client: TestClient
) -> None:
    world.sandboxes.program = lambda _, __: RunOutcome([Raised("E", "e", "E: e")], RunEnd.TIMEOUT)

    body = execute(client).json()

    assert [result["type"] for result in body["results"]] == ["error"]
    assert (body["errorDetail"]["kind"], body["errorDetail"]["traceback"]) == ("timeout", None)


def test_what_is_about_to_begin_is_told_as_running(world: World, client: TestClient) -> None:
    world.store.begin(busy(run_id=RUN_ID), seen=None)
    world.runs.open(opened(execution_id=RUN_ID))
    world.sandboxes.alive["sbx1"] = {}

    told = client.get(f"{RUNS}/{RUN_ID}").json()

    assert (told["state"], told["startedAt"], told["result"]) == ("running", None, None)
    assert world.runs.get(CHAT, RUN_ID) == opened(execution_id=RUN_ID)
