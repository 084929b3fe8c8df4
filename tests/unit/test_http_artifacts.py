"""The endpoints of artifacts, and what a run's reply says of them."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from sandkeeper.errors import StoreUnavailable
from sandkeeper.model import ChangedFile, Changes, RunEnd, RunOutcome, SandboxRef
from tests.world import World

EXECUTE = "/api/jupyter/execute"
ARTIFACTS = "/api/chats/chat-1/artifacts"
OUT = "/home/user/out.csv"
NEVER = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z-0"


@pytest.fixture(autouse=True)
def _writes(world: World) -> None:
    """Code is the number of files that it writes; `many`: more than are looked at."""

    def program(ref: SandboxRef, code: str) -> RunOutcome:
        if code == "many":
            return RunOutcome([], RunEnd.FINISHED, Changes([], 3, all_seen=False))
        files = [ChangedFile(OUT if code == "1" else f"/home/user/{number}", 2) for number in range(int(code))]
        world.sandboxes.alive[ref.sandbox_id].update({file.path: b"ab" for file in files})
        return RunOutcome([], RunEnd.FINISHED, Changes(files, 7))

    world.sandboxes.program = program


def run(client: TestClient, code: str) -> dict[str, Any]:
    """Returns the reply to a run."""
    answer: dict[str, Any] = client.post(EXECUTE, json={"chatId": "chat-1", "code": code}).json()
    return answer


def test_a_reply_says_what_became_of_each_file(client: TestClient) -> None:
    answer = run(client, "1")

    assert answer["artifacts"] == [
        {
            "artifactId": f"{answer['executionId']}-0",
            "path": OUT,
            "size": 2,
            "mimeType": "text/csv",
            "status": "stored",
            "reason": None,
        }
    ]
    assert answer["moreFiles"] == 7


def test_a_reply_says_when_there_are_too_many_files_to_look_at(client: TestClient) -> None:
    answer = run(client, "many")

    assert (answer["artifacts"], answer["moreFiles"]) == ([], -1)


def test_the_download_leads_to_where_the_content_is(client: TestClient, world: World) -> None:
    artifact_id = run(client, "1")["artifacts"][0]["artifactId"]

    reply = client.get(f"{ARTIFACTS}/{artifact_id}", follow_redirects=False)

    assert reply.status_code == 302
    assert world.artifact_contents.content_at(reply.headers["location"]) == b"ab"


def test_the_list_tells_versions_and_is_read_page_by_page(client: TestClient) -> None:
    first, second = run(client, "1"), run(client, "1")
    run(client, "3")

    pages: list[list[dict[str, Any]]] = []
    following: dict[str, str] = {}
    while True:
        page = client.get(ARTIFACTS, params={"limit": 2, **following}).json()
        pages.append(page["artifacts"])
        if page["next"] is None:
            break
        following = {"next": page["next"]}

    listed = [artifact for page in pages for artifact in page]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [each["version"] for each in listed] == [1, 1, 1, 2, 1]
    assert [each["executionId"] for each in listed[3:]] == [second["executionId"], first["executionId"]]
    assert client.get(ARTIFACTS, params={"limit": 5}).json()["next"] is None


def test_a_chat_without_any_has_an_empty_list(client: TestClient) -> None:
    assert client.get(ARTIFACTS).json() == {"artifacts": [], "next": None}


def test_what_is_not_there_is_named(client: TestClient) -> None:
    reply = client.get(f"{ARTIFACTS}/{NEVER}")

    assert (reply.status_code, reply.json()["type"]) == (404, "urn:sandkeeper:problem:artifact-not-found")
    assert NEVER in reply.json()["detail"]


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (f"{ARTIFACTS}?next={NEVER}", "query/next"),
        (f"{ARTIFACTS}?limit=0", "query/limit"),
        (f"{ARTIFACTS}/one", "path/artifactId"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: TestClient, path: str, wrong: str) -> None:
    reply = client.get(path)

    assert reply.status_code == 422
    assert wrong.rpartition("/")[2] in reply.text


def test_one_that_was_not_stored_says_why(client: TestClient, world: World) -> None:
    down = StoreUnavailable("throttled")
    world.taps["artifact_contents"].fail("write", down, down)
    artifact_id = run(client, "1")["artifacts"][0]["artifactId"]

    reply = client.get(f"{ARTIFACTS}/{artifact_id}")

    assert reply.status_code == 404
    assert "could not be stored" in reply.json()["detail"]
