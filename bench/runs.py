"""`python -m bench runs`: what it costs that every run is durable, with the runner and without, in turn.

"Without" is what the service did before it had a runner: the SDK's `run_code`, whose connection is the run, and no
record of it. All else of a call is the same: claim, release, and what creates a sandbox.
"""

import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx_sse
from e2b_code_interpreter import Sandbox

from bench.chapters import Chapter, compared, milliseconds
from bench.client import POOL_REFILL_S, Client
from bench.samples import Case, Sample, in_turn
from local.settings import Settings
from local.stack import Stack
from sandkeeper.adapters.e2b import E2BSandboxProvider
from sandkeeper.adapters.memory import MemoryRunLog
from sandkeeper.model import ChatKey, RunEnd, SandboxRef, utc_now
from sandkeeper.ports import RunLog, SandboxProvider
from sandkeeper.runs import Accepted, Ended, Execution, RunEvent, RunOrder, Started
from sandkeeper.services.execute import RunReply, RunRequest
from sandkeeper.wiring import ApiWiring

WARM_CALLS = 200
FIRST_CALLS = 12
LINES = 60
QUIET = {"POWERTOOLS_LOG_LEVEL": "CRITICAL", "POWERTOOLS_METRICS_DISABLED": "true"}
"""The service in this process shall not write its log between the tables."""
LIVE = f"import time\nfor _ in range({LINES}):\n    print(time.time(), flush=True)\n    time.sleep(0.1)"


class DirectProvider:
    """The adapter to E2B as it was: runs are connections of the SDK, and a sandbox needs no preparation."""

    def __init__(self, adapter: E2BSandboxProvider) -> None:
        self._adapter = adapter
        self._attached: dict[str, Sandbox] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def prepare(self, _: SandboxRef) -> None:
        """Does nothing."""

    def run(self, sandbox: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        """Yields the events that a runner would tell of an expression."""
        done = self._attach(sandbox).run_code(order.code, timeout=wait.total_seconds())
        if done.error:
            raise RuntimeError(done.error.value)
        yield RunEvent(1, utc_now(), Accepted(order.code, order.context))
        yield RunEvent(2, utc_now(), Started())
        yield RunEvent(3, utc_now(), Ended(RunEnd.FINISHED))

    def _attach(self, sandbox: SandboxRef) -> Sandbox:
        """Returns the sandbox as the code interpreter's SDK has it; the adapter needs only what lies beneath."""
        if sandbox.sandbox_id not in self._attached:
            beneath = self._adapter._attach(sandbox)
            self._attached[sandbox.sandbox_id] = Sandbox(
                sandbox_id=beneath.sandbox_id,
                sandbox_domain=beneath.sandbox_domain,
                envd_version=beneath._envd_version,
                envd_access_token=beneath._envd_access_token,
                traffic_access_token=beneath.traffic_access_token,
                connection_config=beneath.connection_config,
            )
        return self._attached[sandbox.sandbox_id]


class NoLog(MemoryRunLog):
    """Keeps no run."""

    def finish(self, execution: Execution) -> bool:  # noqa: ARG002
        """Does nothing."""
        return True


class Service:
    """The service in this process, with its runner or without."""

    def __init__(self, sandboxes: SandboxProvider | None = None, runs: RunLog | None = None) -> None:
        self.wiring = ApiWiring()
        if sandboxes is not None and runs is not None:
            vars(self.wiring).update(sandboxes=sandboxes, runs=runs)

    @classmethod
    def without_runner(cls) -> "Service":
        """The service as it was."""
        adapter: Any = ApiWiring().sandboxes
        direct: Any = DirectProvider(adapter)
        return cls(direct, NoLog())

    def run(self, key: ChatKey) -> RunReply:
        """Returns the reply of a call of the default limit."""
        limit = timedelta(milliseconds=self.wiring.settings.e2b_sandbox_timeout)
        request = RunRequest(key=key, code="1+1", file_ids=None, limit=limit, on_busy="wait")
        reply = self.wiring.execute(request)
        if reply.execution.end is not RunEnd.FINISHED:
            raise RuntimeError(f"{key}: {reply.execution.end}")
        return reply

    def close(self, key: ChatKey) -> None:
        """Closes the chat's session."""
        self.wiring.sessions.ending.close(key)


def _chat(name: str) -> ChatKey:
    return ChatKey("bench", f"{name}-{uuid.uuid4().hex[:8]}")


def warm() -> tuple[Sample, Sample]:
    """Returns warm calls with the runner and without, in the same sandbox."""
    with_it, without, key = Service(), Service.without_runner(), _chat("warm")

    def case(service: Service) -> Case:
        @contextmanager
        def call() -> Iterator[Callable[[], object]]:
            yield lambda: service.run(key)

        return call

    cases = {"warm 1+1, by the runner": case(with_it), "warm 1+1, by run_code": case(without)}
    by_runner, direct = in_turn(WARM_CALLS, cases, unheeded=10)
    with_it.close(key)
    return by_runner, direct


def first() -> tuple[Sample, Sample]:
    """Returns first calls of a chat with the runner and without. The pool is full before each."""

    def case(service: Service) -> Case:
        @contextmanager
        def call() -> Iterator[Callable[[], object]]:
            key = _chat("first")
            time.sleep(POOL_REFILL_S)
            yield lambda: service.run(key)
            service.close(key)

        return call

    by_runner, direct = in_turn(
        FIRST_CALLS,
        {"first 1+1, by the runner": case(Service()), "first 1+1, by run_code": case(Service.without_runner())},
    )
    return by_runner, direct


def live(client: Any) -> Sample:
    """Returns how long a printed line takes to a client that follows the run over HTTP."""
    body = {"chatId": "live", "code": LIVE, "mode": "async"}
    accepted = client.post("/api/jupyter/execute", json=body).raise_for_status().json()
    delays = []
    with httpx_sse.connect_sse(client, "GET", accepted["eventsUrl"]) as events:
        for event in events.iter_sse():
            now = time.time()
            for item in json.loads(event.data)["results"] if event.event == "output" else ():
                delays += [(now - float(line)) * 1000 for line in item["content"].splitlines()]
    client.delete("/api/jupyter/execute", params={"chatId": "live"}).raise_for_status()
    if len(delays) != LINES:
        raise RuntimeError(f"{len(delays)} of {LINES} lines were heard")
    return Sample("a printed line, from the program to a client", delays)


def chapter() -> Chapter:
    """Measures."""
    with (
        tempfile.TemporaryDirectory() as logs,
        Stack(Settings().on_free_ports(), Path(logs)) as stack,
        patch.dict(os.environ, {**stack.environment, **QUIET}),
    ):
        durable, direct = warm()
        durable_first, direct_first = first()
        heard = live(Client(stack).http)
    costs, costs_first = durable.median - direct.median, durable_first.median - direct_first.median
    times = durable.median / direct.median
    return Chapter(
        "Durable runs",
        """
What it costs that a run goes on whoever dies outside: the service in one process, its runs made by the runner in
the sandbox, against the same service with the SDK's `run_code`, whose connection is the run, and no record of it. A
printed line is followed over HTTP, as server-sent events.
""",
        [compared([(durable, direct), (durable_first, direct_first)]), milliseconds([heard])],
        {
            f"a durable warm run: {costs:.1f} ms ≤ 5 ms over run_code (ratio {times:.2f})": costs <= 5,
            f"a durable first run: {costs_first:.0f} ms ≤ 50 ms over run_code": costs_first <= 50,
            f"live output: p50 {heard.median:.0f} ms, p95 {heard.quantile(95):.0f} ms ≤ 50 ms": (
                heard.quantile(95) <= 50
            ),
        },
    )
