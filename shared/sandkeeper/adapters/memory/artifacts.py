"""Artifacts in memory."""

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import count
from pathlib import PurePosixPath
from urllib.parse import quote

from sandkeeper.errors import ArtifactNotFound
from sandkeeper.model import Artifact, ChatKey


class MemoryArtifactCatalog:
    """`ArtifactCatalog` in a dictionary."""

    def __init__(self) -> None:
        self._runs: dict[tuple[ChatKey, str], Sequence[Artifact]] = {}
        self._lock = threading.Lock()

    def add(self, artifacts: Sequence[Artifact]) -> Sequence[Artifact]:
        """See `ArtifactCatalog.add`."""
        with self._lock:
            return self._runs.setdefault((artifacts[0].key, artifacts[0].execution_id), [*artifacts])

    def of_run(self, key: ChatKey, execution_id: str) -> Sequence[Artifact]:
        """See `ArtifactCatalog.of_run`."""
        return self._runs.get((key, execution_id), [])

    def of_chat(self, key: ChatKey) -> Sequence[Artifact]:
        """See `ArtifactCatalog.of_chat`."""
        with self._lock:
            ids = sorted((run_id for chat, run_id in self._runs if chat == key), reverse=True)
            return [artifact for run_id in ids for artifact in self._runs[key, run_id]]


class MemoryArtifactContents:
    """`ArtifactContents` in a dictionary. Its URLs lead nowhere, but to `content_at`."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        """Address → content."""
        self._numbers = count(1)

    def write(self, artifact: Artifact, content: Iterator[bytes]) -> str:
        """See `ArtifactContents.write`."""
        whole = b"".join(content)
        address = f"{artifact.artifact_id}-{next(self._numbers)}"
        self.kept[address] = whole
        return address

    def read(self, artifact: Artifact) -> bytes:
        """See `ArtifactContents.read`."""
        content = self.kept.get(artifact.address or "")
        if content is None:
            raise ArtifactNotFound(f"the content of artifact {artifact.artifact_id!r} is gone; run its code again")
        return content

    def presign(self, artifact: Artifact, *, lasts: timedelta) -> str:
        """See `ArtifactContents.presign`."""
        name = quote(PurePosixPath(artifact.path).name, safe="")
        return f"https://artifacts.invalid/{artifact.address}?name={name}&expires={round(lasts.total_seconds())}"

    def content_at(self, url: str) -> bytes:
        """Returns what the URL would give."""
        return self.kept[url.removeprefix("https://artifacts.invalid/").partition("?")[0]]
