"""Running code: what a caller gets, what it costs, and who comes first."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from sandkeeper.errors import SandboxUnavailable, SessionBusy, StoreUnavailable
from sandkeeper.model import EndReason, RunEnd, RunOutcome, SandboxRef, SessionState, Stream
from sandkeeper.services.execute import RunReply
from tests.factories import busy, closing, creating, sandbox
from tests.world import CHAT, START, Patience, World, told

MINUTE = timedelta(minutes=1)
DOWN = SandboxUnavailable("down")


# ── What a call costs ───────────────────────────────────────────────────────────────────────────────


def test_a_warm_call_takes_three_round_trips_and_nothing_else(world: World) -> None:
    world.run()
    world.calls()
    together = threading.Barrier(2, timeout=10)

    def beside_the_other(port: Any, method: str) -> Callable[..., Any]:
        def do(*args: Any, **kwargs: Any) -> Any:
            together.wait()
            return getattr(port, method)(*args, **kwargs)

        return do

    world.taps["runs"].instead["finish"] = beside_the_other(world.runs, "finish")
    world.taps["store"].instead["release"] = beside_the_other(world.store, "release")
    world.run()

    assert world.calls() == ["runs.finish", "sandboxes.run", "store.claim", "store.release"]


def test_a_first_call_creates_beside_looking_files_up(world: World) -> None:
    world.run()

    assert world.calls() == [
        "catalog.of_chat",
        "runs.finish",
        "sandboxes.create",
        "sandboxes.prepare",
        "sandboxes.run",
        "store.activate",
        "store.begin",
        "store.claim",
        "store.owned",
        "store.point",
        "store.release",
    ]


# ── What the caller is told ─────────────────────────────────────────────────────────────────────────


def test_the_first_call_of_a_chat_is_new_and_the_next_reuses_its_sandbox(world: World) -> None:
    first, second = world.run("a"), world.run("b")

    assert told(first) == ("new", 1, None)
    assert told(second) == ("reused", 1, None)
    assert {each.execution.context.sandbox_id for each in (first, second)} == {"sbx1"}
    assert second.execution.outcome == RunOutcome([Stream("stdout", "b")], RunEnd.FINISHED)
    assert second.expires_in == timedelta(minutes=30)


def test_a_call_after_the_expiry_says_that_state_was_lost(world: World) -> None:
    world.run()
    world.clock.advance(30 * MINUTE)

    reply = world.run()

    assert told(reply) == ("recreated", 2, EndReason.EXPIRED)
    world.beside.settle()
    assert world.sandboxes.killed == ["sbx1"]


def test_a_call_just_before_the_expiry_finds_its_state(world: World) -> None:
    world.run()
    world.clock.advance(30 * MINUTE - timedelta(milliseconds=1))

    assert told(world.run()) == ("resumed", 1, None)


def test_a_call_after_cleanup_says_that_state_was_lost(world: World) -> None:
    world.run()
    world.clock.advance(31 * MINUTE)
    world.cleanup(everything=False, time_left_s=lambda: 60)

    assert told(world.run()) == ("recreated", 2, EndReason.EXPIRED)


def test_a_call_after_a_close_is_new_for_its_caller_gave_the_state_up(world: World) -> None:
    world.run()
    world.sessions.ending.close(CHAT)

    assert told(world.run()) == ("new", 2, None)


def test_the_loss_is_told_once(world: World) -> None:
    world.run()
    world.clock.advance(30 * MINUTE)
    world.run()

    assert told(world.run()) == ("reused", 2, None)


def test_a_loss_is_told_until_somebody_has_heard_of_it(world: World) -> None:
    """The call that replaced the sandbox failed before its run, so its caller learnt nothing."""
    world.run()
    world.clock.advance(30 * MINUTE)
    world.taps["sandboxes"].fail("run", DOWN)
    with pytest.raises(SandboxUnavailable):
        world.run()

    assert told(world.run()) == ("recreated", 2, EndReason.EXPIRED)


# ── Lost claims ─────────────────────────────────────────────────────────────────────────────────────


def while_creating(world: World, meanwhile: Callable[[], Any]) -> None:
    """Lets something happen after E2B has made the first sandbox, and before its creator writes that down."""
    times = count()

    def create(spec: Any, *, within: timedelta) -> SandboxRef:
        made = world.sandboxes.create(spec, within=within)
        if next(times) == 0:
            meanwhile()
        return made

    world.taps["sandboxes"].instead["create"] = create


def test_who_lost_its_claim_kills_what_it_made_and_starts_over(world: World) -> None:
    while_creating(world, lambda: world.sessions.ending.close(CHAT))

    reply = world.run()

    assert world.sandboxes.killed == ["sbx1"]
    assert list(world.sandboxes.alive) == ["sbx2"] == [reply.execution.context.sandbox_id]


def test_who_lost_its_claim_and_cannot_kill_what_it_made_leaves_it_to_reconciling(world: World) -> None:
    while_creating(world, lambda: world.sessions.ending.close(CHAT))
    world.taps["sandboxes"].fail("kill", DOWN)

    assert world.run().execution.context.sandbox_id == "sbx2"
    assert list(world.sandboxes.alive) == ["sbx1", "sbx2"]

    world.clock.advance(2 * MINUTE)
    world.cleanup(everything=False, time_left_s=lambda: 60)
    assert list(world.sandboxes.alive) == ["sbx2"]


def test_who_was_overtaken_by_another_creator_shares_its_sandbox(world: World, patience: Patience) -> None:
    """Both hold the same claim, so E2B gives both the same sandbox: killing it would take it from the winner."""

    def take_over() -> None:
        row = world.row()
        winner = replace(row, run_id="winner")
        world.store.begin(winner, seen=row)
        ready = replace(winner, state=SessionState.READY, sandbox=sandbox("sbx1"), pauses_at=START + 5 * MINUTE)
        patience.events = [
            lambda: world.store.activate(ready),
            lambda: world.sessions.release(ready, ran=True, hydrated={}),
        ]

    while_creating(world, take_over)

    reply = world.run()

    assert told(reply) == ("reused", 1, None)
    assert reply.execution.context.sandbox_id == "sbx1"
    assert (list(world.sandboxes.specs), world.sandboxes.killed) == (["sbx1"], [])


def test_a_close_while_the_sandbox_is_made_leaves_nothing_running(world: World) -> None:
    """The session that was being created knows its predecessor's sandbox too: closing it ends both."""
    world.run()
    world.clock.advance(30 * MINUTE)
    dead = replace(world.row(), state=SessionState.CREATING, sandbox=None, predecessor_id="sbx1")
    world.store.begin(dead, seen=world.row())

    world.sessions.ending.close(CHAT)

    assert world.sandboxes.alive == {}


# ── A lease that runs out before the run ────────────────────────────────────────────────────────────


def slow_transfer(world: World, takes: timedelta, meanwhile: Callable[[], Any] = lambda: None) -> None:
    """Lets the transfer of the next file take so long, and something happen at its end."""
    world.add_file("big.csv", b"x")
    write = world.sandboxes.write_file

    def write_slowly(*args: Any) -> None:
        del world.taps["sandboxes"].instead["write_file"]
        write(*args)
        world.clock.advance(takes)
        meanwhile()

    world.taps["sandboxes"].instead["write_file"] = write_slowly


def test_a_call_is_left_alone_for_as_long_as_it_may_take(world: World) -> None:
    world.run()
    seen: list[str] = []

    def others_come() -> None:
        with pytest.raises(SessionBusy) as refused:
            world.run("other", on_busy="reject")
        seen.append(refused.value.detail)

    slow_transfer(world, timedelta(seconds=28 + 14), meanwhile=others_come)

    assert told(world.run("x")) == ("reused", 1, None)
    assert len(seen) == 1
    world.assert_free()


def test_a_call_that_was_taken_for_dead_before_its_run_leaves_the_lease_to_the_run_that_has_it(
    world: World,
) -> None:
    """Both run, once each, and the sandbox sees to it that they do so one after the other."""
    world.run()
    other: list[RunReply] = []

    def program(_: SandboxRef, code: str) -> RunOutcome | None:
        return None if code == "other" else RunOutcome([Stream("stdout", code)], RunEnd.FINISHED)

    world.sandboxes.program = program
    slow_transfer(
        world,
        timedelta(seconds=28 + 15),
        meanwhile=lambda: other.append(world.run("other", mode="async", on_busy="reject")),
    )

    late = world.run("late")

    assert late.execution.outcome.outputs == [Stream("stdout", "late")]
    assert world.row().run_id == other[0].execution.execution_id
    assert world.row().run_count == 1, "the one that is to be counted yet is the other"


# ── One after the other ─────────────────────────────────────────────────────────────────────────────


def test_concurrent_calls_of_one_chat_run_one_after_the_other_in_one_sandbox(world: World) -> None:
    inside, overlaps = threading.Semaphore(1), []

    def program(_: SandboxRef, __: str) -> RunOutcome:
        overlaps.append(not inside.acquire(blocking=False))
        inside.release()
        return RunOutcome([], RunEnd.FINISHED)

    world.sandboxes.program = program
    with ThreadPoolExecutor(8) as callers:
        replies = list(callers.map(lambda _: world.run(), range(8)))

    assert overlaps == [False] * 8
    assert {reply.execution.context.sandbox_id for reply in replies} == {"sbx1"}
    assert sorted(told(reply)[0] for reply in replies) == ["new"] + ["reused"] * 7
    assert world.row().run_count == 8


def test_chats_do_not_wait_for_each_other(world: World) -> None:
    world.run()
    other = replace(CHAT, chat_id="chat-2")
    together = threading.Barrier(2, timeout=10)

    def program(_: SandboxRef, __: str) -> RunOutcome:
        together.wait()
        return RunOutcome([], RunEnd.FINISHED)

    world.sandboxes.program = program
    with ThreadPoolExecutor(2) as callers:
        list(callers.map(lambda key: world.run(key=key), [CHAT, other]))


@pytest.mark.parametrize("row", [busy(), creating(), closing()], ids=["using", "creating", "closing"])
def test_a_caller_who_does_not_wait_is_told_at_once_what_it_would_wait_for(
    world: World, row: Any, request: pytest.FixtureRequest
) -> None:
    world.store.begin(row, seen=None)

    with pytest.raises(SessionBusy, match=rf"{request.node.callspec.id} the session of chat 'chat-1'"):
        world.run(on_busy="reject")

    assert world.calls() == ["store.claim"]
    assert world.row() == row


def test_code_and_tokens_never_reach_the_journal(world: World) -> None:
    canary = "canary_of_the_users_code"
    world.run(f"{canary} = 1")
    world.taps["store"].fail("release", StoreUnavailable("throttled"))
    world.run(f"{canary} = 2")
    world.taps["sandboxes"].fail("run", DOWN)
    world.clock.advance(MINUTE)
    with pytest.raises(SandboxUnavailable):
        world.run(f"{canary} = 3")

    noted = repr(world.journal.notes)
    assert world.journal.notes
    assert canary not in noted
    assert "token" not in noted
