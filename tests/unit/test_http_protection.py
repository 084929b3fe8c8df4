"""What every reply tells browsers, whichever it is."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.http.app import create_app
from sandkeeper.http.protection import protected
from sandkeeper.model import ChangedFile, Changes, RunEnd, RunOutcome, SandboxRef
from tests.world import TOKEN, World

EXPECTED = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
EXECUTE = "/api/jupyter/execute"


def run(client: TestClient, **fields: Any) -> Any:
    """Returns the reply to a run."""
    return client.post(EXECUTE, json={"chatId": "chat-1", "code": "1", **fields})


def fail(client: TestClient, world: World) -> Any:
    """Returns the reply to a call that hits an error which nobody expected."""
    world.taps["catalog"].fail("of_chat", ValueError("unexpected"))
    return client.get("/api/chats/chat-1/files")


def download(client: TestClient, world: World) -> Any:
    """Returns the reply that leads to a file."""

    def program(ref: SandboxRef, _: str) -> RunOutcome:
        world.sandboxes.alive[ref.sandbox_id]["/home/user/a"] = b"a"
        return RunOutcome([], RunEnd.FINISHED, Changes([ChangedFile("/home/user/a", 1)], 0))

    world.sandboxes.program = program
    artifact = run(client).json()["artifacts"][0]["artifactId"]
    return client.get(f"/api/chats/chat-1/artifacts/{artifact}", follow_redirects=False)


def follow(client: TestClient, world: World) -> Any:
    """Returns a run's events."""
    return client.get(f"/api/chats/chat-1/executions/{run(client).json()['executionId']}/events")


REPLIES: dict[str, tuple[int, Callable[[TestClient, World], Any]]] = {
    "health": (200, lambda client, _: client.get("/api/health")),
    "the contract": (200, lambda client, _: client.get("/openapi.json")),
    "a result": (200, lambda client, _: run(client)),
    "a run that goes on": (202, lambda client, _: run(client, mode="async")),
    "events": (200, follow),
    "a notebook": (200, lambda client, _: client.get("/api/chats/chat-1/notebook")),
    "text": (200, lambda client, _: client.get("/api/chats/chat-1/context?format=text")),
    "nothing": (204, lambda client, _: client.delete(f"{EXECUTE}?chatId=chat-1")),
    "a way to a file": (302, download),
    "a stranger": (401, lambda client, _: client.get("/api/sessions", headers={"Authorization": ""})),
    "no route": (404, lambda client, _: client.get("/no-such-route")),
    "no method": (405, lambda client, _: client.put("/api/health")),
    "no JSON": (422, lambda client, _: client.post(EXECUTE, json=[])),
    "an unexpected error": (500, fail),
}


@pytest.mark.parametrize("kind", REPLIES)
def test_every_reply_is_protected_once(client: TestClient, world: World, kind: str) -> None:
    status, ask = REPLIES[kind]
    world.sandboxes.program = lambda *_: None if kind == "a run that goes on" else RunOutcome([], RunEnd.FINISHED)

    reply = ask(client, world)

    assert reply.status_code == status
    assert {name: reply.headers.get_list(name) for name in EXPECTED} == {
        name: [value] for name, value in EXPECTED.items()
    }


@pytest.mark.parametrize(
    ("scheme", "told"), [("https", "max-age=63072000"), ("http", None)], ids=["over TLS", "in clear"]
)
def test_browsers_are_told_to_insist_on_tls_where_there_is_tls(world: World, scheme: str, told: str | None) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(create_app(world.wiring), base_url=f"{scheme}://testserver", headers=headers) as caller:
        assert caller.get("/api/sessions").headers.get("strict-transport-security") == told


def test_what_a_route_says_itself_stays() -> None:
    said = protected([(b"Cache-Control", b"max-age=60")], "http")

    assert [value for name, value in said if name.lower() == b"cache-control"] == [b"max-age=60"]
