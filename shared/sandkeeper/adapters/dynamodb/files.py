"""Files' rows, and the rows that reserve their paths."""

from collections.abc import Mapping, Sequence
from typing import Any

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.items import pack
from sandkeeper.adapters.dynamodb.table import ABSENT, EXISTS, Table, our_errors
from sandkeeper.model import ChatKey, FileReading, FileRecord, FileStatus


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
        known = items.reading_values(reading)
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
