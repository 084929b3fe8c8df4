"""What stands before every route but health: credentials, content type, size."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from sandkeeper.http import execute_routes, routes, session_routes
from sandkeeper.http.app import create_app
from sandkeeper.http.gate import MAX_BODY_BYTES, GatedRoute
from tests.world import CHAT, World

FILE_ID = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"
EXECUTE = {"chatId": "chat-1", "code": "1"}

Call = tuple[str, str, dict[str, Any] | None]
CALLS: list[Call] = [
    ("POST", "/api/jupyter/execute", EXECUTE),
    ("GET", f"/api/chats/chat-1/executions/{FILE_ID}", None),
    ("GET", f"/api/chats/chat-1/executions/{FILE_ID}/events", None),
    ("POST", f"/api/chats/chat-1/executions/{FILE_ID}/cancel", None),
    ("GET", "/api/jupyter/execute?chatId=chat-1", None),
    ("DELETE", "/api/jupyter/execute?chatId=chat-1", None),
    ("POST", "/api/chats/chat-1/files", {"fileName": "a.csv", "size": 1}),
    ("GET", "/api/chats/chat-1/files", None),
    ("GET", f"/api/chats/chat-1/files/{FILE_ID}", None),
    ("DELETE", f"/api/chats/chat-1/files/{FILE_ID}", None),
    ("GET", "/api/sessions", None),
    ("GET", "/api/chats/chat-1/session", None),
    ("POST", "/api/chats/chat-1/session/interrupt", None),
    ("POST", "/api/chats/chat-1/session/restart", None),
    ("POST", "/api/chats/chat-1/session/complete", {"code": "pri", "cursor": 3}),
    ("POST", "/api/chats/chat-1/packages", {"packages": ["requests"]}),
]
GATED = [*routes.gated.routes, *execute_routes.gated.routes, *session_routes.gated.routes]
BAD_CREDENTIALS = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer sk_unknown",
    "Basic c2tfdGVzdF90b2tlbg==",
    "sk_test_token",
    "Bearer sk_test_token sk_test_token",
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.",
]


@pytest.fixture
def stranger(world: World) -> Iterator[TestClient]:
    """A caller without credentials."""
    with TestClient(create_app(world.wiring)) as caller:
        yield caller


def test_every_route_but_health_is_gated_and_called_below() -> None:
    gated = {
        (method, route.path) for route in GATED if isinstance(route, GatedRoute) for method in route.methods or ()
    }
    public = [route.path for route in routes.public.routes if isinstance(route, APIRoute)]

    assert len(gated) == len(GATED) == len(CALLS)
    assert public == ["/api/health"]


def test_the_application_adds_no_route_that_is_not_gated(world: World) -> None:
    app: FastAPI = create_app(world.wiring)
    answers = {
        path
        for path in app.openapi()["paths"]
        if "security" not in next(iter(app.openapi()["paths"][path].values()))
    }

    assert answers == {"/api/health"}


@pytest.mark.parametrize("credentials", BAD_CREDENTIALS)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]}")
def test_a_stranger_is_refused_and_nothing_is_done(
    world: World, stranger: TestClient, call: Call, credentials: str
) -> None:
    method, path, body = call
    reply = stranger.request(method, path, json=body, headers={"Authorization": credentials})

    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert reply.json()["type"] == "urn:sandkeeper:problem:unauthenticated"
    assert set(world.calls()) <= {"keys.find"}
    assert world.store.read(CHAT) is None


def test_a_strangers_body_is_not_even_looked_at(stranger: TestClient) -> None:
    for content in (b"{", b"x" * (MAX_BODY_BYTES + 1)):
        assert stranger.post("/api/jupyter/execute", content=content).status_code == 401


@pytest.mark.parametrize("credentials", ["bearer sk_test_token", "BEARER  sk_test_token ", "Bearer sk_test_token"])
def test_a_good_key_is_taken_however_its_scheme_is_written(stranger: TestClient, credentials: str) -> None:
    reply = stranger.get("/api/chats/chat-1/files", headers={"Authorization": credentials})

    assert reply.status_code == 200


def test_health_needs_no_credentials_and_touches_nothing(world: World, stranger: TestClient) -> None:
    reply = stranger.get("/api/health")

    assert reply.status_code == 200
    assert set(reply.json()) == {"status", "version"}
    assert world.calls() == []


def test_an_owner_sees_its_own_chats_alone(world: World, client: TestClient, stranger: TestClient) -> None:
    world.issue_key("sk_bob", "bob")
    client.post("/api/jupyter/execute", json=EXECUTE)

    theirs = stranger.get("/api/jupyter/execute?chatId=chat-1", headers={"Authorization": "Bearer sk_bob"}).json()

    assert theirs == {"exists": False, "sandboxId": None, "expiresIn": None}
    assert client.get("/api/jupyter/execute?chatId=chat-1").json()["exists"] is True


# ── Bodies ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_a_body_that_is_not_called_json_is_refused(
    world: World, client: TestClient, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    reply = client.post("/api/jupyter/execute", content=b'{"chatId":"c","code":"1"}', headers=headers)

    assert reply.status_code == 415
    assert reply.json()["type"] == "urn:sandkeeper:problem:unsupported-media-type"
    assert "send application/json" in reply.json()["detail"]
    assert world.sandboxes.specs == {}


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_taken_however_its_type_is_written(client: TestClient, content_type: str) -> None:
    reply = client.post(
        "/api/jupyter/execute", content=b'{"chatId":"c","code":"1"}', headers={"Content-Type": content_type}
    )

    assert reply.status_code == 200


def body_of(size_bytes: int) -> bytes:
    """Returns a good body that is padded to this size."""
    body = b'{"chatId":"chat-1","code":"1"}'
    return body + b" " * (size_bytes - len(body))


@pytest.mark.parametrize("declared", [True, False], ids=["with a length", "chunked"])
def test_a_body_at_the_limit_is_read_and_one_over_it_is_not(
    world: World, client: TestClient, declared: bool
) -> None:
    def post(content: bytes) -> Any:
        pieces = content if declared else iter([content[:1000], content[1000:]])
        return client.post("/api/jupyter/execute", content=pieces, headers={"Content-Type": "application/json"})

    over = post(body_of(MAX_BODY_BYTES + 1))
    assert (over.status_code, over.json()["type"]) == (413, "urn:sandkeeper:problem:payload-too-large")
    assert world.sandboxes.specs == {}
    assert post(body_of(MAX_BODY_BYTES)).status_code == 200


@pytest.mark.parametrize("declared", ["1", "0", "-1", "one", "9" * 20, "9" * 5000])
def test_a_length_that_is_a_lie_lets_nothing_through(world: World, client: TestClient, declared: str) -> None:
    reply = client.post(
        "/api/jupyter/execute",
        content=body_of(MAX_BODY_BYTES + 1),
        headers={"Content-Type": "application/json", "Content-Length": declared},
    )

    assert reply.status_code == 413
    assert world.sandboxes.specs == {}


# ── Request ids ─────────────────────────────────────────────────────────────────────────────────────


def test_every_reply_has_an_id_of_its_own_that_its_problem_tells(client: TestClient, stranger: TestClient) -> None:
    replies = [
        client.get("/api/health"),
        client.get("/no-such-route"),
        stranger.get("/api/chats/chat-1/files"),
        client.delete("/api/health"),
        client.post("/api/jupyter/execute", json={}),
    ]

    ids = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(ids)) == len(replies)
    assert [reply.json()["requestId"] for reply in replies[1:]] == ids[1:]


def test_in_lambda_the_id_is_that_of_the_invocation(world: World) -> None:
    from sandkeeper.http.request_context import request_id_of  # noqa: PLC0415 - the scope is what Mangum makes

    assert request_id_of({"aws.context": SimpleNamespace(aws_request_id="id-1")}) == "id-1"


def test_a_query_parameter_that_there_is_not_is_refused(client: TestClient) -> None:
    reply = client.get("/api/jupyter/execute", params={"chatId": "c", "chatID": "c"})

    assert reply.status_code == 422
    assert reply.json()["detail"] == "'chatID' is not a query parameter of this call; it has chatId"
    assert [field["pointer"] for field in reply.json()["errors"]] == ["query/chatID"]
