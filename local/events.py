"""What AWS does by itself, done here: S3's events reach file ingest, and a timer calls cleanup.

`python -m local.events` serves until it is ended. One thread does both, one call at a time: the wait for the
next message is never longer than the time to the next tick.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from local import aws, functions
from local.template import Template

ATTEMPTS = 3  # as Lambda does for an event that S3 sends
RETRY_AFTER_S = 1
LONGEST_WAIT_S = 20

log = logging.getLogger("local.events")
Handler = Callable[[Mapping[str, Any], functions.Context], object]


@dataclass(frozen=True)
class Message:
    body: str
    receipt: str
    attempt: int = 1


class Queue(Protocol):
    def receive(self, wait_s: int) -> Iterable[Message]:
        """The next messages, or none after `wait_s`. One that is neither deleted nor released comes again."""

    def delete(self, message: Message) -> None:
        """Ends a message: it was handled, or given up."""

    def release(self, message: Message) -> None:
        """Gives a message back, to come again soon with its `attempt` counted up."""


class SqsQueue:
    def __init__(self, client: Any, url: str) -> None:
        self._client, self._url = client, url

    def receive(self, wait_s: int) -> list[Message]:
        answer = self._client.receive_message(
            QueueUrl=self._url,
            WaitTimeSeconds=wait_s,
            MaxNumberOfMessages=10,
            AttributeNames=["ApproximateReceiveCount"],
        )
        return [
            Message(found["Body"], found["ReceiptHandle"], int(found["Attributes"]["ApproximateReceiveCount"]))
            for found in answer.get("Messages", [])
        ]

    def delete(self, message: Message) -> None:
        self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message.receipt)

    def release(self, message: Message) -> None:
        self._client.change_message_visibility(
            QueueUrl=self._url, ReceiptHandle=message.receipt, VisibilityTimeout=RETRY_AFTER_S
        )


class Events:
    def __init__(
        self,
        queue: Queue,
        ingest: Handler,
        cleanup: Handler,
        *,
        tick: Mapping[str, Any],
        cleanup_every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue, self._ingest, self._cleanup, self._clock = queue, ingest, cleanup, clock
        self._tick_event, self._every_s = tick, cleanup_every_s
        self._due = clock() + cleanup_every_s

    def step(self) -> None:
        """Waits for the next messages or the next tick, and hands on what there is."""
        wait_s = math.ceil(self._due - self._clock())
        for message in self._queue.receive(max(0, min(LONGEST_WAIT_S, wait_s))):
            self._deliver(message)
        if self._clock() >= self._due:
            self._due = self._clock() + self._every_s
            self._tick()

    def _deliver(self, message: Message) -> None:
        event = json.loads(message.body)
        if "Records" not in event:  # the test event with which S3 tries a new destination
            return self._queue.delete(message)
        try:
            self._ingest(event, functions.Context("file-ingest"))
        except Exception:  # as in Lambda, any error of a handler means "try again"
            log.exception("file ingest failed, attempt %d of %d", message.attempt, ATTEMPTS)
            if message.attempt < ATTEMPTS:
                return self._queue.release(message)
        return self._queue.delete(message)

    def _tick(self) -> None:
        try:
            self._cleanup(self._tick_event, functions.Context("cleanup"))
        except Exception:  # the next tick is the retry
            log.exception("cleanup failed; the next tick tries again")


def main() -> None:
    logging.basicConfig()
    sqs = aws.client("sqs", os.environ["AWS_ENDPOINT_URL"])
    events = Events(
        SqsQueue(sqs, aws.queue_url(sqs)),
        ingest=functions.load("file_ingest").handler,
        cleanup=functions.load("cleanup").handler,
        tick=Template.of_this_project().tick(),
        cleanup_every_s=float(os.environ["CLEANUP_EVERY_S"]),
    )
    while True:
        events.step()


if __name__ == "__main__":
    main()
