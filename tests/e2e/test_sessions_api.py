"""Sessions over HTTP: whose they are, how many there may be, what they tell; stopped, started afresh, added to."""

import base64
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from e2b_code_interpreter import Sandbox

from sandkeeper.model import ChatKey, utc_now
from sandkeeper.ports import Granted, SessionStore
from sandkeeper.wiring import register_api_key
from tests.e2e.conftest import EXECUTE, Chat, a_chat, texts, wait_for
from tests.e2e.test_e2b_sdk_packages import wheel
from tests.factories import idle
from tests.sandbox_server import Server
from tests.stack import RunningStack

REUSED = {"status": "reused", "generation": 1, "stateReset": False, "reason": None}
RESTARTED = {"status": "reused", "generation": 1, "stateReset": True, "reason": "restarted"}
KERNEL_DIED = {**RESTARTED, "reason": "kernel_died"}
SLEEP = "open('begun', 'w'); import time; time.sleep(20)"
OFFLINE = "[global]\nno-index = true\nfind-links = /home/user/wheels\n"

PutSession = Callable[[str, timedelta], str]
"""Writes the row of a chat's session that expires after this time. Returns the chat's id."""


@pytest.fixture
def owner() -> str:
    """The name of somebody whom the service has never seen."""
    return f"owner-{uuid.uuid4()}"


@pytest.fixture
def their_client(stack: RunningStack, owner: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """The client of that owner's backend."""
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    token = f"sk_{owner}"
    register_api_key(token, owner=owner, name="test")
    with stack.client(token) as made:
        yield made


def session_of(chat: Chat) -> dict[str, Any]:
    """Returns the chat's live session."""
    found: dict[str, Any] = chat.session().raise_for_status().json()
    return found


@pytest.fixture
def put_session(owner: str, their_client: httpx.Client, store: SessionStore) -> Iterator[PutSession]:
    """Writes live sessions of that owner, of which the sandboxes never were; none is left afterwards."""
    put: list[str] = []

    def write(chat_id: str, expires_in: timedelta) -> str:
        now = utc_now()
        row = idle(
            key=ChatKey(owner, chat_id),
            claim_id=f"{owner}-{chat_id}",
            created_at=now,
            last_used_at=now,
            expires_at=now + expires_in,
            run_count=1,
        )
        assert isinstance(store.begin(row, seen=None), Granted)
        put.append(chat_id)
        return chat_id

    yield write
    for chat_id in put:
        their_client.delete(EXECUTE, params={"chatId": chat_id}).raise_for_status()


def put_sessions(put_session: PutSession, count: int) -> list[str]:
    """Returns the chat ids of as many new sessions, the one that expires next first."""
    return [put_session(f"put-{number:02}", timedelta(minutes=20, seconds=number)) for number in range(count)]


def is_problem(reply: httpx.Response, status: int, slug: str) -> bool:
    """Returns whether the reply is this problem."""
    return (reply.status_code, reply.json()["type"]) == (status, f"urn:sandkeeper:problem:{slug}")


# ── Whose they are ──────────────────────────────────────────────────────────────────────────────────────


def test_another_owners_chat_of_the_same_name_is_another_chat(chat: Chat, their_client: httpx.Client) -> None:
    file_id = chat.upload("mine.csv", b"a\n1\n")["fileId"]
    mine = chat.run("x = 'mine'")

    theirs = replace(chat, client=their_client)
    assert theirs.status()["exists"] is False
    assert is_problem(theirs.session(), 404, "session-not-found")
    for action in ("interrupt", "restart"):
        assert is_problem(their_client.post(f"{theirs.url}/session/{action}"), 404, "session-not-found")
    file = f"{theirs.url}/files/{file_id}"
    assert is_problem(their_client.get(file), 404, "file-not-found")
    assert is_problem(their_client.delete(file), 404, "file-not-found")
    assert is_problem(theirs.execute("1", fileIds=[file_id]), 404, "file-not-found")
    assert their_client.get(f"{theirs.url}/files").json() == {"files": []}
    assert their_client.get("/api/sessions").json() == {"sessions": [], "count": 0, "next": None}
    assert theirs.close().status_code == 204, "closing what one does not have is no error, and no harm"

    with a_chat(their_client, chat.id) as own:
        answer = own.run("import os; print('x' in globals(), os.path.exists('mine.csv'))")
        assert answer["session"] == {"status": "new", "generation": 1, "stateReset": False, "reason": None}
        assert texts(answer) == ["False False\n"]
        assert answer["sandboxId"] != mine["sandboxId"]
        (listed,) = their_client.get("/api/sessions").json()["sessions"]
        assert (listed["chatId"], listed["sandboxId"]) == (chat.id, answer["sandboxId"])

    again = chat.run("print(x, open('mine.csv').read())")
    assert (again["session"]["status"], texts(again)) == ("reused", ["mine a\n1\n\n"])
    mine_listed = chat.client.get("/api/sessions", params={"limit": 100}).json()["sessions"]
    assert [entry["sandboxId"] for entry in mine_listed if entry["chatId"] == chat.id] == [mine["sandboxId"]]


# ── How many there may be ───────────────────────────────────────────────────────────────────────────────


def test_one_live_session_too_many_is_refused_until_another_is_closed(
    their_client: httpx.Client, put_session: PutSession
) -> None:
    ids = put_sessions(put_session, 20)

    with a_chat(their_client) as chat:
        refused = chat.execute("1")
        assert is_problem(refused, 429, "quota-exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert all(repr(chat_id) in refused.json()["detail"] for chat_id in ids[:3]), "it names the idlest"
        assert is_problem(chat.session(), 404, "session-not-found")

        their_client.delete(EXECUTE, params={"chatId": ids[0]}).raise_for_status()

        assert chat.run("1")["session"]["status"] == "new"
        assert their_client.get("/api/sessions").json()["count"] == 20


# ── What there is ───────────────────────────────────────────────────────────────────────────────────────


def test_sessions_are_listed_page_by_page(their_client: httpx.Client, put_session: PutSession) -> None:
    ids = put_sessions(put_session, 7)
    put_session("expired", timedelta(seconds=-1))

    pages = [their_client.get("/api/sessions", params={"limit": 3}).json()]
    while pages[-1]["next"]:
        query = {"limit": 3, "next": pages[-1]["next"]}
        pages.append(their_client.get("/api/sessions", params=query).raise_for_status().json())

    assert [[session["chatId"] for session in page["sessions"]] for page in pages] == [ids[:3], ids[3:6], ids[6:]]
    assert {page["count"] for page in pages} == {7}


@pytest.mark.parametrize("query", [{"next": "bm90IG91cnM"}, {"next": "§"}, {"limit": 0}, {"limit": 101}, {"x": 1}])
def test_a_list_that_cannot_be_is_refused(their_client: httpx.Client, query: dict[str, Any]) -> None:
    assert is_problem(their_client.get("/api/sessions", params=query), 422, "invalid-request")


def test_a_session_tells_what_it_is_and_has(chat: Chat) -> None:
    file = chat.upload("data.csv", b"a\n1\n")
    for _ in range(2):
        sandbox_id = chat.run("1")["sandboxId"]

    found = session_of(chat)

    assert found.keys() == {
        *("chatId", "state", "sandboxId", "generation", "createdAt", "lastUsedAt", "expiresAt", "runCount", "files")
    }
    assert (found["chatId"], found["state"], found["sandboxId"]) == (chat.id, "idle", sandbox_id)
    assert (found["generation"], found["runCount"]) == (1, 2)
    assert found["files"] == {file["fileId"]: file["path"]}
    assert found["createdAt"] < found["lastUsedAt"] < found["expiresAt"]


# ── Stopped, and started afresh ─────────────────────────────────────────────────────────────────────────


def test_what_runs_is_stopped_from_elsewhere_and_keeps_its_variables_and_output(chat: Chat, e2b: Server) -> None:
    sandbox_id = chat.run("kept = 41")["sandboxId"]

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(chat.run, f"kept = 42; print('half'); {SLEEP}; print('whole')")
        wait_for(e2b, sandbox_id, "begun")
        assert session_of(chat)["state"] == "running"
        stopped = chat.client.post(f"{chat.url}/session/interrupt")
        answer = running.result()

    assert (stopped.status_code, stopped.json()) == (200, {"interrupted": True})
    detail = answer["errorDetail"]
    assert (answer["success"], detail["kind"], detail["name"]) == (False, "cancelled", "Cancelled")
    assert texts(answer) == ["half\n"]
    assert session_of(chat)["state"] == "idle"
    again = chat.run("print(kept)")
    assert (again["session"], texts(again)) == (REUSED, ["42\n"])
    nothing = chat.client.post(f"{chat.url}/session/interrupt")
    assert (nothing.status_code, nothing.json()) == (200, {"interrupted": False})


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_restart_takes_variables_leaves_files_and_is_told_once(chat: Chat, e2b: Server, state: str) -> None:
    before = chat.run("x = 1; open('made here', 'w').write('content')")
    if state == "paused":
        e2b.plan("pause", sandbox_id=before["sandboxId"])

    assert chat.client.post(f"{chat.url}/session/restart").status_code == 204

    after = chat.run("print('x' in globals(), open('made here').read())")
    assert after["session"] == RESTARTED
    assert texts(after) == ["False content\n"]
    assert after["sandboxId"] == before["sandboxId"]
    assert chat.run("1")["session"] == REUSED


def test_a_restart_ends_what_runs_and_the_next_call_is_told(chat: Chat, e2b: Server) -> None:
    sandbox_id = chat.run("x = 1")["sandboxId"]

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(chat.run, SLEEP)
        wait_for(e2b, sandbox_id, "begun")
        assert chat.client.post(f"{chat.url}/session/restart").status_code == 204
        ended = running.result()
    assert ended["errorDetail"]["kind"] == "kernel_died"
    after = chat.run("'x' in globals()")
    assert (after["session"], texts(after)) == (RESTARTED, ["False"])


def test_a_kernel_that_the_code_ends_is_told_at_once_and_to_the_next_call(chat: Chat) -> None:
    chat.run("x = 1")

    # A kernel that ends takes along what it has not sent yet.
    code = "open('kept', 'w').write('content'); print('half'); import os, time; time.sleep(1); os._exit(3)"
    died = chat.run(code)

    assert (died["errorDetail"]["kind"], texts(died)) == ("kernel_died", ["half\n"])
    after = chat.run("print('x' in globals(), open('kept').read())")
    assert (after["session"], texts(after)) == (KERNEL_DIED, ["False content\n"])
    assert chat.run("1")["session"] == REUSED


def test_a_kernel_that_ends_between_two_calls_is_told_to_the_next_one(chat: Chat, e2b: Server) -> None:
    """The interpreter replaces it without a word."""
    sandbox_id = chat.run("x = 1")["sandboxId"]
    sandbox = Sandbox.connect(sandbox_id, timeout=300, **e2b.sdk)
    find = "pgrep -f [i]pykernel_launcher"
    sandbox.commands.run(
        f"old=$({find}); kill -9 $old; until new=$({find}) && [ $new != $old ]; do sleep 0.1; done"
    )

    after = chat.run("'x' in globals()")
    assert (after["session"], texts(after)) == (KERNEL_DIED, ["False"])
    assert chat.run("1")["session"] == REUSED


# ── Packages ────────────────────────────────────────────────────────────────────────────────────────────


def install(chat: Chat, *packages: str) -> httpx.Response:
    """Asks for packages."""
    return chat.client.post(f"{chat.url}/packages", json={"packages": packages})


def test_a_package_is_installed_and_can_be_imported_at_once(chat: Chat) -> None:
    """By pip itself, which finds a wheel made here: there is no network."""
    packed = base64.b64encode(wheel("tiny_api")).decode()
    chat.run(
        "import base64, pathlib\n"
        "home = pathlib.Path.home()\n"
        "for folder in ('.config/pip', 'wheels'):\n"
        "    (home / folder).mkdir(parents=True)\n"
        f"(home / '.config/pip/pip.conf').write_text({OFFLINE!r})\n"
        f"(home / 'wheels/tiny_api-1.0-py3-none-any.whl').write_bytes(base64.b64decode({packed!r}))"
    )

    reply = install(chat, "tiny-api>=1.0").raise_for_status().json()

    assert (reply["success"], reply["error"]) == (True, None)
    assert [(package["name"].replace("_", "-"), package["version"]) for package in reply["installed"]] == [
        ("tiny-api", "1.0")
    ]
    assert reply["session"] == REUSED
    assert texts(chat.run("import tiny_api; print(tiny_api.origin, home.name)")) == ["the wheel user\n"]

    again = install(chat, "tiny-api").raise_for_status().json()
    assert (again["success"], [package["version"] for package in again["installed"]]) == (True, ["1.0"])

    missing = install(chat, "tiny-nowhere").raise_for_status().json()
    assert (missing["success"], missing["installed"]) == (False, [])
    assert "No matching distribution found for tiny-nowhere" in missing["error"]


@pytest.mark.parametrize(
    "package",
    [
        "-r /etc/passwd",
        "--index-url=https://e.invalid",
        "tiny @ https://e.invalid/tiny.whl",
        "https://e.invalid/tiny.whl",
        "git+https://e.invalid/tiny",
        "./tiny",
        "tiny; import os",
    ],
)
def test_what_names_no_package_is_refused_and_begins_nothing(chat: Chat, package: str) -> None:
    refused = install(chat, "requests>=2.31", package)

    assert is_problem(refused, 422, "invalid-request")
    assert [problem["pointer"] for problem in refused.json()["errors"]] == ["/packages/1"]
    assert chat.status()["exists"] is False
