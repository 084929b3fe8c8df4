"""What a kernel says of a run, on two channels, as the run's events."""

import asyncio
from contextlib import closing
from typing import Any

import pytest

from local.sandbox.agent.interpreter.run import Run

Message = dict[str, Any]

RAISED = {"ename": "ZeroDivisionError", "evalue": "division by zero", "traceback": ["1 / 0"]}
PRINTED = {"name": "stdout", "text": "1\n"}


def message(kind: str, content: Message) -> Message:
    return {"msg_type": kind, "content": content, "header": {"date": "2026-01-01T00:00:00+00:00"}}


OUTPUT = message("stream", PRINTED)
ERROR = message("error", RAISED)
IDLE = message("status", {"execution_state": "idle"})
OK_REPLY = message("execute_reply", {"status": "ok"})
ERROR_REPLY = message("execute_reply", {"status": "error", **RAISED})
ABORTED_REPLY = message("execute_reply", {"status": "aborted"})


def heard(*messages: Message) -> list[str]:
    """Returns the kinds of the events of a run that hears these messages; it must end with the last one."""

    async def hear() -> list[str]:
        events: list[str] = []
        run = Run(lambda event: events.append(event["type"]))
        for number, spoken in enumerate(messages, 1):
            assert not run.finished.done(), f"ended before message {number}"
            run.hear(spoken)
        assert run.finished.done()
        return events

    with closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(hear())


@pytest.mark.parametrize("position", range(4))
def test_an_error_comes_once_and_after_the_output_wherever_the_reply_comes(position: int) -> None:
    """A reply that overtook the output once brought the error before what had been printed."""
    spoken = [OUTPUT, ERROR, IDLE]
    spoken.insert(position, ERROR_REPLY)
    assert heard(*spoken) == ["stdout", "error"]


@pytest.mark.parametrize(
    "spoken", [(ABORTED_REPLY, IDLE), (IDLE, ABORTED_REPLY)], ids=["reply first", "idle first"]
)
def test_a_run_that_was_never_begun_has_the_error_of_its_reply(spoken: tuple[Message, ...]) -> None:
    assert heard(*spoken) == ["error"]


@pytest.mark.parametrize("position", range(3))
def test_a_run_that_raises_nothing_has_no_error(position: int) -> None:
    spoken = [OUTPUT, IDLE]
    spoken.insert(position, OK_REPLY)
    assert heard(*spoken) == ["stdout"]
