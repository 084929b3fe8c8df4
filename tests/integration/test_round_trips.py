"""How often a call goes over the network: what the API function asks of AWS and of E2B, counted on the wire."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from e2b_code_interpreter import Sandbox

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
    """Runs code in the test's chat: in one instance of the API function, which knows its caller already."""
    handler = load("api").handler
    assert handler(event("status"), Context("api"))["statusCode"] == 200

    def run_code(code: str) -> dict[str, Any]:
        wire.begin()
        reply = handler(execute(chat_id, code), Context("api"))
        assert reply["statusCode"] == 200, reply
        return body(reply)

    yield run_code
    closing = event("close") | {"rawQueryString": f"chatId={chat_id}"}
    assert handler(closing, Context("api"))["statusCode"] == 204


def test_a_warm_call_is_a_claim_a_run_and_then_release_and_record_and_nothing_else(
    wire: Wire, run: Callable[[str], dict[str, Any]]
) -> None:
    run("x = 41")

    answer = run("x + 1")

    claim, *rest = wire.aws
    assert claim == ("dynamodb.UpdateItem", 0)
    assert sorted(rest) == [("dynamodb.PutItem", 1), ("dynamodb.UpdateItem", 1)], "side by side, in any order"
    assert wire.calls() == {"run": 1}
    assert answer["results"][0]["content"] == "42"
    assert answer["session"]["status"] == "reused"
    assert answer["timings"]["connectMs"] == answer["timings"]["filesMs"] == 0


def test_a_first_call_asks_e2b_once_to_make_the_sandbox_and_the_sandbox_once_to_run(
    wire: Wire, run: Callable[[str], dict[str, Any]]
) -> None:
    run("1")

    assert wire.calls() == {"create": 1, "run": 1}
    before, after = (Counter(name for name, runs in wire.aws if bool(runs) is ran) for ran in (False, True))
    assert before == {
        "dynamodb.UpdateItem": 2,  # the claim, which finds no session; the new session's sandbox
        "dynamodb.Query": 2,  # how many sessions the owner has; the chat's files
        "dynamodb.PutItem": 2,  # the new session; what leads from its claim to it
    }
    assert after == {"dynamodb.UpdateItem": 1, "dynamodb.PutItem": 1}, "the release, and the record"


def test_a_row_of_the_version_before_is_used_and_brought_up_to_date(
    wire: Wire, run: Callable[[str], dict[str, Any]], stack: RunningStack, chat_id: str
) -> None:
    """That version counted restarts and runs of the kernel itself, and its sandboxes have no runner."""
    first = run("x = 41")
    dynamodb = aws.client("dynamodb", stack.aws_url)
    row = {"TableName": stack.table_name, "Key": row_key(ChatKey("local", chat_id), "SESSION")}
    dynamodb.update_item(
        **row,
        UpdateExpression="SET restarts = :one, restartsTold = :one, executionCount = :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    Sandbox.connect(first["sandboxId"], **wire.e2b.sdk).commands.run(
        "pkill -9 -f [s]andkeeper.runner; rm -r /home/user/.sandkeeper", user="root"
    )

    second = run("x + 1")

    assert wire.calls() == {"run": 2}, "the first of them finds no runner, which is then started"
    assert second["results"][0]["content"] == "42"
    assert second["session"] == {"status": "reused", "generation": 1, "stateReset": False, "reason": None}
    assert second["sandboxId"] == first["sandboxId"]
    run("x")
    assert (len(wire.aws), wire.calls()) == (3, {"run": 1}), "from now on its calls are warm ones"
