"""The endpoints: what they take, what they refuse, and what they answer."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.errors import SessionBusy
from sandkeeper.model import Display, FileKind, FileReading, FileStatus, Raised, RunEnd, RunOutcome, Stream
from sandkeeper.outputs import CHART
from tests.factories import busy, table
from tests.world import CHAT, World

EXECUTE = "/api/jupyter/execute"
FILES = "/api/chats/chat-1/files"
FILE_ID = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"


def execute(client: TestClient, **fields: Any) -> Any:
    """Returns the reply to a run; None leaves a field out."""
    body = {"chatId": "chat-1", "code": "print(1)"} | fields
    return client.post(EXECUTE, json={name: value for name, value in body.items() if value is not None})


def wrong_fields(reply: Any) -> dict[str, str]:
    """Returns pointer → detail of a 422."""
    assert reply.status_code == 422, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["type"] == "urn:sandkeeper:problem:invalid-request"
    return {field["pointer"]: field["detail"] for field in problem["errors"]}


# ── Execute ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_answers_with_all_that_the_contract_names(world: World, client: TestClient) -> None:
    file = world.add_file("data.csv", b"a,b\n")
    world.sandboxes.program = lambda _, __: RunOutcome(
        [
            Stream("stdout", "hello\n"),
            Display({"image/png": "aGk=", "text/plain": "Figure", CHART: {"type": "bar"}}),
        ],
        RunEnd.FINISHED,
    )

    reply = execute(client).json()

    timings = reply.pop("timings")
    assert {key: type(value) for key, value in timings.items()} == dict.fromkeys(
        ["claimMs", "connectMs", "filesMs", "runMs", "releaseMs"], int
    )
    assert len(reply.pop("executionId")) == 26
    assert isinstance(reply.pop("executionTime"), int)
    assert reply == {
        "success": True,
        "results": [
            {"type": "text", "content": "hello\n", "mimeType": "text/plain"},
            {"type": "image", "content": "aGk=", "mimeType": "image/png"},
            {"type": "chart", "content": {"type": "bar"}, "mimeType": CHART},
        ],
        "error": None,
        "sandboxId": "sbx1",
        "uploadedFiles": [file.path],
        "expiresIn": 1_800_000,
        "errorDetail": None,
        "artifacts": [],
        "moreFiles": 0,
        "outputs": None,
        "model": None,
        "session": {"status": "new", "generation": 1, "stateReset": False, "reason": None},
    }


def test_a_program_that_raises_is_a_result(world: World, client: TestClient) -> None:
    raised = Raised("NameError", "name 'x' is not defined", "\x1b[31mTraceback\x1b[0m …")
    world.sandboxes.program = lambda _, __: RunOutcome([Stream("stdout", "before"), raised], RunEnd.FINISHED)

    reply = execute(client)

    assert reply.status_code == 200
    body = reply.json()
    assert (body["success"], body["error"]) == (False, "NameError: name 'x' is not defined")
    assert body["errorDetail"] | {"hint": ""} == {
        "kind": "user_code",
        "name": "NameError",
        "value": "name 'x' is not defined",
        "traceback": "Traceback …",
        "retryable": False,
        "hint": "",
    }
    assert [result["type"] for result in body["results"]] == ["text", "error"]


def test_a_lost_state_is_told(world: World, client: TestClient) -> None:
    execute(client)
    world.clock.advance(timedelta(minutes=30))

    assert execute(client).json()["session"] == {
        "status": "recreated",
        "generation": 2,
        "stateReset": True,
        "reason": "expired",
    }


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    [
        ({"chatId": None}, "/chatId", "required"),
        ({"chatId": ""}, "/chatId", "pattern"),
        ({"chatId": "x" * 129}, "/chatId", "pattern"),
        ({"chatId": "a/b"}, "/chatId", "pattern"),
        ({"chatId": "a#b"}, "/chatId", "pattern"),
        ({"chatId": "ü"}, "/chatId", "pattern"),
        ({"chatId": "chat-1\n"}, "/chatId", "pattern"),
        ({"chatId": 5}, "/chatId", "string"),
        ({"code": None}, "/code", "required"),
        ({"code": ""}, "/code", "at least 1"),
        ({"code": "x" * 50_001}, "/code", "at most 50000"),
        ({"code": ["print(1)"]}, "/code", "string"),
        ({"timeoutMs": 999}, "/timeoutMs", "1000, not 999"),
        ({"timeoutMs": 3_600_001}, "/timeoutMs", "3600000, not 3600001"),
        ({"timeoutMs": "soon"}, "/timeoutMs", "integer"),
        ({"timeoutMs": 1500.5}, "/timeoutMs", "integer"),
        ({"timeoutMs": 25_001, "mode": "inline"}, "", "25001 is over the 25000 ms of mode 'inline'; use 'auto'"),
        ({"onBusy": "queue"}, "/onBusy", "'wait' or 'reject', not 'queue'"),
        ({"mode": "later"}, "/mode", "'auto', 'inline' or 'async', not 'later'"),
        ({"fileIds": "all"}, "/fileIds", "list"),
        ({"fileIds": ["nope"]}, "/fileIds/0", "pattern"),
        ({"fileIds": [FILE_ID, FILE_ID.lower()]}, "/fileIds/1", "pattern"),
        ({"fileIds": [FILE_ID] * 101}, "/fileIds", "at most 100"),
        ({"language": "r"}, "/language", "not permitted"),
        ({"a/b~c": 1}, "/a~1b~0c", "not permitted"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_field_is_named_with_what_is_wrong_and_nothing_is_done(
    world: World, client: TestClient, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    wrong = wrong_fields(execute(client, **fields))

    assert list(wrong) == [pointer]
    assert detail in wrong[pointer]
    assert len(wrong[pointer]) < 300, "a whole program is no part of a message"
    assert set(world.calls()) <= {"keys.find", "keys.mark_used"}


@pytest.mark.parametrize(
    "fields",
    [
        {"chatId": "x" * 128},
        {"chatId": "A.z_0:9-"},
        {"chatId": ".."},
        {"code": "x" * 50_000},
        {"code": " "},
        {"timeoutMs": 1_000},
        {"timeoutMs": 3_600_000},
        {"timeoutMs": 25_000, "mode": "inline"},
        {"mode": "auto"},
        {"fileIds": []},
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_field_at_its_bound_is_good(client: TestClient, fields: dict[str, Any]) -> None:
    assert execute(client, **fields).status_code == 200


def test_all_that_is_wrong_is_told_at_once(client: TestClient) -> None:
    assert set(wrong_fields(execute(client, chatId="#", code="", timeoutMs=1))) == {
        "/chatId",
        "/code",
        "/timeoutMs",
    }


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "required"),
        (b"{", "not JSON"),
        (b"{'chatId': 'c'}", "not JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"chat-1"', "object"),
        (b"\xff\xfe", "not UTF-8"),
        ('{"chatId":"c","code":"1"}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b'{"chatId":"c","code":"1","timeoutMs":' + b"9" * 5_000 + b"}", "cannot be read as JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_is_no_json_object_is_told_as_such(
    world: World, client: TestClient, body: bytes, detail: str
) -> None:
    reply = client.post(EXECUTE, content=body, headers={"Content-Type": "application/json"})

    assert (reply.status_code, reply.json()["type"]) == (422, "urn:sandkeeper:problem:invalid-request")
    assert detail in reply.json()["detail"]
    assert [field["pointer"] for field in reply.json().get("errors", [])] in ([], [""])
    assert world.sandboxes.specs == {}


@pytest.mark.parametrize(
    "body",
    [
        rb'{"chatId":"c","code":"\ud800"}',
        rb'{"chatId":"c","code":"1","\ud800":1}',
        rb'{"chatId":"c","code":"1","onBusy":"\ud800"}',
        b'{"chatId":"c","code":"1","timeoutMs":NaN}',
        b'{"chatId":"c","code":"1","timeoutMs":1e999}',
    ],
    ids=str,
)
def test_what_json_allows_and_text_does_not_is_refused_and_told(client: TestClient, body: bytes) -> None:
    assert wrong_fields(client.post(EXECUTE, content=body, headers={"Content-Type": "application/json"}))


def test_a_busy_session_answers_409_with_when_to_try_again(world: World, client: TestClient) -> None:
    world.store.begin(busy(), seen=None)

    reply = execute(client, onBusy="reject")

    assert reply.status_code == 409
    assert reply.headers["Retry-After"] == str(SessionBusy.retry_after_s)
    assert "'chat-1'" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("status", "http_status"), [(None, 404), (FileStatus.PENDING, 409), (FileStatus.FAILED, 422)]
)
def test_a_named_file_that_cannot_be_used_has_its_status(
    world: World, client: TestClient, status: FileStatus | None, http_status: int
) -> None:
    file_id = FILE_ID if status is None else world.add_file("a.csv", b"a", status=status).file_id

    reply = execute(client, fileIds=[file_id])

    assert reply.status_code == http_status
    assert file_id in reply.json()["detail"]
    assert world.store.read(CHAT) is None


# ── Status and close ────────────────────────────────────────────────────────────────────────────────


def test_the_status_of_a_chat_follows_its_session(client: TestClient) -> None:
    gone = {"exists": False, "sandboxId": None, "expiresIn": None}

    assert client.get(EXECUTE, params={"chatId": "chat-1"}).json() == gone
    execute(client)
    assert client.get(EXECUTE, params={"chatId": "chat-1"}).json() == {
        "exists": True,
        "sandboxId": "sbx1",
        "expiresIn": 1_800_000,
    }
    assert client.delete(EXECUTE, params={"chatId": "chat-1"}).status_code == 204
    assert client.get(EXECUTE, params={"chatId": "chat-1"}).json() == gone


def test_closing_answers_204_and_no_body_also_when_there_was_nothing(client: TestClient) -> None:
    reply = client.delete(EXECUTE, params={"chatId": "chat-1"})

    assert (reply.status_code, reply.content) == (204, b"")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("query", ["", "?chatId=", "?chatId=a%2Fb"])
def test_a_query_without_a_good_chat_is_told(client: TestClient, method: str, query: str) -> None:
    assert list(wrong_fields(client.request(method, EXECUTE + query))) == ["query/chatId"]


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


def register(client: TestClient, **fields: Any) -> Any:
    """Returns the reply to a registration."""
    body = {"fileName": "data.csv", "size": 1024, "contentType": "text/csv"} | fields
    return client.post(FILES, json={name: value for name, value in body.items() if value is not None})


def test_a_file_goes_from_its_registration_to_its_deletion(world: World, client: TestClient) -> None:
    registered = register(client)
    assert registered.status_code == 201
    file_id = registered.json()["fileId"]
    assert registered.json() == {
        "fileId": file_id,
        "path": "/home/user/data.csv",
        "upload": {"url": "https://uploads.invalid/", "fields": {"key": file_id, "Content-Type": "text/csv"}},
    }
    pending = {
        "fileId": file_id,
        "name": "data.csv",
        "path": "/home/user/data.csv",
        "size": 1024,
        "contentType": "text/csv",
        "status": "pending",
        "reason": None,
        "kind": None,
        "tables": [],
        "details": {},
        "headers": None,
        "rowCount": None,
        "createdAt": "2026-01-02T03:04:05.678000Z",
    }
    assert client.get(f"{FILES}/{file_id}").json() == pending

    reading = FileReading(size_bytes=7, kind=FileKind.CSV, tables=[table("a", "b")], details={"delimiter": ";"})
    world.catalog.mark_ready(CHAT, file_id, reading)
    ready = pending | {
        "status": "ready",
        "size": 7,
        "kind": "csv",
        "tables": [
            {
                "name": None,
                "columns": [{"name": name, "type": "integer", "nulls": 0} for name in ("a", "b")],
                "rowCount": 3,
                "sample": [[1, 1]],
            }
        ],
        "details": {"delimiter": ";"},
        "headers": ["a", "b"],
        "rowCount": 3,
    }
    assert client.get(FILES).json() == {"files": [ready]}

    assert client.delete(f"{FILES}/{file_id}").status_code == 204
    assert client.delete(f"{FILES}/{file_id}").status_code == 404
    assert client.get(FILES).json() == {"files": []}


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    [
        ({"fileName": None}, "/fileName", "required"),
        ({"fileName": ""}, "/fileName", "at least 1"),
        ({"fileName": "x" * 1001}, "/fileName", "at most 1000"),
        ({"size": None}, "/size", "required"),
        ({"size": 0}, "/size", "1, not 0"),
        ({"size": -1}, "/size", "1, not -1"),
        ({"size": "big"}, "/size", "integer"),
        ({"contentType": "csv"}, "/contentType", "pattern"),
        ({"contentType": "text/csv\r\nx: y"}, "/contentType", "pattern"),
        ({"replace": "perhaps"}, "/replace", "boolean"),
        ({"overwrite": True}, "/overwrite", "not permitted"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_field_of_a_file_is_named(
    client: TestClient, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    wrong = wrong_fields(register(client, **fields))

    assert list(wrong) == [pointer]
    assert detail in wrong[pointer]


@pytest.mark.parametrize(
    ("fields", "detail"),
    [({"fileName": "../.."}, "no name"), ({"size": 104_857_601}, "over the limit of 104857600")],
)
def test_a_file_that_breaks_a_rule_is_refused(client: TestClient, fields: dict[str, Any], detail: str) -> None:
    reply = register(client, **fields)

    assert reply.status_code == 422
    assert detail in reply.json()["detail"]


def test_a_chat_that_is_full_answers_429_with_when_to_try_again(world: World, client: TestClient) -> None:
    world.limit_files(max_files=1)
    register(client)

    reply = register(client)

    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "60")


@pytest.mark.parametrize("path", [f"/api/chats/{'x' * 129}/files", "/api/chats/a%20b/files", f"{FILES}/nope"])
def test_a_bad_path_is_named(client: TestClient, path: str) -> None:
    (pointer,) = wrong_fields(client.get(path))

    assert pointer in ("path/chatId", "path/fileId")
