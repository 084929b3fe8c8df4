"""Put a chat's files into its sandbox before code runs there."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from sandkeeper.errors import FileNotFound, FileNotReady, FileUnusable
from sandkeeper.model import ChatKey, FileRecord, FileStatus, SandboxRef, Session
from sandkeeper.ports import FileCatalog, FileContents, SandboxProvider


@dataclass(frozen=True, slots=True)
class Hydrate:
    """Streams files from the contents' store to a sandbox, several at a time, in bounded memory."""

    catalog: FileCatalog
    contents: FileContents
    sandboxes: SandboxProvider
    beside: Executor

    def ready(self, key: ChatKey) -> Sequence[FileRecord]:
        """Returns all files of the chat that can be used: one of each path, should one be replaced just now."""
        ready = [record for record in self.catalog.of_chat(key) if record.status is FileStatus.READY]
        return [*{record.path: record for record in ready}.values()]

    def missing(self, session: Session) -> Sequence[FileRecord]:
        """Returns the usable files that the session's sandbox does not have.

        Takes no round trip unless files have become ready since the session last looked.
        """
        if not session.fresh_files:
            return []
        return [record for record in self.ready(session.key) if record.file_id not in session.hydrated]

    def named(self, key: ChatKey, file_ids: Sequence[str]) -> Sequence[FileRecord]:
        """Returns the files of these ids, in this order.

        Raises `FileNotFound`, `FileNotReady` or `FileUnusable` for the first that cannot be used.
        """
        known = {record.file_id: record for record in self.catalog.of_chat(key)} if file_ids else {}
        return [_usable(known.get(file_id), file_id, key) for file_id in dict.fromkeys(file_ids)]

    def fill(self, sandbox: SandboxRef, files: Sequence[FileRecord]) -> None:
        """Puts the files into the sandbox. Raises the first error, once all transfers have ended."""
        transfers = [self.beside.submit(self._put, sandbox, file) for file in files]
        errors = [error for error in (transfer.exception() for transfer in transfers) if error]
        if errors:
            raise errors[0]

    def _put(self, sandbox: SandboxRef, file: FileRecord) -> None:
        try:
            content = self.contents.read(file.key, file.file_id)
        except FileNotFound as error:
            raise FileUnusable(
                f"the content of file {file.file_id!r} ({file.name!r}) is gone; delete it and upload it again"
            ) from error
        self.sandboxes.write_file(sandbox, file.path, content)


def _usable(record: FileRecord | None, file_id: str, key: ChatKey) -> FileRecord:
    if record is None:
        raise FileNotFound(f"chat {key.chat_id!r} has no file {file_id!r}; list its files to see their ids")
    match record.status:
        case FileStatus.READY:
            return record
        case FileStatus.PENDING:
            raise FileNotReady(
                f"file {file_id!r} ({record.name!r}) has not been uploaded and read yet; try again in a moment"
            )
        case FileStatus.FAILED:
            raise FileUnusable(
                f"file {file_id!r} ({record.name!r}) cannot be used: {record.reason}; upload it again"
            )
