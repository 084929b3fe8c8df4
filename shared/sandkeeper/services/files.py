"""A chat's files: take uploads in, tell what they hold, let them go."""

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath

from sandkeeper.errors import FileNotFound, InvalidRequest, QuotaExceeded, SandkeeperError
from sandkeeper.model import (
    HOME,
    ChatKey,
    Clock,
    FileRecord,
    FileStatus,
    NewId,
    SandboxRef,
    Session,
    UploadTicket,
)
from sandkeeper.ports import FileCatalog, FileContents, Journal, SandboxGone
from sandkeeper.services.budget import Budget
from sandkeeper.services.sessions import Sessions

RESUME_S = 10.0
"""How long a paused sandbox may take to be resumed, so that a file can be deleted in it."""

MAX_NAME_BYTES = 200
"""Leaves room for a `-2` within the 255 bytes that file systems allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What a chat may hold."""

    max_bytes: int
    max_files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Registers uploads, describes and deletes files."""

    catalog: FileCatalog
    contents: FileContents
    sessions: Sessions
    limits: FileLimits
    clock: Clock
    new_id: NewId
    journal: Journal

    def register(
        self, key: ChatKey, *, file_name: str, size_bytes: int, content_type: str, replace: bool = False
    ) -> tuple[FileRecord, UploadTicket]:
        """Returns a `pending` file and the ticket to upload its content with.

        A name that the chat has already gives a path of its own: `name-2.csv`. With `replace` the file takes the
        place of the one that has its path, once it has been read; until then, and if it cannot be, that one stays.
        """
        name = clean_name(file_name)
        if size_bytes > self.limits.max_bytes:
            raise InvalidRequest(
                f"size {size_bytes!r} is over the limit of {self.limits.max_bytes} bytes a file; split the file"
            )
        existing = self.catalog.of_chat(key)
        paths = {file.path for file in existing}
        in_place = replace and _first_path(name) in paths
        # Files that are to replace others may be there beside them, but not without end.
        if (len(paths) >= self.limits.max_files and not in_place) or len(existing) >= 2 * self.limits.max_files:
            raise QuotaExceeded(
                f"chat {key.chat_id!r} has {len(existing)} files, which is the limit; delete one first"
            )
        new = FileRecord(
            key=key,
            file_id=self.new_id(),
            name=name,
            path=_first_path(name),
            size_bytes=size_bytes,
            content_type=content_type,
            created_at=self.clock(),
            replaces=replace,
        )
        record = self._add(new, set() if replace else paths)
        ticket = self.contents.presign_upload(key, record.file_id, max_bytes=size_bytes, content_type=content_type)
        return record, ticket

    def _add(self, record: FileRecord, taken: set[str]) -> FileRecord:
        """Adds the record under the first free path; a racing upload of the same name takes the next one."""
        for path in _paths(record.name):
            if path in taken:
                continue
            placed = dataclasses.replace(record, path=path)
            if self.catalog.add(placed):
                return placed
        raise AssertionError("unreachable: there is always another path")

    def of_chat(self, key: ChatKey) -> Sequence[FileRecord]:
        """Returns the chat's files, oldest first."""
        return self.catalog.of_chat(key)

    def get(self, key: ChatKey, file_id: str) -> FileRecord:
        """Returns the file. Raises `FileNotFound`."""
        record = self.catalog.get(key, file_id)
        if record is None:
            raise FileNotFound(f"chat {key.chat_id!r} has no file {file_id!r}; list its files to see their ids")
        return record

    def delete(self, key: ChatKey, file_id: str) -> None:
        """Removes the file from the chat, its content from the store, and its copy from the live sandbox.

        The record goes last: when anything before fails, the same call again finishes the work.
        """
        record = self.get(key, file_id)
        if not record.replaces or record.status is FileStatus.READY:  # else another file has the path
            self._delete_copy(record)
        self.contents.delete(key, file_id)
        self.catalog.delete(record)

    def _delete_copy(self, record: FileRecord) -> None:
        self.sessions.store.forget_file(record.key, record.file_id)
        session = self.sessions.store.read(record.key)
        if session is None or session.sandbox is None or not session.is_live(self.clock()):
            return
        try:
            self._delete_in(session, session.sandbox, record.path)
        except SandboxGone:
            return
        except SandkeeperError as error:
            self.journal.note("file.copy_not_deleted", error=type(error).__name__)

    def _delete_in(self, session: Session, sandbox: SandboxRef, path: str) -> None:
        try:
            self.sessions.sandboxes.delete_file(sandbox, path)
        except SandboxGone:
            # It may be paused, and the file would be there again when it is resumed.
            resumed = self.sessions.reconnect(session, timedelta(0), Budget.of(RESUME_S)).sandbox or sandbox
            self.sessions.sandboxes.delete_file(resumed, path)


def clean_name(file_name: str) -> str:
    """Returns the name as the user gave it, less path parts and control characters.

    Raises `InvalidRequest` when nothing usable is left, or when it is too long.
    """
    last = re.split(r"[/\\]", file_name)[-1]
    name = "".join(c for c in last if unicodedata.category(c) not in ("Cc", "Cf", "Cs")).strip()
    if name in ("", ".", ".."):
        raise InvalidRequest(f"fileName {file_name!r} has no name in it; give one such as 'data.csv'")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidRequest(f"fileName is longer than {MAX_NAME_BYTES} bytes; shorten it")
    return name


def _first_path(name: str) -> str:
    return f"{HOME}/{name}"


def _paths(name: str) -> Iterator[str]:
    """Yields `/home/user/name.csv`, then `name-2.csv`, `name-3.csv` …"""
    yield _first_path(name)
    pure = PurePosixPath(name)
    stem, suffix = (pure.stem, pure.suffix) if pure.suffix != name else (name, "")
    number = 2
    while True:
        yield f"{HOME}/{stem}-{number}{suffix}"
        number += 1
