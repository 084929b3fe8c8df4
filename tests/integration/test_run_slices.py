"""A run followed through the API's handler, whose replies go on whole: each is a slice of the same stream."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.functions import Context, load
from tests.integration.conftest import body, event, execute

Handler = Callable[[dict[str, Any], Context], dict[str, Any]]
ASKED_AT_MOST = 200


@pytest.fixture
def handler(environment: pytest.MonkeyPatch) -> Handler:
    """One instance of the API function."""
    loaded: Handler = load("api").handler
    return loaded


@pytest.fixture
def chat_id(handler: Handler) -> Iterator[str]:
    """The id of a chat of this test alone, which is closed afterwards."""
    made = f"slices-{uuid.uuid4()}"
    yield made
    closing = event("close") | {"rawQueryString": f"chatId={made}"}
    assert handler(closing, Context("api"))["statusCode"] == 204


def begin(handler: Handler, chat_id: str, code: str) -> dict[str, Any]:
    """Returns the answer to a program that is not waited for."""
    payload = execute(chat_id, code)
    payload["body"] = json.dumps({**json.loads(payload["body"]), "mode": "async"})
    reply = handler(payload, Context("api"))
    assert (reply["statusCode"], reply["isBase64Encoded"]) == (202, False), reply
    return body(reply)


def get(handler: Handler, path: str, **headers: str) -> dict[str, Any]:
    """Returns the reply to a GET."""
    payload = event("status")
    payload["rawPath"], payload["rawQueryString"] = path, ""
    payload["requestContext"]["http"]["path"] = path
    payload["headers"] |= headers
    return handler(payload, Context("api"))


def events(reply: dict[str, Any]) -> list[dict[str, str]]:
    """Returns the slice's events, as `id`, `event` and `data`."""
    assert reply["headers"]["content-type"].startswith("text/event-stream")
    assert reply["isBase64Encoded"] is False
    blocks = reply["body"].split("\n\n")
    fields = [dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in blocks]
    return [each for each in fields if "event" in each]


def test_slice_by_slice_a_client_hears_all_of_a_run(handler: Handler, chat_id: str) -> None:
    code = "import time\nfor n in range(10):\n    print(n)\n    time.sleep(0.4)"
    accepted = begin(handler, chat_id, code)

    heard: list[dict[str, str]] = []
    slices = 0
    while not heard or heard[-1]["event"] != "end":
        last = {"last-event-id": heard[-1]["id"]} if heard else {}
        heard += events(get(handler, accepted["eventsUrl"], **last))
        slices += 1
        assert slices < ASKED_AT_MOST

    assert slices > 1, "what there is is told before the run has ended"
    assert [each["id"] for each in heard] == [str(number) for number in range(1, len(heard) + 1)]
    outputs = [json.loads(each["data"])["results"] for each in heard if each["event"] == "output"]
    assert "".join(item["content"] for results in outputs for item in results) == "".join(
        f"{n}\n" for n in range(10)
    )
    over = get(handler, accepted["eventsUrl"], **{"last-event-id": heard[-1]["id"]})
    assert over["statusCode"] == 204
    status = body(get(handler, accepted["statusUrl"]))
    assert (status["state"], status["result"]["success"]) == ("ended", True)
