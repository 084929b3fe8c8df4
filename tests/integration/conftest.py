"""The functions on the running stack, called in this process as Lambda calls them."""

import json
from pathlib import Path
from typing import Any

import pytest

from local.functions import Context, load
from tests.stack import RunningStack

EVENTS = Path(__file__).parents[2] / "events"


@pytest.fixture
def environment(stack: RunningStack, monkeypatch: pytest.MonkeyPatch, event_loop: None) -> pytest.MonkeyPatch:
    """The environment of a function on the local stack."""
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def event(name: str) -> dict[str, Any]:
    """Returns a payload."""
    payload: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return payload


def execute(chat_id: str, code: str, **fields: Any) -> dict[str, Any]:
    """Returns the payload of a call that runs code."""
    return {**event("execute"), "body": json.dumps({"chatId": chat_id, "code": code, **fields})}


def invoke(function: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Returns what a fresh instance of the function answers."""
    answer: dict[str, Any] = load(function).handler(payload, Context(function))
    return answer


def body(reply: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON of an API function's reply, which must be text."""
    assert reply["isBase64Encoded"] is False
    parsed: dict[str, Any] = json.loads(reply["body"])
    return parsed
