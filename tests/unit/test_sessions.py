"""Getting hold of a session that others hold, and what a session's row says."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.errors import SessionBusy
from sandkeeper.model import EndReason, Session, SessionState, SessionStatus
from sandkeeper.ports import Granted, Refused
from sandkeeper.services.sessions import WAIT_RESERVE_S
from tests.factories import EPOCH, busy, closing, creating, idle, unreadable
from tests.world import CHAT, START, Patience, World, budget

SECOND = timedelta(seconds=1)


def acquire(world: World, patience: Patience, *, run_limit: timedelta = 5 * SECOND) -> Session:
    """Acquires the chat's session as a call would that may wait for ten seconds."""
    return world.sessions.acquire(
        CHAT, run_id="waiter", run_limit=run_limit, on_busy="wait", budget=patience.budget(10)
    )


def arrange(world: World, row: Session) -> Session:
    """Puts the row there, whatever was there."""
    world.store.begin(row, seen=world.store.read(row.key))
    return row


@pytest.mark.parametrize("row", [busy(), creating(), closing()], ids=["using", "creating", "closing"])
def test_a_caller_waits_until_its_budget_is_spent(world: World, patience: Patience, row: Session) -> None:
    hour = START + timedelta(hours=1)
    held = arrange(world, replace(row, run_until=hour, claim_until=row.claim_until and hour))

    with pytest.raises(SessionBusy) as refused:
        acquire(world, patience)

    assert world.row() == held, "nobody begins over a session that is held"
    assert sum(patience.slept) == pytest.approx(10 - WAIT_RESERVE_S)
    assert refused.value.retry_after_s
    assert len(patience.slept) < 60, "backing off, it asks ever less often"
    assert max(patience.slept) <= 0.8


def test_a_waiting_caller_gets_the_session_as_soon_as_it_sees_it_free(world: World, patience: Patience) -> None:
    row = arrange(world, busy())
    patience.events = [
        lambda: None,
        lambda: world.sessions.release(row, ran=True, hydrated={}),
    ]

    session = acquire(world, patience)

    assert (session.run_id, session.state) == ("waiter", SessionState.READY)
    assert len(patience.slept) == 2


def test_a_waiting_caller_gets_what_another_has_created(world: World, patience: Patience) -> None:
    arrange(world, creating())

    def create() -> None:
        world.store.activate(busy())
        world.sessions.release(busy(), ran=True, hydrated={})

    patience.events = [create]

    assert acquire(world, patience).sandbox == idle().sandbox


def test_a_waiting_caller_begins_once_the_session_has_been_closed(world: World, patience: Patience) -> None:
    row = arrange(world, closing(end_reason=EndReason.CLOSED))
    patience.events = [lambda: world.store.end(row, forget_at=START)]

    session = acquire(world, patience)

    assert (session.state, session.generation) == (SessionState.CREATING, 2)
    assert session.claim_id != row.claim_id


@pytest.mark.parametrize(
    "row", [busy(run_until=START + 2 * SECOND), creating(claim_until=START + 2 * SECOND)], ids=["runner", "creator"]
)
def test_a_waiting_caller_takes_over_from_one_that_died(world: World, patience: Patience, row: Session) -> None:
    arrange(world, row)

    session = acquire(world, patience)

    assert (session.claim_id, session.generation) == (row.claim_id, row.generation)
    assert 2 <= sum(patience.slept) < 3


def test_what_a_dead_closer_left_is_replaced_and_its_sandbox_killed(world: World, patience: Patience) -> None:
    arrange(world, closing(claim_until=START, end_reason=EndReason.EXPIRED))

    session = acquire(world, patience)

    assert (session.generation, session.predecessor_id) == (2, "sbx1")
    assert session.reset_reason is EndReason.EXPIRED


def test_a_take_over_keeps_what_the_dead_creator_had_yet_to_do(world: World, patience: Patience) -> None:
    dead = creating(claim_until=START, predecessor_id="sbx0", end_reason=EndReason.EXPIRED)
    arrange(world, dead)

    session = acquire(world, patience)

    assert (session.predecessor_id, session.end_reason) == (dead.predecessor_id, dead.end_reason)


@pytest.mark.parametrize("run_limit", [SECOND, 25 * SECOND])
def test_a_take_over_asks_for_the_very_sandbox_that_the_dead_creator_may_have_made(
    world: World, patience: Patience, run_limit: timedelta
) -> None:
    dead = arrange(world, creating(claim_until=START))
    made, _ = world.sessions.create_sandbox(dead, budget())

    session = acquire(world, patience, run_limit=run_limit)

    assert (session.claim_id, session.generation) == (dead.claim_id, dead.generation)
    assert world.sessions.create_sandbox(session, budget())[0] == made
    assert len(world.sandboxes.specs) == 1, "the specs are equal"


def test_who_is_overtaken_at_the_beginning_waits_for_the_winner(world: World, patience: Patience) -> None:
    winner = creating(run_id="winner")

    def begin_first(session: Session, *, seen: Session | None) -> Granted | Refused:
        del world.taps["store"].instead["begin"]
        world.store.begin(winner, seen=None)
        return world.store.begin(session, seen=seen)

    def finish() -> None:
        ready = busy(run_id="winner")
        world.store.activate(ready)
        world.sessions.release(ready, ran=True, hydrated={})

    world.taps["store"].instead["begin"] = begin_first
    patience.events = [lambda: None, finish]

    session = acquire(world, patience)

    assert (session.claim_id, session.run_id, session.sandbox) == (winner.claim_id, "waiter", busy().sandbox)


def test_a_new_generation_gets_a_sandbox_of_its_own(world: World) -> None:
    first, _ = world.sessions.create_sandbox(creating(claim_id="claim-1"), budget())

    assert world.sessions.create_sandbox(creating(claim_id="claim-2"), budget())[0] != first


def test_a_session_may_run_for_its_limit_before_it_is_taken_for_dead(world: World, patience: Patience) -> None:
    session = acquire(world, patience)
    assert session.run_until is not None
    assert session.run_until - world.clock() > 5 * SECOND
    assert session.expires_at - world.clock() == timedelta(minutes=30) + 5 * SECOND


# ── Rows that nobody can read ───────────────────────────────────────────────────────────────────────


def assert_replaces(session: Session) -> None:
    """Fails unless the session stands in for the unreadable one, whose sandbox is to be killed."""
    assert (session.state, session.generation, session.predecessor_id) == (SessionState.CREATING, 8, "sbx7")
    assert session.claim_id != unreadable().claim_id
    assert (session.status, session.reset_reason) == ("recreated", EndReason.SANDBOX_LOST)


def test_an_unreadable_row_is_replaced_and_told_as_a_loss(world: World, patience: Patience) -> None:
    arrange(world, unreadable())

    assert_replaces(acquire(world, patience))
    assert patience.slept == []


def test_a_claim_of_a_row_that_turns_out_to_be_unreadable_is_not_used(world: World, patience: Patience) -> None:
    row = arrange(world, unreadable())
    world.taps["store"].instead["claim"] = lambda *_, **__: Granted(row)

    assert_replaces(acquire(world, patience))


def test_a_row_that_becomes_unreadable_while_a_caller_waits_is_replaced(world: World, patience: Patience) -> None:
    arrange(world, busy())
    patience.events = [lambda: arrange(world, unreadable())]

    assert_replaces(acquire(world, patience))


# ── What a row says ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("run_count", "end_reason", "status", "reason"),
    [
        (0, None, "new", None),
        (0, EndReason.CLOSED, "new", None),
        (0, EndReason.EXPIRED, "recreated", EndReason.EXPIRED),
        (0, EndReason.SANDBOX_LOST, "recreated", EndReason.SANDBOX_LOST),
        (1, None, "reused", None),
        (1, EndReason.EXPIRED, "reused", None),
    ],
)
def test_the_status_tells_whether_earlier_state_is_there(
    run_count: int, end_reason: EndReason | None, status: SessionStatus, reason: EndReason | None
) -> None:
    session = busy(run_count=run_count, end_reason=end_reason)

    assert (session.status, session.reset_reason) == (status, reason)


@pytest.mark.parametrize("untold", [None, EndReason.RESTARTED, EndReason.KERNEL_DIED])
def test_what_a_run_was_told_unheard_is_a_reset_for_the_next_one(untold: EndReason | None) -> None:
    session = busy(run_count=1, untold=untold)

    assert (session.status, session.reset_reason) == ("reused", untold)


def test_a_session_is_in_use_until_its_run_has_been_seen_to_end() -> None:
    assert busy(run_until=EPOCH).is_busy
    assert not idle().is_busy


def test_every_until_names_the_first_moment_after() -> None:
    before = START - timedelta(milliseconds=1)

    assert idle(expires_at=START).is_live(before)
    assert not idle(expires_at=START).is_live(START)
    assert busy(run_until=START).is_attended(before)
    assert not busy(run_until=START).is_attended(START)
    assert creating(claim_until=START).is_claimed(before)
    assert not creating(claim_until=START).is_claimed(START)


def test_tokens_do_not_show_in_a_sessions_text() -> None:
    assert "token" not in repr(busy()).replace("_token", "")
