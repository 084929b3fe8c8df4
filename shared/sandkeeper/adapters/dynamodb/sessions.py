"""Sessions' rows. Every write below is one conditional request.

    caller A   ──claim──►│granted│── run ──►│release│
    caller B      ──claim──►│refused: busy│ … wait … ──claim──►│granted│
    cleanup                     ──begin_expire──►│refused: pushed, busy│

What makes these races safe is the clauses, so each is a named constant. A failed condition returns the row that
stood in the way, so that the next step needs no further read.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.items import millis, pack
from sandkeeper.adapters.dynamodb.table import ABSENT, EXISTS, NO_NAMES, RESERVED_WORDS, Table
from sandkeeper.model import ChatKey, EndReason, Session, SessionState
from sandkeeper.ports import Granted, Position, Refused

# Clauses. `:now` is the caller's clock, `:claim` the claim id that the caller read or drew.
IS_READY = "#state = :ready"
IS_CREATING = "#state = :creating"
IS_CLOSING = "#state = :closing"
NOT_CLOSED = "#state <> :closed"
NOT_EXPIRED = "expiresAt > :now"
EXPIRED = "expiresAt <= :now"
IDLE_OR_OWN = "(attribute_not_exists(runId) OR (runId = :run AND runUntil <= :now))"
SAME_CLAIM = "claimId = :claim"
SAME_RUN = "runId = :run"
NO_CLAIM_UNDER_WAY = "(#state = :ready OR claimUntil <= :now)"
NOBODY_CLOSES_IT = "(#state <> :closing OR claimUntil <= :now)"

INDEX_PAGE = 100
"""How many entries one request for an index reads."""


class DynamoSessionStore:
    """`SessionStore` on the table's `SESSION` rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def claim(
        self, key: ChatKey, *, run_id: str, now: datetime, run_until: datetime, expires_at: datetime
    ) -> Granted | Refused:
        """See `SessionStore.claim`."""
        return self._update(
            key,
            "SET runId = :run, runUntil = :runUntil, lastUsedAt = :now, expiresAt = :expires, #ttl = :ttl"
            # What rows of older versions lack, later updates build on.
            ", hydrated = if_not_exists(hydrated, :nothing), runCount = if_not_exists(runCount, :zero)",
            f"{IS_READY} AND {NOT_EXPIRED} AND {IDLE_OR_OWN}",
            {
                ":run": run_id,
                ":runUntil": millis(run_until),
                ":now": millis(now),
                ":expires": millis(expires_at),
                ":ttl": items.ttl_of(expires_at),
                ":nothing": {},
                ":zero": 0,
            },
        )

    def begin(self, session: Session, *, seen: Session | None) -> Granted | Refused:
        """See `SessionStore.begin`."""
        condition, values = (ABSENT, {}) if seen is None else _unchanged(seen)
        written, item = self._table.put(items.session_item(session), condition, values)
        return Granted(session) if written else Refused(items.session_of(item) if item else None)

    def point(self, session: Session) -> None:
        """See `SessionStore.point`."""
        self._table.put(items.claim_item(session))

    def claimants(self, claim_ids: Sequence[str]) -> Mapping[str, Session]:
        """See `SessionStore.claimants`."""
        pointers = self._table.get_many([items.claim_key(claim_id) for claim_id in dict.fromkeys(claim_ids)])
        chats = items.claims_of(pointers)
        rows = {session.key: session for session in self.read_many([*dict.fromkeys(chats.values())])}
        return {claim_id: rows[key] for claim_id, key in chats.items() if key in rows}

    def activate(self, session: Session) -> Granted | Refused:
        """See `SessionStore.activate`."""
        known = {name: value for name, value in items.sandbox_values(session).items() if value is not None}
        return self._update(
            session.key,
            "SET #state = :ready, "
            + ", ".join(f"{name} = :{name}" for name in known)
            + " REMOVE claimUntil, predecessorId",
            f"{IS_CREATING} AND {SAME_CLAIM} AND {SAME_RUN}",
            {
                ":claim": session.claim_id,
                ":run": session.run_id,
                **{f":{name}": value for name, value in known.items()},
            },
        )

    def abandon(self, session: Session, *, now: datetime) -> None:
        """See `SessionStore.abandon`."""
        self._update(
            session.key,
            "SET claimUntil = :now",
            f"{IS_CREATING} AND {SAME_CLAIM} AND {SAME_RUN}",
            {":now": millis(now), ":claim": session.claim_id, ":run": session.run_id},
        )

    def leave(self, session: Session, *, now: datetime, hydrated: Mapping[str, str]) -> bool:
        """See `SessionStore.leave`."""
        return self._move_on(session, "SET runUntil = :now", "", hydrated, {":now": millis(now)})

    def note_sandbox(self, session: Session) -> bool:
        """See `SessionStore.note_sandbox`."""
        values = items.sandbox_values(session)
        if session.sandbox is None:
            values = {"pausesAt": values["pausesAt"]}
        known = {name: value for name, value in values.items() if value is not None}
        update = "SET " + ", ".join(f"{name} = :{name}" for name in known)
        unknown = [name for name in values if name not in known]
        written, _ = self._table.update(
            items.row_key(session.key, items.SESSION),
            update + (" REMOVE " + ", ".join(unknown) if unknown else ""),
            f"{IS_READY} AND {SAME_CLAIM}",
            {":claim": session.claim_id, **{f":{name}": value for name, value in known.items()}},
            returning=False,
        )
        return written

    def release(
        self, session: Session, *, now: datetime, ran: bool, expires_at: datetime, hydrated: Mapping[str, str]
    ) -> bool:
        """See `SessionStore.release`."""
        update = "SET lastUsedAt = :now, expiresAt = :expires, #ttl = :ttl, runCount = runCount + :ran"
        update += ", untold = :untold" if ran and session.untold else ""
        remove = " REMOVE runId, runUntil" + (", untold" if ran and not session.untold else "")
        values = {
            ":now": millis(now),
            ":expires": millis(expires_at),
            ":ttl": items.ttl_of(expires_at),
            ":ran": int(ran),
            ":untold": session.untold,
        }
        return self._move_on(session, update, remove, hydrated, values)

    def _move_on(
        self, session: Session, update: str, remove: str, hydrated: Mapping[str, str], values: Mapping[str, Any]
    ) -> bool:
        """Updates the row if its lease is still the session's, and notes which files the sandbox has."""
        added = [*hydrated.items()]
        update += "".join(f", hydrated.#file{index} = :path{index}" for index in range(len(added)))
        update += remove
        update += " DELETE freshFiles :seen" if session.fresh_files else ""
        written, _ = self._table.update(
            items.row_key(session.key, items.SESSION),
            update,
            f"{IS_READY} AND {SAME_CLAIM} AND {SAME_RUN}",
            {
                **values,
                **{f":path{index}": path for index, (_, path) in enumerate(added)},
                ":seen": set(session.fresh_files),
                ":claim": session.claim_id,
                ":run": session.run_id,
            },
            {f"#file{index}": file_id for index, (file_id, _) in enumerate(added)},
            returning=False,
        )
        return written

    def announce_file(self, key: ChatKey, file_id: str) -> None:
        """See `SessionStore.announce_file`."""
        self._update(key, "ADD freshFiles :file", EXISTS, {":file": {file_id}})

    def forget_file(self, key: ChatKey, file_id: str) -> None:
        """See `SessionStore.forget_file`."""
        self._update(key, "REMOVE hydrated.#file", "attribute_exists(hydrated.#file)", {}, {"#file": file_id})

    def read(self, key: ChatKey) -> Session | None:
        """See `SessionStore.read`."""
        item = self._table.get(items.row_key(key, items.SESSION))
        return None if item is None else items.session_of(item)

    def begin_close(
        self, key: ChatKey, *, now: datetime, claim_until: datetime, reason: EndReason = EndReason.CLOSED
    ) -> Granted | Refused:
        """See `SessionStore.begin_close`."""
        return self._update(
            key,
            _CLOSE + ", endReason = :reason",
            f"{EXISTS} AND {NOT_CLOSED} AND {NOBODY_CLOSES_IT}",
            _close_values(now, claim_until, reason),
        )

    def begin_expire(self, key: ChatKey, *, now: datetime, claim_until: datetime) -> Granted | Refused:
        """See `SessionStore.begin_expire`."""
        values = _close_values(now, claim_until, EndReason.EXPIRED)
        outcome = self._update(
            key,
            _CLOSE + ", endReason = :reason",
            f"{EXISTS} AND {NOT_CLOSED} AND #state <> :closing AND {EXPIRED} AND {NO_CLAIM_UNDER_WAY}",
            values,
        )
        left_behind = isinstance(outcome, Refused) and outcome.seen and outcome.seen.state is SessionState.CLOSING
        if not left_behind:
            return outcome
        return self._update(key, _CLOSE, f"{IS_CLOSING} AND claimUntil <= :now", values)

    def end(self, session: Session, *, forget_at: datetime) -> bool:
        """See `SessionStore.end`."""
        outcome = self._update(
            session.key,
            "SET #state = :closed, #ttl = :ttl"
            " REMOVE claimUntil, sandboxId, sandboxDomain, envdVersion, envdToken, trafficToken, pausesAt,"
            " runId, runUntil, hydrated, freshFiles, predecessorId, expiryShard, ownerKey",
            f"{IS_CLOSING} AND {SAME_CLAIM}",
            {":claim": session.claim_id, ":ttl": round(forget_at.timestamp())},
        )
        return isinstance(outcome, Granted)

    def shards(self) -> Sequence[str]:
        """See `SessionStore.shards`."""
        return items.shards()

    def expired(self, shard: str, *, now: datetime) -> Iterator[ChatKey]:
        """See `SessionStore.expired`."""
        return self._indexed(shard, " AND expiresAt <= :now", {":now": millis(now)})

    def live(self, shard: str) -> Iterator[ChatKey]:
        """See `SessionStore.live`."""
        return self._indexed(shard, "", {})

    def _indexed(self, shard: str, condition: str, values: Mapping[str, Any]) -> Iterator[ChatKey]:
        found = self._table.query(
            IndexName="by_expiry",
            KeyConditionExpression="expiryShard = :shard" + condition,
            ExpressionAttributeValues=pack({":shard": shard, **values}),
            PaginationConfig={"PageSize": INDEX_PAGE},
        )
        return (items.chat_of(item["pk"]["S"]) for item in found)

    def owned(self, owner: str, *, now: datetime, limit: int, after: Position | None = None) -> Sequence[Position]:
        """See `SessionStore.owned`."""
        # By the time it is used, a position may have expired; DynamoDB refuses a start that the condition excludes.
        ahead = after if after is not None and after.expires_at > now else None
        start = {} if ahead is None else {"ExclusiveStartKey": items.owned_key(owner, ahead)}
        found = self._table.query(**_owned_by(owner, now), PaginationConfig={"PageSize": limit}, **start)
        return [items.position_of(item) for item in islice(found, limit)]

    def count_owned(self, owner: str, *, now: datetime) -> int:
        """See `SessionStore.count_owned`."""
        return self._table.count(**_owned_by(owner, now))

    def read_many(self, keys: Sequence[ChatKey]) -> Sequence[Session]:
        """See `SessionStore.read_many`."""
        found = self._table.get_many([items.row_key(key, items.SESSION) for key in keys])
        rows = {session.key: session for session in map(items.session_of, found)}
        return [rows[key] for key in keys if key in rows]

    def _update(
        self,
        key: ChatKey,
        update: str,
        condition: str,
        values: Mapping[str, Any],
        names: Mapping[str, str] = NO_NAMES,
    ) -> Granted | Refused:
        row = items.row_key(key, items.SESSION)
        written, item = self._table.update(row, update, condition, values, names)
        session = items.session_of(item) if item else None
        return Granted(session) if written and session else Refused(session)


_CLOSE = "SET #state = :closing, claimUntil = :claimUntil, expiresAt = :now"
"""`expiresAt` is now, so that cleanup finds the row should its closer die."""


def _unchanged(seen: Session) -> tuple[str, dict[str, Any]]:
    """Returns the clause that the row is still as it was read, whatever was read."""
    stamp = seen.stamp
    if not stamp and not seen.unreadable:  # made by a caller; a broken row may have nothing to be recognised by
        stamp = {"state": seen.state.value, "claimId": seen.claim_id, "expiresAt": millis(seen.expires_at)}
    clauses = [
        f"{_safe(name)} = :seen{name}" if name in stamp else f"attribute_not_exists({_safe(name)})"
        for name in items.STAMP
    ]
    return " AND ".join([EXISTS, *clauses]), {f":seen{name}": value for name, value in stamp.items()}


def _safe(name: str) -> str:
    return f"#{name}" if name in RESERVED_WORDS else name


def _owned_by(owner: str, now: datetime) -> dict[str, Any]:
    return {
        "IndexName": "by_owner",
        # Not beyond the last of all times, which a broken row may name: nothing could tell where that stands.
        "KeyConditionExpression": "ownerKey = :owner AND expiresAt BETWEEN :first AND :last",
        "ExpressionAttributeValues": pack(
            {":owner": items.owner_key(owner), ":first": millis(now) + 1, ":last": items.LAST_MILLIS - 1}
        ),
    }


def _close_values(now: datetime, claim_until: datetime, reason: EndReason) -> dict[str, Any]:
    return {":now": millis(now), ":claimUntil": millis(claim_until), ":reason": reason.value}
