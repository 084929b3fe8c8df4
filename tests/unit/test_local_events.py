"""S3's events reach file ingest, and the timer cleanup, as AWS would have it."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from local.events import ATTEMPTS, LONGEST_WAIT_S, Events, Message
from local.functions import Context

TICK = {"source": "sandkeeper.schedule"}
UPLOAD = {"Records": [{"eventSource": "aws:s3", "s3": {"object": {"key": "files/a"}}}]}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeQueue:
    """A queue in memory; waiting on it empty moves the clock."""

    def __init__(self, clock: Clock, *bodies: object) -> None:
        self.clock, self.waited = clock, list[int]()
        self.messages = deque(Message(json.dumps(body), f"receipt-{n}") for n, body in enumerate(bodies))

    def receive(self, wait_s: int) -> list[Message]:
        if not self.messages:
            self.waited.append(wait_s)
            self.clock.now += wait_s
            return []
        return [self.messages[0]]

    def delete(self, message: Message) -> None:
        self.messages.remove(message)

    def release(self, message: Message) -> None:
        self.messages.remove(message)
        self.messages.append(replace(message, attempt=message.attempt + 1))


class Handler:
    """A handler that notes its events, and fails the first few times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.seen = failures, list[Mapping[str, Any]]()

    def __call__(self, event: Mapping[str, Any], context: Context) -> None:
        assert context.get_remaining_time_in_millis() > 0
        self.seen.append(event)
        if len(self.seen) <= self.failures:
            raise RuntimeError("not this time")


def events(queue: FakeQueue, ingest: Handler | None = None, cleanup: Handler | None = None) -> Events:
    handlers = (ingest or Handler(), cleanup or Handler())
    return Events(queue, *handlers, tick=TICK, cleanup_every_s=300, clock=queue.clock)


def test_an_upload_reaches_file_ingest_once() -> None:
    queue, ingest = FakeQueue(Clock(), UPLOAD), Handler()
    events(queue, ingest).step()
    assert ingest.seen == [UPLOAD]
    assert not queue.messages


def test_the_test_event_with_which_s3_greets_a_queue_goes_nowhere() -> None:
    queue, ingest = FakeQueue(Clock(), {"Service": "Amazon S3", "Event": "s3:TestEvent"}), Handler()
    events(queue, ingest).step()
    assert not ingest.seen
    assert not queue.messages


def test_a_failed_ingest_is_tried_again() -> None:
    queue, ingest = FakeQueue(Clock(), UPLOAD), Handler(failures=1)
    pump = events(queue, ingest)
    pump.step()
    assert queue.messages
    pump.step()
    assert ingest.seen == [UPLOAD, UPLOAD]
    assert not queue.messages


def test_an_ingest_that_keeps_failing_is_given_up() -> None:
    queue, ingest = FakeQueue(Clock(), UPLOAD), Handler(failures=100)
    pump = events(queue, ingest)
    for _ in range(ATTEMPTS):
        pump.step()
    assert not queue.messages
    assert len(ingest.seen) == ATTEMPTS


def test_cleanup_is_called_when_its_time_has_come_and_not_before() -> None:
    clock = Clock()
    queue, cleanup = FakeQueue(clock), Handler()
    pump = events(queue, cleanup=cleanup)
    while clock.now < 1000:
        assert len(cleanup.seen) == clock.now // 300
        pump.step()
    assert cleanup.seen == [TICK] * 3
    assert max(queue.waited) == LONGEST_WAIT_S


def test_a_failed_cleanup_is_called_again_at_the_next_tick() -> None:
    clock = Clock()
    queue, cleanup = FakeQueue(clock), Handler(failures=1)
    pump = events(queue, cleanup=cleanup)
    while clock.now < 600:
        pump.step()
    assert len(cleanup.seen) == 2
