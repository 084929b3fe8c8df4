"""The endpoints of sessions and packages: what they take, what they refuse, and what they answer."""

import base64
import re
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.http.session_schemas import decode, encode
from sandkeeper.model import ChatKey, Display, RunEnd, RunOutcome, SandboxRef, utc_moment
from sandkeeper.ports import Position
from sandkeeper.runs import Cancelled
from sandkeeper.services.packages import REPORT
from tests.factories import busy, idle
from tests.world import CHAT, OWNER, START, Patience, World

EXECUTE = "/api/jupyter/execute"
SESSIONS = "/api/sessions"
SESSION = "/api/chats/chat-1/session"
PACKAGES = "/api/chats/chat-1/packages"
TIMING = re.compile(r"claim;dur=\d+, connect;dur=\d+, files;dur=\d+, run;dur=\d+, release;dur=\d+")


def execute(client: TestClient, **fields: Any) -> Any:
    """Returns the reply to a run in the chat."""
    return client.post(EXECUTE, json={"chatId": "chat-1", "code": "1"} | fields)


def kind_of(reply: Any) -> tuple[int, str]:
    """Returns a problem's status and slug."""
    assert reply.headers["content-type"] == "application/problem+json"
    return reply.status_code, reply.json()["type"].removeprefix("urn:sandkeeper:problem:")


def put(world: World, *rows: Any) -> None:
    """Puts the rows there."""
    for row in rows:
        world.store.begin(row, seen=None)


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_tells_all_that_the_contract_names(world: World, client: TestClient) -> None:
    file = world.add_file("a.csv", b"a")
    execute(client)
    world.clock.advance(timedelta(minutes=6))

    listed = {
        "chatId": "chat-1",
        "state": "paused",
        "sandboxId": "sbx1",
        "generation": 1,
        "createdAt": "2026-01-02T03:04:05.678000Z",
        "lastUsedAt": "2026-01-02T03:04:05.678000Z",
        "expiresAt": "2026-01-02T03:34:05.678000Z",
        "runCount": 1,
    }
    assert client.get(SESSIONS).json() == {"sessions": [listed], "count": 1, "next": None}
    assert client.get(SESSION).json() == listed | {"files": {file.file_id: file.path}}


def test_a_reply_tells_no_token_and_no_row(world: World, client: TestClient) -> None:
    put(world, busy())

    for path in (SESSIONS, SESSION):
        text = client.get(path).text
        assert "token" not in text.lower()
        assert "claim" not in text.lower()
        assert "run-1" not in text


def test_a_list_is_read_on_with_what_the_reply_before_gave(world: World, client: TestClient) -> None:
    minutes = [timedelta(minutes=minute) for minute in (3, 1, 2)]
    put(world, *(idle(key=ChatKey(OWNER, f"c{n}"), expires_at=START + m) for n, m in enumerate(minutes)))

    first = client.get(SESSIONS, params={"limit": 2}).json()
    second = client.get(SESSIONS, params={"limit": 2, "next": first["next"]}).json()

    assert [session["chatId"] for session in first["sessions"]] == ["c1", "c2"]
    assert [session["chatId"] for session in second["sessions"]] == ["c0"]
    assert (first["count"], second["count"], second["next"]) == (3, 3, None)


@given(
    st.builds(
        Position,
        st.integers(0, 253_402_300_799_999).map(utc_moment),
        st.from_regex(r"\A[A-Za-z0-9._:-]{1,128}\Z"),
    )
)
def test_a_position_comes_back_as_it_was_given_and_fits_the_limit(position: Position) -> None:
    assert decode(encode(position)) == position
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,300}", encode(position))


def packed(text: str) -> str:
    """Returns the text as a position would be written."""
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogateescape")).decode()


@pytest.mark.parametrize(
    "given_next",
    [
        "",
        "x",
        "€",
        "....",
        packed(""),
        packed("chat-1"),
        packed("soon chat-1"),
        packed("9" * 30 + " chat-1"),
        packed("\udcff\udcfe 1"),
    ],
)
def test_a_next_that_no_reply_gave_is_refused(world: World, client: TestClient, given_next: str) -> None:
    reply = client.get(SESSIONS, params={"next": given_next})

    assert kind_of(reply) == (422, "invalid-request")
    assert [field["pointer"] for field in reply.json()["errors"]] == ["query/next"]
    assert "store.owned" not in world.calls()


def test_a_next_of_another_owner_leads_to_ones_own_sessions_alone(world: World, client: TestClient) -> None:
    put(world, idle(), idle(key=ChatKey("bob", "theirs"), expires_at=START + timedelta(minutes=1)))
    theirs = encode(Position(START + timedelta(minutes=1), "theirs"))

    found = client.get(SESSIONS, params={"next": theirs}).json()

    assert [session["chatId"] for session in found["sessions"]] == ["chat-1"]
    assert found["count"] == 1


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"limit": 0}, "query/limit"),
        ({"limit": 101}, "query/limit"),
        ({"limit": "all"}, "query/limit"),
        ({"next": "x" * 301}, "query/next"),
        ({"owner": "bob"}, "query/owner"),
    ],
    ids=str,
)
def test_a_bad_parameter_of_a_list_is_named(client: TestClient, params: dict[str, Any], pointer: str) -> None:
    reply = client.get(SESSIONS, params=params)

    assert kind_of(reply) == (422, "invalid-request")
    assert [field["pointer"] for field in reply.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", SESSION), ("POST", f"{SESSION}/interrupt"), ("POST", f"{SESSION}/restart")]
)
def test_a_chat_without_a_live_session_answers_404(client: TestClient, method: str, path: str) -> None:
    reply = client.request(method, path)

    assert kind_of(reply) == (404, "session-not-found")
    assert "'chat-1'" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", SESSION), ("POST", f"{SESSION}/interrupt"), ("POST", f"{SESSION}/restart")]
)
def test_another_owners_session_answers_as_one_that_never_was(
    world: World, client: TestClient, method: str, path: str
) -> None:
    put(world, busy(key=ChatKey("bob", CHAT.chat_id)))

    assert kind_of(client.request(method, path)) == (404, "session-not-found")
    assert not [call for call in world.calls() if call.startswith("sandboxes.")]


# ── Interrupt and restart ───────────────────────────────────────────────────────────────────────────


def test_an_interrupt_needs_no_body_and_tells_whether_there_was_code_to_stop(
    world: World, client: TestClient
) -> None:
    execute(client)
    assert client.post(f"{SESSION}/interrupt").json() == {"interrupted": False}
    answers: list[Any] = []

    def program(_: SandboxRef, __: str) -> None:
        answers.append(client.post(f"{SESSION}/interrupt"))

    world.sandboxes.program = program
    reply = execute(client)

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"interrupted": True})]
    assert reply.json()["errorDetail"] | {"hint": ""} == {
        "kind": "cancelled",
        "name": "Cancelled",
        "value": "the code was stopped",
        "traceback": None,
        "retryable": False,
        "hint": "",
    }


def test_code_that_does_not_stop_answers_409_with_when_to_try_again(world: World, client: TestClient) -> None:
    execute(client)
    world.taps["sandboxes"].instead["cancel"] = lambda *_: Cancelled(found=True, ended=False)

    reply = client.post(f"{SESSION}/interrupt")

    assert kind_of(reply) == (409, "session-busy")
    assert reply.headers["Retry-After"]


def test_a_session_whose_run_has_ended_unseen_is_not_told_as_running(world: World, client: TestClient) -> None:
    world.sandboxes.program = lambda *_: None
    run_id = world.run(mode="async").execution.execution_id
    assert client.get(SESSION).json()["state"] == "running"

    world.sandboxes.finish(run_id, RunOutcome([], RunEnd.FINISHED))

    assert client.get(SESSION).json()["state"] == "idle"


def test_a_restart_needs_no_body_and_the_next_run_tells_it(world: World, client: TestClient) -> None:
    execute(client)

    restarted = client.post(f"{SESSION}/restart")

    assert (restarted.status_code, restarted.content) == (204, b"")
    told = {"status": "reused", "generation": 1, "stateReset": True, "reason": "restarted"}
    assert execute(client).json()["session"] == told
    assert execute(client).json()["session"] == told | {"stateReset": False, "reason": None}


@pytest.mark.parametrize("action", ["interrupt", "restart"])
def test_a_body_that_nobody_asked_for_does_no_harm(client: TestClient, action: str) -> None:
    execute(client)

    assert client.post(f"{SESSION}/{action}", content=b"\xff", headers={"Content-Type": "text/x"}).is_success


# ── Execute ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_resumed_session_is_told(world: World, client: TestClient) -> None:
    execute(client)
    world.pause_sandbox()

    assert execute(client).json()["session"] == {
        "status": "resumed",
        "generation": 1,
        "stateReset": False,
        "reason": None,
    }


def test_the_timings_of_a_run_are_in_its_header_too(client: TestClient) -> None:
    reply = execute(client)

    timings = reply.json()["timings"]
    header = reply.headers["Server-Timing"]
    assert TIMING.fullmatch(header)
    assert dict(re.findall(r"(\w+);dur=(\d+)", header)) == {
        name.removesuffix("Ms"): str(duration) for name, duration in timings.items()
    }


def test_a_run_that_was_cut_short_by_a_slow_creation_tells_that_a_retry_helps(
    world: World, client: TestClient, patience: Patience
) -> None:
    def create_slowly(*args: Any, **kwargs: Any) -> SandboxRef:
        world.clock.advance(timedelta(seconds=10))
        return world.sandboxes.create(*args, **kwargs)

    world.taps["sandboxes"].instead["create"] = create_slowly
    world.sandboxes.program = lambda _, __: RunOutcome([], RunEnd.TIMEOUT)

    cut_short, whole = (execute(client, mode="inline").json()["errorDetail"] for _ in range(2))

    assert (cut_short["kind"], cut_short["retryable"]) == ("timeout", True)
    assert "16000 of its 25000 ms" in cut_short["value"]
    assert (whole["kind"], whole["retryable"]) == ("timeout", False)
    assert "its limit of 25000 ms" in whole["value"]


def test_an_owner_at_its_cap_answers_429_with_when_to_try_again(world: World, client: TestClient) -> None:
    world.configure(max_sessions_per_owner=1)
    execute(client)

    reply = client.post(EXECUTE, json={"chatId": "chat-2", "code": "1"})

    assert kind_of(reply) == (429, "quota-exceeded")
    assert reply.headers["Retry-After"] == "60"
    assert "MAX_SESSIONS_PER_OWNER" in reply.json()["detail"]


# ── Packages ────────────────────────────────────────────────────────────────────────────────────────


def install(client: TestClient, *packages: Any) -> Any:
    """Returns the reply to asking for packages."""
    return client.post(PACKAGES, json={"packages": packages})


def pip_reports(world: World, installed: dict[str, str], *, code: int = 0, text: str = "") -> None:
    """Lets pip tell this."""
    report = {"installed": installed, "code": code, "text": text}
    world.sandboxes.program = lambda _, __: RunOutcome([Display({REPORT: report})], RunEnd.FINISHED)


def test_installed_packages_are_told_in_the_order_of_their_names(world: World, client: TestClient) -> None:
    pip_reports(world, {"urllib3": "2.2", "idna": "3.7"})

    reply = install(client, " requests>=2.31 ", "x" * 200)

    body = reply.json()
    timings = body.pop("timings")
    assert body == {
        "success": True,
        "installed": [{"name": "idna", "version": "3.7"}, {"name": "urllib3", "version": "2.2"}],
        "error": None,
        "session": {"status": "new", "generation": 1, "stateReset": False, "reason": None},
    }
    assert sorted(timings) == ["claimMs", "connectMs", "filesMs", "releaseMs", "runMs"]
    assert TIMING.fullmatch(reply.headers["Server-Timing"])


def test_pips_failure_is_a_result(world: World, client: TestClient) -> None:
    pip_reports(world, {}, code=1, text="ERROR: no such package")

    reply = install(client, "nope")

    assert reply.status_code == 200
    assert (reply.json()["success"], reply.json()["error"]) == (False, "ERROR: no such package")


@pytest.mark.parametrize(
    ("packages", "pointer"),
    [
        ([], "/packages"),
        (["a"] * 21, "/packages"),
        ("requests", "/packages"),
        ([""], "/packages/0"),
        (["a", "  "], "/packages/1"),
        (["x" * 201], "/packages/0"),
        ([1], "/packages/0"),
        (["a", "-r x"], "/packages/1"),
        (["a @ https://files.invalid/a.whl"], "/packages/0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_package_is_named_and_nothing_is_done(
    world: World, client: TestClient, packages: Any, pointer: str
) -> None:
    reply = client.post(PACKAGES, json={"packages": packages})

    assert kind_of(reply) == (422, "invalid-request")
    assert [field["pointer"] for field in reply.json()["errors"]] == [pointer]
    assert world.store.read(CHAT) is None


def test_twenty_packages_at_once_are_good(world: World, client: TestClient) -> None:
    pip_reports(world, {})

    assert install(client, *[f"package-{number}" for number in range(20)]).status_code == 200
