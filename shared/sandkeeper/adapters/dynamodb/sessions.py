"""Sessions' rows. Every write below is one conditional request.

    caller A   ──claim──►│granted│── run ──►│release│
    caller B      ──claim──►│refused: busy│ … wait … ──claim──►│granted│
    cleanup                     ──begin_expire──►│refused: pushed, busy│

What makes these races safe is the clauses, so each is a named constant. A failed condition returns the row that
stood in the way, so that the next step needs no further read.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.items import millis, pack
from sandkeeper.adapters.dynamodb.table import ABSENT, EXISTS, NO_NAMES, Table
from sandkeeper.model import ChatKey, EndReason, Session, SessionState
from sandkeeper.ports import Granted, Refused

# Clauses. `:now` is the caller's clock, `:claim` the claim id that the caller read or drew.
IS_READY = "#state = :ready"
IS_CREATING = "#state = :creating"
IS_CLOSING = "#state = :closing"
NOT_CLOSED = "#state <> :closed"
NOT_EXPIRED = "expiresAt > :now"
EXPIRED = "expiresAt <= :now"
IDLE = "(attribute_not_exists(runId) OR runUntil <= :now)"
SAME_CLAIM = "claimId = :claim"
SAME_RUN = "runId = :run"
UNCHANGED = "#state = :seenState AND claimId = :seenClaim AND expiresAt = :seenExpires"
NO_CLAIM_UNDER_WAY = "(#state = :ready OR claimUntil <= :now)"
NOBODY_CLOSES_IT = "(#state <> :closing OR claimUntil <= :now)"


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
            "SET runId = :run, runUntil = :runUntil, lastUsedAt = :now, expiresAt = :expires, #ttl = :ttl",
            f"{IS_READY} AND {NOT_EXPIRED} AND {IDLE}",
            {
                ":run": run_id,
                ":runUntil": millis(run_until),
                ":now": millis(now),
                ":expires": millis(expires_at),
                ":ttl": items.ttl_of(expires_at),
            },
        )

    def begin(self, session: Session, *, seen: Session | None) -> Granted | Refused:
        """See `SessionStore.begin`."""
        condition, values = ABSENT, {}
        if seen is not None:
            condition = UNCHANGED
            values = {
                ":seenState": seen.state.value,
                ":seenClaim": seen.claim_id,
                ":seenExpires": millis(seen.expires_at),
            }
        return self._put(session, condition, values)

    def activate(self, session: Session) -> Granted | Refused:
        """See `SessionStore.activate`."""
        known = {name: value for name, value in items.sandbox_values(session).items() if value is not None}
        return self._update(
            session.key,
            "SET #state = :ready, "
            + ", ".join(f"{name} = :{name}" for name in known)
            + " REMOVE claimUntil, predecessorId",
            f"{IS_CREATING} AND {SAME_CLAIM}",
            {":claim": session.claim_id, **{f":{name}": value for name, value in known.items()}},
        )

    def abandon(self, session: Session, *, now: datetime) -> None:
        """See `SessionStore.abandon`."""
        self._update(
            session.key,
            "SET claimUntil = :now",
            f"{IS_CREATING} AND {SAME_CLAIM} AND {SAME_RUN}",
            {":now": millis(now), ":claim": session.claim_id, ":run": session.run_id},
        )

    def release(
        self,
        session: Session,
        *,
        now: datetime,
        ran: bool,
        expires_at: datetime,
        sandbox_until: datetime,
        hydrated: Mapping[str, str],
    ) -> bool:
        """See `SessionStore.release`."""
        added = [*hydrated.items()]
        update = "SET lastUsedAt = :now, expiresAt = :expires, #ttl = :ttl, sandboxUntil = :sandboxUntil"
        update += ", runCount = runCount + :ran"
        update += "".join(f", hydrated.#file{index} = :path{index}" for index in range(len(added)))
        update += " REMOVE runId, runUntil"
        update += " DELETE freshFiles :seen" if session.fresh_files else ""
        released, _ = self._table.update(
            items.row_key(session.key, items.SESSION),
            update,
            f"{IS_READY} AND {SAME_CLAIM} AND {SAME_RUN}",
            {
                ":now": millis(now),
                ":expires": millis(expires_at),
                ":ttl": items.ttl_of(expires_at),
                ":sandboxUntil": millis(sandbox_until),
                **{f":path{index}": path for index, (_, path) in enumerate(added)},
                ":seen": set(session.fresh_files),
                ":ran": int(ran),
                ":claim": session.claim_id,
                ":run": session.run_id,
            },
            {f"#file{index}": file_id for index, (file_id, _) in enumerate(added)},
            returning=False,
        )
        return released

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
            f"{EXISTS} AND {NOT_CLOSED} AND #state <> :closing AND {EXPIRED} AND {IDLE} AND {NO_CLAIM_UNDER_WAY}",
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
            " REMOVE claimUntil, sandboxId, sandboxDomain, envdVersion, envdToken, trafficToken, sandboxUntil,"
            " runId, runUntil, hydrated, freshFiles, predecessorId, expiryShard, ownerKey",
            f"{IS_CLOSING} AND {SAME_CLAIM}",
            {":claim": session.claim_id, ":ttl": round(forget_at.timestamp())},
        )
        return isinstance(outcome, Granted)

    def expired(self, *, now: datetime) -> Iterator[ChatKey]:
        """See `SessionStore.expired`."""
        return self._indexed("expiryShard = :shard AND expiresAt <= :now", {":now": millis(now)})

    def live(self) -> Iterator[ChatKey]:
        """See `SessionStore.live`."""
        return self._indexed("expiryShard = :shard", {})

    def _indexed(self, condition: str, values: Mapping[str, Any]) -> Iterator[ChatKey]:
        for shard in items.shards():
            found = self._table.query(
                IndexName="by_expiry",
                KeyConditionExpression=condition,
                ExpressionAttributeValues=pack({":shard": shard, **values}),
            )
            yield from (items.chat_of(item["pk"]["S"]) for item in found)

    def _put(self, session: Session, condition: str, values: Mapping[str, Any]) -> Granted | Refused:
        written, seen = self._table.put(items.session_item(session), condition, values)
        return Granted(session) if written else Refused(items.session_of(seen) if seen else None)

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


def _close_values(now: datetime, claim_until: datetime, reason: EndReason) -> dict[str, Any]:
    return {":now": millis(now), ":claimUntil": millis(claim_until), ":reason": reason.value}
