"""Keep the files that runs leave behind, so that they outlive the sandbox.

    end of run ──► read from the sandbox, write to the store ──► one record for all of them ──► session given back

Files are read while the run has its session: the next run may change them. Whoever dies on the way leaves the
lease, and whoever then sees the run's end begins again: content goes to a place of its own each time, and the
record that is written first counts.
"""

import mimetypes
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import PurePosixPath

from sandkeeper.errors import ArtifactNotFound, FileNotFound, SandkeeperError
from sandkeeper.model import Artifact, ArtifactStatus, ChangedFile, ChatKey, SandboxRef
from sandkeeper.ports import ArtifactCatalog, ArtifactContents, Journal, SandboxGone, SandboxProvider
from sandkeeper.runs import Execution
from sandkeeper.services.budget import Budget

MAX_FILES = 20
"""How many files of one run are kept, those near the home first."""
MAX_BYTES = 100 * 1024 * 1024
MAX_TOTAL_BYTES = 200 * 1024 * 1024
"""How large a file, and all of a run's together, may be."""
AT_ONCE = 4
"""How many are copied side by side: each may take some 10 MB of memory."""
ENOUGH = timedelta(seconds=10)
"""Whoever had so much time for it and did not get it done need not be followed by others who try."""

_TYPES = {
    ".csv": "text/csv",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
"""What kinds of files are called by their suffixes, where the standard library has no name, or another."""


class _TimeIsUp(Exception):
    """The time is over in which files may be copied."""


class _TooLarge(Exception):
    """The file has more bytes than may be kept."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Copies what runs have created or changed from their sandboxes to the store."""

    catalog: ArtifactCatalog
    contents: ArtifactContents
    sandboxes: SandboxProvider
    copying: Executor
    """Threads for this alone, `AT_ONCE` of them: those of other work may be waiting for it."""
    journal: Journal

    def keep(self, execution: Execution, sandbox: SandboxRef, within: timedelta, *, again: bool) -> Execution:
        """Returns the run, which has ended, with what became of its files. Takes no time if there are none.

        What could not be kept now is `pending`, to be tried `again` by whoever sees the run next. Who does so tells
        what fails once more as `skipped`; so that nothing is `pending` any more, unless for want of time.
        """
        planned = plan(execution)
        if not planned:
            return execution
        if again and (known := self.catalog.of_run(execution.key, execution.execution_id)):
            return replace(execution, artifacts=tuple(known))
        budget = Budget.of(within.total_seconds())
        copies = [self.copying.submit(self._kept, artifact, sandbox, budget) for artifact in planned]
        artifacts = tuple(copy.result() for copy in copies)
        if again and (within >= ENOUGH or budget.left_s() > 0):
            artifacts = tuple(_given_up(artifact) for artifact in artifacts)
        kept = replace(execution, artifacts=artifacts)
        if is_pending(kept):
            self.journal.note("artifacts.pending", number=len(artifacts))
            return kept
        return replace(execution, artifacts=tuple(self._recorded(artifacts, again=again)))

    def _kept(self, artifact: Artifact, sandbox: SandboxRef, budget: Budget) -> Artifact:
        if artifact.status is not ArtifactStatus.PENDING or not budget.left_s():
            return artifact
        try:
            measured = _Measured(self.sandboxes.read_file(sandbox, artifact.path), budget)
            address = self.contents.write(artifact, iter(measured))
        except (FileNotFound, SandboxGone):
            return _skipped(artifact, "it was gone, or could not be read, when the run had ended")
        except _TooLarge:
            return _skipped(artifact, _too_large())
        except _TimeIsUp:
            return artifact
        except SandkeeperError as error:
            self.journal.note("artifact.not_kept", error=type(error).__name__)
            return artifact
        return replace(artifact, status=ArtifactStatus.STORED, address=address, size_bytes=measured.size_bytes)

    def _recorded(self, artifacts: Sequence[Artifact], *, again: bool) -> Sequence[Artifact]:
        try:
            return self.catalog.add(artifacts)
        except SandkeeperError as error:
            self.journal.note("artifact.not_kept", error=type(error).__name__)
            pending = [replace(artifact, status=ArtifactStatus.PENDING, address=None) for artifact in artifacts]
            return [_given_up(artifact) for artifact in pending] if again else pending

    def of_chat(self, key: ChatKey) -> Sequence[tuple[Artifact, int]]:
        """Returns the chat's stored artifacts, those of the latest run first, each with its version.

        Of the artifacts with one path the first has version 1.
        """
        stored = [found for found in self.catalog.of_chat(key) if found.status is ArtifactStatus.STORED]
        versions: dict[str, int] = {}
        numbered = []
        for artifact in reversed(stored):
            versions[artifact.path] = versions.get(artifact.path, 0) + 1
            numbered.append((artifact, versions[artifact.path]))
        return numbered[::-1]

    def find(self, key: ChatKey, artifact_id: str) -> Artifact | None:
        """Returns the artifact; None for one that is not known, or `pending`."""
        known = self.catalog.of_run(key, execution_of(artifact_id))
        return next((artifact for artifact in known if artifact.artifact_id == artifact_id), None)

    def url(self, artifact: Artifact, *, lasts: timedelta) -> str:
        """Returns where the artifact can be downloaded for this time. Raises `ArtifactNotFound`."""
        _require_stored(artifact)
        return self.contents.presign(artifact, lasts=lasts)

    def content(self, artifact: Artifact) -> bytes:
        """Returns the artifact's content, which callers keep to small ones. Raises `ArtifactNotFound`."""
        _require_stored(artifact)
        return self.contents.read(artifact)


def _require_stored(artifact: Artifact) -> None:
    if artifact.status is not ArtifactStatus.STORED:
        raise ArtifactNotFound(
            f"artifact {artifact.artifact_id!r} ({artifact.path}) was not stored: {artifact.reason}; as long as"
            " the session lives, code can still read it"
        )


def is_pending(execution: Execution) -> bool:
    """Returns whether files of the run are still to be kept, so that it is not to be recorded yet."""
    return any(artifact.status is ArtifactStatus.PENDING for artifact in execution.artifacts)


def execution_of(artifact_id: str) -> str:
    """Returns the id of the run that the artifact is of."""
    return artifact_id.rpartition("-")[0]


def plan(execution: Execution) -> Sequence[Artifact]:
    """Returns the run's files: `pending` where they are to be kept, `skipped` where bounds forbid it."""
    planned: list[Artifact] = []
    room_bytes = MAX_TOTAL_BYTES
    for number, file in enumerate(execution.changes.files):
        artifact = _artifact(execution, number, file)
        if number >= MAX_FILES:
            artifact = _skipped(artifact, f"a run keeps {MAX_FILES} files; put them into one archive")
        elif file.size_bytes > MAX_BYTES:
            artifact = _skipped(artifact, _too_large())
        elif file.size_bytes > room_bytes:
            artifact = _skipped(artifact, f"a run keeps {MAX_TOTAL_BYTES} bytes in all; write less at once")
        else:
            room_bytes -= file.size_bytes
        planned.append(artifact)
    return planned


def _artifact(execution: Execution, number: int, file: ChangedFile) -> Artifact:
    return Artifact(
        key=execution.key,
        artifact_id=f"{execution.execution_id}-{number}",
        execution_id=execution.execution_id,
        path=file.path,
        size_bytes=file.size_bytes,
        mime_type=_type_of(file.path),
        created_at=execution.ended_at or execution.created_at,
    )


def _type_of(path: str) -> str:
    """Returns the file's media type: of one that is packed as by gzip, not that of what is in it."""
    name = PurePosixPath(path)
    if known := _TYPES.get(name.suffix.lower()):
        return known
    found, packing = mimetypes.guess_type(name.name)  # reads files of its machine at first, so only when asked
    return found if found and not packing else "application/octet-stream"


def _too_large() -> str:
    return f"it is larger than the {MAX_BYTES} bytes that are kept of a file; write a smaller one"


def _skipped(artifact: Artifact, reason: str) -> Artifact:
    return replace(artifact, status=ArtifactStatus.SKIPPED, reason=reason)


def _given_up(artifact: Artifact) -> Artifact:
    if artifact.status is not ArtifactStatus.PENDING:
        return artifact
    return _skipped(artifact, "it could not be stored in time; write it once more")


@dataclass(slots=True)
class _Measured:
    """Chunks that come in time and are not too many, and how many bytes they have been."""

    chunks: Iterator[bytes]
    budget: Budget
    size_bytes: int = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.size_bytes += len(chunk)
            if self.size_bytes > MAX_BYTES:
                raise _TooLarge
            if not self.budget.left_s():
                raise _TimeIsUp
            yield chunk
