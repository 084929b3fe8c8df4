"""What the services need from the outside world, and no more.

Each Protocol is owned by the services that call it. Its docstrings say what missing, repeated and concurrent
calls do and which errors come out; one contract suite per port holds every adapter to them. Every method may
raise `StoreUnavailable` (stores) or `SandboxUnavailable`, `CapacityExhausted` and `NotConfigured` (sandboxes).
"""

from sandkeeper.ports.access import ApiKeyRegister, ApiKeyStore, Journal, TokenVerifier
from sandkeeper.ports.files import ContentReader, FileCatalog, FileContents, Unreadable
from sandkeeper.ports.notebooks import NotebookStore
from sandkeeper.ports.runs import (
    ArtifactCatalog,
    ArtifactContents,
    Link,
    PackageList,
    PackageLists,
    Reservation,
    ResultStore,
    RunLog,
)
from sandkeeper.ports.sandboxes import (
    Completion,
    Completions,
    Listed,
    RunLost,
    RunUnknown,
    SandboxGone,
    SandboxPage,
    SandboxProvider,
    SandboxSpec,
)
from sandkeeper.ports.sessions import Granted, Position, Refused, SessionStore, Sweep, SweepStore

__all__ = [
    "ApiKeyRegister",
    "ApiKeyStore",
    "ArtifactCatalog",
    "ArtifactContents",
    "Completion",
    "Completions",
    "ContentReader",
    "FileCatalog",
    "FileContents",
    "Granted",
    "Journal",
    "Link",
    "Listed",
    "NotebookStore",
    "PackageList",
    "PackageLists",
    "Position",
    "Refused",
    "Reservation",
    "ResultStore",
    "RunLog",
    "RunLost",
    "RunUnknown",
    "SandboxGone",
    "SandboxPage",
    "SandboxProvider",
    "SandboxSpec",
    "SessionStore",
    "Sweep",
    "SweepStore",
    "TokenVerifier",
    "Unreadable",
]
