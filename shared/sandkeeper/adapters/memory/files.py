"""Files in memory."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sandkeeper.errors import FileNotFound
from sandkeeper.model import (
    ChatKey,
    FileReading,
    FileRecord,
    FileStatus,
    UploadTicket,
)


class MemoryFileCatalog:
    """`FileCatalog` in a dictionary."""

    def __init__(self) -> None:
        self._records: dict[tuple[ChatKey, str], FileRecord] = {}
        self._lock = threading.Lock()

    def add(self, record: FileRecord) -> bool:
        """See `FileCatalog.add`."""
        with self._lock:
            if not record.replaces and self._holder(record) is not None:
                return False
            self._records[record.key, record.file_id] = record
            return True

    def get(self, key: ChatKey, file_id: str) -> FileRecord | None:
        """See `FileCatalog.get`."""
        return self._records.get((key, file_id))

    def of_chat(self, key: ChatKey) -> Sequence[FileRecord]:
        """See `FileCatalog.of_chat`."""
        with self._lock:
            return sorted(self._of(key), key=lambda record: record.file_id)

    def mark_ready(self, key: ChatKey, file_id: str, reading: FileReading) -> bool:
        """See `FileCatalog.mark_ready`."""
        record = self._records.get((key, file_id))
        if record is not None and record.replaces:
            self._replace(record)
        return self._mark(
            key,
            file_id,
            status=FileStatus.READY,
            reason=None,
            size_bytes=reading.size_bytes,
            kind=reading.kind,
            tables=reading.tables,
            details=reading.details,
        )

    def mark_failed(self, key: ChatKey, file_id: str, reason: str) -> bool:
        """See `FileCatalog.mark_failed`."""
        return self._mark(key, file_id, status=FileStatus.FAILED, reason=reason)

    def delete(self, record: FileRecord) -> None:
        """See `FileCatalog.delete`."""
        with self._lock:
            self._records.pop((record.key, record.file_id), None)

    def _holder(self, record: FileRecord) -> FileRecord | None:
        """Returns the file that has the record's path."""
        others = [other for other in self._of(record.key) if other.path == record.path]
        holders = (other for other in others if not other.replaces or other.status is FileStatus.READY)
        return next(holders, None)

    def _replace(self, record: FileRecord) -> None:
        with self._lock:
            holder = self._holder(record)
            if holder is not None and holder.file_id != record.file_id:
                del self._records[holder.key, holder.file_id]
                self._records[record.key, record.file_id] = replace(record, replaced_id=holder.file_id)

    def _of(self, key: ChatKey) -> list[FileRecord]:
        return [record for record in self._records.values() if record.key == key]

    def _mark(self, key: ChatKey, file_id: str, **changes: object) -> bool:
        with self._lock:
            record = self._records.get((key, file_id))
            if record is None:
                return False
            self._records[key, file_id] = replace(record, **changes)  # type: ignore[arg-type]
            return True


class MemoryFileContents:
    """`FileContents` in a dictionary. Its tickets lead nowhere: tests `put` the bytes themselves."""

    def __init__(self) -> None:
        self._contents: dict[tuple[ChatKey, str], bytes] = {}

    def put(self, key: ChatKey, file_id: str, content: bytes) -> None:
        """Stands for an upload."""
        self._contents[key, file_id] = content

    def presign_upload(self, key: ChatKey, file_id: str, *, max_bytes: int, content_type: str) -> UploadTicket:
        """See `FileContents.presign_upload`."""
        return UploadTicket("https://uploads.invalid/", {"key": file_id, "Content-Type": content_type})

    def read(self, key: ChatKey, file_id: str) -> Iterator[bytes]:
        """See `FileContents.read`."""
        try:
            return iter([self._contents[key, file_id]])
        except KeyError:
            raise FileNotFound(f"file {file_id!r} has no content") from None

    def delete(self, key: ChatKey, file_id: str) -> None:
        """See `FileContents.delete`."""
        self._contents.pop((key, file_id), None)
