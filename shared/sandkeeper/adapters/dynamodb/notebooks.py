"""Notebooks' rows: a head for each, its parts, and its changes.

    small change    [ head, if it is the one before ─ delta ─ new parts ─ old parts gone ]      one transaction
    large change    new parts ──► [ head, if it is the one before ─ delta ] ──► old parts gone
    large part      as in a large change, its text in S3: its row, which says so, is there before and after that

Whoever dies on the way leaves the state before or after it, and maybe parts that no head names: these go with the
notebook. A part's row is never written twice, so that two who change a notebook at once meet at the head alone.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Protocol, TypeVar

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.items import millis, pack, unpack
from sandkeeper.adapters.dynamodb.table import Table
from sandkeeper.model import ChatKey, utc_moment
from sandkeeper.notebooks import CellRun, Change, Delta, DeltaKind, Notebook, Part, Plan, Ref, Slot

TOLD_FOR = timedelta(days=1)
INLINE_BYTES = 100_000
"""Larger parts lie in S3: rows have at most 400 KB, and are dear to read."""
AT_ONCE = 20
"""How many parts a transaction writes and drops at most: it has 100 items and 4 MB."""
AT_ONCE_BYTES = 1_000_000
HUNDRED = 100
"""How many rows a request of DynamoDB reads, or drops, at most."""

_UNCHANGED = "version = :version"

T = TypeVar("T")


class PartBodies(Protocol):
    """Where parts lie that are too large for a row."""

    def write(self, key: ChatKey, notebook_id: str, stamp: str, content: bytes) -> None:
        """Keeps the content."""
        ...

    def read(self, key: ChatKey, notebook_id: str, stamp: str) -> bytes | None:
        """Returns the content, None when it is gone."""
        ...

    def delete(self, key: ChatKey, notebook_id: str, stamp: str) -> None:
        """Removes the content. Removing what is gone does nothing."""
        ...


class DynamoNotebookStore:
    """`NotebookStore` on the table's `NOTEBOOK#`, `PART#` and `DELTA#` rows."""

    def __init__(self, table: Table, bodies: PartBodies, beside: Executor) -> None:
        self._table = table
        self._bodies = bodies
        self._beside = beside

    def add(self, notebook: Notebook, parts: Sequence[Part]) -> None:
        """See `NotebookStore.add`."""
        self._write_ahead(notebook, parts)
        self._table.put(_head_item(notebook))

    def get(self, key: ChatKey, notebook_id: str) -> Notebook | None:
        """See `NotebookStore.get`."""
        item = self._table.get(items.row_key(key, items.NOTEBOOK + notebook_id))
        return None if item is None else _head_of(item)

    def latest(self, key: ChatKey, *, limit: int, before: str | None = None) -> Sequence[Notebook]:
        """See `NotebookStore.latest`: ids are ULIDs, so the key's order is the order of time."""
        start = {} if before is None else {"ExclusiveStartKey": items.row_key(key, items.NOTEBOOK + before)}
        found = self._table.query(
            **_within(key, items.NOTEBOOK),
            ScanIndexForward=False,
            PaginationConfig={"PageSize": limit},
            **start,
        )
        return [_head_of(item) for item in islice(found, limit)]

    def count(self, key: ChatKey) -> int:
        """See `NotebookStore.count`."""
        return self._table.count(**_within(key, items.NOTEBOOK))

    def texts(self, notebook: Notebook, refs: Sequence[Ref]) -> Mapping[str, str]:
        """See `NotebookStore.texts`."""
        large = [*filter(_is_large, refs)]
        bodies = self._beside.map(lambda ref: self._bodies.read(*_address(notebook), ref.stamp), large)
        stamps = {ref.stamp for ref in refs if not _is_large(ref)}
        keys = [_part_key(notebook.key, notebook.notebook_id, stamp) for stamp in sorted(stamps)]
        found = [unpack(item) for some in _hundreds(keys) for item in self._table.get_many(some)]
        inline = {row["sk"].rpartition("#")[2]: row["text"] for row in found}
        read = zip(large, bodies, strict=True)
        return inline | {ref.stamp: body.decode() for ref, body in read if body is not None}

    def commit(self, change: Change) -> bool:
        """See `NotebookStore.commit`."""
        notebook, beside = change.after, _beside(change)
        self._write_ahead(notebook, [part for part in change.parts if part.stamp not in beside])
        puts = ({"Put": {"Item": _part_item(notebook, part)}} for part in change.parts if part.stamp in beside)
        gone = [ref for ref in change.dropped if ref.stamp in beside]
        written = self._table.transact(
            {"Put": {"Item": _head_item(notebook), **_if_unchanged(change.before)}},
            {"Put": {"Item": _delta_item(notebook, change.delta)}},
            *puts,
            *({"Delete": {"Key": _part_key(*_address(notebook), ref.stamp)}} for ref in gone),
            lost=("ConditionalCheckFailed", "TransactionConflict"),
        )
        unnamed = change.dropped if written else [part.ref for part in change.parts]
        self._drop(notebook, [ref for ref in unnamed if ref.stamp not in beside])
        return written

    def deltas(self, key: ChatKey, notebook_id: str, *, after: int, limit: int) -> Sequence[Delta]:
        """See `NotebookStore.deltas`."""
        prefix = f"{items.DELTA}{notebook_id}#"
        found = self._table.query(
            **_within(key, prefix),
            ExclusiveStartKey=items.row_key(key, f"{prefix}{after:012}"),
            PaginationConfig={"PageSize": limit},
        )
        return [_delta_of(item) for item in islice(found, limit)]

    def remove(self, notebook: Notebook, delta: Delta) -> bool:
        """See `NotebookStore.remove`."""
        row = items.row_key(notebook.key, items.NOTEBOOK + notebook.notebook_id)
        removed = self._table.transact(
            {"Delete": {"Key": row, **_if_unchanged(notebook)}},
            {"Put": {"Item": _delta_item(notebook, delta)}},
            lost=("ConditionalCheckFailed", "TransactionConflict"),
        )
        if removed:
            self.sweep(*_address(notebook))
        return removed

    def sweep(self, key: ChatKey, notebook_id: str) -> None:
        """See `NotebookStore.sweep`: what lies in S3 goes first, as long as its row tells of it."""
        prefix = f"{items.PART}{notebook_id}#"
        found = self._table.query(**_within(key, prefix), ProjectionExpression="pk, sk, inS3")
        for some in _hundreds(found):
            rows = [unpack(item) for item in some]
            stamps = [row["sk"].rpartition("#")[2] for row in rows if row.get("inS3")]
            self._each(lambda stamp: self._bodies.delete(key, notebook_id, stamp), stamps)
            self._table.transact(*({"Delete": {"Key": pack({"pk": row["pk"], "sk": row["sk"]})}} for row in rows))

    def _write_ahead(self, notebook: Notebook, parts: Sequence[Part]) -> None:
        """Writes what no head names yet: rows first, so that whatever lies in S3 is found by one."""
        where = _address(notebook)
        self._each(lambda part: self._table.put(_part_item(notebook, part)), parts)
        large = [part for part in parts if _is_large(part.ref)]
        self._each(lambda part: self._bodies.write(*where, part.stamp, part.text.encode()), large)

    def _each(self, work: Callable[[T], object], of: Iterable[T]) -> None:
        """Does this for each, side by side. Raises what the first of them does that fails."""
        for done in [self._beside.submit(work, each) for each in of]:
            done.result()

    def _drop(self, notebook: Notebook, refs: Sequence[Ref]) -> None:
        """Removes what no head names any more: rows last."""
        where = _address(notebook)
        self._each(lambda ref: self._bodies.delete(*where, ref.stamp), [*filter(_is_large, refs)])
        for some in _hundreds(refs):
            self._table.transact(*({"Delete": {"Key": _part_key(*where, ref.stamp)}} for ref in some))


def _is_large(ref: Ref) -> bool:
    return ref.size_bytes > INLINE_BYTES


def _beside(change: Change) -> set[str]:
    """Returns the stamps of those parts that are written and dropped in one transaction with the head."""
    new = [part.ref for part in change.parts]
    small = [ref for ref in (*new, *change.dropped) if not _is_large(ref)]
    fits = len(small) <= AT_ONCE and sum(ref.size_bytes for ref in small) <= AT_ONCE_BYTES
    return {ref.stamp for ref in small} if fits else set()


def _hundreds(values: Iterable[T]) -> Iterator[list[T]]:
    """Yields the values in lists of what one request may have."""
    left = iter(values)
    while some := [*islice(left, HUNDRED)]:
        yield some


def _address(notebook: Notebook) -> tuple[ChatKey, str]:
    return notebook.key, notebook.notebook_id


def _within(key: ChatKey, prefix: str) -> dict[str, Any]:
    """Returns what a query asks for to find the chat's rows of this prefix."""
    return {
        "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
        "ExpressionAttributeValues": pack({":pk": items.chat_pk(key), ":prefix": prefix}),
        "ConsistentRead": True,
    }


def _if_unchanged(notebook: Notebook) -> dict[str, Any]:
    values = pack({":version": notebook.version})
    return {"ConditionExpression": _UNCHANGED, "ExpressionAttributeValues": values}


# ── Parts ───────────────────────────────────────────────────────────────────────────────────────────


def _part_key(key: ChatKey, notebook_id: str, stamp: str) -> items.Item:
    return items.row_key(key, f"{items.PART}{notebook_id}#{stamp}")


def _part_item(notebook: Notebook, part: Part) -> items.Item:
    values = {"inS3": True} if _is_large(part.ref) else {"text": part.text}
    return _part_key(*_address(notebook), part.stamp) | pack(values)


# ── Heads ───────────────────────────────────────────────────────────────────────────────────────────


def _head_item(notebook: Notebook) -> items.Item:
    return items.row_key(notebook.key, items.NOTEBOOK + notebook.notebook_id) | pack(
        {
            "title": notebook.title,
            "version": notebook.version,
            "edited": notebook.edited,
            "createdAt": millis(notebook.created_at),
            "updatedAt": millis(notebook.updated_at),
            "slots": _text([*map(_slot_fields, notebook.slots)]),
            "metadata": _text(dict(notebook.metadata)),
            "plan": None if notebook.plan is None else _text(asdict(notebook.plan)),
        }
    )


def _head_of(item: Mapping[str, Any]) -> Notebook:
    row = unpack(item)
    return Notebook(
        key=items.chat_of(row["pk"]),
        notebook_id=row["sk"].removeprefix(items.NOTEBOOK),
        title=row["title"],
        version=row["version"],
        edited=row["edited"],
        created_at=utc_moment(row["createdAt"]),
        updated_at=utc_moment(row["updatedAt"]),
        slots=tuple(map(_slot_of, json.loads(row["slots"]))),
        metadata=json.loads(row["metadata"]),
        plan=_plan_of(json.loads(row["plan"])) if "plan" in row else None,
    )


def _plan_of(fields: dict[str, Any]) -> Plan:
    return Plan(**fields | {"left": tuple(fields["left"])})


def _slot_fields(slot: Slot) -> dict[str, Any]:
    """Returns a cell as the head keeps it: in short names, for every change writes them all."""
    run = slot.run
    fields: dict[str, Any] = {
        "id": slot.cell_id,
        "kind": slot.kind,
        "v": slot.version,
        "src": _ref_fields(slot.source),
    }
    if slot.outputs is not None:
        fields["out"] = _ref_fields(slot.outputs)
    if slot.count is not None:
        fields["n"] = slot.count
    if run is not None:
        fields["run"] = {
            "id": run.execution_id,
            "v": run.source_version,
            "at": millis(run.begun_at),
            "plan": run.plan_id,
            "end": _maybe_millis(run.ended_at),
            "ok": run.succeeded,
        }
    return fields


def _slot_of(fields: Mapping[str, Any]) -> Slot:
    run = fields.get("run")
    return Slot(
        cell_id=fields["id"],
        kind=fields["kind"],
        version=fields["v"],
        source=Ref(*fields["src"]),
        outputs=Ref(*fields["out"]) if "out" in fields else None,
        count=fields.get("n"),
        run=None if run is None else _run_of(run),
    )


def _run_of(fields: Mapping[str, Any]) -> CellRun:
    return CellRun(
        execution_id=fields["id"],
        source_version=fields["v"],
        begun_at=utc_moment(fields["at"]),
        plan_id=fields["plan"],
        ended_at=None if fields["end"] is None else utc_moment(fields["end"]),
        succeeded=fields["ok"],
    )


def _ref_fields(ref: Ref) -> tuple[str, int]:
    return ref.stamp, ref.size_bytes


def _maybe_millis(when: datetime | None) -> int | None:
    return None if when is None else millis(when)


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# ── Changes ─────────────────────────────────────────────────────────────────────────────────────────


def _delta_item(notebook: Notebook, delta: Delta) -> items.Item:
    sk = f"{items.DELTA}{notebook.notebook_id}#{delta.version:012}"
    return items.row_key(notebook.key, sk) | pack(
        {
            "kind": delta.kind,
            "at": millis(delta.at),
            "cellId": delta.cell_id,
            "executionId": delta.execution_id,
            "ttl": round((delta.at + TOLD_FOR).timestamp()),
        }
    )


def _delta_of(item: Mapping[str, Any]) -> Delta:
    row = unpack(item)
    kind: DeltaKind = row["kind"]
    return Delta(
        version=int(row["sk"].rpartition("#")[2]),
        at=utc_moment(row["at"]),
        kind=kind,
        cell_id=row.get("cellId"),
        execution_id=row.get("executionId"),
    )
