"""Chats' files: their records, their bytes, and what they hold."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from sandkeeper.model import ChatKey, FileReading, FileRecord, UploadTicket


class FileCatalog(Protocol):
    """The records of chats' files."""

    def add(self, record: FileRecord) -> bool:
        """Adds the record. Returns False, and writes nothing, when another file has its path.

        One that `replaces` takes its path only when it is ready.
        """
        ...

    def get(self, key: ChatKey, file_id: str) -> FileRecord | None:
        """Returns the record as the last write left it."""
        ...

    def of_chat(self, key: ChatKey) -> Sequence[FileRecord]:
        """Returns the chat's records, oldest first."""
        ...

    def mark_ready(self, key: ChatKey, file_id: str, reading: FileReading) -> bool:
        """Records what reading the content gave. Returns False when the file has been deleted.

        Of one that `replaces`, the record of the file that has its path is removed in the same write, and its id is
        noted as `replaced_id`: of any number of such files the one that was ready last has the path.
        """
        ...

    def mark_failed(self, key: ChatKey, file_id: str, reason: str) -> bool:
        """Records why the content is of no use. Returns False when the file has been deleted."""
        ...

    def delete(self, record: FileRecord) -> None:
        """Removes the record and frees its path, if it has that. Removing what is gone does nothing."""
        ...


class FileContents(Protocol):
    """The bytes of chats' files."""

    def presign_upload(self, key: ChatKey, file_id: str, *, max_bytes: int, content_type: str) -> UploadTicket:
        """Returns a ticket that lets its holder upload this one file, of at most this size."""
        ...

    def read(self, key: ChatKey, file_id: str) -> Iterator[bytes]:
        """Opens the content and returns its chunks. Raises `FileNotFound` before the first chunk."""
        ...

    def delete(self, key: ChatKey, file_id: str) -> None:
        """Removes the content. Removing what is gone does nothing."""
        ...


class Unreadable(Exception):
    """The content is damaged, over a limit, or not what the file's name says. The message names file and fix."""


class ContentReader(Protocol):
    """Says what a file holds."""

    def __call__(self, content: Iterable[bytes], *, name: str, content_type: str) -> FileReading:
        """Returns what the content holds, whatever the name and the type say. Raises `Unreadable`.

        That is all that content can do: it cannot crash, block or starve the reader. Errors of `content` itself
        come out as they are.
        """
        ...
