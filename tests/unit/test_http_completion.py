"""Completing code over HTTP: by what lives in the chat's kernel, and never by waking one."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.unit.test_http_sessions import SESSION, execute, kind_of
from tests.world import CHAT, World


def complete(client: TestClient, code: str, cursor: int | None = None) -> Any:
    """Returns the reply to code that is being written, with the cursor at its end."""
    return client.post(
        f"{SESSION}/complete", json={"code": code, "cursor": len(code) if cursor is None else cursor}
    )


def test_code_is_completed_by_what_lives_in_the_chats_kernel(world: World, client: TestClient) -> None:
    execute(client, code="salaries = 1")
    row = world.store.read(CHAT)

    matches = [{"text": "salaries", "kind": "variable"}]
    assert complete(client, "1 + sal").json() == {"available": True, "start": 4, "end": 7, "matches": matches}
    assert complete(client, "nothing").json() == {"available": True, "start": 0, "end": 7, "matches": []}
    assert world.store.read(CHAT) == row, "nothing has changed: neither its end nor its lease"


def test_where_no_kernel_is_awake_none_is_woken_and_that_is_told(world: World, client: TestClient) -> None:
    unavailable = {"available": False, "start": 3, "end": 3, "matches": []}
    assert complete(client, "sal").json() == unavailable
    assert world.sandboxes.specs == {}

    execute(client, code="salaries = 1")
    world.sandboxes.paused.add("sbx1")
    assert complete(client, "sal").json() == unavailable
    world.sandboxes.paused.clear()
    world.clock.advance(timedelta(minutes=6))
    assert complete(client, "sal").json() == unavailable, "by its row it has paused"
    assert client.get(SESSION).json()["state"] == "paused"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"code": "abc", "cursor": 4}, "/cursor"),
        ({"code": "abc", "cursor": -1}, "/cursor"),
        ({"code": "abc"}, "/cursor"),
        ({"code": "x" * 50_001, "cursor": 0}, "/code"),
    ],
    ids=["behind its end", "before its beginning", "no cursor", "too long"],
)
def test_a_cursor_that_is_not_in_the_code_is_refused(client: TestClient, body: Any, pointer: str) -> None:
    reply = client.post(f"{SESSION}/complete", json=body)

    assert kind_of(reply) == (422, "invalid-request")
    assert [error["pointer"] for error in reply.json()["errors"]] == [pointer]
