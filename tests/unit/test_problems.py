"""Every error on the wire: `application/problem+json`, and nothing of the inside."""

import inspect
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper import errors
from sandkeeper.errors import FieldProblem, InvalidRequest, SandkeeperError
from sandkeeper.http.problems import HTTP_SLUGS, STATUS_AND_SLUG
from tests.world import CHAT, World

EVERY_ERROR = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, SandkeeperError) and kind is not SandkeeperError
]
LIST = "/api/chats/chat-1/files"


def test_every_error_has_a_row_in_the_table_and_no_two_share_a_slug() -> None:
    assert set(STATUS_AND_SLUG) == set(EVERY_ERROR) == set(_descendants(SandkeeperError))
    slugs = [slug for _, slug in STATUS_AND_SLUG.values()] + list(HTTP_SLUGS.values())
    assert len(set(slugs)) == len(slugs)


def _descendants(kind: type[Any]) -> list[type[Any]]:
    own = [child for child in kind.__subclasses__() if child.__module__.startswith("sandkeeper.")]
    return own + [grandchild for child in own for grandchild in _descendants(child)]


def test_every_error_is_drawn_in_the_tree() -> None:
    assert errors.__doc__ is not None
    assert all(f"── {kind.__name__} " in errors.__doc__ for kind in EVERY_ERROR)


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_is_told_as_a_problem(world: World, client: TestClient, kind: type[SandkeeperError]) -> None:
    world.taps["catalog"].fail("of_chat", kind("this is wrong; do that"))
    status, slug = STATUS_AND_SLUG[kind]

    reply = client.get(LIST)

    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {
        "type": f"urn:sandkeeper:problem:{slug}",
        "title": slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": "this is wrong; do that",
        "instance": LIST,
        "requestId": reply.headers["x-request-id"],
    }
    told_when = reply.headers.get("retry-after")
    assert told_when == (None if kind.retry_after_s is None else str(kind.retry_after_s))
    assert ("www-authenticate" in reply.headers) == (status == 401)


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_what_may_pass_says_when_to_try_again(kind: type[SandkeeperError]) -> None:
    status, _ = STATUS_AND_SLUG[kind]

    assert (kind.retry_after_s is not None) == (status in (409, 429, 503))


def test_fields_that_a_service_found_wrong_are_told(world: World, client: TestClient) -> None:
    wrong = InvalidRequest("one field", [FieldProblem("/packages/0", "no such thing")])
    world.taps["catalog"].fail("of_chat", wrong)

    assert client.get(LIST).json()["errors"] == [{"pointer": "/packages/0", "detail": "no such thing"}]


# ── What nobody expected ────────────────────────────────────────────────────────────────────────────


def test_an_unexpected_error_says_nothing_of_the_inside(world: World, client: TestClient) -> None:
    error = ZeroDivisionError("secret inside")
    world.taps["catalog"].fail("of_chat", error)

    reply = client.get(LIST)

    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["type"] == "urn:sandkeeper:problem:internal-error"
    assert reply.headers["x-request-id"] in reply.json()["detail"]
    assert "secret" not in reply.text
    assert "ZeroDivision" not in reply.text
    assert world.journal.errors == [error]


def test_the_next_call_is_none_the_worse_for_it(world: World, client: TestClient) -> None:
    world.taps["catalog"].fail("of_chat", RuntimeError("boom"))
    client.get(LIST)

    assert client.get(LIST).status_code == 200


# ── What the framework refuses ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("call", "status", "slug"),
    [
        ("GET /", 404, "no-such-route"),
        ("GET /docs", 404, "no-such-route"),
        ("GET /api/chats/a%2Fb/files", 404, "no-such-route"),
        ("GET /api/chats//files", 404, "no-such-route"),
        ("POST /api/health", 405, "method-not-allowed"),
        ("PUT /api/jupyter/execute", 405, "method-not-allowed"),
        ("PATCH /api/chats/chat-1/files", 405, "method-not-allowed"),
    ],
)
def test_unknown_routes_and_methods_are_problems_too(
    world: World, client: TestClient, call: str, status: int, slug: str
) -> None:
    reply = client.request(*call.split(" "))

    assert (reply.status_code, reply.json()["type"]) == (status, f"urn:sandkeeper:problem:{slug}")
    assert reply.headers["content-type"] == "application/problem+json"
    assert ("allow" in reply.headers) == (status == 405)
    assert world.calls() == []


# ── A deployment that lacks something ───────────────────────────────────────────────────────────────


def test_a_missing_key_to_e2b_is_named_and_nothing_is_claimed(world: World, client: TestClient) -> None:
    settings = world.wiring.settings.model_copy(update={"e2b_api_key": None})
    vars(world.wiring)["settings"] = settings

    reply = client.post("/api/jupyter/execute", json={"chatId": "chat-1", "code": "1"})

    assert (reply.status_code, reply.json()["type"]) == (500, "urn:sandkeeper:problem:not-configured")
    assert "E2B_API_KEY" in reply.json()["detail"]
    assert world.store.read(CHAT) is None


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from sandkeeper.http.app import create_app  # noqa: PLC0415 - on the real wiring, for once
    from sandkeeper.wiring import ApiWiring  # noqa: PLC0415

    monkeypatch.delenv("TABLE_NAME", raising=False)
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    with TestClient(create_app(ApiWiring()), headers={"Authorization": "Bearer sk_x"}) as caller:
        reply = caller.get(LIST)

    assert reply.json()["type"] == "urn:sandkeeper:problem:not-configured"
    assert "TABLE_NAME" in reply.json()["detail"]
