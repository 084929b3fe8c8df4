"""How often a call goes over the network: what the API function asks of AWS and of E2B, counted on the wire."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from local import aws
from local.functions import Context, load
from sandkeeper.adapters.dynamodb.items import row_key
from sandkeeper.model import ChatKey
from tests.integration.conftest import body, event, execute
from tests.sandbox_server import Server
from tests.stack import RunningStack


@dataclass
class Wire:
    """The requests that have gone out. Each to AWS with how many runs the sandboxes had been asked for by then."""

    e2b: Server
    aws: list[tuple[str, int]] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Counts from here on."""
        self.before = self.e2b.calls()
        self.aws.clear()

    def calls(self) -> dict[str, int]:
        """Returns what E2B's control plane has been asked for, and `run`."""
        counts = {name: count - self.before[name] for name, count in self.e2b.calls().items()}
        return {name: count for name, count in counts.items() if count}

    def note(self, event_name: str, **_: Any) -> None:
        """Hears of a request to AWS just before it goes out, each try of it."""
        operation = event_name.removeprefix("before-send.")
        self.aws.append((operation, self.calls().get("run", 0)))


@pytest.fixture
def wire(stack: RunningStack, environment: pytest.MonkeyPatch) -> Wire:
    """Listens to every AWS client that is made from now on."""
    heard = Wire(Server(stack.sandbox_url, pid=0, data_dir=Path()))
    heard.begin()
    session = boto3.session.Session()
    session.events.register("before-send", heard.note)
    environment.setattr(boto3, "DEFAULT_SESSION", session)
    return heard


@pytest.fixture
def chat_id() -> str:
    """The id of a chat of this test alone."""
    return f"trips-{uuid.uuid4()}"


@pytest.fixture
def run(wire: Wire, chat_id: str) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Runs code in the test's chat: in one instance of the API function, which a first call has warmed."""
    handler = load("api").handler

    def run_code(code: str) -> dict[str, Any]:
        wire.begin()
        reply = handler(execute(chat_id, code), Context("api"))
        assert reply["statusCode"] == 200, reply
        return body(reply)

    yield run_code
    closing = event("close") | {"rawQueryString": f"chatId={chat_id}"}
    assert handler(closing, Context("api"))["statusCode"] == 204


def test_a_warm_call_is_claim_run_release_one_after_the_other_and_nothing_else(
    wire: Wire, run: Callable[[str], dict[str, Any]]
) -> None:
    run("x = 41")

    answer = run("x + 1")

    assert wire.aws == [("dynamodb.UpdateItem", 0), ("dynamodb.UpdateItem", 1)]
    assert wire.calls() == {"run": 1}
    assert answer["results"][0]["content"] == "42"
    assert answer["session"]["status"] == "reused"
    assert answer["timings"]["connectMs"] == answer["timings"]["filesMs"] == 0


def test_a_first_call_asks_e2b_once_to_make_the_sandbox(wire: Wire, run: Callable[[str], dict[str, Any]]) -> None:
    run("1")

    assert wire.calls() == {"create": 1, "run": 1}
    assert {operation.split(".")[0] for operation, _ in wire.aws} == {"dynamodb"}, "there is no file to be fetched"


def test_a_row_of_the_version_before_is_used_and_brought_up_to_date(
    wire: Wire, run: Callable[[str], dict[str, Any]], stack: RunningStack, chat_id: str
) -> None:
    """That version wrote `sandboxUntil`, and knew neither `pausesAt` nor restarts nor fresh files."""
    first = run("x = 41")
    dynamodb = aws.client("dynamodb", stack.aws_url)
    row = {"TableName": stack.table_name, "Key": row_key(ChatKey("local", chat_id), "SESSION")}
    dynamodb.update_item(
        **row,
        UpdateExpression="SET sandboxUntil = pausesAt REMOVE pausesAt, restarts, restartsTold, freshFiles",
    )

    second = run("x + 1")

    assert wire.calls() == {"connect": 1, "run": 1}, "nobody knows for how long the sandbox will run"
    assert second["results"][0]["content"] == "42"
    assert second["session"] == {"status": "reused", "generation": 1, "stateReset": False, "reason": None}
    assert second["sandboxId"] == first["sandboxId"]
    assert "pausesAt" in dynamodb.get_item(**row)["Item"]
    run("x")
    assert (len(wire.aws), wire.calls()) == (2, {"run": 1}), "from now on its calls are warm ones"
