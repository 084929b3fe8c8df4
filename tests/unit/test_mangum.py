"""The API as Lambda calls it: events of the gateway's format 2.0 in, its replies out."""

import base64
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandkeeper.model import RunEnd, RunOutcome, Stream
from tests.world import TOKEN, World

APP = Path(__file__).parents[2] / "functions" / "api" / "app.py"


def event(method: str, path: str, body: str | None = None, token: str = TOKEN) -> dict[str, Any]:
    """Returns what the gateway sends."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"authorization": f"Bearer {token}", "content-type": "application/json"},
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
            "stage": "$default",
        },
        "body": body,
        "isBase64Encoded": False,
    }


@pytest.fixture
def handler(world: World, event_loop: None) -> Any:
    """Returns the function's own handler, on memory."""
    spec = importlib.util.spec_from_file_location("api_app", APP)
    assert spec is not None
    assert spec.loader is not None
    function = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(function)
    function.app.state.wiring = world.wiring
    context = SimpleNamespace(aws_request_id="request-1")
    return lambda sent: function.handler(sent, context)


def test_a_run_answers_with_text_and_lambdas_request_id(handler: Any) -> None:
    reply = handler(event("POST", "/api/jupyter/execute", '{"chatId": "c", "code": "print(1)"}'))

    assert (reply["statusCode"], reply["isBase64Encoded"]) == (200, False)
    assert json.loads(reply["body"])["success"] is True
    assert reply["headers"]["x-request-id"] == "request-1"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (event("GET", "/api/chats/c/files", token="sk_unknown"), 401),
        (event("GET", "/no-such-route"), 404),
        (event("POST", "/api/jupyter/execute", "{"), 422),
    ],
    ids=["a stranger", "no route", "no JSON"],
)
def test_a_problem_is_text_and_not_base64(handler: Any, sent: dict[str, Any], status: int) -> None:
    reply = handler(sent)

    assert (reply["statusCode"], reply["isBase64Encoded"]) == (status, False)
    assert reply["headers"]["content-type"] == "application/problem+json"
    assert json.loads(reply["body"])["requestId"] == "request-1"


def test_an_empty_reply_is_one(handler: Any) -> None:
    sent = event("DELETE", "/api/jupyter/execute") | {"rawQueryString": "chatId=c"}

    reply = handler(sent)

    assert (reply["statusCode"], reply["body"]) == (204, "")


def test_the_largest_notebook_fits_into_what_lambda_sends(world: World, handler: Any) -> None:
    """A reply of Lambda has 6 MB of JSON, in which quotes and newlines of text would count twice."""
    world.sandboxes.program = lambda *_: RunOutcome([Stream("stdout", '"\n' * 100_000)], RunEnd.FINISHED)
    for _ in range(12):
        world.run()

    reply = handler(event("GET", "/api/chats/chat-1/notebook"))

    assert reply["isBase64Encoded"] is True
    assert 3_500_000 < len(base64.b64decode(reply["body"])) < 4_000_000
    assert len(json.dumps(reply)) < 6 * 1024 * 1024
