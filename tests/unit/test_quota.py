"""How many live sessions an owner may have."""

from datetime import timedelta

import pytest

from sandkeeper.errors import QuotaExceeded
from sandkeeper.model import ChatKey, EndReason, Session
from tests.factories import closing, creating, idle
from tests.world import CHAT, OWNER, START, World, told

CAP = 3


@pytest.fixture
def capped(world: World) -> World:
    """Returns a service in which owners may have three live sessions."""
    world.configure(max_sessions_per_owner=CAP)
    return world


def chat(number: int, owner: str = OWNER) -> ChatKey:
    """Returns one of the owner's chats."""
    return ChatKey(owner, f"chat-{number}")


def fill(world: World, owner: str = OWNER) -> None:
    """Lets the owner have as many live sessions as it may, of which the first has been idle longest."""
    for number in range(CAP):
        world.run(key=chat(number, owner))
        world.clock.advance(timedelta(seconds=1))


def test_a_session_too_many_is_refused_and_nothing_is_begun(capped: World) -> None:
    fill(capped)

    with pytest.raises(QuotaExceeded):
        capped.run(key=chat(9))

    assert capped.store.read(chat(9)) is None
    assert len(capped.sandboxes.specs) == CAP


def test_the_refusal_names_the_cap_its_setting_and_the_sessions_idle_longest(world: World) -> None:
    world.configure(max_sessions_per_owner=5)
    for number in (4, 2, 0, 3, 1):
        world.run(key=chat(number))
        world.clock.advance(timedelta(seconds=1))

    with pytest.raises(QuotaExceeded) as refused:
        world.run(key=chat(9))

    assert "5 live sessions, which is the limit (MAX_SESSIONS_PER_OWNER)" in refused.value.detail
    assert "such as 'chat-4', 'chat-2', 'chat-0', or" in refused.value.detail
    assert refused.value.retry_after_s


def test_at_the_cap_what_is_there_can_be_used(capped: World) -> None:
    fill(capped)

    assert told(capped.run(key=chat(0))) == ("reused", 1, None)


def test_closing_one_makes_room(capped: World) -> None:
    fill(capped)
    capped.sessions.ending.close(chat(1))

    assert told(capped.run(key=chat(9))) == ("new", 1, None)


def test_one_that_expires_makes_room_before_cleanup_has_seen_it(capped: World) -> None:
    fill(capped)
    capped.clock.advance(timedelta(minutes=30) - CAP * timedelta(seconds=1))

    assert told(capped.run(key=chat(9))) == ("new", 1, None)


def test_other_owners_sessions_do_not_count(capped: World) -> None:
    fill(capped, "bob")
    fill(capped, "alice#2")

    fill(capped)

    assert len(capped.sandboxes.alive) == 3 * CAP


@pytest.mark.parametrize("idle_for", [timedelta(0), timedelta(minutes=6)], ids=["awake", "paused"])
def test_at_the_cap_a_lost_sandbox_is_replaced(capped: World, idle_for: timedelta) -> None:
    fill(capped)
    capped.lose_sandbox(chat(1))
    capped.clock.advance(idle_for)

    assert told(capped.run(key=chat(1))) == ("recreated", 2, EndReason.SANDBOX_LOST)


@pytest.mark.parametrize(
    "row",
    [
        idle(expires_at=START),
        creating(claim_until=START),
        creating(claim_until=START, expires_at=START),
        closing(claim_until=START),
    ],
    ids=["expired", "its creator died", "its creator died long ago", "its closer died"],
)
def test_below_the_cap_what_stands_in_for_another_is_begun(capped: World, row: Session) -> None:
    capped.store.begin(row, seen=None)
    for number in range(2, CAP + 1):
        capped.run(key=chat(number))

    assert capped.run(key=CHAT).execution.key == CHAT


def test_at_the_cap_a_session_that_has_expired_counts_no_more_and_needs_room_like_a_new_one(capped: World) -> None:
    capped.store.begin(idle(key=chat(9), expires_at=START), seen=None)
    fill(capped)

    with pytest.raises(QuotaExceeded):
        capped.run(key=chat(9))


def test_at_the_cap_a_dead_creators_claim_is_taken_over(capped: World) -> None:
    fill(capped)
    capped.store.begin(creating(claim_until=START), seen=capped.row(chat(1)))

    assert told(capped.run(key=chat(1)))[1] == 1


def test_counting_costs_a_warm_call_nothing(capped: World) -> None:
    capped.run()
    capped.calls()

    capped.run()

    assert "store.owned" not in capped.calls()
