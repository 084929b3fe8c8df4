"""Getting hold of a session that others hold, and what a session's row says."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from sandkeeper.errors import SandboxUnavailable, SessionBusy
from sandkeeper.model import EndReason, Session, SessionState, SessionStatus
from sandkeeper.ports import SandboxGone
from sandkeeper.services.budget import Budget
from tests.factories import busy, closing, creating, idle
from tests.world import CHAT, START, World

SECOND = timedelta(seconds=1)


@dataclass
class Waiting:
    """A budget whose sleeps take no time: each moves the world's clock, and then something may happen."""

    world: World
    seconds: float = 10.0
    events: list[Callable[[], object]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    @property
    def budget(self) -> Budget:
        """The budget, as calls take it."""
        return Budget(self.seconds, monotonic=lambda: sum(self.slept), sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.world.clock.advance(timedelta(seconds=seconds))
        if self.events:
            self.events.pop(0)()

    def acquire(self) -> Session:
        """Acquires the chat's session as a call would that is ready to wait."""
        return self.world.sessions.acquire(
            CHAT, run_id="waiter", run_limit=5 * SECOND, on_busy="wait", budget=self.budget
        )


def arrange(world: World, row: Session) -> Session:
    """Puts the row there, whatever was there."""
    world.store.begin(row, seen=world.store.read(row.key))
    return row


@pytest.mark.parametrize("row", [busy(), creating(), closing()], ids=["using", "creating", "closing"])
def test_a_caller_waits_until_its_budget_is_spent(world: World, row: Session) -> None:
    arrange(world, replace(row, run_until=START + timedelta(hours=1), claim_until=START + timedelta(hours=1)))
    waiting = Waiting(world)

    with pytest.raises(SessionBusy) as refused:
        waiting.acquire()

    assert sum(waiting.slept) == pytest.approx(10)
    assert refused.value.retry_after_s
    assert len(waiting.slept) < 60, "backing off, it asks ever less often"
    assert max(waiting.slept) <= 0.8


def test_a_waiting_caller_gets_the_session_as_soon_as_it_sees_it_free(world: World) -> None:
    row = arrange(world, busy())
    waiting = Waiting(
        world,
        events=[
            lambda: None,
            lambda: world.sessions.release(row, ran=True, sandbox_until=None, hydrated={}),
        ],
    )

    session = waiting.acquire()

    assert (session.run_id, session.state) == ("waiter", SessionState.READY)
    assert len(waiting.slept) == 2


def test_a_waiting_caller_gets_what_another_has_created(world: World) -> None:
    arrange(world, creating())
    waiting = Waiting(world, events=[lambda: world.store.activate(idle())])

    assert waiting.acquire().sandbox == idle().sandbox


def test_a_waiting_caller_begins_once_the_session_has_been_closed(world: World) -> None:
    row = arrange(world, closing(end_reason=EndReason.CLOSED))
    waiting = Waiting(world, events=[lambda: world.store.end(row, forget_at=START)])

    session = waiting.acquire()

    assert (session.state, session.generation) == (SessionState.CREATING, 2)
    assert session.claim_id != row.claim_id


@pytest.mark.parametrize(
    "row", [busy(run_until=START + 2 * SECOND), creating(claim_until=START + 2 * SECOND)], ids=["runner", "creator"]
)
def test_a_waiting_caller_takes_over_from_one_that_died(world: World, row: Session) -> None:
    arrange(world, row)
    waiting = Waiting(world)

    session = waiting.acquire()

    assert (session.claim_id, session.generation) == (row.claim_id, row.generation)
    assert 2 <= sum(waiting.slept) < 3


def test_what_a_dead_closer_left_is_replaced_and_its_sandbox_killed(world: World) -> None:
    arrange(world, closing(claim_until=START, end_reason=EndReason.EXPIRED))

    session = Waiting(world).acquire()

    assert (session.generation, session.predecessor_id) == (2, "sbx1")
    assert session.reset_reason is EndReason.EXPIRED


def test_a_take_over_keeps_what_the_dead_creator_had_yet_to_do(world: World) -> None:
    dead = creating(claim_until=START, predecessor_id="sbx0", end_reason=EndReason.EXPIRED)
    arrange(world, dead)

    session = Waiting(world).acquire()

    assert (session.predecessor_id, session.end_reason) == (dead.predecessor_id, dead.end_reason)
    assert world.sessions.create_sandbox(session) == world.sessions.create_sandbox(dead)


def test_a_new_generation_gets_a_sandbox_of_its_own(world: World) -> None:
    first = world.sessions.create_sandbox(creating(claim_id="claim-1"))

    assert world.sessions.create_sandbox(creating(claim_id="claim-2")) != first


def test_a_session_may_run_for_its_limit_before_it_is_taken_for_dead(world: World) -> None:
    session = Waiting(world).acquire()
    assert session.run_until is not None
    assert session.run_until - world.clock() > 5 * SECOND
    assert session.expires_at - world.clock() == timedelta(minutes=30) + 5 * SECOND


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


def test_every_until_names_the_first_moment_after() -> None:
    before = START - timedelta(milliseconds=1)

    assert idle(expires_at=START).is_live(before)
    assert not idle(expires_at=START).is_live(START)
    assert busy(run_until=START).is_busy(before)
    assert not busy(run_until=START).is_busy(START)
    assert creating(claim_until=START).is_claimed(before)
    assert not creating(claim_until=START).is_claimed(START)


def test_tokens_do_not_show_in_a_sessions_text() -> None:
    assert "token" not in repr(busy()).replace("_token", "")


# ── Status and close ────────────────────────────────────────────────────────────────────────────────


def test_a_live_session_is_told_with_what_is_left_of_it(world: World) -> None:
    world.run()
    world.clock.advance(timedelta(minutes=10))

    info = world.sessions.info(CHAT)

    assert info is not None
    assert (info.sandbox_id, info.expires_in) == ("sbx1", timedelta(minutes=20))


@pytest.mark.parametrize(
    "row", [idle(expires_at=START), creating(), closing()], ids=["expired", "creating", "closing"]
)
def test_a_session_that_no_call_would_get_is_not_told(world: World, row: Session) -> None:
    arrange(world, row)

    assert world.sessions.info(CHAT) is None


def test_closing_ends_the_sandbox_and_closing_again_does_nothing(world: World) -> None:
    world.run()

    world.sessions.close(CHAT)
    world.sessions.close(CHAT)

    assert world.sandboxes.killed == ["sbx1"]
    assert world.sessions.info(CHAT) is None


def test_closing_a_chat_that_never_was_leaves_no_row(world: World) -> None:
    world.sessions.close(CHAT)

    assert world.store.read(CHAT) is None


def test_a_sandbox_that_cannot_be_killed_now_is_killed_by_cleanup_later(world: World) -> None:
    world.run()
    world.taps["sandboxes"].fail("kill", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        world.sessions.close(CHAT)
    assert list(world.sandboxes.alive) == ["sbx1"]

    world.clock.advance(timedelta(minutes=5))
    world.cleanup(everything=False, time_left_s=lambda: 60)

    assert world.sandboxes.alive == {}
    assert world.row().end_reason is EndReason.CLOSED


def test_extending_a_sandbox_that_is_gone_says_so(world: World) -> None:
    with pytest.raises(SandboxGone):
        world.sessions.extend(busy())
