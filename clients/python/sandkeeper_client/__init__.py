"""Python in a chat's warm sandbox: the client of a Sandkeeper service.

from sandkeeper_client import Sandkeeper

with Sandkeeper("https://…", "sk_…") as service:
    print(service.chat("first").run("6 * 7").text)  # 42
"""

from sandkeeper_client.api import Retries
from sandkeeper_client.blocking import Chat, Execution, Notebook, Sandkeeper
from sandkeeper_client.chat import AsyncChat, Options
from sandkeeper_client.client import AsyncSandkeeper
from sandkeeper_client.errors import (
    ConnectionFailed,
    FieldProblem,
    FileFailed,
    FileNotReady,
    FileUnusable,
    InvalidInput,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Problem,
    QuotaExceeded,
    RunFailed,
    SandkeeperError,
    ServiceFailed,
    SessionBusy,
    TimedOut,
    TransferFailed,
    Unauthenticated,
    Unavailable,
    UnexpectedReply,
)
from sandkeeper_client.executions import AsyncExecution
from sandkeeper_client.notebooks import AsyncNotebook
from sandkeeper_client.replies import (
    Column,
    Completion,
    Completions,
    Context,
    File,
    Health,
    Installed,
    Package,
    Session,
    Status,
    Table,
)
from sandkeeper_client.runs import (
    Accepted,
    Artifact,
    Ended,
    ErrorDetail,
    Event,
    Output,
    PastRun,
    Progress,
    Result,
    Run,
    SessionInRun,
    Started,
    Timings,
)
from sandkeeper_client.uploads import About

__all__ = [
    "About",
    "Accepted",
    "Artifact",
    "AsyncChat",
    "AsyncExecution",
    "AsyncNotebook",
    "AsyncSandkeeper",
    "Chat",
    "Column",
    "Completion",
    "Completions",
    "ConnectionFailed",
    "Context",
    "Ended",
    "ErrorDetail",
    "Event",
    "Execution",
    "FieldProblem",
    "File",
    "FileFailed",
    "FileNotReady",
    "FileUnusable",
    "Health",
    "Installed",
    "InvalidInput",
    "InvalidRequest",
    "NotFound",
    "Notebook",
    "Options",
    "Output",
    "Package",
    "PastRun",
    "PayloadTooLarge",
    "Problem",
    "Progress",
    "QuotaExceeded",
    "Result",
    "Retries",
    "Run",
    "RunFailed",
    "Sandkeeper",
    "SandkeeperError",
    "ServiceFailed",
    "Session",
    "SessionBusy",
    "SessionInRun",
    "Started",
    "Status",
    "Table",
    "TimedOut",
    "Timings",
    "TransferFailed",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedReply",
]
