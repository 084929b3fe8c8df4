"""All ports in memory, for tests that need no emulator. The contract suites hold them to the real ones."""

from sandkeeper.adapters.memory.artifacts import MemoryArtifactCatalog, MemoryArtifactContents
from sandkeeper.adapters.memory.files import MemoryFileCatalog, MemoryFileContents
from sandkeeper.adapters.memory.keys import MemoryApiKeyStore, MemoryJournal
from sandkeeper.adapters.memory.notebooks import MemoryNotebookStore
from sandkeeper.adapters.memory.packages import MemoryPackageLists
from sandkeeper.adapters.memory.results import MemoryResultStore
from sandkeeper.adapters.memory.runs import MemoryRunLog
from sandkeeper.adapters.memory.sandboxes import MemorySandboxProvider, Program, echo
from sandkeeper.adapters.memory.sessions import MemorySessionStore, MemorySweepStore

__all__ = [
    "MemoryApiKeyStore",
    "MemoryArtifactCatalog",
    "MemoryArtifactContents",
    "MemoryFileCatalog",
    "MemoryFileContents",
    "MemoryJournal",
    "MemoryNotebookStore",
    "MemoryPackageLists",
    "MemoryResultStore",
    "MemoryRunLog",
    "MemorySandboxProvider",
    "MemorySessionStore",
    "MemorySweepStore",
    "Program",
    "echo",
]
