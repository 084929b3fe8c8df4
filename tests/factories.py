"""Values that tests start from; each names only what matters to it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sandkeeper.model import (
    Artifact,
    ArtifactStatus,
    ChangedFile,
    Changes,
    Column,
    EndReason,
    FileRecord,
    Output,
    RunEnd,
    SandboxRef,
    Session,
    SessionState,
    Table,
    utc_moment,
)
from sandkeeper.runs import Accepted, Ended, Execution, RunContext, RunEvent, RunOrder, Started
from tests.world import CHAT, START

SESSION_TIMEOUT = timedelta(minutes=30)
LEASE = timedelta(seconds=40)
WINDOW = timedelta(seconds=30)
EPOCH = utc_moment(0)


def sandbox(sandbox_id: str = "sbx1") -> SandboxRef:
    """Returns coordinates of which every field is filled."""
    return SandboxRef(
        sandbox_id=sandbox_id,
        domain="sandboxes.invalid",
        envd_version="0.2.3",
        envd_token="envd-token",
        traffic_token="traffic-token",
    )


def creating(**changes: Any) -> Session:
    """Returns a session that is being created by `run-1`, as of START."""
    values: dict[str, Any] = {
        "key": CHAT,
        "state": SessionState.CREATING,
        "generation": 1,
        "claim_id": "claim-1",
        "created_at": START,
        "last_used_at": START,
        "expires_at": START + SESSION_TIMEOUT,
        "claim_until": START + WINDOW,
        "run_id": "run-1",
        "run_until": START + LEASE,
    }
    return Session(**values | changes)


def busy(**changes: Any) -> Session:
    """Returns a live session in which `run-1` runs code, as of START."""
    values: dict[str, Any] = {
        "state": SessionState.READY,
        "claim_until": None,
        "sandbox": sandbox(),
        "pauses_at": START + timedelta(minutes=5),
    }
    return creating(**values | changes)


def idle(**changes: Any) -> Session:
    """Returns a live session that nobody uses, as of START."""
    return busy(**{"run_id": None, "run_until": None} | changes)


def closing(**changes: Any) -> Session:
    """Returns a session that somebody has been closing since START, in the middle of a run."""
    values: dict[str, Any] = {"state": SessionState.CLOSING, "claim_until": START + WINDOW, "expires_at": START}
    return busy(**values | changes)


def unreadable(**changes: Any) -> Session:
    """Returns what a store makes of a row that is none of ours, and that tells of the sandbox `sbx7`."""
    values: dict[str, Any] = {
        "state": SessionState.CLOSED,
        "generation": 7,
        "claim_id": "",
        "expires_at": EPOCH,
        "claim_until": None,
        "run_id": None,
        "run_until": None,
        "predecessor_id": "sbx7",
        "end_reason": EndReason.SANDBOX_LOST,
        "unreadable": True,
    }
    return creating(**values | changes)


def record(name: str = "data.csv", **changes: Any) -> FileRecord:
    """Returns a pending file of CHAT; its id and path follow from its name."""
    values: dict[str, Any] = {
        "key": CHAT,
        "file_id": f"id-of-{name}",
        "name": name,
        "path": f"/home/user/{name}",
        "size_bytes": 1024,
        "content_type": "text/csv",
        "created_at": START,
    }
    return FileRecord(**values | changes)


def artifact(number: int = 0, **changes: Any) -> Artifact:
    """Returns a stored artifact of `run-1`, or of the run named."""
    run_id = changes.get("execution_id", "run-1")
    values: dict[str, Any] = {
        "key": CHAT,
        "artifact_id": f"{run_id}-{number}",
        "execution_id": run_id,
        "path": "/home/user/out.csv",
        "size_bytes": 3,
        "mime_type": "text/csv",
        "created_at": START,
        "status": ArtifactStatus.STORED,
        "address": f"artifacts/{number}",
    }
    return Artifact(**values | changes)


def table(*names: str, **changes: Any) -> Table:
    """Returns a table of whole numbers with these columns and three rows."""
    values: dict[str, Any] = {
        "columns": [Column(name=name, type="integer", nulls=0) for name in names],
        "row_count": 3,
        "sample": [[1] * len(names)],
    }
    return Table(**values | changes)


def context(**changes: Any) -> RunContext:
    """Returns what is known of `run-1` in `busy()` when its code is sent."""
    values: dict[str, Any] = {
        "claim_id": "claim-1",
        "generation": 1,
        "sandbox_id": "sbx1",
        "status": "reused",
        "reason": None,
        "paths": ["/home/user/data.csv"],
        "limit_ms": 5_000,
        "asked_ms": 5_000,
        "claim_ms": 1,
        "connect_ms": 2,
        "files_ms": 3,
    }
    return RunContext(**values | changes)


def order(**changes: Any) -> RunOrder:
    """Returns what asks for `run-1`."""
    values: dict[str, Any] = {"run_id": "run-1", "code": "1", "context": context()}
    return RunOrder(**values | changes)


def events(
    *outputs: Output, end: RunEnd | None = RunEnd.FINISHED, reset: EndReason | None = None
) -> list[RunEvent]:
    """Returns the events of `run-1`, each of which comes a millisecond after the one before; None: it goes on."""
    what = [Accepted("1", context()), Started(reset), *outputs, *([] if end is None else [Ended(end)])]
    return [RunEvent(number, START + timedelta(milliseconds=number), each) for number, each in enumerate(what, 1)]


def opened(**changes: Any) -> Execution:
    """Returns `run-1` as the log has it before its end."""
    values: dict[str, Any] = {
        "key": CHAT,
        "execution_id": "run-1",
        "code": "1",
        "context": context(),
        "created_at": START,
    }
    return Execution(**values | changes)


def ended(*outputs: Output, end: RunEnd = RunEnd.FINISHED, reset: EndReason | None = None) -> Execution:
    """Returns `run-1` once it is over."""
    return Execution.of(CHAT, "run-1", events(*outputs, end=end, reset=reset))


def having_changed(*files: ChangedFile, more: int = 0) -> Execution:
    """Returns `run-1` once it is over, which has created or changed these files and `more` others."""
    *before, last = events()
    return Execution.of(
        CHAT, "run-1", [*before, replace(last, what=Ended(RunEnd.FINISHED, changes=Changes(files, more)))]
    )
