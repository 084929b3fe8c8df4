"""Files' rows, and the rows that reserve their paths."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.items import millis, pack, unpack
from sandkeeper.adapters.dynamodb.table import ABSENT, EXISTS, Table
from sandkeeper.errors import StoreUnavailable
from sandkeeper.model import ChatKey, FileKind, FileReading, FileRecord, FileStatus, utc_moment
from sandkeeper.model import Table as DataTable

REPLACE_TRIES = 5
"""How often a path is taken from the file that has it, when that changes at the same moment."""


class DynamoFileCatalog:
    """`FileCatalog` on the table's `FILE#` and `PATH#` rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, record: FileRecord) -> bool:
        """See `FileCatalog.add`: record and path reservation are written together or not at all."""
        if record.replaces:
            return self._table.put(file_item(record))[0]
        return self._table.transact(
            {"Put": {"Item": _reservation(record), "ConditionExpression": ABSENT}},
            {"Put": {"Item": file_item(record)}},
        )

    def get(self, key: ChatKey, file_id: str) -> FileRecord | None:
        """See `FileCatalog.get`."""
        item = self._table.get(items.row_key(key, items.FILE + file_id))
        return None if item is None else file_of(item)

    def of_chat(self, key: ChatKey) -> Sequence[FileRecord]:
        """See `FileCatalog.of_chat`: ids are ULIDs, so the key's order is the order of time."""
        found = self._table.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :file)",
            ExpressionAttributeValues=pack({":pk": items.chat_pk(key), ":file": items.FILE}),
            ConsistentRead=True,
        )
        return [file_of(item) for item in found]

    def mark_ready(self, key: ChatKey, file_id: str, reading: FileReading) -> bool:
        """See `FileCatalog.mark_ready`."""
        for _ in range(REPLACE_TRIES):
            record = self.get(key, file_id)
            if record is None:
                return False
            holder = self._holder(record) if record.replaces else file_id
            if holder == file_id:
                return self._mark(key, file_id, *_ready(reading))
            if self._replace(record, reading, holder):
                return True
        raise StoreUnavailable(f"the path of file {file_id!r} is given to others again and again; try again")

    def _holder(self, record: FileRecord) -> str | None:
        """Returns the id of the file that has the record's path."""
        reservation = self._table.get(path_key(record))
        return None if reservation is None else str(unpack(reservation)["fileId"])

    def _replace(self, record: FileRecord, reading: FileReading, holder: str | None) -> bool:
        """Gives the file, now ready, the path that `holder` has. Returns False when either has changed."""
        update, values = _ready(reading)
        ready = {
            "Key": items.row_key(record.key, items.FILE + record.file_id),
            "UpdateExpression": update.replace("REMOVE", ", replacedId = :replaced REMOVE") if holder else update,
            "ConditionExpression": EXISTS,
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": pack({**values, ":replaced": holder}),
        }
        reserve: dict[str, Any] = {"Item": _reservation(record), "ConditionExpression": ABSENT}
        if holder is not None:
            reserve |= {
                "ConditionExpression": "fileId = :holder",
                "ExpressionAttributeValues": pack({":holder": holder}),
            }
        drop = [{"Delete": {"Key": items.row_key(record.key, items.FILE + holder)}}] if holder else []
        return self._table.transact({"Update": ready}, {"Put": reserve}, *drop)

    def mark_failed(self, key: ChatKey, file_id: str, reason: str) -> bool:
        """See `FileCatalog.mark_failed`."""
        values = {":failed": FileStatus.FAILED.value, ":reason": reason}
        return self._mark(key, file_id, "SET #status = :failed, reason = :reason", values)

    def delete(self, record: FileRecord) -> None:
        """See `FileCatalog.delete`."""
        row = {"Delete": {"Key": items.row_key(record.key, items.FILE + record.file_id)}}
        path = {
            "Key": path_key(record),
            "ConditionExpression": f"{ABSENT} OR fileId = :id",
            "ExpressionAttributeValues": pack({":id": record.file_id}),
        }
        if not self._table.transact({"Delete": path}, row):
            self._table.transact(row)  # another file has the path

    def _mark(self, key: ChatKey, file_id: str, update: str, values: Mapping[str, Any]) -> bool:
        row = items.row_key(key, items.FILE + file_id)
        return self._table.update(row, update, EXISTS, values)[0]


def _reservation(record: FileRecord) -> items.Item:
    return path_key(record) | pack({"fileId": record.file_id})


def _ready(reading: FileReading) -> tuple[str, dict[str, Any]]:
    """Returns how a record becomes ready: an update and its values."""
    known = reading_values(reading)
    update = "SET #status = :ready, sizeBytes = :size" + "".join(f", {name} = :{name}" for name in known)
    values = {":ready": FileStatus.READY.value, ":size": reading.size_bytes}
    return f"{update} REMOVE reason", values | {f":{name}": value for name, value in known.items()}


def file_item(record: FileRecord) -> items.Item:
    """Returns the row of a file."""
    return pack(
        {
            "pk": items.chat_pk(record.key),
            "sk": items.FILE + record.file_id,
            "name": record.name,
            "path": record.path,
            "sizeBytes": record.size_bytes,
            "contentType": record.content_type,
            "createdAt": millis(record.created_at),
            "status": record.status.value,
            "reason": record.reason,
            "replaces": record.replaces or None,
            "replacedId": record.replaced_id,
        }
        | (reading_values(record) if record.kind is not None else {})
    )


def reading_values(read: FileRecord | FileReading) -> dict[str, Any]:
    """Returns what a row says of a file's content."""
    values: dict[str, Any] = {"kind": read.kind and read.kind.value}
    if read.tables:
        values["tables"] = json.dumps([asdict(table) for table in read.tables], separators=(",", ":"))
    if read.details:
        values["details"] = json.dumps(dict(read.details), separators=(",", ":"))
    return values


def file_of(item: Mapping[str, Any]) -> FileRecord:
    """Returns the file that a row tells of."""
    row = unpack(item)
    return FileRecord(
        key=items.chat_of(row["pk"]),
        file_id=row["sk"].removeprefix(items.FILE),
        name=row["name"],
        path=row["path"],
        size_bytes=row["sizeBytes"],
        content_type=row["contentType"],
        created_at=utc_moment(row["createdAt"]),
        status=FileStatus(row["status"]),
        reason=row.get("reason"),
        replaces=row.get("replaces", False),
        replaced_id=row.get("replacedId"),
        kind=FileKind(row["kind"]) if "kind" in row else None,
        tables=_tables().validate_json(row["tables"]) if "tables" in row else (),
        details=json.loads(row.get("details", "{}")),
    )


@cache
def _tables() -> TypeAdapter[list[DataTable]]:
    return TypeAdapter(list[DataTable])


def path_key(record: FileRecord) -> items.Item:
    """Returns the primary key of the row that reserves the file's path."""
    return items.row_key(record.key, f"PATH#{record.path}")
