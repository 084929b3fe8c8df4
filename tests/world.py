"""A whole service on memory adapters, with a clock that tests move."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sandkeeper.adapters.memory import (
    MemoryApiKeyStore,
    MemoryFileCatalog,
    MemoryFileContents,
    MemoryJournal,
    MemorySandboxProvider,
    MemorySessionStore,
)
from sandkeeper.model import ApiKey, ChatKey, FileReading, FileRecord, FileStatus, Lifetimes, Session
from sandkeeper.services.auth import hash_token
from sandkeeper.services.budget import Budget
from sandkeeper.services.cleanup import Cleanup
from sandkeeper.services.sessions import Sessions
from sandkeeper.settings import ApiSettings
from sandkeeper.wiring import ApiWiring

START = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
TOKEN = "sk_test_token"
OWNER = "alice"
CHAT = ChatKey(OWNER, "chat-1")


@dataclass
class FakeClock:
    """A clock that stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, step: timedelta) -> None:
        """Moves the clock forward."""
        self.now += step


@dataclass
class World:
    """The services of an API function, and the memory that they stand on."""

    clock: FakeClock = field(default_factory=FakeClock)
    store: MemorySessionStore = field(default_factory=MemorySessionStore)
    sandboxes: MemorySandboxProvider = field(default_factory=MemorySandboxProvider)
    catalog: MemoryFileCatalog = field(default_factory=MemoryFileCatalog)
    contents: MemoryFileContents = field(default_factory=MemoryFileContents)
    keys: MemoryApiKeyStore = field(default_factory=MemoryApiKeyStore)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    wiring: ApiWiring = field(default_factory=ApiWiring)

    def __post_init__(self) -> None:
        """Puts the memory adapters where the wiring would make the real ones."""
        settings = ApiSettings(table_name="table", bucket_name="bucket", stack_name="test", e2b_api_key="key")
        sessions = Sessions(
            store=self.store,
            sandboxes=self.sandboxes,
            lifetimes=Lifetimes(session_timeout=settings.session_timeout),
            stack=settings.stack_name,
            clock=self.clock,
            new_id=self.new_id,
        )
        vars(self.wiring).update(
            settings=settings,
            store=self.store,
            sandboxes=self.sandboxes,
            catalog=self.catalog,
            contents=self.contents,
            keys=self.keys,
            journal=self.journal,
            sessions=sessions,
        )
        self.issue_key(TOKEN, OWNER)

    @property
    def sessions(self) -> Sessions:
        """The session protocol."""
        return self.wiring.sessions

    @property
    def cleanup(self) -> Cleanup:
        """The cleanup of this world."""
        return Cleanup(self.sessions, self.wiring.beside, self.journal)

    def new_id(self) -> str:
        """Returns a ULID."""
        from sandkeeper.wiring import new_ulid  # noqa: PLC0415 - beside the clock it is the only other source

        return new_ulid()

    def issue_key(self, token: str, owner: str) -> None:
        """Lets the token speak for the owner."""
        self.keys.put(
            ApiKey(token_hash=hash_token(token), owner=owner, name="test", created_at=self.clock.now)
        )

    def row(self, key: ChatKey = CHAT) -> Session:
        """Returns the chat's row, which must be there."""
        session = self.store.read(key)
        assert session is not None, f"{key} has no row"
        return session

    def add_file(
        self, name: str, content: bytes, *, key: ChatKey = CHAT, status: FileStatus = FileStatus.READY
    ) -> FileRecord:
        """Adds a file as if it had been uploaded and read."""
        record = FileRecord(
            key=key,
            file_id=self.new_id(),
            name=name,
            path=f"/home/user/{name}",
            size_bytes=len(content),
            content_type="text/csv",
            created_at=self.clock.now,
        )
        assert self.catalog.add(record), f"{name} is there already"
        self.contents.put(key, record.file_id, content)
        if status is FileStatus.READY:
            self.catalog.mark_ready(key, record.file_id, FileReading(size_bytes=len(content)))
        if status is FileStatus.FAILED:
            self.catalog.mark_failed(key, record.file_id, "it is broken")
        return record

    def close(self) -> None:
        """Ends the threads."""
        self.wiring.beside.shutdown()


def budget(seconds: float = 5.0) -> Budget:
    """Returns a real budget, for tests that wait for threads."""
    return Budget.of(seconds)


@contextmanager
def new_world() -> Iterator[World]:
    """Returns a world, and ends its threads afterwards."""
    world = World()
    try:
        yield world
    finally:
        world.close()
