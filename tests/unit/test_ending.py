"""How sessions end, and what is told of one meanwhile."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from sandkeeper.errors import SandboxUnavailable
from sandkeeper.http.schemas import StatusReply
from sandkeeper.model import EndReason, Session, SessionState
from sandkeeper.ports import Refused
from sandkeeper.services.ending import Ending
from tests.factories import closing, creating, idle, sandbox, unreadable
from tests.world import CHAT, START, World

MINUTE = timedelta(minutes=1)


def test_a_live_session_is_told_with_what_is_left_of_it(world: World) -> None:
    world.run()
    world.clock.advance(10 * MINUTE)

    status = StatusReply.of(world.wiring.control.find(CHAT))

    assert status == StatusReply(exists=True, sandbox_id="sbx1", expires_in=20 * 60_000)


@pytest.mark.parametrize(
    "row",
    [idle(expires_at=START), creating(), closing(), unreadable()],
    ids=["expired", "creating", "closing", "unreadable"],
)
def test_a_session_that_no_call_would_get_is_not_told(world: World, row: Session) -> None:
    world.store.begin(row, seen=None)

    status = StatusReply.of(world.wiring.control.find(CHAT))

    assert status == StatusReply(exists=False, sandbox_id=None, expires_in=None)


def test_closing_ends_the_sandbox_and_closing_again_does_nothing(world: World) -> None:
    world.run()

    assert world.sessions.ending.close(CHAT)
    assert not world.sessions.ending.close(CHAT)

    assert world.sandboxes.killed == ["sbx1"]
    assert world.wiring.control.find(CHAT) is None


def test_closing_ends_a_paused_sandbox_too(world: World) -> None:
    world.run()
    world.pause_sandbox()

    world.sessions.ending.close(CHAT)

    assert world.sandboxes.killed == ["sbx1"]
    assert world.sandboxes.paused == set()


def test_closing_a_chat_that_never_was_leaves_no_row(world: World) -> None:
    assert not world.sessions.ending.close(CHAT)

    assert world.store.read(CHAT) is None


def test_a_sandbox_that_cannot_be_killed_now_is_killed_by_cleanup_later(world: World) -> None:
    world.run()
    world.taps["sandboxes"].fail("kill", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        world.sessions.ending.close(CHAT)
    assert list(world.sandboxes.alive) == ["sbx1"]

    world.clock.advance(5 * MINUTE)
    world.cleanup(everything=False, time_left_s=lambda: 60)

    assert world.sandboxes.alive == {}
    assert world.row().end_reason is EndReason.CLOSED


def test_closing_what_was_to_replace_a_sandbox_ends_that_one(world: World) -> None:
    world.run()
    dead = creating(predecessor_id="sbx1")
    world.store.begin(dead, seen=world.row())

    world.sessions.ending.close(CHAT)

    assert world.sandboxes.alive == {}


def test_a_closed_session_knows_no_sandbox_any_more(world: World) -> None:
    world.add_file("a.csv", b"a")
    world.run()

    world.sessions.ending.close(CHAT)

    row = world.row()
    assert (row.state, row.sandbox, row.pauses_at, row.hydrated) == (SessionState.CLOSED, None, None, {})


# ── Rows that nobody can read ───────────────────────────────────────────────────────────────────────


def close(ending: Ending) -> bool:
    """Ends the session as a caller would."""
    return ending.close(CHAT)


def force(ending: Ending) -> bool:
    """Ends the session as an operator would."""
    return ending.close(CHAT, EndReason.FORCED)


def expire(ending: Ending) -> bool:
    """Ends the session as cleanup would."""
    return ending.expire(CHAT)


@pytest.mark.parametrize("end", [close, force, expire])
def test_an_unreadable_row_is_ended_and_the_sandbox_killed_that_it_told_of(
    world: World, end: Callable[[Ending], bool]
) -> None:
    world.sandboxes.alive["sbx7"] = {}
    world.store.begin(unreadable(), seen=None)

    assert end(world.sessions.ending)

    assert world.sandboxes.killed == ["sbx7"]
    row = world.row()
    assert (row.state, row.unreadable, row.predecessor_id) == (SessionState.CLOSED, False, None)
    assert row.claim_id, "a row of ours has one"
    assert row.end_reason is EndReason.SANDBOX_LOST, "its next caller is told that state was lost"


@pytest.mark.parametrize("end", [close, expire])
def test_an_unreadable_row_whose_sandbox_cannot_be_killed_now_is_left_to_cleanup(
    world: World, end: Callable[[Ending], bool]
) -> None:
    world.sandboxes.alive["sbx7"] = {}
    world.store.begin(unreadable(), seen=None)
    world.taps["sandboxes"].fail("kill", SandboxUnavailable("down"))
    with pytest.raises(SandboxUnavailable):
        end(world.sessions.ending)

    world.clock.advance(MINUTE)
    world.cleanup(everything=False, time_left_s=lambda: 60)

    assert world.sandboxes.alive == {}


def test_an_unreadable_row_that_was_replaced_meanwhile_is_left_alone(world: World) -> None:
    row = unreadable()
    world.store.begin(row, seen=None)
    successor = idle(sandbox=sandbox("sbx8"))

    def refuse(*_: object, **__: object) -> Refused:
        world.store.begin(successor, seen=row)
        return Refused(row)

    world.taps["store"].instead["begin_close"] = refuse

    assert not world.sessions.ending.close(CHAT)

    assert world.row() == successor
