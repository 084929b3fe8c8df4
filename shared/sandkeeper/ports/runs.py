"""What is kept of runs: the log, the files they leave behind, what is too large for a reply."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sandkeeper.model import Artifact, ChatKey
from sandkeeper.runs import Execution
from sandkeeper.summary import RunSummary


@dataclass(frozen=True, slots=True)
class Reservation:
    """Which run a caller's idempotency key stands for, and what was asked for."""

    execution_id: str
    digest: str


class RunLog(Protocol):
    """What is known of chats' runs outside their sandboxes. Every record is kept for 30 days."""

    def reserve(self, owner: str, idempotency_key: str, reservation: Reservation, *, now: datetime) -> Reservation:
        """Returns what the owner's key stands for: this, unless it stands for something already."""
        ...

    def open(self, execution: Execution) -> bool:
        """Adds a run of which the end is to come. Returns False, and writes nothing, when there is a record."""
        ...

    def withdraw(self, execution: Execution) -> None:
        """Removes a run that was opened so and is surely not to begin. Does nothing to any other record."""
        ...

    def finish(self, execution: Execution) -> bool:
        """Records a run that has ended. Returns False, and writes nothing, when its end has been recorded."""
        ...

    def get(self, key: ChatKey, execution_id: str) -> Execution | None:
        """Returns the run as the last write left it: with all its events if it has ended, else with none."""
        ...

    def latest(
        self, key: ChatKey, *, since: datetime, limit: int, before: str | None = None
    ) -> Sequence[RunSummary]:
        """Returns the chat's runs that were begun after `since` in brief, the highest id first, as last written.

        Those with ids below `before`, at most `limit` of them; fewer mean that there are no more.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageList:
    """The Python packages that a sandbox had: name → version."""

    packages: Mapping[str, str]
    run_count: int
    """How many runs the sandbox had seen: each may have installed something."""
    told_at: datetime


class PackageLists(Protocol):
    """What is known of the packages of each template that sandboxes are made from. Kept for 30 days."""

    def recall(self, template: str) -> PackageList | None:
        """Returns what was kept for the template."""
        ...

    def keep(self, template: str, known: PackageList) -> None:
        """Keeps the list in place of the one before."""
        ...


class ArtifactCatalog(Protocol):
    """What is known of the files that runs have left behind. Every record is kept for 30 days."""

    def add(self, artifacts: Sequence[Artifact]) -> Sequence[Artifact]:
        """Adds the artifacts of one run. Returns what is known of that run's: these, unless others came first."""
        ...

    def of_run(self, key: ChatKey, execution_id: str) -> Sequence[Artifact]:
        """Returns the run's artifacts, none for a run that is not known to have any."""
        ...

    def of_chat(self, key: ChatKey) -> Sequence[Artifact]:
        """Returns the chat's artifacts as the last writes left them: those of the latest run first."""
        ...


class ArtifactContents(Protocol):
    """The bytes of artifacts."""

    def write(self, artifact: Artifact, content: Iterator[bytes]) -> str:
        """Keeps the content, in bounded memory, and returns where it lies: a place of its own, however often asked.

        Whatever `content` raises comes out, and then nothing is kept.
        """
        ...

    def read(self, artifact: Artifact) -> bytes:
        """Returns the stored content, all at once. Raises `ArtifactNotFound` where it is gone."""
        ...

    def presign(self, artifact: Artifact, *, lasts: timedelta) -> str:
        """Returns a URL that gives the stored content to whoever has it, as a download of the file's name."""
        ...


@dataclass(frozen=True, slots=True)
class Link:
    """Where something is to be downloaded by whoever has the URL, for a while."""

    url: str = field(repr=False)
    size_bytes: int
    expires_in: timedelta


class ResultStore(Protocol):
    """Results that are too large for a reply. Kept for 30 days."""

    def keep(self, key: ChatKey, content: bytes, mime_type: str) -> Link:
        """Keeps the content, and returns a new link to it. Equal contents of a chat are kept once."""
        ...
