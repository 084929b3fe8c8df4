"""The stores on one DynamoDB table. Every write below is one conditional request.

    caller A   ──claim──►│granted│── run ──►│release│
    caller B      ──claim──►│refused: busy│ … wait … ──claim──►│granted│
    cleanup                     ──begin_expire──►│refused: pushed, busy│

What makes these races safe is the clauses, so each is a named constant. A failed condition returns the row that
stood in the way, so that the next step needs no further read.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sandkeeper.adapters import items
from sandkeeper.adapters.items import millis, pack
from sandkeeper.errors import NotConfigured, SandkeeperError, StoreUnavailable
from sandkeeper.model import (
    ApiKey,
    ChatKey,
    EndReason,
    FileReading,
    FileRecord,
    FileStatus,
    Session,
    SessionState,
)
from sandkeeper.ports import Granted, Refused

# Clauses. `:now` is the caller's clock, `:claim` the claim id that the caller read or drew.
EXISTS = "attribute_exists(pk)"
ABSENT = "attribute_not_exists(pk)"
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

RESERVED_WORDS = ("state", "status", "ttl")
"""Our attributes that DynamoDB's expressions cannot name outright."""

NO_NAMES: Mapping[str, str] = MappingProxyType({})

_STATES = {f":{state.value}": state.value for state in SessionState}

FOREIGN_ERRORS: Mapping[str, type[SandkeeperError]] = {
    "ResourceNotFoundException": NotConfigured,
    "AccessDeniedException": NotConfigured,
    "UnrecognizedClientException": NotConfigured,
    "ValidationException": NotConfigured,
}
"""DynamoDB's error codes that a deployment has to mend. All others may pass: `StoreUnavailable`."""


@contextmanager
def our_errors(table: str) -> Iterator[None]:
    """Turns every error of the client into one of ours, in one place."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        kind = FOREIGN_ERRORS.get(code, StoreUnavailable)
        raise kind(f"the table {table!r} (TABLE_NAME) answers {code}") from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"the table {table!r} cannot be reached: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Table:
    """One table, and the three requests that all stores are made of."""

    client: Any
    name: str

    def get(self, key: items.Item) -> items.Item | None:
        """Returns the item as the last write left it."""
        with our_errors(self.name):
            reply = self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True)
        found: items.Item | None = reply.get("Item")
        return found

    def put(
        self, item: items.Item, condition: str | None = None, values: Mapping[str, Any] | None = None
    ) -> tuple[bool, items.Item | None]:
        """Writes the item if the condition holds. Returns whether it did, and else the item in the way."""
        return self._conditional("put_item", Item=item, **_condition(condition, "", values or {}))

    def update(
        self,
        key: items.Item,
        update: str,
        condition: str,
        values: Mapping[str, Any],
        names: Mapping[str, str] = NO_NAMES,
        *,
        returning: bool = True,
    ) -> tuple[bool, items.Item | None]:
        """Updates the item if the condition holds. Returns whether, and the item afterwards or in the way.

        With `returning` False the item afterwards is not asked for, which saves the time to read it.
        """
        return self._conditional(
            "update_item",
            Key=key,
            UpdateExpression=update,
            ReturnValues="ALL_NEW" if returning else "NONE",
            **_condition(condition, update, values, names),
        )

    def _conditional(self, operation: str, **request: Any) -> tuple[bool, items.Item | None]:
        with our_errors(self.name):
            try:
                reply = getattr(self.client, operation)(
                    TableName=self.name, ReturnValuesOnConditionCheckFailure="ALL_OLD", **request
                )
            except self.client.exceptions.ConditionalCheckFailedException as failed:
                return False, failed.response.get("Item") or None
        return True, reply.get("Attributes")

    def query(self, **request: Any) -> Iterator[items.Item]:
        """Yields what a query finds, page by page."""
        pages = self.client.get_paginator("query").paginate(TableName=self.name, **request)
        with our_errors(self.name):
            for page in pages:
                yield from page["Items"]


def _condition(
    condition: str | None, update: str, values: Mapping[str, Any], names: Mapping[str, str] = NO_NAMES
) -> dict[str, Any]:
    """Returns the request's condition with the names and values that the expressions really use."""
    if condition is None:
        return {}
    expressions = f"{condition} {update} "
    known = {**_STATES, **values}
    used = {name: value for name, value in known.items() if _uses(expressions, name)}
    request: dict[str, Any] = {"ConditionExpression": condition}
    if used:
        request["ExpressionAttributeValues"] = pack(used)
    reserved = {f"#{word}": word for word in RESERVED_WORDS if f"#{word}" in expressions}
    if reserved or names:
        request["ExpressionAttributeNames"] = {**reserved, **names}
    return request


def _uses(expressions: str, name: str) -> bool:
    return any(name + end in expressions for end in " ,)")


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


class DynamoFileCatalog:
    """`FileCatalog` on the table's `FILE#` and `PATH#` rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, record: FileRecord) -> bool:
        """See `FileCatalog.add`: record and path reservation are written together or not at all."""
        reservation = items.path_key(record) | pack({"fileId": record.file_id})
        return self._transact(
            {"Put": {"Item": reservation, "ConditionExpression": ABSENT}},
            {"Put": {"Item": items.file_item(record)}},
        )

    def get(self, key: ChatKey, file_id: str) -> FileRecord | None:
        """See `FileCatalog.get`."""
        item = self._table.get(items.row_key(key, items.FILE + file_id))
        return None if item is None else items.file_of(item)

    def of_chat(self, key: ChatKey) -> Sequence[FileRecord]:
        """See `FileCatalog.of_chat`: ids are ULIDs, so the key's order is the order of time."""
        found = self._table.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :file)",
            ExpressionAttributeValues=pack({":pk": items.chat_pk(key), ":file": items.FILE}),
            ConsistentRead=True,
        )
        return [items.file_of(item) for item in found]

    def mark_ready(self, key: ChatKey, file_id: str, reading: FileReading) -> bool:
        """See `FileCatalog.mark_ready`."""
        described = {
            "headers": None if reading.headers is None else [*reading.headers],
            "rowCount": reading.row_count,
        }
        known = {name: value for name, value in described.items() if value is not None}
        update = "SET #status = :ready, sizeBytes = :size" + "".join(f", {name} = :{name}" for name in known)
        values = {
            ":ready": FileStatus.READY.value,
            ":size": reading.size_bytes,
            **{f":{name}": value for name, value in known.items()},
        }
        return self._mark(key, file_id, update + " REMOVE reason", values)

    def mark_failed(self, key: ChatKey, file_id: str, reason: str) -> bool:
        """See `FileCatalog.mark_failed`."""
        values = {":failed": FileStatus.FAILED.value, ":reason": reason}
        return self._mark(key, file_id, "SET #status = :failed, reason = :reason", values)

    def delete(self, record: FileRecord) -> None:
        """See `FileCatalog.delete`."""
        self._transact(
            {"Delete": {"Key": items.path_key(record)}},
            {"Delete": {"Key": items.row_key(record.key, items.FILE + record.file_id)}},
        )

    def _mark(self, key: ChatKey, file_id: str, update: str, values: Mapping[str, Any]) -> bool:
        row = items.row_key(key, items.FILE + file_id)
        return self._table.update(row, update, EXISTS, values)[0]

    def _transact(self, *writes: dict[str, dict[str, Any]]) -> bool:
        """Writes all or nothing. Returns False when a condition did not hold."""
        table, client = self._table.name, self._table.client
        for write in writes:
            for request in write.values():
                request["TableName"] = table
        with our_errors(table):
            try:
                client.transact_write_items(TransactItems=[*writes])
            except client.exceptions.TransactionCanceledException as cancelled:
                codes = {reason["Code"] for reason in cancelled.response["CancellationReasons"]}
                if "ConditionalCheckFailed" in codes:
                    return False
                raise
        return True


class DynamoApiKeyStore:
    """`ApiKeyStore` on the table's `KEY#` rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def find(self, token_hash: str) -> ApiKey | None:
        """See `ApiKeyStore.find`."""
        item = self._table.get(items.api_key_key(token_hash))
        return None if item is None else items.api_key_of(item)

    def put(self, api_key: ApiKey) -> None:
        """See `ApiKeyStore.put`."""
        self._table.put(items.api_key_item(api_key))

    def mark_used(self, token_hash: str, day: str) -> None:
        """See `ApiKeyStore.mark_used`."""
        self._table.update(items.api_key_key(token_hash), "SET lastUsedDay = :day", EXISTS, {":day": day})
