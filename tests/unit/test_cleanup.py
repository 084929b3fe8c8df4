"""Ending what has expired."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import chain, repeat

import pytest

from sandkeeper.errors import SandboxUnavailable, StoreUnavailable
from sandkeeper.model import ChatKey, EndReason, RunEnd, RunOutcome, SessionState, Stream
from sandkeeper.services import cleanup
from sandkeeper.services.cleanup import PAGE, CleanupReport
from tests.factories import busy, creating, unreadable
from tests.world import CHAT, START, World, told

LONG = timedelta(minutes=31)


def tick(
    world: World, *, everything: bool = False, time_left_s: Callable[[], float] = lambda: 60.0
) -> CleanupReport:
    """Lets cleanup do its work once."""
    return world.cleanup(everything=everything, time_left_s=time_left_s)


def report(
    *, ended: int = 0, skipped: int = 0, failed: int = 0, live: int | None = 0, complete: bool = True
) -> CleanupReport:
    """Returns what a tick reports that killed no orphan, and of which this alone is to be told."""
    return CleanupReport(ended=ended, skipped=skipped, orphans=0, failed=failed, live=live, complete=complete)


def chats(world: World, number: int) -> list[ChatKey]:
    """Returns this many chats that each have run code."""
    keys = [ChatKey("alice", f"chat-{index}") for index in range(number)]
    for key in keys:
        world.run(key=key)
    return keys


def test_expired_sessions_are_ended_and_live_ones_left_alone(world: World) -> None:
    expired = chats(world, 3)
    world.clock.advance(LONG)
    live = ChatKey("bob", "live")
    world.run(key=live)

    assert tick(world) == report(ended=3, live=1)
    assert len(world.sandboxes.alive) == 1
    assert {world.row(key).state for key in expired} == {SessionState.CLOSED}
    assert {world.row(key).end_reason for key in expired} == {EndReason.EXPIRED}
    assert world.row(live).state is SessionState.READY


def test_a_paused_sandbox_is_ended_when_its_session_has_expired(world: World) -> None:
    world.run()
    world.pause_sandbox()
    world.clock.advance(LONG)

    assert tick(world) == report(ended=1)
    assert (world.sandboxes.killed, world.sandboxes.paused) == (["sbx1"], set())


def test_a_paused_sandbox_is_left_alone_until_then(world: World) -> None:
    world.run()
    world.pause_sandbox()
    world.clock.advance(LONG - timedelta(minutes=2))

    assert tick(world) == report(live=1)
    assert told(world.run()) == ("resumed", 1, None)


def test_there_is_nothing_left_to_do_for_the_next_tick(world: World) -> None:
    chats(world, 2)
    world.clock.advance(LONG)
    tick(world)

    assert tick(world) == report()


def test_a_session_that_is_used_again_in_between_wins(world: World) -> None:
    """The index said that it was due; by the time it was to be ended its next call had pushed the expiry."""
    world.run()
    world.taps["store"].instead["expired"] = lambda shard, now: iter([CHAT])

    assert tick(world) == report(skipped=1, live=1)
    assert list(world.sandboxes.alive) == ["sbx1"]


def test_what_is_being_created_is_left_alone_though_it_has_expired(world: World) -> None:
    row = creating(expires_at=START)
    world.store.begin(row, seen=None)

    assert tick(world) == report(skipped=1)
    assert world.row() == row


def test_a_session_in_use_does_not_expire_before_its_run_has_reached_its_limit(world: World) -> None:
    world.sandboxes.program = lambda *_: None
    world.run(limit=timedelta(hours=1), mode="async")
    world.clock.advance(timedelta(hours=1))

    assert tick(world) == report(live=1)
    world.clock.advance(LONG)
    assert tick(world) == report(ended=1)


@pytest.mark.parametrize(
    ("outcome", "end"),
    [(None, RunEnd.SANDBOX_LOST), (RunOutcome([Stream("stdout", "x")], RunEnd.FINISHED), RunEnd.FINISHED)],
    ids=["it goes on", "it has ended"],
)
def test_the_run_of_a_session_that_expires_is_recorded(
    world: World, outcome: RunOutcome | None, end: RunEnd
) -> None:
    world.sandboxes.program = lambda *_: None
    run_id = world.run(mode="async").execution.execution_id
    if outcome is not None:
        world.sandboxes.finish(run_id, outcome)
    world.clock.advance(2 * LONG)

    assert tick(world) == report(ended=1)

    recorded = world.runs.get(CHAT, run_id)
    assert recorded is not None
    assert recorded.outcome == RunOutcome([] if outcome is None else outcome.outputs, end)
    assert world.sandboxes.alive == {}


def test_a_sandbox_that_cannot_be_killed_holds_up_no_other_and_is_tried_again(world: World) -> None:
    chats(world, 5)
    world.clock.advance(LONG)
    world.taps["sandboxes"].fail("kill", SandboxUnavailable("down"))

    first = tick(world)
    world.clock.advance(timedelta(minutes=5))
    second = tick(world)

    assert (first.ended, first.failed) == (4, 1)
    assert (second.ended, second.failed) == (1, 0)
    assert world.sandboxes.alive == {}
    assert "cleanup.failed" in world.events()


def test_a_row_that_cannot_be_written_counts_as_failed(world: World) -> None:
    chats(world, 2)
    world.clock.advance(LONG)
    world.taps["store"].fail("begin_expire", StoreUnavailable("throttled"))

    assert tick(world) == report(ended=1, failed=1, live=1, complete=True)


def test_a_shard_that_cannot_be_read_holds_up_no_other(world: World) -> None:
    chats(world, 2)
    world.clock.advance(LONG)
    expired = world.store.expired

    def read(shard: str, *, now: datetime) -> Iterator[ChatKey]:
        if shard == "broken":
            raise RuntimeError("boom")
        return expired(shard, now=now)

    world.taps["store"].instead.update(shards=lambda: ["broken", "all"], expired=read)

    assert tick(world) == report(ended=2, failed=1, complete=False)
    assert ("cleanup.failed", {"error": "RuntimeError"}) in world.journal.notes


def test_a_shard_whose_reading_breaks_off_is_read_again_by_the_next_tick(world: World) -> None:
    chats(world, 2)
    world.clock.advance(LONG)

    def break_off(*_: object, **__: object) -> Iterator[ChatKey]:
        yield ChatKey("alice", "chat-0")
        raise StoreUnavailable("throttled")

    world.taps["store"].instead["expired"] = break_off
    first = tick(world)
    world.taps["store"].instead.clear()

    assert (first.failed, first.complete) == (1, False)
    assert first.ended + tick(world).ended == 2


def test_a_row_that_nobody_can_read_is_ended_with_its_sandbox(world: World) -> None:
    world.store.begin(unreadable(), seen=None)
    world.sandboxes.alive["sbx7"] = {}
    world.taps["store"].instead["expired"] = lambda shard, now: iter([CHAT])

    assert tick(world) == report(ended=1)
    assert world.sandboxes.alive == {}


def test_a_shard_with_very_many_due_sessions_is_worked_off_over_several_ticks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "DUE_PER_SHARD", 3)
    chats(world, 5)
    world.clock.advance(LONG)

    reports = [tick(world), tick(world)]

    assert [(done.ended, done.complete) for done in reports] == [(3, False), (2, True)]


def test_shards_that_are_all_worked_off_are_no_reason_to_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "DUE_PER_SHARD", 3)
    due = chats(world, 4)
    world.clock.advance(LONG)
    shards = {"a": due[:2], "b": due[2:]}
    world.taps["store"].instead.update(shards=lambda: [*shards], expired=lambda shard, now: iter(shards[shard]))

    assert tick(world) == report(ended=4, complete=True)


def test_everything_ends_what_is_live_and_what_is_busy_too(world: World) -> None:
    chats(world, 3)
    world.store.begin(busy(key=ChatKey("bob", "busy")), seen=None)

    assert tick(world, everything=True) == report(ended=4)
    assert world.sandboxes.alive == {}


def test_everything_ends_what_is_paused_or_being_created_too(world: World) -> None:
    world.run()
    world.pause_sandbox()
    world.store.begin(creating(key=ChatKey("bob", "creating"), predecessor_id="sbx0"), seen=None)
    world.sandboxes.alive["sbx0"] = {}

    assert tick(world, everything=True).ended == 2
    assert world.sandboxes.alive == {}


def test_everything_stops_in_time_and_goes_on_at_the_next_tick(world: World) -> None:
    world.configure(max_sessions_per_owner=100)
    chats(world, PAGE + 1)
    left = chain([60.0], repeat(9.9))

    assert tick(world, everything=True, time_left_s=lambda: next(left)).complete is False
    assert tick(world, everything=True) == report(ended=1)


def test_a_forced_end_is_told_as_a_loss(world: World) -> None:
    (key,) = chats(world, 1)
    tick(world, everything=True)

    assert told(world.run(key=key)) == ("recreated", 2, EndReason.FORCED)


def test_it_stops_in_time_and_goes_on_at_the_next_tick(world: World) -> None:
    world.configure(max_sessions_per_owner=100)
    chats(world, PAGE + 3)
    world.clock.advance(LONG)
    left = chain([60.0], repeat(9.9))

    assert tick(world, time_left_s=lambda: next(left)) == report(ended=PAGE, live=None, complete=False)
    assert tick(world) == report(ended=3)


def test_without_time_nothing_is_begun(world: World) -> None:
    chats(world, 1)
    world.clock.advance(LONG)

    assert tick(world, time_left_s=lambda: 5.0) == report(live=None, complete=False)
    assert world.row(ChatKey("alice", "chat-0")).state is SessionState.READY


def test_two_ticks_at_once_end_each_session_once(world: World) -> None:
    chats(world, 4)
    world.clock.advance(LONG)
    reports: list[CleanupReport] = []
    kill = world.sandboxes.kill

    def kill_and_tick(sandbox_id: str) -> None:
        if not reports:
            reports.append(report())
            reports[0] = tick(world)
        kill(sandbox_id)

    world.taps["sandboxes"].instead["kill"] = kill_and_tick

    assert tick(world).ended + reports[0].ended == 4
    assert sorted(world.sandboxes.killed) == ["sbx1", "sbx2", "sbx3", "sbx4"]


def test_what_was_done_is_noted(world: World) -> None:
    chats(world, 1)
    world.clock.advance(LONG)
    tick(world)

    assert world.journal.notes[-1] == (
        "cleanup.ended",
        {"expired": 1, "killed": 1, "orphans": 0, "skipped": 0, "failed": 0, "live": 0},
    )
