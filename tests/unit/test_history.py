"""A chat's history over HTTP: its runs as a list, and as a notebook."""

from datetime import timedelta
from typing import Any

import nbformat
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.errors import StoreUnavailable
from sandkeeper.http.history_schemas import CODE_CHARS, decode, encode
from sandkeeper.model import ChatKey, Display, Output, Raised, RunEnd, RunOutcome, Stream
from sandkeeper.services import history
from sandkeeper.services.packages import REPORT
from tests.world import CHAT, World

RUNS = "/api/chats/chat-1/executions"
NOTEBOOK = "/api/chats/chat-1/notebook"


def ran(world: World, code: str, *outputs: Output, end: RunEnd = RunEnd.FINISHED) -> str:
    """Runs code that takes two seconds and gives these outputs, and returns the run's id."""

    def program(*_: object) -> RunOutcome:
        world.clock.advance(timedelta(seconds=2))
        return RunOutcome(outputs, end)

    world.sandboxes.program = program
    return world.run(code).execution.execution_id


def listed(client: TestClient, **query: Any) -> Any:
    """Returns a page of the chat's runs."""
    reply = client.get(RUNS, params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


# ── The list ────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_told_in_brief(world: World, client: TestClient) -> None:
    run_id = ran(world, "plot()", Stream("stdout", "a"), *[Display({"image/png": "iVBO"})] * 2)

    page = listed(client)

    (told,) = page["executions"]
    assert told.pop("executionTime") >= 2_000
    assert told == {
        "executionId": run_id,
        "state": "ended",
        "success": True,
        "error": None,
        "errorKind": None,
        "createdAt": "2026-01-02T03:04:05.678000Z",
        "startedAt": "2026-01-02T03:04:05.678000Z",
        "endedAt": "2026-01-02T03:04:07.678000Z",
        "code": "plot()",
        "codeTruncated": False,
        "results": {"text": 1, "image": 2},
    }
    assert page["next"] is None


def test_a_run_that_goes_on_is_told_as_running(world: World, client: TestClient) -> None:
    world.sandboxes.program = lambda *_: None
    world.run("going on", mode="async")

    (told,) = listed(client)["executions"]

    assert told["state"] == "running"
    unknown = ("success", "error", "errorKind", "startedAt", "endedAt", "executionTime")
    assert [told[name] for name in unknown] == [None] * len(unknown)
    assert (told["code"], told["results"]) == ("going on", {})


def test_a_run_that_failed_is_told_with_the_line_that_its_own_reply_had(world: World, client: TestClient) -> None:
    failed = ran(world, "1 / 0", Raised("ZeroDivisionError", "division by zero", "Traceback …"))
    stopped = ran(world, "sleep()", Raised("KeyboardInterrupt", "", ""), end=RunEnd.TIMEOUT)

    runs = {told["executionId"]: told for told in listed(client)["executions"]}

    assert [runs[run_id]["success"] for run_id in (failed, stopped)] == [False, False]
    assert runs[failed]["errorKind"] == "user_code"
    assert runs[failed]["error"] == "ZeroDivisionError: division by zero"
    assert runs[stopped]["errorKind"] == "timeout"
    for run_id, told in runs.items():
        assert told["error"] == client.get(f"{RUNS}/{run_id}").json()["result"]["error"]


@pytest.mark.parametrize(("length", "is_cut"), [(CODE_CHARS, False), (CODE_CHARS + 1, True)])
def test_long_code_is_cut_and_it_is_told(world: World, client: TestClient, length: int, is_cut: bool) -> None:
    ran(world, "🐎" * length)

    (told,) = listed(client)["executions"]

    assert (told["code"], told["codeTruncated"]) == ("🐎" * CODE_CHARS, is_cut)


def test_an_installation_is_told_as_one(world: World, client: TestClient) -> None:
    world.sandboxes.program = lambda *_: RunOutcome([Display({REPORT: {"code": 0}})], RunEnd.FINISHED)
    world.wiring.packages.install(CHAT, ["polars>=1.9"])

    (told,) = listed(client)["executions"]

    assert told["code"] == "%pip install 'polars>=1.9'"


def test_a_list_is_read_on_with_what_the_reply_before_gave(world: World, client: TestClient) -> None:
    ids = [ran(world, str(number)) for number in range(5)]

    pages = [listed(client, limit=2)]
    while pages[-1]["next"]:
        pages.append(listed(client, limit=2, next=pages[-1]["next"]))

    assert [[run["executionId"] for run in page["executions"]] for page in pages] == [
        [ids[4], ids[3]],
        [ids[2], ids[1]],
        [ids[0]],
    ]


def test_a_list_has_20_runs_unless_another_number_is_asked_for(world: World, client: TestClient) -> None:
    for number in range(21):
        ran(world, str(number))

    assert len(listed(client)["executions"]) == 20
    assert len(listed(client, limit=100)["executions"]) == 21


def test_a_list_costs_one_question_and_reads_no_outputs(world: World, client: TestClient) -> None:
    for number in range(3):
        ran(world, str(number), Stream("stdout", "x"))
    listed(client)
    world.calls()

    listed(client)

    assert world.calls() == ["runs.latest"]


def test_a_run_is_told_of_for_30_days(world: World, client: TestClient) -> None:
    ran(world, "old")
    world.clock.advance(history.KEPT - timedelta(seconds=3))
    assert len(listed(client)["executions"]) == 1

    world.clock.advance(timedelta(seconds=1))

    assert listed(client) == {"executions": [], "next": None}


@pytest.mark.parametrize("limit", [0, 101, -1, "many"])
def test_a_limit_that_is_none_is_refused(client: TestClient, limit: Any) -> None:
    reply = client.get(RUNS, params={"limit": limit})

    assert reply.status_code == 422
    assert [field["pointer"] for field in reply.json()["errors"]] == ["query/limit"]


@given(st.from_regex(r"\A[0-9A-HJKMNP-TV-Z]{26}\Z"))
def test_a_place_in_the_list_comes_back_as_it_was_given(execution_id: str) -> None:
    assert decode(encode(execution_id)) == execution_id


@pytest.mark.parametrize(
    "given_next",
    ["", "x", "€", "....", encode("run-1"), encode("0" * 25), encode("0" * 25 + "\n"), encode("0" * 26) + "!"],
)
def test_a_next_that_no_reply_gave_is_refused(client: TestClient, given_next: str) -> None:
    reply = client.get(RUNS, params={"next": given_next})

    assert (reply.status_code, reply.json()["type"]) == (422, "urn:sandkeeper:problem:invalid-request")
    assert [field["pointer"] for field in reply.json()["errors"]] == ["query/next"]
    assert repr(given_next) in reply.json()["detail"]


# ── The notebook ────────────────────────────────────────────────────────────────────────────────────


def test_a_notebook_is_a_download_that_jupyter_knows(world: World, client: TestClient) -> None:
    ran(world, "print('größe')", Stream("stdout", "größe\n"))

    reply = client.get(NOTEBOOK)

    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-ipynb+json")
    assert reply.headers["content-disposition"] == 'attachment; filename="chat-chat-1.ipynb"'
    nbformat.validate(reply.json())
    assert "größe" in reply.text


def test_its_name_is_one_that_every_file_system_takes(client: TestClient) -> None:
    reply = client.get("/api/chats/a:b..C_-/notebook")

    assert reply.headers["content-disposition"] == 'attachment; filename="chat-a-b..C_-.ipynb"'


# ── Whose ───────────────────────────────────────────────────────────────────────────────────────────


def test_another_owners_chat_has_no_history(world: World, client: TestClient) -> None:
    ran(world, "secret()")
    world.issue_key("sk_bob", "bob")
    bob = {"Authorization": "Bearer sk_bob"}

    assert client.get(RUNS, headers=bob).json() == {"executions": [], "next": None}
    assert "secret" not in client.get(NOTEBOOK, headers=bob).text
    assert world.wiring.history.page(ChatKey("bob", "chat-1"), limit=1).runs == []


@pytest.mark.parametrize("path", [RUNS, NOTEBOOK])
def test_nobody_is_told_without_credentials_or_when_the_store_is_away(
    world: World, client: TestClient, path: str
) -> None:
    assert client.get(path, headers={"Authorization": ""}).status_code == 401

    world.taps["runs"].fail("latest", StoreUnavailable("down"))

    assert client.get(path).status_code == 503
