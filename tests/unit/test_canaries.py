"""What callers send is in no log: through every endpoint, when all is well and whatever fails."""

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import count
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from mcp import Client
from mcp.shared.exceptions import MCPError

from sandkeeper.adapters.s3 import object_key
from sandkeeper.errors import CapacityExhausted, NotConfigured, SandboxUnavailable, StoreUnavailable
from sandkeeper.handlers import CleanupHandler, EventFailed, IngestHandler
from sandkeeper.http.app import create_app
from sandkeeper.http.request_context import ReplyBrokenOff
from sandkeeper.log_context import hash_of
from sandkeeper.mcp.app import create_app as create_mcp
from sandkeeper.model import (
    ChangedFile,
    Changes,
    ChatKey,
    Display,
    FileReading,
    Output,
    Raised,
    RunEnd,
    RunOutcome,
    SandboxRef,
    Stream,
)
from sandkeeper.ports import SandboxGone
from sandkeeper.services.budget import Budget
from sandkeeper.settings import McpSettings
from sandkeeper.telemetry import LambdaJournal
from sandkeeper.wiring import McpWiring
from tests.canaries import BAD_TOKENS, CHOICES, CONTENT, OUTPUT, OWNER, TOKEN, quoted_in
from tests.mcp_client import Connection
from tests.mcp_tour import McpTour
from tests.tour import IDS, NEVER, Tour, endpoints
from tests.unit.test_handlers import CONTEXT, created
from tests.world import PORTS, Patience, World

KEY = ChatKey(OWNER, CHOICES.chat)
CAREFUL = f"the message of an error, which quotes {OUTPUT}"
FAILURES: dict[str, Callable[[], Exception]] = {
    "store down": lambda: StoreUnavailable(CAREFUL),
    "sandbox down": lambda: SandboxUnavailable(CAREFUL),
    "sandbox gone": lambda: SandboxGone(CAREFUL),
    "no capacity": lambda: CapacityExhausted(CAREFUL),
    "not configured": lambda: NotConfigured("its message is about the deployment, and may be told"),
    "unexpected": lambda: ValueError(CAREFUL),
}


_numbers = count(1)


class Broken:
    """A port of which every call fails."""

    def __init__(self, failure: Callable[[], Exception]) -> None:
        self._failure = failure

    def __getattr__(self, _: str) -> Callable[..., Any]:
        def fail(*_: Any, **__: Any) -> Any:
            raise self._failure()

        return fail


class LateJournal:
    """Lambda's journal, made when it is first used: while fixtures are made, pytest captures another stream."""

    @cached_property
    def _made(self) -> LambdaJournal:
        return LambdaJournal()

    def __getattr__(self, method: str) -> Any:
        return getattr(self._made, method)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A service whose journal is Lambda's, and in which no time passes while calls wait."""
    # Loggers of one service share their output for good: each test has its own.
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", f"test-{next(_numbers)}")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Sandkeeper")
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
    made = World(journal=LateJournal())  # type: ignore[arg-type]
    monkeypatch.setattr(Budget, "of", Patience(made.clock).budget)
    made.issue_key(TOKEN, OWNER)

    def program(sandbox: SandboxRef, code: str) -> RunOutcome:
        path = f"/home/user/{OUTPUT}.csv"
        made.sandboxes.alive[sandbox.sandbox_id][path] = CONTENT
        outputs: list[Output] = [Stream("stdout", OUTPUT + code), Display({"text/html": OUTPUT})]
        outputs.append(Raised("ValueError", OUTPUT, f"Traceback {OUTPUT}"))
        return RunOutcome(outputs, RunEnd.FINISHED, Changes([ChangedFile(path, len(CONTENT))]))

    made.sandboxes.program = program
    yield made
    made.close()


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Returns what has been written since the last time: to standard output, to standard error, by any logger."""

    def read() -> str:
        written = "".join(capsys.readouterr()) + caplog.text
        caplog.clear()
        return written

    return read


@pytest.fixture
def tour(world: World) -> Iterator[Tour]:
    """A caller who uses every endpoint."""

    def upload(file_id: str) -> None:
        world.contents.put(KEY, file_id, CONTENT)
        ingest(world, file_id)

    with TestClient(create_app(world.wiring), headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield Tour(client, upload, CHOICES)


def ingest(world: World, file_id: str) -> None:
    """Does what the ingest function does when a file has arrived; it may fail."""
    handler = IngestHandler()
    vars(handler._wiring)["ingest"] = world.ingest
    try:
        handler(created(object_key(KEY, file_id)), CONTEXT)
    except EventFailed as error:
        print(*traceback.format_exception(error))  # as Lambda does with what a handler raises


def clean_up(world: World, *, everything: bool = False) -> None:
    """Does what the cleanup function does."""
    handler = CleanupHandler()
    vars(handler._wiring)["cleanup"] = world.cleanup
    try:
        handler({"all": everything}, CONTEXT)
    except EventFailed as error:
        print(*traceback.format_exception(error))


def lines(text: str, message: str | None = None) -> list[dict[str, Any]]:
    """Returns our own lines, those with this message if one is given."""
    ours = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in ours if message in (None, line.get("message"))]


def test_the_tour_calls_every_endpoint_and_all_goes_well(tour: Tour) -> None:
    """A new endpoint belongs into `tests/tour.py`."""
    tour()

    assert tour.untouched() == set()
    assert {status for statuses in tour.called.values() for status in statuses} <= {200, 201, 202, 204, 302}


def test_nothing_that_callers_send_is_in_the_log(world: World, tour: Tour, log: Callable[[], str]) -> None:
    for _ in tour.steps():
        clean_up(world)
    tour.client.post("/api/jupyter/execute", json={"chatId": CHOICES.chat, "code": CHOICES.code})
    clean_up(world, everything=True)
    world.beside.settle()
    written = log()

    assert quoted_in(written) == []
    answered = lines(written, "call.answered")
    assert len(answered) == sum(map(len, tour.called.values())) + 1
    assert {(line["method"], line["route"]) for line in answered} == tour.called.keys()
    assert {line.get("chat_hash") for line in answered} == {hash_of(KEY.chat_id), None}


def test_lines_lead_from_a_reply_to_all_that_was_done_for_it(tour: Tour, log: Callable[[], str]) -> None:
    request_id = tour.client.post("/api/jupyter/execute", json={"chatId": KEY.chat_id, "code": "1"}).headers[
        "x-request-id"
    ]

    told = [line for line in lines(log()) if line.get("request_id") == request_id]

    assert {line["message"] for line in told} >= {"session.created", "run.ended", "call.answered"}
    assert {(line["owner_hash"], line["chat_hash"]) for line in told} == {(hash_of(OWNER), hash_of(KEY.chat_id))}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("port", PORTS)
def test_nothing_is_in_the_log_whatever_fails(
    world: World, tour: Tour, log: Callable[[], str], port: str, failure: str
) -> None:
    """From the first call on, and for a chat that has a session, files and runs."""
    # Another process would read the file, which takes most of the time; the first test here has it do so.
    world.reader = lambda content, **_: FileReading(size_bytes=len(b"".join(content)))  # type: ignore[assignment]
    working = world.taps[port].port
    for before in (0, 14):
        for number, _ in enumerate(tour.steps()):
            if number == before:
                world.taps[port].port = Broken(FAILURES[failure])
        clean_up(world, everything=True)
        world.beside.settle()
        world.taps[port].port = working
    written = log()

    assert quoted_in(written) == []
    assert lines(written, "call.answered")


def test_an_error_that_nobody_expected_is_told_with_its_place(
    world: World, tour: Tour, log: Callable[[], str]
) -> None:
    world.taps["catalog"].port = Broken(FAILURES["unexpected"])
    tour.client.get(f"/api/chats/{CHOICES.chat}/files")

    (line,) = lines(log(), "unexpected.error")
    assert (line["error"], line["chat_hash"]) == ("ValueError", hash_of(CHOICES.chat))
    assert "in list_files" in " ".join(line["stack"])


def test_an_error_in_the_middle_of_a_reply_is_told_without_its_message(
    world: World, tour: Tour, log: Callable[[], str]
) -> None:
    """The server that sends the reply logs what it catches."""
    run = tour.client.post("/api/jupyter/execute", json={"chatId": CHOICES.chat, "code": "1"}).json()
    known = world.runs.get(KEY, run["executionId"])

    def look(*_: Any) -> Any:
        world.taps["runs"].port = Broken(FAILURES["unexpected"])
        del world.taps["runs"].instead["get"]
        return known

    world.taps["runs"].instead["get"] = look
    with pytest.raises(ReplyBrokenOff) as broken:
        tour.client.get(f"/api/chats/{CHOICES.chat}/executions/{run['executionId']}/events")

    assert quoted_in("".join(traceback.format_exception(broken.value))) == []
    written = log()
    assert quoted_in(written) == []
    assert [line["error"] for line in lines(written, "unexpected.error")] == ["ValueError"]


def tour_of_mcp(world: World) -> McpTour:
    """Has a client of MCP use every tool and prompt, as the function does it, and whatever comes of that."""
    made = McpWiring()
    known = world.wiring.settings.model_dump()
    vars(made).update(vars(world.wiring), settings=McpSettings.model_validate(known))
    for name in ("executions", "execute", "control", "context", "prompts", "notebooks", "cell_runs"):
        vars(made).pop(name, None)  # they are made of what is here

    async def use(client: Client) -> McpTour:
        tour = McpTour(client, CHOICES)
        with suppress(MCPError):
            await tour()
        return tour

    return Connection("http://mcp.test/mcp", TOKEN, httpx2.ASGITransport(create_mcp(made))).ask(use)


def test_nothing_that_clients_of_mcp_send_is_in_the_log(world: World, log: Callable[[], str]) -> None:
    file = world.add_file(CHOICES.file_name, CONTENT, key=KEY)
    ingest(world, file.file_id)

    tour = tour_of_mcp(world)
    world.beside.settle()
    written = log()

    assert tour.untouched() == set()
    assert quoted_in(written) == []
    assert {(line["route"], line.get("chat_hash")) for line in lines(written, "call.answered")} == {
        ("/mcp", hash_of(KEY.chat_id)),
        ("/mcp", None),
    }
    assert {line.get("tool") for line in lines(written, "call.answered")} == {None, *tour.called}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("port", ["store", "sandboxes", "catalog", "runs", "notebook_store", "keys"])
def test_nothing_that_clients_of_mcp_send_is_in_the_log_whatever_fails(
    world: World, log: Callable[[], str], port: str, failure: str
) -> None:
    world.taps[port].port = Broken(FAILURES[failure])

    with suppress(BaseExceptionGroup, MCPError):
        tour_of_mcp(world)

    world.beside.settle()
    written = log()
    assert quoted_in(written) == []
    assert lines(written, "call.answered")


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_no_credentials_are_in_the_log(world: World, tour: Tour, log: Callable[[], str], token: str) -> None:
    for method, path in endpoints(create_app(world.wiring)):
        url = path.format(chatId=CHOICES.chat, **dict.fromkeys(IDS, NEVER) | {"artifactId": f"{NEVER}-0"})
        tour.client.request(method, url, headers={"Authorization": f"Bearer {token}"})

    assert quoted_in(log()) == []


@pytest.mark.parametrize("where", ["path", "query", "body", "headers"])
def test_what_is_refused_is_not_in_the_log(world: World, tour: Tour, log: Callable[[], str], where: str) -> None:
    for method, path in endpoints(create_app(world.wiring)):
        wrong = "canary" if where == "path" else NEVER
        url = path.format(chatId=CHOICES.chat, **dict.fromkeys(IDS, wrong))
        kinds: dict[str, dict[str, Any]] = {
            "path": {},
            "query": {"params": {"canary": OUTPUT, "next": OUTPUT, "waitMs": OUTPUT, "limit": OUTPUT}},
            "body": {"content": f'{{"canary": "{OUTPUT}", "code": ["{OUTPUT}"], "packages": ["--canary"]}}'},
            "headers": {
                "headers": {"Last-Event-ID": "canary", "Idempotency-Key": "canary " * 50, "If-Match": "canary"}
            },
        }
        tour.client.request(method, url, **kinds[where])
    tour.client.get("/canary")

    assert quoted_in(log()) == []
