"""`SessionStore`: begin, activate, abandon."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.model import ALL_FILES, EndReason
from sandkeeper.ports import Granted, Refused, SessionStore
from tests.contract.sessions import (
    LATER,
    NOW,
    ROWS,
    InMemory,
    OnMinistack,
    OnMoto,
    arrange,
    arrange_closed,
    at_once,
    granted,
    live,
    read,
    winner,
)
from tests.factories import SESSION_TIMEOUT, WINDOW, busy, creating, idle
from tests.world import CHAT


class SessionBeginningContract:
    """The cases; a subclass gives `store`."""

    def test_of_64_first_calls_at_once_one_begins(self, store: SessionStore) -> None:
        sessions = [creating(claim_id=f"claim-{number}", run_id=f"run-{number}") for number in range(64)]

        outcomes = at_once(sessions, lambda session: store.begin(session, seen=None))

        won = winner(outcomes)
        assert all(outcome.seen == won for outcome in outcomes if isinstance(outcome, Refused))

    def test_of_16_take_overs_at_once_one_is_granted(self, store: SessionStore) -> None:
        dead = arrange(store, creating(claim_until=NOW))
        sessions = [creating(run_id=f"run-{number}", expires_at=LATER + SESSION_TIMEOUT) for number in range(2, 18)]

        won = winner(at_once(sessions, lambda session: store.begin(session, seen=dead)))

        assert won.claim_id == dead.claim_id
        assert read(store) == won

    def test_of_two_take_overs_by_clocks_that_differ_one_is_granted(self, store: SessionStore) -> None:
        dead = arrange(store, creating(claim_until=NOW))

        def begun(seconds: int) -> Granted | Refused:
            now = NOW + timedelta(seconds=seconds)
            own = creating(
                run_id=f"run-{seconds}", claim_until=now + WINDOW, expires_at=now + SESSION_TIMEOUT, created_at=now
            )
            return store.begin(own, seen=dead)

        first, second = begun(-5), begun(5)

        assert second == Refused(granted(first))

    @pytest.mark.parametrize("name", sorted(set(ROWS) - {"expired"}))
    def test_a_row_that_has_changed_since_it_was_seen_is_not_replaced(self, store: SessionStore, name: str) -> None:
        row = arrange(store, replace(ROWS[name], expires_at=LATER))

        outcome = store.begin(creating(claim_id="claim-9"), seen=idle(expires_at=NOW))

        assert outcome == Refused(row)
        assert read(store) == row

    def test_a_session_does_not_begin_over_one_that_it_has_not_seen(self, store: SessionStore) -> None:
        row = arrange(store, idle())

        assert store.begin(creating(claim_id="claim-9"), seen=None) == Refused(row)

    def test_a_session_does_not_begin_over_a_row_that_is_gone(self, store: SessionStore) -> None:
        assert store.begin(creating(claim_id="claim-9"), seen=idle(expires_at=NOW)) == Refused(None)
        assert store.read(CHAT) is None

    def test_a_session_begins_over_the_closed_one_that_was_seen(self, store: SessionStore) -> None:
        closed = arrange_closed(store)
        again = creating(generation=2, claim_id="claim-2")

        assert store.begin(again, seen=closed) == Granted(again)
        assert live(store) == [CHAT]

    def test_nothing_of_the_session_before_is_left_in_the_one_that_begins(self, store: SessionStore) -> None:
        before = arrange(store, idle(expires_at=NOW, hydrated={"f": "/f"}, run_count=7, untold=EndReason.RESTARTED))
        begun = creating(generation=2, claim_id="claim-2", fresh_files=frozenset({ALL_FILES}))

        assert store.begin(begun, seen=before) == Granted(begun)
        assert read(store) == begun

    def test_activation_writes_the_sandbox_and_keeps_the_lease(self, store: SessionStore) -> None:
        arrange(store, creating(predecessor_id="sbx0"))

        assert store.activate(busy()) == Granted(busy())
        assert read(store) == busy()

    def test_once_whoever_took_over_has_activated_the_first_creator_may_not(self, store: SessionStore) -> None:
        arrange(store, creating(run_id="run-2"))
        won = granted(store.activate(busy(run_id="run-2")))

        assert store.activate(busy(run_id="run-1")) == Refused(won)
        assert read(store) == won

    def test_a_creator_whose_generation_is_past_may_not_activate(self, store: SessionStore) -> None:
        row = arrange(store, creating(claim_id="claim-2", generation=2))

        assert store.activate(busy()) == Refused(row)

    def test_an_abandoned_claim_is_free_at_once_under_the_same_id(self, store: SessionStore) -> None:
        session = arrange(store, creating())

        store.abandon(session, now=LATER)

        row = read(store)
        assert row == replace(session, claim_until=LATER)
        assert not row.is_claimed(LATER)


class TestInMemory(InMemory, SessionBeginningContract):
    pass


class TestOnMoto(OnMoto, SessionBeginningContract):
    pass


class TestOnMinistack(OnMinistack, SessionBeginningContract):
    pass
