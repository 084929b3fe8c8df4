"""`SessionStore`: what each write does to each row; claim and release, and what is noted in between."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.model import ChatKey, EndReason, Session
from sandkeeper.ports import Granted, Refused, SessionStore
from tests.contract.sessions import (
    ADDED,
    ALLOWED,
    CASES,
    LATER,
    NOW,
    ODD_OWNERS,
    ROWS,
    WRITES,
    InMemory,
    OnMinistack,
    OnMoto,
    arrange,
    arrange_closed,
    at_once,
    begin_expire,
    claim,
    due,
    granted,
    leave,
    live,
    read,
    release,
    winner,
)
from tests.factories import LEASE, SESSION_TIMEOUT, busy, creating, idle, sandbox
from tests.world import CHAT

SKEW = timedelta(seconds=5)


class SessionStoreContract:
    """The cases; a subclass gives `store`."""

    @pytest.mark.parametrize(("write", "name"), CASES)
    def test_a_write_changes_the_rows_that_it_may_and_no_others(
        self, store: SessionStore, write: str, name: str
    ) -> None:
        if name == "closed":
            before: Session | None = arrange_closed(store)
        else:
            before = arrange(store, ROWS[name]) if name in ROWS else None

        outcome = WRITES[write](store)

        after = store.read(CHAT)
        if isinstance(outcome, Granted):
            assert outcome.session == after, "a granted write returns the row after it"
        if isinstance(outcome, Refused):
            assert outcome.seen == before, "a refused write returns the row in its way"
        if isinstance(outcome, bool):
            assert outcome == (name in ALLOWED[write])
        assert (after != before) == (name in ALLOWED[write])

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────

    def test_a_chat_without_a_row_reads_as_none(self, store: SessionStore) -> None:
        assert store.read(CHAT) is None

    @pytest.mark.parametrize("name", ROWS)
    def test_a_row_reads_as_it_was_written(self, store: SessionStore, name: str) -> None:
        written = replace(
            ROWS[name],
            run_count=3,
            predecessor_id="sbx0",
            hydrated={"f": "/home/user/ü, b.csv"},
            untold=EndReason.KERNEL_DIED,
        )

        assert arrange(store, written) == written

    @pytest.mark.parametrize("owner", ODD_OWNERS)
    def test_owners_of_any_name_have_chats_of_their_own(self, store: SessionStore, owner: str) -> None:
        theirs = ChatKey(owner, CHAT.chat_id)
        arrange(store, idle())
        arrange(store, idle(key=theirs, expires_at=NOW))

        assert read(store, theirs).key == theirs
        assert due(store) == [theirs]
        assert {*live(store)} == {CHAT, theirs}

    def test_an_owner_that_looks_like_a_chat_is_another_one(self, store: SessionStore) -> None:
        arrange(store, idle(key=ChatKey("a", "b")))

        assert store.read(ChatKey("a#b", "b")) is None
        assert store.read(ChatKey("", "b")) is None

    # ── Claim and release ───────────────────────────────────────────────────────────────────────────

    def test_of_64_claims_at_once_one_is_granted(self, store: SessionStore) -> None:
        arrange(store, idle())
        runs = [f"run-{number}" for number in range(64)]

        outcomes = at_once(runs, lambda run_id: claim(store, run_id))

        won = winner(outcomes)
        assert read(store) == won
        assert all(outcome.seen == won for outcome in outcomes if isinstance(outcome, Refused))

    def test_a_claim_takes_the_lease_and_pushes_the_expiry_and_nothing_else(self, store: SessionStore) -> None:
        before = arrange(store, idle(run_count=2, hydrated={"f": "/home/user/f"}, untold=EndReason.RESTARTED))

        claimed = granted(claim(store, at=timedelta(seconds=7)))

        assert claimed == replace(
            before,
            run_id="run-3",
            run_until=LATER + LEASE,
            last_used_at=LATER,
            expires_at=LATER + SESSION_TIMEOUT,
        )

    @pytest.mark.parametrize(("ran", "runs"), [(True, 3), (False, 2)])
    def test_a_release_frees_the_session_and_counts_what_ran(
        self, store: SessionStore, ran: bool, runs: int
    ) -> None:
        before = arrange(store, busy(run_count=2, hydrated={"old": "/home/user/old"}))

        assert release(store, before, ran=ran)

        assert read(store) == replace(
            before,
            run_id=None,
            run_until=None,
            last_used_at=LATER,
            expires_at=LATER + SESSION_TIMEOUT,
            hydrated={"old": "/home/user/old", **ADDED},
            run_count=runs,
        )

    def test_a_release_adds_files_of_any_number_and_name(self, store: SessionStore) -> None:
        before = arrange(store, busy())
        files = {f"file-{number}.x y#": f"/home/user/{number}" for number in range(60)}

        assert store.release(before, now=LATER, ran=True, expires_at=LATER + SESSION_TIMEOUT, hydrated=files)

        assert read(store).hydrated == files

    def test_a_released_session_can_be_claimed_at_once(self, store: SessionStore) -> None:
        before = arrange(store, busy())

        release(store, before)

        assert isinstance(claim(store), Granted)

    @pytest.mark.parametrize("untold", [EndReason.RESTARTED, None])
    def test_what_a_run_leaves_to_be_told_is_told_until_another_run_has_ended(
        self, store: SessionStore, untold: EndReason | None
    ) -> None:
        """Whoever ends the lease of a run whose caller has not heard of a loss leaves it for the next caller."""
        before = arrange(store, busy(run_count=1, untold=EndReason.KERNEL_DIED))

        release(store, replace(before, untold=untold))
        assert read(store).reset_reason is untold

        claimed = granted(claim(store))
        assert claimed.reset_reason is untold
        release(store, replace(claimed, untold=None), ran=False)
        assert read(store).untold is untold, "nothing has been told by a call that ran nothing"
        release(store, replace(granted(claim(store)), untold=None))
        assert read(store).untold is None

    # ── Runs that nobody attends to ─────────────────────────────────────────────────────────────────

    def test_a_run_that_is_left_keeps_the_session_and_notes_its_files(self, store: SessionStore) -> None:
        arrange(store, busy(hydrated={"old": "/home/user/old"}))
        store.announce_file(CHAT, "seen")
        session = read(store)
        store.announce_file(CHAT, "unseen")

        assert leave(store, replace(session, run_count=9, expires_at=NOW))

        assert read(store) == replace(
            session,
            run_until=LATER,
            hydrated={"old": "/home/user/old", **ADDED},
            fresh_files=frozenset({"unseen"}),
        )

    def test_what_is_left_twice_is_left_and_a_run_that_was_left_can_be_released(self, store: SessionStore) -> None:
        before = arrange(store, busy())

        assert leave(store, before)
        assert leave(store, before)
        assert not read(store).is_attended(LATER)
        assert release(store, before)

        assert not read(store).is_busy
        assert not leave(store, before), "the lease is no longer this run's"

    def test_a_run_that_is_left_is_claimed_by_its_own_id_and_by_no_other(self, store: SessionStore) -> None:
        """A request that is repeated goes on where the one before it died; whoever else comes has to look first."""
        left = arrange(store, busy(run_until=NOW))

        assert claim(store, "run-2") == Refused(left)
        claimed = granted(claim(store, "run-1"))

        assert claimed == replace(left, run_until=NOW + LEASE, last_used_at=NOW, expires_at=NOW + SESSION_TIMEOUT)

    def test_of_16_claims_by_the_id_of_a_run_that_is_left_one_is_granted(self, store: SessionStore) -> None:
        arrange(store, busy(run_until=NOW))

        won = winner(at_once([*range(16)], lambda _: claim(store, "run-1")))

        assert read(store) == won

    # ── Clocks that differ ──────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("skew", [-SKEW, SKEW])
    def test_whose_clock_differs_takes_no_run_over_whose_call_may_still_attend_to_it(
        self, store: SessionStore, skew: timedelta
    ) -> None:
        """A call is taken for dead 15 s after its time is over: more than clocks may differ by."""
        call = timedelta(seconds=28)
        row = arrange(store, busy(run_until=NOW + call + timedelta(seconds=15)))

        assert claim(store, "run-1", at=call + skew) == Refused(row)

    @pytest.mark.parametrize(("skew", "wins"), [(-SKEW, "claim"), (SKEW, "expiry")])
    def test_a_session_that_is_just_due_is_used_or_ended_but_never_both(
        self, store: SessionStore, skew: timedelta, wins: str
    ) -> None:
        """Each compares the row with a clock of its own; once one has written, the other's clock is no excuse."""
        arrange(store, idle(expires_at=NOW))

        first = claim(store, at=skew) if wins == "claim" else begin_expire(store, at=skew)
        second = begin_expire(store, at=-skew) if wins == "claim" else claim(store, at=-skew)

        assert isinstance(first, Granted)
        assert second == Refused(first.session)

    # ── What is noted while a session lives ─────────────────────────────────────────────────────────

    @pytest.mark.parametrize("row", [idle(), busy()], ids=["idle", "busy"])
    def test_a_noted_sandbox_takes_the_place_of_what_the_row_said_of_it(
        self, store: SessionStore, row: Session
    ) -> None:
        before = arrange(store, row)
        told = replace(sandbox(), envd_version="0.9.0", envd_token="fresh", domain=None, traffic_token=None)

        assert store.note_sandbox(replace(before, sandbox=told, pauses_at=LATER, run_count=9))

        assert read(store) == replace(before, sandbox=told, pauses_at=LATER)

    def test_a_noted_deadline_alone_leaves_the_sandbox_as_it_is(self, store: SessionStore) -> None:
        """Whoever moves a deadline beside a run may know of coordinates that are out of date by then."""
        before = arrange(store, busy())

        assert store.note_sandbox(replace(before, sandbox=None, pauses_at=LATER))

        assert read(store) == replace(before, pauses_at=LATER)

    # ── Files ───────────────────────────────────────────────────────────────────────────────────────

    def test_a_release_forgets_the_fresh_files_that_the_call_has_seen_and_no_others(
        self, store: SessionStore
    ) -> None:
        arrange(store, busy())
        store.announce_file(CHAT, "seen")
        session = read(store)
        store.announce_file(CHAT, "unseen")

        assert release(store, session)

        assert read(store).fresh_files == {"unseen"}

    @pytest.mark.parametrize("name", ROWS)
    def test_a_file_is_announced_to_a_session_in_any_state(self, store: SessionStore, name: str) -> None:
        before = arrange(store, ROWS[name])

        for file_id in ("file-1", "file-2", "file-1"):
            store.announce_file(CHAT, file_id)

        assert read(store) == replace(before, fresh_files=frozenset({"file-1", "file-2"}))

    def test_a_chat_without_a_session_is_told_of_no_file(self, store: SessionStore) -> None:
        store.announce_file(CHAT, "file-1")

        assert store.read(CHAT) is None

    def test_a_file_that_is_announced_while_the_sandbox_is_made_is_not_lost(self, store: SessionStore) -> None:
        arrange(store, creating())
        store.announce_file(CHAT, "file-1")

        assert granted(store.activate(busy())).fresh_files == {"file-1"}

    def test_a_forgotten_file_is_no_longer_one_that_the_sandbox_has(self, store: SessionStore) -> None:
        before = arrange(store, idle(hydrated={"file-1": "/home/user/a", "file-2": "/home/user/b"}))

        store.forget_file(CHAT, "file-1")
        store.forget_file(CHAT, "file-1")
        store.forget_file(CHAT, "file-3")

        assert read(store) == replace(before, hydrated={"file-2": "/home/user/b"})

    def test_forgetting_a_file_makes_no_session(self, store: SessionStore) -> None:
        store.forget_file(CHAT, "file-1")

        assert store.read(CHAT) is None


class TestInMemory(InMemory, SessionStoreContract):
    pass


class TestOnMoto(OnMoto, SessionStoreContract):
    pass


class TestOnMinistack(OnMinistack, SessionStoreContract):
    pass
