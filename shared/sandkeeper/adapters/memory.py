"""All ports in memory, for tests that need no emulator. The contract suites hold them to the real ones."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sandkeeper.errors import FileNotFound
from sandkeeper.model import (
    ApiKey,
    ChatKey,
    EndReason,
    FileReading,
    FileRecord,
    FileStatus,
    RunEnd,
    RunOutcome,
    SandboxRef,
    Session,
    SessionState,
    Stream,
    UploadTicket,
)
from sandkeeper.ports import Granted, Refused, SandboxGone, SandboxSpec


class MemorySessionStore:
    """`SessionStore` in a dictionary; one lock makes every write atomic."""

    def __init__(self) -> None:
        self._rows: dict[ChatKey, Session] = {}
        self._lock = threading.Lock()

    def claim(
        self, key: ChatKey, *, run_id: str, now: datetime, run_until: datetime, expires_at: datetime
    ) -> Granted | Refused:
        """See `SessionStore.claim`."""
        return self._write(
            key,
            lambda row: row.is_live(now) and not row.is_busy(now),
            lambda row: replace(row, run_id=run_id, run_until=run_until, last_used_at=now, expires_at=expires_at),
        )

    def begin(self, session: Session, *, seen: Session | None) -> Granted | Refused:
        """See `SessionStore.begin`."""
        with self._lock:
            row = self._rows.get(session.key)
            if _identity(row) != _identity(seen):
                return Refused(row)
            self._rows[session.key] = session
            return Granted(session)

    def activate(self, session: Session) -> Granted | Refused:
        """See `SessionStore.activate`."""
        return self._write(
            session.key,
            lambda row: row.state is SessionState.CREATING and row.claim_id == session.claim_id,
            lambda row: replace(session, fresh_files=row.fresh_files),
        )

    def abandon(self, session: Session, *, now: datetime) -> None:
        """See `SessionStore.abandon`."""
        self._write(
            session.key,
            lambda row: row.state is SessionState.CREATING and _same_run(row, session),
            lambda row: replace(row, claim_until=now),
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
        outcome = self._write(
            session.key,
            lambda row: row.state is SessionState.READY and _same_run(row, session),
            lambda row: replace(
                row,
                run_id=None,
                run_until=None,
                last_used_at=now,
                expires_at=expires_at,
                sandbox_until=sandbox_until,
                hydrated={**row.hydrated, **hydrated},
                fresh_files=row.fresh_files - session.fresh_files,
                run_count=row.run_count + ran,
            ),
        )
        return isinstance(outcome, Granted)

    def announce_file(self, key: ChatKey, file_id: str) -> None:
        """See `SessionStore.announce_file`."""
        self._write(key, lambda _: True, lambda row: replace(row, fresh_files=row.fresh_files | {file_id}))

    def forget_file(self, key: ChatKey, file_id: str) -> None:
        """See `SessionStore.forget_file`."""
        self._write(
            key,
            lambda row: file_id in row.hydrated,
            lambda row: replace(
                row, hydrated={other: path for other, path in row.hydrated.items() if other != file_id}
            ),
        )

    def read(self, key: ChatKey) -> Session | None:
        """See `SessionStore.read`."""
        with self._lock:
            return self._rows.get(key)

    def begin_close(
        self, key: ChatKey, *, now: datetime, claim_until: datetime, reason: EndReason = EndReason.CLOSED
    ) -> Granted | Refused:
        """See `SessionStore.begin_close`."""
        return self._write(
            key,
            lambda row: (
                row.state is not SessionState.CLOSED
                and not (row.state is SessionState.CLOSING and row.is_claimed(now))
            ),
            lambda row: _closing(row, now, claim_until, reason),
        )

    def begin_expire(self, key: ChatKey, *, now: datetime, claim_until: datetime) -> Granted | Refused:
        """See `SessionStore.begin_expire`."""
        return self._write(
            key,
            lambda row: (
                row.state is not SessionState.CLOSED
                and row.expires_at <= now
                and not row.is_claimed(now)
                and (row.state is SessionState.CLOSING or not row.is_busy(now))
            ),
            lambda row: _closing(
                row,
                now,
                claim_until,
                row.end_reason if row.state is SessionState.CLOSING else EndReason.EXPIRED,
            ),
        )

    def end(self, session: Session, *, forget_at: datetime) -> bool:
        """See `SessionStore.end`."""
        outcome = self._write(
            session.key,
            lambda row: row.state is SessionState.CLOSING and row.claim_id == session.claim_id,
            lambda row: replace(
                row,
                state=SessionState.CLOSED,
                claim_until=None,
                sandbox=None,
                sandbox_until=None,
                run_id=None,
                run_until=None,
                hydrated={},
                fresh_files=frozenset(),
                predecessor_id=None,
            ),
        )
        return isinstance(outcome, Granted)

    def expired(self, *, now: datetime) -> Iterator[ChatKey]:
        """See `SessionStore.expired`."""
        return iter([row.key for row in self._indexed() if row.expires_at <= now])

    def live(self) -> Iterator[ChatKey]:
        """See `SessionStore.live`."""
        return iter([row.key for row in self._indexed()])

    def _indexed(self) -> list[Session]:
        with self._lock:
            return [row for row in self._rows.values() if row.state is not SessionState.CLOSED]

    def _write(
        self, key: ChatKey, condition: Callable[[Session], bool], change: Callable[[Session], Session]
    ) -> Granted | Refused:
        with self._lock:
            row = self._rows.get(key)
            if row is None or not condition(row):
                return Refused(row)
            self._rows[key] = change(row)
            return Granted(self._rows[key])


def _identity(row: Session | None) -> object:
    return row and (row.state, row.claim_id, row.expires_at)


def _same_run(row: Session, session: Session) -> bool:
    return row.claim_id == session.claim_id and row.run_id == session.run_id


def _closing(row: Session, now: datetime, claim_until: datetime, reason: EndReason | None) -> Session:
    return replace(row, state=SessionState.CLOSING, claim_until=claim_until, expires_at=now, end_reason=reason)


Program = Callable[[SandboxRef, str], RunOutcome]


def echo(_: SandboxRef, code: str) -> RunOutcome:
    """Returns the code as if it had been printed."""
    return RunOutcome([Stream("stdout", code)], RunEnd.FINISHED)


@dataclass(slots=True)
class MemorySandboxProvider:
    """`SandboxProvider` without sandboxes: files are kept, and `program` stands for the kernel."""

    program: Program = echo
    alive: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Sandbox id → path → content."""
    created: dict[str, str] = field(default_factory=dict)
    """Idempotency key → id, of every sandbox there ever was."""
    killed: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, spec: SandboxSpec) -> SandboxRef:
        """See `SandboxProvider.create`."""
        with self._lock:
            number = len(self.created) + 1
            sandbox_id = self.created.setdefault(spec.idempotency_key, f"sbx{number}")
            if sandbox_id not in self.killed:
                self.alive.setdefault(sandbox_id, {})
        return SandboxRef(sandbox_id=sandbox_id, domain=None, envd_version="0.0.0", envd_token="token")  # noqa: S106

    def extend(self, sandbox_id: str, lifetime: timedelta) -> None:
        """See `SandboxProvider.extend`."""
        self._files(sandbox_id)

    def kill(self, sandbox_id: str) -> None:
        """See `SandboxProvider.kill`."""
        with self._lock:
            if self.alive.pop(sandbox_id, None) is not None:
                self.killed.append(sandbox_id)

    def run(self, sandbox: SandboxRef, code: str, *, timeout: timedelta) -> RunOutcome:
        """See `SandboxProvider.run`."""
        self._files(sandbox.sandbox_id)
        return self.program(sandbox, code)

    def write_file(self, sandbox: SandboxRef, path: str, content: Iterable[bytes]) -> None:
        """See `SandboxProvider.write_file`."""
        self._files(sandbox.sandbox_id)[path] = b"".join(content)

    def delete_file(self, sandbox: SandboxRef, path: str) -> None:
        """See `SandboxProvider.delete_file`."""
        self._files(sandbox.sandbox_id).pop(path, None)

    def _files(self, sandbox_id: str) -> dict[str, bytes]:
        try:
            return self.alive[sandbox_id]
        except KeyError:
            raise SandboxGone(sandbox_id) from None


class MemoryFileCatalog:
    """`FileCatalog` in a dictionary."""

    def __init__(self) -> None:
        self._records: dict[tuple[ChatKey, str], FileRecord] = {}
        self._lock = threading.Lock()

    def add(self, record: FileRecord) -> bool:
        """See `FileCatalog.add`."""
        with self._lock:
            if any(other.path == record.path for other in self._of(record.key)):
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
        return self._mark(
            key,
            file_id,
            status=FileStatus.READY,
            reason=None,
            size_bytes=reading.size_bytes,
            headers=reading.headers,
            row_count=reading.row_count,
        )

    def mark_failed(self, key: ChatKey, file_id: str, reason: str) -> bool:
        """See `FileCatalog.mark_failed`."""
        return self._mark(key, file_id, status=FileStatus.FAILED, reason=reason)

    def delete(self, record: FileRecord) -> None:
        """See `FileCatalog.delete`."""
        with self._lock:
            self._records.pop((record.key, record.file_id), None)

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


class MemoryApiKeyStore:
    """`ApiKeyStore` in a dictionary."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}

    def find(self, token_hash: str) -> ApiKey | None:
        """See `ApiKeyStore.find`."""
        return self._keys.get(token_hash)

    def put(self, api_key: ApiKey) -> None:
        """See `ApiKeyStore.put`."""
        self._keys[api_key.token_hash] = api_key

    def mark_used(self, token_hash: str, day: str) -> None:
        """See `ApiKeyStore.mark_used`."""
        if token_hash in self._keys:
            self._keys[token_hash] = replace(self._keys[token_hash], last_used_day=day)


@dataclass(slots=True)
class MemoryJournal:
    """`Journal` as a list of what was noted."""

    notes: list[tuple[str, dict[str, str | int | float]]] = field(default_factory=list)

    def note(self, event: str, **facts: str | int | float) -> None:
        """See `Journal.note`."""
        self.notes.append((event, facts))
