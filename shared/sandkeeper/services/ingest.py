"""Read what an uploaded file holds, so that callers and models know its columns before code runs."""

from dataclasses import dataclass

from sandkeeper.errors import FileNotFound
from sandkeeper.model import ChatKey
from sandkeeper.ports import ContentReader, FileCatalog, FileContents, Journal, SessionStore, Unreadable


@dataclass(frozen=True, slots=True)
class Ingest:
    """Reads a file's content once it has arrived, and records what it holds."""

    catalog: FileCatalog
    contents: FileContents
    sessions: SessionStore
    read: ContentReader
    journal: Journal

    def __call__(self, key: ChatKey, file_id: str) -> None:
        """Marks the file `ready` or `failed`. A file that was deleted meanwhile is left alone.

        Reading it again gives the same record, so a repeated event does no harm.
        """
        record = self.catalog.get(key, file_id)
        if record is None:
            self.journal.note("file.unknown")
            return
        try:
            content = self.contents.read(key, file_id)
            reading = self.read(content, name=record.name, content_type=record.content_type)
        except FileNotFound:
            self.journal.note("file.unknown")
        except Unreadable as why:
            self.catalog.mark_failed(key, file_id, str(why))
            self.journal.note("file.failed")
        else:
            self.catalog.mark_ready(key, file_id, reading)
            # In this order: a session that begins in between finds the file ready by itself.
            self.sessions.announce_file(key, file_id)
            if record.replaces:
                self._forget_replaced(key, file_id)
            self.journal.note("file.ready", size_bytes=reading.size_bytes)

    def _forget_replaced(self, key: ChatKey, file_id: str) -> None:
        """Lets go of the file of which this one has taken the place; again, if whoever did before has died."""
        record = self.catalog.get(key, file_id)
        if record is not None and record.replaced_id is not None:
            self.sessions.forget_file(key, record.replaced_id)
            self.contents.delete(key, record.replaced_id)
