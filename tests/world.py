"""A whole service on memory adapters, with a clock that tests move."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sandkeeper.adapters.memory import (
    MemoryApiKeyStore,
    MemoryArtifactCatalog,
    MemoryArtifactContents,
    MemoryFileCatalog,
    MemoryFileContents,
    MemoryJournal,
    MemoryNotebookStore,
    MemoryPackageLists,
    MemoryResultStore,
    MemoryRunLog,
    MemorySandboxProvider,
    MemorySessionStore,
    MemorySweepStore,
)
from sandkeeper.adapters.reading.process import ProcessContentReader
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
)
from sandkeeper.runs import RunEvent, RunOrder
from sandkeeper.services.artifacts import Artifacts
from sandkeeper.services.auth import hash_token
from sandkeeper.services.budget import Budget
from sandkeeper.services.cleanup import Cleanup
from sandkeeper.services.collect import Collect
from sandkeeper.services.execute import Mode, Once, RunReply, RunRequest
from sandkeeper.services.files import Files
from sandkeeper.services.ingest import Ingest
from sandkeeper.services.quota import SessionQuota
from sandkeeper.services.reconcile import Reconcile
from sandkeeper.services.sessions import OnBusy, Sessions
from sandkeeper.settings import ApiSettings
from sandkeeper.wiring import THREADS, ApiWiring, new_ulid

START = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
TOKEN = "sk_test_token"
OWNER = "alice"
CHAT = ChatKey(OWNER, "chat-1")
PORTS = (
    *("store", "sandboxes", "catalog", "contents", "keys", "runs", "results", "sweeps"),
    *("artifact_catalog", "artifact_contents", "package_lists", "notebook_store"),
)
"""What a service needs from outside, as `World` names it."""


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
class Patience:
    """Budgets of which sleeping takes no time: it moves the clock, and then the next thing happens."""

    clock: FakeClock
    events: list[Callable[[], object]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def budget(self, seconds: float) -> Budget:
        """Returns a budget of this much of the clock's time."""
        return Budget(self._now() + seconds, monotonic=self._now, sleep=self._sleep)

    def _now(self) -> float:
        return (self.clock.now - START).total_seconds()

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(max(timedelta(microseconds=1), timedelta(seconds=seconds)))
        if self.events:
            self.events.pop(0)()


class CallerDied(BaseException):
    """The machine of a call is gone: what the call had yet to do is not done."""


@dataclass
class Tap:
    """Stands before a port: tests see every call, and say which of the next ones fail or do something else."""

    port: Any
    calls: list[str] = field(default_factory=list)
    errors: dict[str, deque[BaseException]] = field(default_factory=lambda: defaultdict(deque))
    instead: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(method)
            if self.errors[method]:
                raise self.errors[method].popleft()
            return (self.instead.get(method) or getattr(self.port, method))(*args, **kwargs)

        return call

    def fail(self, method: str, *errors: BaseException) -> None:
        """Lets the next calls of the method raise these errors, one each."""
        self.errors[method].extend(errors)

    def die_after(self, method: str) -> None:
        """Lets the next caller of the method die for whom it has been done, and not failed."""

        def do_and_die(*args: Any, **kwargs: Any) -> Any:
            answer = getattr(self.port, method)(*args, **kwargs)
            if isinstance(answer, Iterator):
                deque(answer, maxlen=0)
            del self.instead[method]
            raise CallerDied

        self.instead[method] = do_and_die


@dataclass
class Journal(MemoryJournal):
    """A journal that also takes what nobody expected, as the Lambda functions' does."""

    errors: list[BaseException] = field(default_factory=list)
    answers: list[tuple[str, str, int]] = field(default_factory=list)

    def answered(self, method: str, route: str, status: int, ms: int) -> None:
        """Keeps what was called, and how it was answered."""
        self.answers.append((method, route, status))

    def failed(self, error: BaseException) -> None:
        """Keeps the error."""
        self.errors.append(error)


class Beside(ThreadPoolExecutor):
    """Threads that tests can wait for."""

    def __init__(self) -> None:
        super().__init__(THREADS)
        self.futures: list[Future[Any]] = []

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs something beside, and remembers it."""
        self.futures.append(super().submit(*args, **kwargs))
        return self.futures[-1]

    def settle(self) -> None:
        """Returns once all that runs beside has ended."""
        _, left = wait(self.futures, timeout=10)
        assert not left, "something still runs beside the calls"


@dataclass
class World:
    """The services of an API function, and the memory that they stand on."""

    clock: FakeClock = field(default_factory=FakeClock)
    store: MemorySessionStore = field(default_factory=MemorySessionStore)
    sweeps: MemorySweepStore = field(default_factory=MemorySweepStore)
    sandboxes: MemorySandboxProvider = field(default_factory=MemorySandboxProvider)
    catalog: MemoryFileCatalog = field(default_factory=MemoryFileCatalog)
    contents: MemoryFileContents = field(default_factory=MemoryFileContents)
    reader: ProcessContentReader = field(default_factory=ProcessContentReader)
    keys: MemoryApiKeyStore = field(default_factory=MemoryApiKeyStore)
    runs: MemoryRunLog = field(default_factory=MemoryRunLog)
    results: MemoryResultStore = field(default_factory=MemoryResultStore)
    artifact_catalog: MemoryArtifactCatalog = field(default_factory=MemoryArtifactCatalog)
    artifact_contents: MemoryArtifactContents = field(default_factory=MemoryArtifactContents)
    package_lists: MemoryPackageLists = field(default_factory=MemoryPackageLists)
    notebook_store: MemoryNotebookStore = field(default_factory=MemoryNotebookStore)
    journal: Journal = field(default_factory=Journal)
    wiring: ApiWiring = field(default_factory=ApiWiring)

    def __post_init__(self) -> None:
        """Puts the memory adapters where the wiring would make the real ones."""
        self.sandboxes.clock = self.clock
        self.beside = Beside()
        self.taps = {name: Tap(getattr(self, name)) for name in PORTS}
        self.issue_key(TOKEN, OWNER)
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Deploys the function anew, with settings that differ from the defaults in these."""
        required = {"table_name": "table", "bucket_name": "bucket", "stack_name": "test", "e2b_api_key": "key"}
        settings = ApiSettings.model_validate(required | changes)
        artifacts = Artifacts(
            catalog=self.taps["artifact_catalog"],
            contents=self.taps["artifact_contents"],
            sandboxes=self.taps["sandboxes"],
            copying=self.beside,
            journal=self.journal,
        )
        collect = Collect(
            store=self.taps["store"],
            sandboxes=self.taps["sandboxes"],
            runs=self.taps["runs"],
            artifacts=artifacts,
            lifetimes=settings.lifetimes,
            clock=self.clock,
            journal=self.journal,
        )
        sessions = Sessions(
            store=self.taps["store"],
            sandboxes=self.taps["sandboxes"],
            lifetimes=settings.lifetimes,
            quota=SessionQuota(self.taps["store"], settings.max_sessions_per_owner),
            collect=collect,
            stack=settings.stack_name,
            clock=self.clock,
            new_id=new_ulid,
        )
        wired = vars(self.wiring)
        wired.clear()
        wired.update(self.taps, settings=settings, journal=self.journal, beside=self.beside)
        wired.update(sessions=sessions, collect=collect, artifacts=artifacts)
        for name in ("files", "history", "context", "notebooks"):
            wired[name] = replace(getattr(self.wiring, name), clock=self.clock)

    @property
    def sessions(self) -> Sessions:
        """The session protocol."""
        return self.wiring.sessions

    @property
    def cleanup(self) -> Cleanup:
        """The cleanup of this world."""
        ending, beside, journal = self.sessions.ending, self.beside, self.journal
        reconcile = Reconcile(ending, self.sessions.stack, self.taps["sweeps"], beside, journal)
        return Cleanup(ending, reconcile, beside, journal)

    def new_id(self) -> str:
        """Returns a ULID."""
        return new_ulid()

    def issue_key(self, token: str, owner: str) -> None:
        """Lets the token speak for the owner."""
        self.keys.put(ApiKey(token_hash=hash_token(token), owner=owner, name="test", created_at=self.clock.now))

    @property
    def files(self) -> Files:
        """The chats' files."""
        return self.wiring.files

    def limit_files(self, **limits: int) -> None:
        """Changes what a chat may hold: `max_bytes`, `max_files`."""
        changed = replace(self.files.limits, **limits)
        vars(self.wiring)["files"] = replace(self.files, limits=changed)

    @property
    def ingest(self) -> Ingest:
        """What reads uploaded files."""
        wiring = self.wiring
        return Ingest(wiring.catalog, wiring.contents, wiring.store, self.reader, self.journal)

    def run(
        self,
        code: str = "1",
        *,
        key: ChatKey = CHAT,
        file_ids: list[str] | None = None,
        limit: timedelta = timedelta(seconds=5),
        on_busy: OnBusy = "wait",
        mode: Mode = "auto",
        once: Once | None = None,
    ) -> RunReply:
        """Runs code as a request would."""
        request = RunRequest(
            key=key, code=code, file_ids=file_ids, limit=limit, on_busy=on_busy, mode=mode, once=once
        )
        return self.wiring.execute(request)

    def calls(self) -> list[str]:
        """Returns the calls of the outside world since the last time, as `port.method`, sorted."""
        self.beside.settle()
        seen = sorted(f"{name}.{method}" for name, tap in self.taps.items() for method in tap.calls)
        for tap in self.taps.values():
            tap.calls.clear()
        return seen

    def events(self) -> list[str]:
        """Returns the names of what has been noted so far."""
        return [event for event, _ in self.journal.notes]

    def row(self, key: ChatKey = CHAT) -> Session:
        """Returns the chat's row, which must be there."""
        session = self.store.read(key)
        assert session is not None, f"{key} has no row"
        return session

    def lose_sandbox(self, key: ChatKey = CHAT) -> None:
        """Ends the chat's sandbox as E2B would, telling nobody."""
        live = self.row(key).sandbox
        assert live is not None, f"{key} has no sandbox"
        del self.sandboxes.alive[live.sandbox_id]

    def pause_sandbox(self, key: ChatKey = CHAT) -> None:
        """Pauses the chat's sandbox as E2B would, telling nobody."""
        live = self.row(key).sandbox
        assert live is not None, f"{key} has no sandbox"
        self.sandboxes.paused.add(live.sandbox_id)

    def assert_free(self, key: ChatKey = CHAT) -> None:
        """Fails unless the next caller may have the session at once."""
        row = self.row(key)
        assert not row.is_claimed(self.clock()), "somebody is creating or closing it"
        assert not (row.is_live(self.clock()) and row.is_busy), "somebody is using it"

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
            self.store.announce_file(key, record.file_id)
        if status is FileStatus.FAILED:
            self.catalog.mark_failed(key, record.file_id, "it is broken")
        return record

    def close(self) -> None:
        """Ends the threads."""
        self.beside.shutdown()


def told(reply: RunReply) -> tuple[str, int, EndReason | None]:
    """Returns what the caller is told of the session: status, generation, why state was lost."""
    context = reply.execution.context
    return context.status, context.generation, reply.execution.reset_reason


def orders(world: World) -> list[tuple[RunOrder, timedelta]]:
    """Returns what sandboxes are asked to run from now on, and for how long those wait who ask."""
    asked: list[tuple[RunOrder, timedelta]] = []

    def run(where: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        asked.append((order, wait))
        return world.sandboxes.run(where, order, wait=wait)

    world.taps["sandboxes"].instead["run"] = run
    return asked


def note(ran: list[str], where: SandboxRef, code: str) -> RunOutcome:
    """Stands for a program that shows nothing: adds `sandbox: code` to what was run."""
    ran.append(f"{where.sandbox_id}: {code}")
    return RunOutcome([], RunEnd.FINISHED)


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
