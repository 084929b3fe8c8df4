"""`SessionStore`: what each write does to each row, on memory and on two DynamoDB emulators."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from sandkeeper.adapters.dynamodb import DynamoSessionStore
from sandkeeper.adapters.memory import MemorySessionStore
from sandkeeper.model import ChatKey, EndReason, Session, SessionState
from sandkeeper.ports import Granted, Refused, SessionStore
from tests.contract.conftest import Backend
from tests.factories import LEASE, SESSION_TIMEOUT, WINDOW, busy, closing, creating, idle, sandbox
from tests.world import CHAT, START

NOW = START
LATER = NOW + timedelta(seconds=7)
OWN = busy()
"""The session as `run-1`, which makes the writes below, last saw it."""

# Whatever is due at NOW is past: `_until` and `expires_at` name the first moment that is not theirs any more.
ROWS: dict[str, Session] = {
    "creating": creating(),
    "creator dead": creating(claim_until=NOW),
    "creator dead, expired": creating(claim_until=NOW, run_until=NOW, expires_at=NOW),
    "creating, expired": creating(run_until=NOW, expires_at=NOW),
    "creating after another": creating(claim_id="claim-2", generation=2),
    "taken over": creating(run_id="run-2"),
    "idle": idle(),
    "busy": busy(),
    "busy with another run": busy(run_id="run-2"),
    "busy in another generation": busy(claim_id="claim-2", generation=2),
    "runner dead": busy(run_until=NOW),
    "expired": idle(expires_at=NOW),
    "expired, runner dead": busy(run_until=NOW, expires_at=NOW),
    "expired, busy": busy(expires_at=NOW),
    "closing": closing(),
    "closing another": closing(claim_id="claim-2", generation=2),
    "closer dead": closing(claim_until=NOW),
    "expiring, cleaner dead": closing(claim_until=NOW, run_id=None, run_until=None, end_reason=EndReason.EXPIRED),
}
NO_SESSION = {"absent", "closed"}
CLOSING = {"closing", "closing another"}


def release(store: SessionStore, session: Session) -> bool:
    """Gives the session back after a run that put a file into its sandbox."""
    return store.release(
        session,
        now=LATER,
        ran=True,
        expires_at=LATER + SESSION_TIMEOUT,
        sandbox_until=LATER,
        hydrated={"file-1": "/home/user/a.csv"},
    )


Write = Callable[[SessionStore], Granted | Refused | bool | None]
WRITES: dict[str, Write] = {
    "claim": lambda store: store.claim(
        CHAT, run_id="run-3", now=NOW, run_until=NOW + LEASE, expires_at=NOW + SESSION_TIMEOUT
    ),
    "activate": lambda store: store.activate(OWN),
    "abandon": lambda store: store.abandon(OWN, now=LATER),
    "release": lambda store: release(store, OWN),
    "begin_close": lambda store: store.begin_close(CHAT, now=NOW, claim_until=NOW + WINDOW),
    "begin_expire": lambda store: store.begin_expire(CHAT, now=NOW, claim_until=NOW + WINDOW),
    "end": lambda store: store.end(OWN, forget_at=NOW + timedelta(days=30)),
}
ALLOWED: dict[str, set[str]] = {
    "claim": {"idle", "runner dead"},
    "activate": {"creating", "creator dead", "creator dead, expired", "creating, expired", "taken over"},
    "abandon": {"creating", "creator dead", "creator dead, expired", "creating, expired"},
    "release": {"busy", "runner dead", "expired, runner dead", "expired, busy"},
    "begin_close": set(ROWS) - CLOSING,
    "begin_expire": {
        "creator dead, expired",
        "expired",
        "expired, runner dead",
        "closer dead",
        "expiring, cleaner dead",
    },
    "end": {"closing", "closer dead", "expiring, cleaner dead"},
}
CASES = [(write, row) for write in WRITES for row in [*ROWS, *sorted(NO_SESSION)]]


def arrange(store: SessionStore, row: Session) -> Session:
    """Writes the row, whatever its state, and returns it as the store tells it."""
    assert isinstance(store.begin(row, seen=store.read(row.key)), Granted)
    return read(store, row.key)


def arrange_closed(store: SessionStore, session: Session | None = None) -> Session:
    """Leaves a closed session behind, and returns its row."""
    row = arrange(store, session or closing(end_reason=EndReason.CLOSED))
    assert store.end(row, forget_at=NOW + timedelta(days=30))
    return read(store, row.key)


def read(store: SessionStore, key: ChatKey = CHAT) -> Session:
    """Returns the row, which must be there."""
    row = store.read(key)
    assert row is not None
    return row


def granted(outcome: Granted | Refused) -> Session:
    """Returns the row that a granted write left."""
    assert isinstance(outcome, Granted), outcome
    return outcome.session


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
        written = replace(ROWS[name], run_count=3, predecessor_id="sbx0", hydrated={"f": "/home/user/ü, b.csv"})

        assert arrange(store, written) == written

    @pytest.mark.parametrize("owner", ["auth0|x", "a#b", ".", "..", "#", "two words", "žluťoučký 🐎", "a/b%2F+c"])
    def test_owners_of_any_name_have_chats_of_their_own(self, store: SessionStore, owner: str) -> None:
        theirs = ChatKey(owner, CHAT.chat_id)
        arrange(store, idle())
        arrange(store, idle(key=theirs, expires_at=NOW))

        assert read(store, theirs).key == theirs
        assert list(store.expired(now=NOW)) == [theirs]
        assert Counter(store.live()) == Counter([CHAT, theirs])

    def test_an_owner_that_looks_like_a_chat_is_another_one(self, store: SessionStore) -> None:
        arrange(store, idle(key=ChatKey("a", "b")))

        assert store.read(ChatKey("a#b", "b")) is None
        assert store.read(ChatKey("", "b")) is None

    # ── Claim and release ───────────────────────────────────────────────────────────────────────────

    def test_of_64_claims_at_once_one_is_granted(self, store: SessionStore) -> None:
        arrange(store, idle())

        def claim(number: int) -> Granted | Refused:
            return store.claim(
                CHAT,
                run_id=f"run-{number}",
                now=NOW,
                run_until=NOW + LEASE,
                expires_at=NOW + SESSION_TIMEOUT,
            )

        with ThreadPoolExecutor(32) as threads:
            outcomes = list(threads.map(claim, range(64)))

        (winner,) = [outcome.session for outcome in outcomes if isinstance(outcome, Granted)]
        assert read(store) == winner
        assert all(outcome.seen == winner for outcome in outcomes if isinstance(outcome, Refused))

    def test_a_claim_takes_the_lease_and_pushes_the_expiry_and_nothing_else(self, store: SessionStore) -> None:
        before = arrange(store, idle(run_count=2, hydrated={"f": "/home/user/f"}))

        claimed = granted(
            store.claim(
                CHAT,
                run_id="run-3",
                now=LATER,
                run_until=LATER + LEASE,
                expires_at=LATER + SESSION_TIMEOUT,
            )
        )

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

        released = store.release(
            before,
            now=LATER,
            ran=ran,
            expires_at=LATER + SESSION_TIMEOUT,
            sandbox_until=LATER + LEASE,
            hydrated={"file-1": "/home/user/a.csv"},
        )

        assert released
        assert read(store) == replace(
            before,
            run_id=None,
            run_until=None,
            last_used_at=LATER,
            expires_at=LATER + SESSION_TIMEOUT,
            sandbox_until=LATER + LEASE,
            hydrated={"old": "/home/user/old", "file-1": "/home/user/a.csv"},
            run_count=runs,
        )

    def test_a_release_adds_files_of_any_number_and_name(self, store: SessionStore) -> None:
        before = arrange(store, busy())
        files = {f"file-{number}.x y#": f"/home/user/{number}" for number in range(60)}

        assert store.release(
            before,
            now=LATER,
            ran=True,
            expires_at=LATER + SESSION_TIMEOUT,
            sandbox_until=LATER,
            hydrated=files,
        )

        assert read(store).hydrated == files

    def test_a_released_session_can_be_claimed_at_once(self, store: SessionStore) -> None:
        arrange(store, busy())

        WRITES["release"](store)

        assert isinstance(WRITES["claim"](store), Granted)

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

    # ── Begin, activate, abandon ────────────────────────────────────────────────────────────────────

    def test_of_64_first_calls_at_once_one_begins(self, store: SessionStore) -> None:
        sessions = [creating(claim_id=f"claim-{number}", run_id=f"run-{number}") for number in range(64)]

        with ThreadPoolExecutor(32) as threads:
            outcomes = list(threads.map(lambda session: store.begin(session, seen=None), sessions))

        (winner,) = [outcome.session for outcome in outcomes if isinstance(outcome, Granted)]
        assert all(outcome.seen == winner for outcome in outcomes if isinstance(outcome, Refused))

    def test_of_16_take_overs_at_once_one_is_granted(self, store: SessionStore) -> None:
        dead = arrange(store, creating(claim_until=NOW))
        sessions = [creating(run_id=f"run-{number}", expires_at=LATER + SESSION_TIMEOUT) for number in range(2, 18)]

        with ThreadPoolExecutor(16) as threads:
            outcomes = list(threads.map(lambda session: store.begin(session, seen=dead), sessions))

        (winner,) = [outcome.session for outcome in outcomes if isinstance(outcome, Granted)]
        assert winner.claim_id == dead.claim_id
        assert read(store) == winner

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
        assert list(store.live()) == [CHAT]

    def test_activation_writes_the_sandbox_and_keeps_the_lease(self, store: SessionStore) -> None:
        arrange(store, creating(predecessor_id="sbx0"))

        assert store.activate(busy()) == Granted(busy())
        assert read(store) == busy()

    def test_once_whoever_took_over_has_activated_the_first_creator_may_not(self, store: SessionStore) -> None:
        arrange(store, creating(run_id="run-2"))
        winner = granted(store.activate(busy(run_id="run-2")))

        assert store.activate(busy(run_id="run-1")) == Refused(winner)
        assert read(store) == winner

    def test_a_creator_whose_generation_is_past_may_not_activate(self, store: SessionStore) -> None:
        row = arrange(store, creating(claim_id="claim-2", generation=2))

        assert store.activate(busy()) == Refused(row)

    def test_an_abandoned_claim_is_free_at_once_under_the_same_id(self, store: SessionStore) -> None:
        session = arrange(store, creating())

        store.abandon(session, now=LATER)

        row = read(store)
        assert row == replace(session, claim_until=LATER)
        assert not row.is_claimed(LATER)

    # ── Ending ──────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("name", sorted(ALLOWED["begin_close"]))
    def test_a_close_is_due_at_once_and_says_why(self, store: SessionStore, name: str) -> None:
        before = arrange(store, ROWS[name])

        after = granted(store.begin_close(CHAT, now=LATER, claim_until=LATER + WINDOW))

        assert (after.state, after.end_reason) == (SessionState.CLOSING, EndReason.CLOSED)
        assert (after.expires_at, after.claim_until) == (LATER, LATER + WINDOW)
        assert (after.sandbox, after.claim_id, after.generation) == (
            before.sandbox,
            before.claim_id,
            before.generation,
        )
        assert list(store.expired(now=LATER)) == [CHAT]

    @pytest.mark.parametrize("name", sorted(ALLOWED["begin_expire"]))
    def test_an_expiry_says_why_unless_another_reason_was_given_before(
        self, store: SessionStore, name: str
    ) -> None:
        before = arrange(store, ROWS[name])

        after = granted(store.begin_expire(CHAT, now=NOW, claim_until=NOW + WINDOW))

        kept = before.state is SessionState.CLOSING
        assert after.state is SessionState.CLOSING
        assert after.end_reason == (before.end_reason if kept else EndReason.EXPIRED)
        assert after.claim_until == NOW + WINDOW

    def test_what_its_closer_left_is_taken_up_by_cleanup_also_in_the_middle_of_a_run(
        self, store: SessionStore
    ) -> None:
        """A run may be leased for longer than its closer's window: nobody waits for it any more."""
        arrange(store, closing(claim_until=NOW, run_until=NOW + timedelta(hours=1), end_reason=EndReason.CLOSED))

        after = granted(store.begin_expire(CHAT, now=NOW, claim_until=NOW + WINDOW))

        assert after.end_reason is EndReason.CLOSED

    def test_of_16_closers_at_once_one_is_granted(self, store: SessionStore) -> None:
        arrange(store, busy())

        with ThreadPoolExecutor(16) as threads:
            outcomes = list(threads.map(lambda _: WRITES["begin_close"](store), range(16)))

        assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 1

    def test_the_end_leaves_a_row_that_knows_no_sandbox_and_is_in_no_index(self, store: SessionStore) -> None:
        full = closing(hydrated={"f": "/f"}, predecessor_id="sbx0", end_reason=EndReason.EXPIRED, run_count=4)

        row = arrange_closed(store, full)

        assert row == replace(
            full,
            state=SessionState.CLOSED,
            claim_until=None,
            sandbox=None,
            sandbox_until=None,
            run_id=None,
            run_until=None,
            hydrated={},
            predecessor_id=None,
        )
        assert list(store.live()) == []
        assert list(store.expired(now=NOW + timedelta(days=365))) == []

    # ── Finding what is due ─────────────────────────────────────────────────────────────────────────

    def test_what_is_due_is_found_among_many_and_only_that(self, store: SessionStore) -> None:
        due = [ChatKey("alice", f"due-{number}") for number in range(120)]
        not_due = [ChatKey("bob", f"live-{number}") for number in range(40)]
        moment = timedelta(milliseconds=1)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda key: arrange(store, idle(key=key, expires_at=NOW)), due))
            list(threads.map(lambda key: arrange(store, idle(key=key, expires_at=NOW + moment)), not_due))

        assert Counter(store.expired(now=NOW)) == Counter(due)
        assert Counter(store.live()) == Counter([*due, *not_due])

    def test_sessions_in_every_state_but_closed_are_live(self, store: SessionStore) -> None:
        for number, row in enumerate([creating(), busy(), idle(), closing()]):
            arrange(store, replace(row, key=ChatKey("alice", f"chat-{number}")))
        arrange_closed(store, closing(key=ChatKey("alice", "closed")))

        assert Counter(key.chat_id for key in store.live()) == Counter(f"chat-{number}" for number in range(4))


class TestInMemory(SessionStoreContract):
    @pytest.fixture
    def store(self) -> SessionStore:
        return MemorySessionStore()


class TestOnMoto(SessionStoreContract):
    @pytest.fixture
    def store(self, moto: Backend) -> SessionStore:
        return DynamoSessionStore(moto.table)


class TestOnMinistack(SessionStoreContract):
    @pytest.fixture
    def store(self, ministack: Backend) -> SessionStore:
        return DynamoSessionStore(ministack.table)


@pytest.mark.parametrize("emulator", ["moto", "ministack"])
def test_what_is_due_is_found_on_every_page_of_an_index(emulator: str, request: pytest.FixtureRequest) -> None:
    """A page of a query ends at 1 MB. Rows this large in one shard fill several."""
    store = DynamoSessionStore(request.getfixturevalue(emulator).table)
    files = {str(number): "/home/user/" + "x" * 1000 for number in range(300)}
    keys = _chats_of_one_shard(6)
    for key in keys:
        arrange(store, idle(key=key, expires_at=NOW, hydrated=files, sandbox=sandbox("s")))

    assert Counter(store.expired(now=NOW)) == Counter(keys)


def _chats_of_one_shard(count: int) -> list[ChatKey]:
    from sandkeeper.adapters.dynamodb.items import expiry_shard  # noqa: PLC0415 - the one case that looks inside

    keys = [ChatKey("alice", f"chat-{number}") for number in range(count * 40)]
    return [key for key in keys if expiry_shard(key) == expiry_shard(keys[0])][:count]
