"""Running code: what a caller gets, what it costs, and what is left behind when something fails."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from sandkeeper.errors import (
    CapacityExhausted,
    NotConfigured,
    SandboxUnavailable,
    SandkeeperError,
    SessionBusy,
    StoreUnavailable,
)
from sandkeeper.model import EndReason, RunEnd, RunOutcome, SandboxRef, SessionState, Stream
from sandkeeper.ports import SandboxGone
from sandkeeper.services.execute import RunReply
from tests.factories import busy, closing, creating, sandbox
from tests.world import CHAT, World

MINUTE = timedelta(minutes=1)
DOWN = SandboxUnavailable("down")


def told(reply: RunReply) -> tuple[str, int, EndReason | None]:
    """Returns what the caller is told of the session."""
    return reply.session.status, reply.session.generation, reply.session.reset_reason


def lose_sandbox(world: World) -> None:
    """Ends the chat's sandbox as E2B would, telling nobody."""
    live = world.row().sandbox
    assert live is not None
    world.sandboxes.kill(live.sandbox_id)
    world.sandboxes.killed.clear()


def assert_free(world: World) -> None:
    """Fails unless the next caller may have the session at once."""
    row = world.row()
    assert not row.is_claimed(world.clock())
    assert not (row.is_live(world.clock()) and row.is_busy(world.clock()))


# ── What a call costs ───────────────────────────────────────────────────────────────────────────────


def test_a_warm_call_takes_three_round_trips(world: World) -> None:
    world.run()
    world.calls()

    world.run()

    assert world.calls() == ["sandboxes.run", "store.claim", "store.release"]


def test_a_first_call_creates_beside_looking_files_up(world: World) -> None:
    world.run()

    assert world.calls() == [
        "catalog.of_chat",
        "sandboxes.create",
        "sandboxes.run",
        "store.activate",
        "store.begin",
        "store.claim",
        "store.release",
    ]


def test_e2bs_deadline_is_moved_when_the_session_would_outlive_it_and_only_then(world: World) -> None:
    world.run()
    moved: list[bool] = []
    for _ in range(12):
        world.clock.advance(MINUTE)
        world.calls()
        world.run()
        moved.append("sandboxes.extend" in world.calls())
        assert world.row().sandbox_until >= world.row().expires_at  # type: ignore[operator]

    assert 1 <= sum(moved) <= 3


def test_a_deadline_that_could_not_be_moved_does_not_cost_the_caller_the_result(world: World) -> None:
    world.run()
    world.clock.advance(10 * MINUTE)
    world.taps["sandboxes"].fail("extend", DOWN)

    reply = world.run("x")

    assert reply.outcome.outputs == [Stream("stdout", "x")]
    assert "sandbox.extend_failed" in world.events()
    assert world.row().sandbox_until < world.row().expires_at  # type: ignore[operator]


# ── What the caller is told ─────────────────────────────────────────────────────────────────────────


def test_the_first_call_of_a_chat_is_new_and_the_next_reuses_its_sandbox(world: World) -> None:
    first, second = world.run("a"), world.run("b")

    assert told(first) == ("new", 1, None)
    assert told(second) == ("reused", 1, None)
    assert first.sandbox == second.sandbox
    assert second.outcome == RunOutcome([Stream("stdout", "b")], RunEnd.FINISHED)
    assert second.expires_in == timedelta(minutes=30)


def test_a_call_after_the_expiry_says_that_state_was_lost(world: World) -> None:
    world.run()
    world.clock.advance(30 * MINUTE)

    reply = world.run()

    assert told(reply) == ("recreated", 2, EndReason.EXPIRED)
    world.close()
    assert world.sandboxes.killed == ["sbx1"]


def test_a_call_just_before_the_expiry_does_not(world: World) -> None:
    world.run()
    world.clock.advance(30 * MINUTE - timedelta(milliseconds=1))

    assert told(world.run()) == ("reused", 1, None)


def test_a_call_after_cleanup_says_that_state_was_lost(world: World) -> None:
    world.run()
    world.clock.advance(31 * MINUTE)
    world.cleanup(everything=False, time_left_s=lambda: 60)

    assert told(world.run()) == ("recreated", 2, EndReason.EXPIRED)


def test_a_call_after_a_close_is_new_for_its_caller_gave_the_state_up(world: World) -> None:
    world.run()
    world.sessions.close(CHAT)

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


# ── Sandboxes that vanish ───────────────────────────────────────────────────────────────────────────


def test_a_sandbox_that_is_gone_is_replaced_and_the_code_run_once(world: World) -> None:
    world.run()
    lose_sandbox(world)
    ran: list[str] = []
    world.sandboxes.program = lambda where, code: _ran(ran, where, code)

    reply = world.run("x = 1")

    assert told(reply) == ("recreated", 2, EndReason.SANDBOX_LOST)
    assert ran == ["sbx2: x = 1"]
    assert_free(world)


def _ran(ran: list[str], where: SandboxRef, code: str) -> RunOutcome:
    ran.append(f"{where.sandbox_id}: {code}")
    return RunOutcome([], RunEnd.FINISHED)


def test_two_sandboxes_that_vanish_in_a_row_are_told_and_the_session_is_free(world: World) -> None:
    world.taps["sandboxes"].fail("run", SandboxGone("sbx1"), SandboxGone("sbx2"))

    with pytest.raises(SandboxUnavailable, match="two sandboxes in a row"):
        world.run()

    assert_free(world)
    world.run()


def test_a_run_that_was_cut_off_is_not_repeated_and_its_session_is_free(world: World) -> None:
    world.sandboxes.program = lambda _, __: RunOutcome([Stream("stdout", "half")], RunEnd.SANDBOX_LOST)
    world.calls()

    reply = world.run()

    assert reply.outcome.end is RunEnd.SANDBOX_LOST
    assert world.calls().count("sandboxes.run") == 1
    assert_free(world)


# ── Failures: no code was run, and the session is free ──────────────────────────────────────────────


@pytest.mark.parametrize("error", [DOWN, CapacityExhausted("full"), NotConfigured("no key")], ids=str)
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "first call"])
def test_a_run_that_could_not_start_frees_the_session(world: World, error: SandkeeperError, warm: bool) -> None:
    if warm:
        world.run()
    world.taps["sandboxes"].fail("run", error)

    with pytest.raises(type(error)):
        world.run()

    assert_free(world)
    assert world.row().run_count == warm
    assert len(world.sandboxes.created) == 1


def test_after_a_failed_creation_the_next_caller_takes_over_at_once(world: World) -> None:
    world.taps["sandboxes"].fail("create", CapacityExhausted("full"))
    with pytest.raises(CapacityExhausted):
        world.run()
    left = world.row()
    assert_free(world)

    reply = world.run()

    assert (reply.session.claim_id, reply.session.generation) == (left.claim_id, left.generation)
    assert told(reply) == ("new", 1, None)


def test_what_a_dead_creator_made_becomes_the_chats_sandbox(world: World) -> None:
    """It died after E2B had made the sandbox, and before it could write that down."""
    world.taps["store"].fail("activate", StoreUnavailable("throttled"))
    with pytest.raises(StoreUnavailable):
        world.run()

    assert world.run().sandbox.sandbox_id == "sbx1"
    assert list(world.sandboxes.alive) == ["sbx1"]


def test_a_store_that_is_down_is_told_and_nothing_is_created(world: World) -> None:
    world.taps["store"].fail("claim", StoreUnavailable("throttled"))

    with pytest.raises(StoreUnavailable):
        world.run()

    assert world.sandboxes.created == {}


def test_a_release_that_fails_does_not_cost_the_caller_the_result(world: World) -> None:
    world.taps["store"].fail("release", StoreUnavailable("throttled"))

    reply = world.run("x")

    assert reply.outcome.outputs == [Stream("stdout", "x")]
    assert reply.expires_in > 29 * MINUTE
    assert "session.release_failed" in world.events()


def test_a_session_that_was_not_released_is_free_once_its_lease_is_over(world: World) -> None:
    world.taps["store"].fail("release", StoreUnavailable("throttled"))
    world.run(limit=timedelta(seconds=5))

    with pytest.raises(SessionBusy):
        world.run(on_busy="reject")
    world.clock.advance(timedelta(seconds=5 + 30 + 15))
    world.run(on_busy="reject")


def test_the_predecessor_that_cannot_be_killed_does_not_cost_the_caller_the_result(world: World) -> None:
    world.run()
    world.clock.advance(30 * MINUTE)
    world.taps["sandboxes"].fail("kill", DOWN)

    assert told(world.run())[0] == "recreated"
    world.close()
    assert "sandbox.kill_failed" in world.events()


def test_a_close_during_a_run_leaves_the_run_its_result_and_the_chat_no_sandbox(world: World) -> None:
    def close_meanwhile(where: SandboxRef, code: str) -> RunOutcome:
        world.sessions.close(CHAT)
        return RunOutcome([], RunEnd.SANDBOX_LOST)

    world.sandboxes.program = close_meanwhile

    assert world.run().outcome.end is RunEnd.SANDBOX_LOST
    assert world.row().state is SessionState.CLOSED
    assert world.sandboxes.alive == {}


# ── Lost claims ─────────────────────────────────────────────────────────────────────────────────────


def while_creating(world: World, meanwhile: Callable[[], Any]) -> None:
    """Lets something happen after E2B has made the first sandbox, and before its creator writes that down."""
    times = count()

    def create(spec: Any) -> SandboxRef:
        made = world.sandboxes.create(spec)
        if next(times) == 0:
            meanwhile()
        return made

    world.taps["sandboxes"].instead["create"] = create


def test_who_lost_its_claim_kills_what_it_made_and_starts_over(world: World) -> None:
    while_creating(world, lambda: world.sessions.close(CHAT))

    reply = world.run()

    assert world.sandboxes.killed == ["sbx1"]
    assert list(world.sandboxes.alive) == ["sbx2"] == [reply.sandbox.sandbox_id]


def test_who_lost_its_claim_leaves_the_sandbox_alone_that_the_winner_has(world: World) -> None:
    def take_over() -> None:
        row = world.row()
        free = replace(row, state=SessionState.READY, sandbox=sandbox("sbx1"), run_id=None, run_until=None)
        world.store.activate(free)

    while_creating(world, take_over)

    reply = world.run()

    assert world.sandboxes.killed == []
    assert reply.sandbox.sandbox_id == "sbx1"


def test_a_close_while_the_sandbox_is_made_leaves_nothing_running(world: World) -> None:
    """The session that was being created knows its predecessor's sandbox too: closing it ends both."""
    world.run()
    world.clock.advance(30 * MINUTE)
    dead = replace(world.row(), state=SessionState.CREATING, sandbox=None, predecessor_id="sbx1")
    world.store.begin(dead, seen=world.row())

    world.sessions.close(CHAT)

    assert world.sandboxes.alive == {}


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
    assert {reply.sandbox.sandbox_id for reply in replies} == {"sbx1"}
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


def test_the_limit_of_a_run_leaves_time_to_answer(world: World) -> None:
    limits: list[timedelta] = []

    def run(_: SandboxRef, __: str, *, timeout: timedelta) -> RunOutcome:
        limits.append(timeout)
        return RunOutcome([], RunEnd.FINISHED)

    world.taps["sandboxes"].instead["run"] = run
    world.run(limit=timedelta(seconds=5))
    world.run(limit=timedelta(hours=1))

    assert limits[0] == timedelta(seconds=5)
    assert limits[1] <= timedelta(seconds=27)


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
