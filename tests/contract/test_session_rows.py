"""`SessionStore` on rows that this code has not written: those of older versions, and those that are none."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sandkeeper.adapters.dynamodb import Table
from sandkeeper.adapters.dynamodb.items import claim_key, session_item, typed
from sandkeeper.model import ChatKey, EndReason, Session, SessionState
from sandkeeper.ports import Granted, Refused, SessionStore
from tests.contract.sessions import (
    LATER,
    NOW,
    OnMinistack,
    OnMoto,
    at_once,
    begin_close,
    begin_expire,
    claim,
    due,
    granted,
    live,
    read,
    release,
    winner,
)
from tests.factories import WINDOW, busy, closing, creating, idle
from tests.world import CHAT, OWNER

MISSING: Any = object()

BROKEN: dict[str, Mapping[str, Any]] = {
    "no state": {"state": MISSING},
    "a state that there is not": {"state": "foo"},
    "a state that is a list": {"state": ["ready"]},
    "a generation that is text": {"generation": "two"},
    "no generation": {"generation": MISSING},
    "a generation below zero": {"generation": -1},
    "no expiry": {"expiresAt": MISSING},
    "an expiry beyond all times": {"expiresAt": 10**17},
    "no claim id": {"claimId": MISSING},
    "a claim id that is a number": {"claimId": 7},
    "a claim id that is null": {"claimId": None},
    "files that are text": {"hydrated": "/home/user/a.csv"},
    "fresh files that are a list": {"freshFiles": ["file-1"]},
    "a claim window that is a list": {"claimUntil": [1, 2]},
    "a lease that is text": {"runId": "run-1", "runUntil": "tomorrow"},
    "a run without a lease": {"runId": "run-1"},
    "a deadline that is a map": {"pausesAt": {"at": 1}},
    "a run count that is text": {"runCount": "3"},
    "a loss to tell that there is not": {"untold": "boredom"},
    "a run count to which nothing can be added": {"runCount": 10**37},
    "a sandbox id that is a number": {"sandboxId": 5},
    "no sandbox": {"sandboxId": MISSING},
    "a creator whose claim never ends": {"state": "creating"},
    "a reason that there is not": {"endReason": "boredom"},
    "nothing but its key": dict.fromkeys(session_item(busy()), MISSING),
}


def put(table: Table, row: Session, changes: Mapping[str, Any]) -> None:
    """Writes the row by hand, with these attributes changed or missing."""
    key = {"pk", "sk"}
    item = session_item(row)
    kept = {name: value for name, value in item.items() if name in key or name not in changes}
    changed = {name: value for name, value in changes.items() if value is not MISSING}
    table.client.put_item(TableName=table.name, Item=kept | typed(changed))


def unreadable(store: SessionStore) -> Session:
    """Returns the row, of which the store must say that it cannot be read."""
    row = read(store)
    assert row.unreadable
    return row


class SessionRowContract:
    """The cases; a subclass gives `store`, and `table`, which it stands on."""

    # ── Rows of older versions ──────────────────────────────────────────────────────────────────────

    def test_a_row_without_what_later_versions_added_reads_as_one_that_has_nothing_of_it(
        self, store: SessionStore, table: Table
    ) -> None:
        """Pausing, fresh files and the noted times came later; `sandboxUntil` is no more."""
        late = ["pausesAt", "hydrated", "runCount", "createdAt", "lastUsedAt", "ownerKey", "expiryShard", "ttl"]
        put(table, idle(), {**dict.fromkeys(late, MISSING), "sandboxUntil": 1})

        row = read(store)

        assert row == idle(pauses_at=None, created_at=row.expires_at, last_used_at=row.expires_at)

    def test_a_claimed_row_can_take_files_and_runs_though_it_was_written_without_them(
        self, store: SessionStore, table: Table
    ) -> None:
        put(table, idle(), {"hydrated": MISSING, "runCount": MISSING})

        claimed = granted(claim(store))
        assert (claimed.hydrated, claimed.run_count) == ({}, 0)
        assert release(store, claimed)

        row = read(store)
        assert (row.hydrated, row.run_count) == ({"file-1": "/home/user/a.csv"}, 1)

    def test_a_claim_leaves_what_an_older_row_has_as_it_is(self, store: SessionStore, table: Table) -> None:
        put(table, idle(hydrated={"f": "/f"}, run_count=4), {"sandboxUntil": 1})

        claimed = granted(claim(store))

        assert (claimed.hydrated, claimed.run_count) == ({"f": "/f"}, 4)

    @pytest.mark.parametrize("row", [idle(run_count=2), busy(run_until=NOW)], ids=["idle", "busy"])
    def test_restarts_and_numbers_that_older_versions_counted_are_of_no_meaning_now(
        self, store: SessionStore, table: Table, row: Session
    ) -> None:
        """The sandbox itself tells of a restart; a run that an older version was at is asked for there, too."""
        put(table, row, {"restarts": 3, "restartsTold": 2, "executionCount": 7})

        assert read(store) == row
        assert row.reset_reason is None
        claimed = granted(claim(store, row.run_id or "run-3"))
        assert release(store, claimed)
        assert read(store).run_count == row.run_count + 1

    def test_a_row_of_a_later_version_is_used_as_far_as_it_is_known(
        self, store: SessionStore, table: Table
    ) -> None:
        put(table, idle(run_count=1), {"mood": {"is": "good"}})

        assert granted(claim(store)).run_count == 1

    # ── Rows that are none ──────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize(
        "chat", [MISSING, 7, None, ["CHAT#alice#chat-1"]], ids=["none", "number", "null", "list"]
    )
    def test_a_claim_without_its_chat_leads_nowhere(self, store: SessionStore, table: Table, chat: Any) -> None:
        row = busy()
        store.begin(row, seen=None)
        broken = claim_key(row.claim_id) | ({} if chat is MISSING else typed({"chat": chat}))
        table.client.put_item(TableName=table.name, Item=broken)

        assert store.claimants([row.claim_id]) == {}

    @pytest.mark.parametrize("name", BROKEN)
    def test_what_can_be_made_of_a_broken_row_is_its_chat_and_the_sandbox_to_end(
        self, store: SessionStore, table: Table, name: str
    ) -> None:
        put(table, idle(), BROKEN[name])

        row = unreadable(store)

        assert (row.key, row.state, row.end_reason) == (CHAT, SessionState.CLOSED, EndReason.SANDBOX_LOST)
        assert row.predecessor_id == (None if "sandboxId" in BROKEN[name] else "sbx1")
        assert row.generation >= 1

    @pytest.mark.parametrize("name", BROKEN)
    def test_of_16_begins_over_a_broken_row_one_is_granted(
        self, store: SessionStore, table: Table, name: str
    ) -> None:
        put(table, idle(), BROKEN[name])
        seen = unreadable(store)
        sessions = [creating(generation=2, claim_id=f"claim-{number}") for number in range(2, 18)]

        outcomes = at_once(sessions, lambda session: store.begin(session, seen=seen))

        won = winner(outcomes)
        assert read(store) == won
        assert all(outcome.seen == won for outcome in outcomes if isinstance(outcome, Refused))
        assert live(store) == [CHAT]

    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_row_that_somebody_has_mended_in_between_is_not_replaced(
        self, store: SessionStore, table: Table, name: str
    ) -> None:
        put(table, idle(), BROKEN[name])
        seen = unreadable(store)
        put(table, busy(claim_id="claim-2", generation=2, expires_at=LATER), {})

        outcome = store.begin(creating(generation=2, claim_id="claim-3"), seen=seen)

        assert outcome == Refused(busy(claim_id="claim-2", generation=2, expires_at=LATER))
        assert read(store) == busy(claim_id="claim-2", generation=2, expires_at=LATER)

    def test_a_broken_row_that_is_gone_is_not_replaced(self, store: SessionStore, table: Table) -> None:
        put(table, idle(), BROKEN["no state"])
        seen = unreadable(store)
        table.client.delete_item(
            TableName=table.name, Key={name: session_item(idle())[name] for name in ("pk", "sk")}
        )

        assert store.begin(creating(claim_id="claim-2"), seen=seen) == Refused(None)

    def test_a_claim_that_was_granted_on_a_broken_row_returns_what_can_be_replaced(
        self, store: SessionStore, table: Table
    ) -> None:
        """The conditions hold, and yet the row says nothing of use: its claimer has seen it, and may begin."""
        put(table, idle(), BROKEN["files that are text"])

        claimed = granted(claim(store))

        assert claimed.unreadable
        assert isinstance(store.begin(creating(claim_id="claim-2"), seen=claimed), Granted)

    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_row_keeps_no_other_from_being_found(
        self, store: SessionStore, table: Table, name: str
    ) -> None:
        put(table, idle(expires_at=LATER), BROKEN[name])
        other = idle(key=ChatKey(OWNER, "other"), claim_id="claim-2", expires_at=LATER)
        store.begin(other, seen=None)
        store.point(idle())
        store.point(other)

        assert {*due(store, days=1)} - {CHAT} == {other.key}
        assert {*live(store)} - {CHAT} == {other.key}
        assert {position.chat_id for position in store.owned(OWNER, now=NOW, limit=9)} - {CHAT.chat_id} == {"other"}
        assert store.count_owned(OWNER, now=NOW) in (1, 2)
        assert [row.unreadable for row in store.read_many([CHAT, other.key])] == [True, False]
        assert store.claimants(["claim-1", "claim-2"])["claim-2"] == other


class TestOnMoto(OnMoto, SessionRowContract):
    pass


class TestOnMinistack(OnMinistack, SessionRowContract):
    """With the cases in which DynamoDB compares text with a number: no such condition holds. moto fails at it."""

    def test_a_lease_that_is_nonsense_is_never_taken_but_replaced(self, store: SessionStore, table: Table) -> None:
        put(table, idle(), BROKEN["a lease that is text"])

        refused = claim(store)

        assert isinstance(refused, Refused)
        assert refused.seen is not None
        assert refused.seen.unreadable
        assert isinstance(store.begin(creating(claim_id="claim-2"), seen=refused.seen), Granted)

    @pytest.mark.parametrize("name", BROKEN)
    @pytest.mark.parametrize("end", [begin_close, begin_expire])
    def test_a_broken_row_can_be_ended(
        self, store: SessionStore, table: Table, name: str, end: Callable[[SessionStore], Granted | Refused]
    ) -> None:
        """Marking it `closing` may be what mends it; else its closer sees what it is, and can replace it."""
        put(table, idle(expires_at=NOW), BROKEN[name])

        outcome = end(store)

        seen = outcome.session if isinstance(outcome, Granted) else outcome.seen
        assert seen is not None
        if seen.unreadable:
            condemned = closing(claim_id="claim-2", claim_until=NOW + WINDOW)
            seen = granted(store.begin(condemned, seen=seen))
        assert seen.sandbox is not None or name == "no sandbox"
        assert store.end(seen, forget_at=LATER)
        assert live(store) == []
