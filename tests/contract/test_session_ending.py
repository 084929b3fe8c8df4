"""`SessionStore`: how sessions end: closed, expired, ended."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.model import EndReason, SessionState
from sandkeeper.ports import Granted, Refused, SessionStore
from tests.contract.sessions import (
    ALLOWED,
    LATER,
    NOW,
    ROWS,
    InMemory,
    OnMinistack,
    OnMoto,
    arrange,
    arrange_closed,
    at_once,
    begin_close,
    begin_expire,
    claim,
    due,
    granted,
    live,
    read,
    winner,
)
from tests.factories import WINDOW, busy, closing, idle
from tests.world import CHAT


class SessionEndingContract:
    """The cases; a subclass gives `store`."""

    @pytest.mark.parametrize("name", sorted(ALLOWED["begin_close"]))
    def test_a_close_is_due_at_once_and_says_why(self, store: SessionStore, name: str) -> None:
        before = arrange(store, ROWS[name])

        after = granted(store.begin_close(CHAT, now=LATER, claim_until=LATER + WINDOW))

        assert after == replace(
            before,
            state=SessionState.CLOSING,
            end_reason=EndReason.CLOSED,
            expires_at=LATER,
            claim_until=LATER + WINDOW,
        )
        assert due(store, days=1) == [CHAT]

    def test_a_close_by_force_says_so(self, store: SessionStore) -> None:
        arrange(store, busy())

        outcome = store.begin_close(CHAT, now=NOW, claim_until=NOW + WINDOW, reason=EndReason.FORCED)

        assert granted(outcome).end_reason is EndReason.FORCED

    @pytest.mark.parametrize("name", sorted(ALLOWED["begin_expire"]))
    def test_an_expiry_says_why_unless_another_reason_was_given_before(
        self, store: SessionStore, name: str
    ) -> None:
        before = arrange(store, ROWS[name])

        after = granted(begin_expire(store))

        kept = before.state is SessionState.CLOSING
        assert after.state is SessionState.CLOSING
        assert after.end_reason == (before.end_reason if kept else EndReason.EXPIRED)
        assert after.claim_until == NOW + WINDOW

    def test_what_its_closer_left_is_taken_up_by_cleanup_also_in_the_middle_of_a_run(
        self, store: SessionStore
    ) -> None:
        """A run's call may attend to it for longer than its closer's window: nobody waits for it any more."""
        arrange(store, closing(claim_until=NOW, run_until=NOW + timedelta(hours=1), end_reason=EndReason.CLOSED))

        assert granted(begin_expire(store)).end_reason is EndReason.CLOSED

    def test_an_expired_session_is_ended_though_a_run_has_it(self, store: SessionStore) -> None:
        """Every claim pushes the expiry beyond its run's limit: a run that is left by then has been forgotten."""
        before = arrange(store, busy(expires_at=NOW))

        after = granted(begin_expire(store))

        assert (after.state, after.run_id, after.sandbox) == (SessionState.CLOSING, "run-1", before.sandbox)
        assert claim(store) == Refused(after)

    def test_of_16_closers_at_once_one_is_granted(self, store: SessionStore) -> None:
        arrange(store, busy())

        won = winner(at_once([*range(16)], lambda _: begin_close(store)))

        assert read(store) == won

    def test_of_a_claim_and_an_expiry_at_once_one_is_granted(self, store: SessionStore) -> None:
        """One clock is a moment behind, the other a moment ahead: by each, the session is its own."""
        moment = timedelta(milliseconds=1)
        arrange(store, idle(expires_at=NOW))

        def attempt(number: int) -> Granted | Refused:
            return claim(store, f"run-{number}", at=-moment) if number % 2 else begin_expire(store, at=moment)

        won = winner(at_once([*range(16)], attempt))

        assert read(store) == won

    def test_the_end_leaves_a_row_that_knows_no_sandbox_and_is_in_no_index(self, store: SessionStore) -> None:
        full = closing(
            hydrated={"f": "/f"},
            fresh_files=frozenset({"f"}),
            predecessor_id="sbx0",
            end_reason=EndReason.EXPIRED,
            run_count=4,
            untold=EndReason.RESTARTED,
        )

        row = arrange_closed(store, full)

        assert row == replace(
            full,
            state=SessionState.CLOSED,
            claim_until=None,
            sandbox=None,
            pauses_at=None,
            run_id=None,
            run_until=None,
            hydrated={},
            fresh_files=frozenset(),
            predecessor_id=None,
        )
        assert live(store) == due(store, days=365) == []
        assert store.count_owned(CHAT.owner, now=NOW) == 0

    def test_the_end_of_another_claim_is_none(self, store: SessionStore) -> None:
        row = arrange(store, closing(claim_id="claim-2"))

        assert not store.end(closing(), forget_at=LATER)
        assert read(store) == row


class TestInMemory(InMemory, SessionEndingContract):
    pass


class TestOnMoto(OnMoto, SessionEndingContract):
    pass


class TestOnMinistack(OnMinistack, SessionEndingContract):
    pass
