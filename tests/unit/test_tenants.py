"""No owner reaches what is another's: through every endpoint, with the other's own names and ids."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.http.app import create_app
from sandkeeper.model import ChangedFile, Changes, ChatKey, RunEnd, RunOutcome, SandboxRef, Stream
from tests.tour import Endpoint, endpoints
from tests.world import CHAT, World

SECRET = "what alice's code has put out"
OF_ALICE = ("fileId", "executionId", "artifactId", "notebookId", "cellId")
EXECUTE = "/api/jupyter/execute"
NOTEBOOKS = "/api/chats/{chatId}/notebooks"
BODIES: dict[Endpoint, dict[str, Any]] = {
    ("POST", EXECUTE): {"chatId": CHAT.chat_id, "code": "bob's"},
    ("POST", "/api/chats/{chatId}/files"): {"fileName": "secret.csv", "size": 1, "replace": True},
    ("POST", "/api/chats/{chatId}/packages"): {"packages": ["bobs"]},
    ("POST", NOTEBOOKS): {"title": "bob's"},
    ("POST", f"{NOTEBOOKS}/import"): {"nbformat": 4, "cells": []},
    ("PUT", f"{NOTEBOOKS}/{{notebookId}}"): {"title": "bob's"},
    ("POST", f"{NOTEBOOKS}/{{notebookId}}/run"): {},
    ("POST", f"{NOTEBOOKS}/{{notebookId}}/cells"): {"source": "bob's"},
    ("PUT", f"{NOTEBOOKS}/{{notebookId}}/cells/{{cellId}}"): {"source": "bob's"},
    ("POST", f"{NOTEBOOKS}/{{notebookId}}/cells/{{cellId}}/move"): {"after": None},
    ("POST", f"{NOTEBOOKS}/{{notebookId}}/cells/{{cellId}}/run"): {},
}


@pytest.fixture
def ids(world: World, client: TestClient) -> dict[str, str]:
    """Returns what alice has: a chat with a session, a run, a file and an artifact."""

    def program(sandbox: SandboxRef, code: str) -> RunOutcome:
        mine = code == "alice's"
        world.sandboxes.alive[sandbox.sandbox_id]["/home/user/secret.csv"] = SECRET.encode()
        changes = Changes([ChangedFile("/home/user/secret.csv", len(SECRET))]) if mine else Changes()
        return RunOutcome([Stream("stdout", SECRET if mine else code)], RunEnd.FINISHED, changes)

    world.sandboxes.program = program
    file = world.add_file("secret.csv", SECRET.encode())
    run = client.post(EXECUTE, json={"chatId": CHAT.chat_id, "code": "alice's"}).json()
    assert SECRET in str(run)
    (artifact,) = run["artifacts"]
    cells = [{"cellId": "alices-cell", "source": f"# {SECRET}"}]
    notebook = client.post(NOTEBOOKS.format(chatId=CHAT.chat_id), json={"title": SECRET, "cells": cells}).json()
    assert SECRET in str(notebook)
    return {
        "chatId": CHAT.chat_id,
        "fileId": file.file_id,
        "executionId": run["executionId"],
        "artifactId": artifact["artifactId"],
        "notebookId": notebook["notebookId"],
        "cellId": "alices-cell",
        "promptName": "error-recovery",
    }


@pytest.fixture
def bob(world: World) -> Iterator[TestClient]:
    """Another caller, who knows all of alice's names and ids."""
    world.issue_key("sk_bob", "bob")
    with TestClient(create_app(world.wiring), headers={"Authorization": "Bearer sk_bob"}) as caller:
        yield caller


def test_nothing_of_anothers_is_told_or_changed(
    world: World, client: TestClient, bob: TestClient, ids: dict[str, str]
) -> None:
    def mine() -> list[str]:
        paths = ["files", f"files/{ids['fileId']}", f"executions/{ids['executionId']}", "artifacts", "notebook"]
        paths += ["notebooks", f"notebooks/{ids['notebookId']}"]
        return [client.get(f"/api/chats/{CHAT.chat_id}/{path}").text for path in [*paths, "session"]]

    before, alive = mine(), set(world.sandboxes.alive)
    for method, path in sorted(endpoints(create_app(world.wiring))):
        params = {"chatId": CHAT.chat_id} if path == EXECUTE and method != "POST" else {}
        reply = bob.request(
            method, path.format(**ids), json=BODIES.get((method, path)), params=params, follow_redirects=False
        )
        told = reply.text + str(reply.headers)
        assert SECRET not in told, (method, path)
        if any(f"{{{name}}}" in path for name in OF_ALICE):
            assert reply.status_code == 404, (method, path)
        else:
            assert [name for name in OF_ALICE if ids[name] in told] == [], (method, path)

    assert mine() == before
    assert alive <= set(world.sandboxes.alive)
    assert world.row(CHAT).is_live(world.clock())


def test_what_bob_makes_under_the_same_names_is_his(world: World, bob: TestClient, ids: dict[str, str]) -> None:
    answer = bob.post(EXECUTE, json={"chatId": ids["chatId"], "code": "bob's"}).json()

    assert answer["session"]["status"] == "new"
    assert answer["sandboxId"] == "sbx2"
    assert answer["uploadedFiles"] == []
    assert world.row(ChatKey("bob", CHAT.chat_id)).generation == 1


def test_a_file_of_anothers_gets_into_no_run(bob: TestClient, ids: dict[str, str]) -> None:
    body = {"chatId": ids["chatId"], "code": "bob's", "fileIds": [ids["fileId"]]}

    assert bob.post(EXECUTE, json=body).status_code == 404


def test_an_idempotency_key_of_anothers_gives_nothing_of_its_run(client: TestClient, bob: TestClient) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"chatId": CHAT.chat_id, "code": "1"}

    first, theirs = (caller.post(EXECUTE, json=body, headers=headers) for caller in (client, bob))

    assert first.json()["executionId"] != theirs.json()["executionId"]
    assert "idempotency-replayed" not in theirs.headers
