"""Calls of the service, each in a process of its own, which can be made to die at any of its I/O calls.

A task is a line of JSON on stdin (see `Task`); its events are lines on stdout (see `tests/crashing/outcome.py`),
the last of which tells how the process ended. The processes are forked from this one, which has imported all that
is slow and has neither connections nor threads.
"""

import gc
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import httpx

import sandkeeper.wiring
from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.memory import MemoryJournal
from sandkeeper.adapters.runner.package import start_command
from sandkeeper.http.execute_schemas import AcceptedReply, ExecuteReply, ExecutionReply
from sandkeeper.model import ChatKey, utc_now
from sandkeeper.runs import Execution
from sandkeeper.services.execute import Mode, Once, RunRequest
from sandkeeper.wiring import ApiWiring, CleanupWiring, IngestWiring

RUN_LIMIT = timedelta(minutes=1)
SETTLED_S = 0.02
SHARDS = 2
"""Of the index of live rows: enough for some to be read side by side. Each of them makes every tick dearer."""
NO_IO = {"shards"}
LISTED = {"store", "sandboxes"}
"""Ports whose calls do their I/O while their results are gone through."""

WiringT = TypeVar("WiringT", ApiWiring, CleanupWiring)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to do, for which chat, by a clock `at_s` ahead.

    That is `execute`, `status` and `cancel` of a run, `upload`, `kept`, `close`, `cleanup`, or `cleanup-all`. The
    chat's name is also that of its owner and of its stack. `die_at` reads `before store.claim#1`.
    """

    do: str
    chat: str
    at_s: float = 0
    code: str = ""
    mode: Mode = "auto"
    idempotency_key: str | None = None
    execution_id: str = ""
    die_at: str | None = None


class Trace:
    """Tells each I/O call as it begins and ends, and ends the process at the one that it is to die at."""

    def __init__(self, die_at: str | None) -> None:
        self._die_at = die_at
        self._begun: Counter[str] = Counter()
        self._under_way = 0
        self._moved = 0.0
        self._lock = threading.Lock()

    def call(self, name: str, sandbox: str | None, io: Callable[[], Any]) -> Any:
        """Returns what the I/O call gives, unless the process is to die before or after it."""
        with self._lock:
            self._begun[name] += 1
            spot = f"{name}#{self._begun[name]}"
        self._reach(f"before {spot}")
        self._move(+1)
        tell(begun=spot, sandbox=sandbox, main=threading.current_thread() is threading.main_thread())
        failed = True
        try:
            result = io()
            failed = False
        finally:
            tell(ended=spot, failed=failed)
            self._move(-1)
            self._reach(f"after {spot}")
        return result

    def _move(self, change: int) -> None:
        with self._lock:
            self._under_way += change
            self._moved = time.monotonic()

    def _reach(self, moment: str) -> None:
        if moment != self._die_at:
            return
        self._move(0)
        # What goes on beside this call comes as far as it can without it: the worst that a death can leave behind.
        while self._under_way or time.monotonic() < self._moved + SETTLED_S:
            time.sleep(SETTLED_S / 4)
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Traced:
    """Stands before a port."""

    name: str
    port: Any
    trace: Trace

    def __getattr__(self, method: str) -> Any:
        target = getattr(self.port, method)
        if method in NO_IO:
            return target

        def call(*args: Any, **kwargs: Any) -> Any:
            sandbox = next((found for arg in args if (found := getattr(arg, "sandbox_id", None))), None)
            return self.trace.call(
                f"{self.name}.{method}", sandbox, lambda: _read(self.name, target(*args, **kwargs))
            )

        return call


def _read(port: str, result: Any) -> Any:
    """Returns the result of a call of which the I/O has been done, not just promised."""
    return iter([*result]) if port in LISTED and isinstance(result, Iterator) else result


def tell(**event: object) -> None:
    """Writes an event at once, whole: another thread may do so too, and the process may die next."""
    os.write(sys.stdout.fileno(), json.dumps(event).encode() + b"\n")


def perform(task: Task) -> int:
    """Does what the task says, tells of it, and returns an exit status."""
    os.environ["STACK_NAME"] = task.chat
    ahead = timedelta(seconds=task.at_s)
    vars(sandkeeper.wiring)["utc_now"] = lambda: utc_now() + ahead
    key = ChatKey(task.chat, task.chat)
    try:
        match task.do:
            case "execute":
                _execute(_traced(ApiWiring(), task), key, task)
            case "status":
                wiring = _traced(ApiWiring(), task)
                _tell_of(wiring, wiring.executions.get(key, task.execution_id))
            case "cancel":
                wiring = _traced(ApiWiring(), task)
                _tell_of(wiring, wiring.executions.cancel(key, task.execution_id))
            case "close":
                tell(closed=_traced(ApiWiring(), task).sessions.ending.close(key))
            case "cleanup" | "cleanup-all":
                _cleanup(_traced(CleanupWiring(), task), everything=task.do == "cleanup-all")
            case "upload":
                _upload(key, task.code.encode())
            case "kept":
                tell(kept=_kept(ApiWiring(), key))
            case unknown:
                raise ValueError(f"there is no task {unknown!r}")
    except Exception as error:  # noqa: BLE001 - the next task is none the worse for it
        tell(error=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _traced(wiring: WiringT, task: Task) -> WiringT:
    """Returns the wiring with every port watched."""
    trace = Trace(task.die_at)
    ports = ["store", "sandboxes", "runs", "artifact_catalog", "artifact_contents"]
    ports += ["catalog", "contents"] if isinstance(wiring, ApiWiring) else ["sweeps"]
    vars(wiring).update({name: Traced(name, getattr(wiring, name), trace) for name in ports})
    vars(wiring)["journal"] = MemoryJournal()
    return wiring


def _execute(wiring: ApiWiring, key: ChatKey, task: Task) -> None:
    once = Once(task.idempotency_key, digest=task.code) if task.idempotency_key else None
    reply = wiring.execute(
        RunRequest(
            key=key, code=task.code, file_ids=None, limit=RUN_LIMIT, on_busy="reject", mode=task.mode, once=once
        )
    )
    if reply.execution.end is None:
        tell(accepted=AcceptedReply.of(reply.execution).model_dump(mode="json", by_alias=True))
    else:
        answer = ExecuteReply.of(reply).model_dump(mode="json", by_alias=True)
        tell(reply=answer, repeated=reply.is_repeated)
    wiring.beside.shutdown()


def _kept(wiring: ApiWiring, key: ChatKey) -> list[str]:
    """Returns the contents of the chat's artifacts, as whoever downloads them gets them."""
    urls = [wiring.artifacts.url(artifact, lasts=RUN_LIMIT) for artifact, _ in wiring.artifacts.of_chat(key)]
    return [httpx.get(url).raise_for_status().text for url in urls]


def _tell_of(wiring: ApiWiring, execution: Execution) -> None:
    left_ms = round(wiring.executions.expires_in(execution) / timedelta(milliseconds=1))
    tell(found=ExecutionReply.of(execution, expires_in_ms=left_ms).model_dump(mode="json", by_alias=True))


def _cleanup(wiring: CleanupWiring, *, everything: bool) -> None:
    report = wiring.cleanup(everything=everything, time_left_s=lambda: 60.0)
    tell(report=asdict(report))
    wiring.beside.shutdown()


def _upload(key: ChatKey, content: bytes) -> None:
    wiring = ApiWiring()
    record, ticket = wiring.files.register(
        key, file_name="data.txt", size_bytes=len(content), content_type="text/plain"
    )
    httpx.post(ticket.url, data=dict(ticket.fields), files={"file": content}).raise_for_status()
    IngestWiring().ingest(key, record.file_id)


def main() -> None:
    """Does each task, and tells how it ended: in a process of its own, where tasks may be mortal."""
    # What is slow about a wiring is done once: imports, and clients of AWS, which connect when they are first used.
    vars(sandkeeper.wiring)["_client"] = cache(sandkeeper.wiring._client)
    _ = ApiWiring().execute, CleanupWiring().cleanup, start_command()
    vars(items)["SHARDS"] = SHARDS
    gc.freeze()
    mortal = "--mortal" in sys.argv
    for line in sys.stdin:
        task = Task(**json.loads(line))
        tell(exit=_forked(task) if mortal else perform(task))


def _forked(task: Task) -> int:
    child = os.fork()
    if child == 0:
        os._exit(perform(task))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
