"""`SessionStore`: how sessions are found: what is due, what is live, an owner's, many at once, by their claims."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sandkeeper.adapters.dynamodb import DynamoSessionStore
from sandkeeper.adapters.dynamodb.items import expiry_shard
from sandkeeper.model import ChatKey, Session
from sandkeeper.ports import Position, SessionStore
from tests.contract.conftest import Backend
from tests.contract.sessions import (
    LATER,
    NOW,
    ODD_CHATS,
    ODD_OWNERS,
    InMemory,
    OnMinistack,
    OnMoto,
    arrange,
    arrange_closed,
    arrange_many,
    claim,
    due,
    live,
)
from tests.factories import SESSION_TIMEOUT, busy, closing, creating, idle
from tests.world import CHAT, OWNER

MOMENT = timedelta(milliseconds=1)


def chats(count: int, *, owner: str = OWNER, name: str = "chat") -> list[ChatKey]:
    """Returns keys of one owner, in the order of their chat ids."""
    return [ChatKey(owner, f"{name}-{number:03}") for number in range(count)]


def paged(store: SessionStore, limit: int, *, owner: str = OWNER) -> list[list[Position]]:
    """Returns all pages of the owner's chats, each asked for with the last position of the one before."""
    pages = [[*store.owned(owner, now=NOW, limit=limit)]]
    while len(pages[-1]) == limit and len(pages) < 10:
        pages.append([*store.owned(owner, now=NOW, limit=limit, after=pages[-1][-1])])
    return pages


class SessionIndexContract:
    """The cases; a subclass gives `store`."""

    # ── What is due, what is live ───────────────────────────────────────────────────────────────────

    def test_of_250_rows_what_is_due_is_found_and_only_that(self, store: SessionStore) -> None:
        past, present = chats(180, name="due"), chats(70, owner="bob", name="live")
        rows = [idle(key=key, expires_at=NOW) for key in past]
        rows += [idle(key=key, expires_at=NOW + MOMENT) for key in present]
        arrange_many(store, rows)

        assert Counter(due(store)) == Counter(past)
        assert Counter(live(store)) == Counter([*past, *present])

    def test_each_row_is_in_one_shard(self, store: SessionStore) -> None:
        arrange_many(store, [idle(key=key) for key in chats(40)])

        found = {shard: [*store.live(shard)] for shard in store.shards()}

        assert sum(map(len, found.values())) == 40
        assert len([shard for shard, keys in found.items() if keys]) > len(found) // 2, "the shards are uneven"

    def test_sessions_in_every_state_but_closed_are_live(self, store: SessionStore) -> None:
        keys = chats(4)
        arrange_many(
            store,
            [replace(row, key=key) for key, row in zip(keys, [creating(), busy(), idle(), closing()], strict=True)],
        )
        arrange_closed(store, closing(key=ChatKey(OWNER, "closed")))

        assert Counter(live(store)) == Counter(keys)

    @pytest.mark.parametrize("chat_id", ODD_CHATS)
    def test_a_chat_of_any_name_is_found_everywhere(self, store: SessionStore, chat_id: str) -> None:
        for owner in ODD_OWNERS:
            key = ChatKey(owner, chat_id)
            row = arrange(store, idle(key=key, expires_at=LATER, claim_id=f"claim-{owner}"))
            store.point(row)

            assert [*store.owned(owner, now=NOW, limit=5)] == [Position(LATER, chat_id)]
            assert [*store.read_many([key])] == [row]
            assert store.claimants([row.claim_id]) == {row.claim_id: row}

        assert Counter(due(store, days=1)) == Counter(ChatKey(owner, chat_id) for owner in ODD_OWNERS)

    # ── An owner's ──────────────────────────────────────────────────────────────────────────────────

    def test_an_owners_chats_come_in_the_order_in_which_they_expire(self, store: SessionStore) -> None:
        keys = chats(7)
        moments = [NOW + timedelta(minutes=minutes) for minutes in (3, 1, 7, 2, 6, 5, 4)]
        arrange_many(store, [idle(key=key, expires_at=moment) for key, moment in zip(keys, moments, strict=True)])

        pages = paged(store, 3)

        in_order = sorted(Position(moment, key.chat_id) for key, moment in zip(keys, moments, strict=True))
        assert pages == [in_order[:3], in_order[3:6], in_order[6:]]

    @pytest.mark.parametrize("limit", [1, 2, 5, 100])
    def test_chats_that_expire_at_one_time_come_once_each(self, store: SessionStore, limit: int) -> None:
        keys = chats(5)
        arrange_many(store, [idle(key=key, expires_at=LATER) for key in keys])

        pages = paged(store, limit)

        assert Counter(position.chat_id for page in pages for position in page) == Counter(
            key.chat_id for key in keys
        )
        assert {position.expires_at for page in pages for position in page} == {LATER}
        assert max(map(len, pages)) <= limit

    def test_pages_go_on_where_they_were_also_when_the_last_chat_has_been_used_since(
        self, store: SessionStore
    ) -> None:
        first, second, third = chats(3)
        for key, minutes in ((first, 1), (CHAT, 2), (second, 3), (third, 4)):
            arrange(store, idle(key=key, expires_at=NOW + timedelta(minutes=minutes)))
        page = store.owned(OWNER, now=NOW, limit=2)
        assert [position.chat_id for position in page] == [first.chat_id, CHAT.chat_id]

        claim(store)

        rest = store.owned(OWNER, now=NOW, limit=9, after=page[-1])
        assert [position.chat_id for position in rest] == [second.chat_id, third.chat_id, CHAT.chat_id]

    def test_pages_go_on_also_when_the_last_chat_has_become_due_since(self, store: SessionStore) -> None:
        first, second = chats(2)
        arrange(store, idle(key=first, expires_at=NOW + MOMENT))
        arrange(store, idle(key=second, expires_at=LATER))
        (at,) = store.owned(OWNER, now=NOW, limit=1)

        rest = store.owned(OWNER, now=NOW + MOMENT, limit=9, after=at)

        assert (at.chat_id, [*rest]) == (first.chat_id, [Position(LATER, second.chat_id)])

    def test_only_the_owners_chats_that_are_not_due_are_listed_and_counted(self, store: SessionStore) -> None:
        mine = chats(3)
        arrange_many(store, [idle(key=key) for key in mine])
        arrange_many(store, [idle(key=key, expires_at=NOW) for key in chats(2, name="due")])
        for other in ("bob", f"{OWNER}#", f"{OWNER}#{mine[0].chat_id}", OWNER.upper()):
            arrange_many(store, [idle(key=key) for key in chats(2, owner=other)])
        arrange_closed(store, closing(key=ChatKey(OWNER, "closed"), expires_at=LATER))

        found = store.owned(OWNER, now=NOW, limit=100)

        assert Counter(position.chat_id for position in found) == Counter(key.chat_id for key in mine)
        assert store.count_owned(OWNER, now=NOW) == 3
        assert store.count_owned(OWNER, now=NOW + SESSION_TIMEOUT) == 0
        assert [*store.owned("nobody", now=NOW, limit=1)] == []
        assert store.count_owned("nobody", now=NOW) == 0

    # ── Many at once ────────────────────────────────────────────────────────────────────────────────

    def test_many_rows_are_read_in_the_order_asked_for_without_those_that_are_not_there(
        self, store: SessionStore
    ) -> None:
        keys = chats(100)
        rows = {key: idle(key=key, run_count=number) for number, key in enumerate(keys) if number % 3}
        arrange_many(store, [*rows.values()])
        asked = [*reversed(keys)]

        assert [*store.read_many(asked)] == [rows[key] for key in asked if key in rows]
        assert [*store.read_many([])] == []

    # ── By their claims ─────────────────────────────────────────────────────────────────────────────

    def test_100_claims_lead_to_their_chats(self, store: SessionStore) -> None:
        rows = [idle(key=key, claim_id=f"claim-of-{key.chat_id}") for key in chats(60)]
        arrange_many(store, rows)
        for row in rows:
            store.point(row)
        known = {row.claim_id: row for row in rows}
        unknown = [f"never-{number}" for number in range(40)]

        assert store.claimants([*unknown, *known]) == known
        assert store.claimants([]) == {}

    def test_a_claim_is_found_once_however_often_it_is_asked_for_and_pointed_to(self, store: SessionStore) -> None:
        row = arrange(store, busy())
        for _ in range(3):
            store.point(row)

        assert store.claimants([row.claim_id, "never", row.claim_id]) == {row.claim_id: row}

    def test_a_claim_of_a_generation_before_leads_to_the_row_that_there_is_now(self, store: SessionStore) -> None:
        store.point(creating(claim_id="claim-1"))
        row = arrange(store, busy(claim_id="claim-2", generation=2))
        store.point(row)

        assert store.claimants(["claim-1", "claim-2"]) == {"claim-1": row, "claim-2": row}

    def test_a_claim_of_a_chat_without_a_row_leads_nowhere_and_makes_none(self, store: SessionStore) -> None:
        store.point(creating())

        assert store.claimants(["claim-1"]) == {}
        assert store.read(CHAT) is None
        assert live(store) == []

    def test_a_claim_leads_to_a_closed_row_too(self, store: SessionStore) -> None:
        store.point(closing())
        closed = arrange_closed(store)

        assert store.claimants(["claim-1"]) == {"claim-1": closed}


class TestInMemory(InMemory, SessionIndexContract):
    pass


class TestOnMoto(OnMoto, SessionIndexContract):
    pass


class TestOnMinistack(OnMinistack, SessionIndexContract):
    pass


# ── What the emulators do not do by themselves ──────────────────────────────────────────────────────────


def test_many_rows_come_in_the_order_asked_for_whatever_order_dynamodb_answers_in(ministack: Backend) -> None:
    store, client = DynamoSessionStore(ministack.table), ministack.client("dynamodb")
    rows = [idle(key=key) for key in chats(5)]
    arrange_many(store, rows)

    def turn_round(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Responses"][ministack.name].reverse()

    client.meta.events.register("after-call.dynamodb.BatchGetItem", turn_round)
    try:
        assert [*store.read_many([row.key for row in rows])] == rows
    finally:
        client.meta.events.unregister("after-call.dynamodb.BatchGetItem", turn_round)


# ── Beyond one page of an index: DynamoDB ends one at 1 MB ──────────────────────────────────────────────


@pytest.mark.parametrize("emulator", ["moto", "ministack"])
def test_chats_are_found_on_every_page_of_an_index(emulator: str, request: pytest.FixtureRequest) -> None:
    """Rows this large in one shard fill several pages."""
    store = DynamoSessionStore(request.getfixturevalue(emulator).table)
    keys = _chats_of_one_shard(6)
    for key in keys:
        arrange(store, _large(key))

    assert Counter(due(store, days=1)) == Counter(live(store)) == Counter(keys)
    assert len(store.owned(OWNER, now=NOW, limit=100)) == store.count_owned(OWNER, now=NOW) == len(keys)


def _large(key: ChatKey) -> Session:
    files = {str(number): "/home/user/" + "x" * 1000 for number in range(300)}
    return idle(key=key, expires_at=LATER, hydrated=files)


def _chats_of_one_shard(count: int) -> list[ChatKey]:
    keys = chats(count * 40)
    return [key for key in keys if expiry_shard(key) == expiry_shard(keys[0])][:count]
