"""Runs' rows. What a run put out lies in the row, or in S3 where it is large."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Protocol

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.artifacts import artifact_fields, artifact_of
from sandkeeper.adapters.dynamodb.items import millis, pack, unpack
from sandkeeper.adapters.dynamodb.table import ABSENT, Table
from sandkeeper.adapters.runner import records
from sandkeeper.model import Artifact, ChatKey, RunEnd, utc_moment
from sandkeeper.ports import Reservation
from sandkeeper.runs import Execution, RunEvent
from sandkeeper.summary import RunSummary

KEPT = timedelta(days=30)
INLINE_BYTES = 100_000
"""Larger outputs would make rows dear to read, and come near the 400 KB that one may have."""

NOT_ENDED = "attribute_not_exists(endedAs)"

_LISTED = {
    "ProjectionExpression": "sk, #code, #context, createdAt, endedAs, brief",
    "ExpressionAttributeNames": {"#code": "code", "#context": "context"},
}
"""What of a row a list needs: reading costs as if it were all, but outputs do not go over the network."""


class Bodies(Protocol):
    """Where outputs lie that are too large for a row."""

    def write(self, key: ChatKey, execution_id: str, content: bytes) -> str:
        """Keeps the content, and returns what it is read by."""
        ...

    def read(self, address: str) -> bytes | None:
        """Returns the content, None when it is gone."""
        ...


class DynamoRunLog:
    """`RunLog` on the table's `RUN#` and `ONCE#` rows."""

    def __init__(self, table: Table, bodies: Bodies) -> None:
        self._table = table
        self._bodies = bodies

    def reserve(self, owner: str, idempotency_key: str, reservation: Reservation, *, now: datetime) -> Reservation:
        """See `RunLog.reserve`."""
        values = {"executionId": reservation.execution_id, "digest": reservation.digest, "ttl": _forget_at(now)}
        written, found = self._table.put(items.once_key(owner, idempotency_key) | pack(values), ABSENT)
        if written or found is None:
            return reservation
        known = unpack(found)
        return Reservation(known["executionId"], known["digest"])

    def open(self, execution: Execution) -> bool:
        """See `RunLog.open`."""
        return self._table.put(_item(execution), ABSENT)[0]

    def withdraw(self, execution: Execution) -> None:
        """See `RunLog.withdraw`."""
        self._table.delete(
            items.row_key(execution.key, items.RUN + execution.execution_id),
            f"{NOT_ENDED} AND #context = :context",
            {":context": _context_text(execution)},
            {"#context": "context"},
        )

    def finish(self, execution: Execution) -> bool:
        """See `RunLog.finish`."""
        events = json.dumps([records.kept(event) for event in execution.events], separators=(",", ":"))
        values: dict[str, Any] = {
            "endedAs": execution.end,
            "brief": _brief_text(execution),
            "artifacts": _artifacts_text(execution),
        }
        if len(events) > INLINE_BYTES:
            values["eventsAt"] = self._bodies.write(execution.key, execution.execution_id, events.encode())
        else:
            values["events"] = events
        return self._table.put(_item(execution) | pack(values), NOT_ENDED)[0]

    def get(self, key: ChatKey, execution_id: str) -> Execution | None:
        """See `RunLog.get`. Of outputs that are gone from S3, the end alone is told."""
        item = self._table.get(items.row_key(key, items.RUN + execution_id))
        if item is None:
            return None
        row = unpack(item)
        execution = _execution(key, row)
        if "endedAs" not in row:
            return execution
        events = self._events(row, execution)
        return replace(execution, events=events) if events else _ended(execution, row)

    def latest(
        self, key: ChatKey, *, since: datetime, limit: int, before: str | None = None
    ) -> Sequence[RunSummary]:
        """See `RunLog.latest`: ids are ULIDs, so the key's order is the order of time.

        DynamoDB drops rows some days after their time, so these are left out by it. A page of its own ends at 1 MB.
        """
        values = {":pk": items.chat_pk(key), ":run": items.RUN, ":since": millis(since)}
        start = {} if before is None else {"ExclusiveStartKey": items.row_key(key, items.RUN + before)}
        found = self._table.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :run)",
            FilterExpression="createdAt > :since",
            ExpressionAttributeValues=pack(values),
            ScanIndexForward=False,
            ConsistentRead=True,
            PaginationConfig={"PageSize": limit},
            **_LISTED,
            **start,
        )
        return [_summary(key, unpack(item)) for item in islice(found, limit)]

    def _events(self, row: Mapping[str, Any], execution: Execution) -> Sequence[RunEvent]:
        text = row.get("events") or self._bodies.read(row["eventsAt"]) or "[]"
        return [records.recalled(fields, execution.code, execution.context) for fields in json.loads(text)]


def _execution(key: ChatKey, row: Mapping[str, Any]) -> Execution:
    """Returns the run as it was opened."""
    return Execution(
        key=key,
        execution_id=row["sk"].removeprefix(items.RUN),
        code=row["code"],
        context=records.context_of(json.loads(row["context"])),
        created_at=utc_moment(row["createdAt"]),
        artifacts=_artifacts_of(key, row),
    )


def _ended(execution: Execution, row: Mapping[str, Any]) -> Execution:
    """Returns the run with its end, of which no more is known than its row tells."""
    return execution.ended(RunEnd(row["endedAs"]), execution.created_at)


def _brief_text(execution: Execution) -> str:
    """Returns what a list tells of a run that has ended, beside its code and context."""
    summary = RunSummary.of(execution)
    brief = {
        "events": [records.kept(event) for event in summary.run.events],
        "results": dict(summary.results),
        "chars": summary.output_chars,
    }
    return json.dumps(brief, separators=(",", ":"))


def _summary(key: ChatKey, row: Mapping[str, Any]) -> RunSummary:
    """Returns the run in brief. Rows of versions before this list lack what that tells."""
    execution = _execution(key, row)
    if "endedAs" not in row:
        return RunSummary(run=execution)
    if "brief" not in row:
        return RunSummary(run=_ended(execution, row))
    brief = json.loads(row["brief"])
    events = [records.recalled(event, execution.code, execution.context) for event in brief["events"]]
    return RunSummary(run=replace(execution, events=events), results=brief["results"], output_chars=brief["chars"])


def _item(execution: Execution) -> items.Item:
    return items.row_key(execution.key, items.RUN + execution.execution_id) | pack(
        {
            "code": execution.code,
            "context": _context_text(execution),
            "createdAt": millis(execution.created_at),
            "ttl": _forget_at(execution.created_at),
        }
    )


def _artifacts_text(execution: Execution) -> str | None:
    fields = [artifact_fields(artifact) for artifact in execution.artifacts]
    return json.dumps(fields, separators=(",", ":")) if fields else None


def _artifacts_of(key: ChatKey, row: Mapping[str, Any]) -> tuple[Artifact, ...]:
    execution_id = row["sk"].removeprefix(items.RUN)
    return tuple(artifact_of(fields, key, execution_id) for fields in json.loads(row.get("artifacts", "[]")))


def _context_text(execution: Execution) -> str:
    return json.dumps(records.context_json(execution.context), separators=(",", ":"))


def _forget_at(begun: datetime) -> int:
    return round((begun + KEPT).timestamp())
