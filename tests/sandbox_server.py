"""Fixtures for tests against the local sandbox server; a pytest plugin (`-p tests.sandbox_server`).

`sandbox_server` is one server for all tests of a run; `sandboxes` gives its control plane to the E2B SDK in
this process, as do `sandbox` and `shared`, which are sandboxes there. `serve` starts a server with settings of
its own.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from e2b_code_interpreter import Sandbox

ROOT = Path(__file__).parents[1]
_READY_WITHIN_S = 30


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    pid: int
    data_dir: Path

    @property
    def sdk(self) -> dict[str, str]:
        """What leads the E2B SDK here, for create and connect; the rest it remembers."""
        return {"api_url": self.url, "sandbox_url": self.url, "api_key": "test"}

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The JSON that the control plane answers with; an error status raises HTTPError."""
        content = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}{path}", content, method=method)  # noqa: S310
        for name, value in {"X-API-KEY": "test", "Content-Type": "application/json", **headers}.items():
            request.add_header(name, value)
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            answer = reply.read()
        return json.loads(answer) if answer else None

    def plan(self, kind: str, **values: object) -> None:
        """The failure `kind` befalls what comes next; see local/sandbox/faults.py."""
        self.call("POST", "/admin/faults", {"kind": kind, **values})

    def calls(self) -> dict[str, int]:
        """How often each call of the control plane has come so far, and runs as `run`."""
        counts: dict[str, int] = self.call("GET", "/admin/calls")
        return counts

    def states(self) -> dict[str, str]:
        """The state of every sandbox ever created, by its id."""
        return {entry["sandboxID"]: entry["state"] for entry in self.call("GET", "/admin/sandboxes")}


@contextmanager
def serve(*flags: str, pool_size: int = 1, preload: str = "") -> Iterator[Server]:
    """A server on a free port, ended with all its sandboxes at the end.

    Its sandboxes import pandas and matplotlib when they are first used, which makes a start cost less than half.
    """
    with tempfile.TemporaryDirectory(prefix="sk-") as data_dir:
        process = start(data_dir, "--preload", preload, *flags, pool_size=pool_size)
        try:
            yield Server(**ready(process), data_dir=Path(data_dir))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def start(
    data_dir: str, *flags: str, port: int = 0, pool_size: int = 1, python_path: str = ""
) -> subprocess.Popen[str]:
    """The server's process, which may not be ready yet; it imports from `python_path` first."""
    command = [sys.executable, "-m", "local.sandbox", "--port", str(port), "--pool-size", str(pool_size)]
    return subprocess.Popen(
        [*command, "--data-dir", data_dir, *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{python_path}:{ROOT / 'shared'}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the server says when it is ready."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        _, errors = process.communicate(timeout=_READY_WITHIN_S)
        raise RuntimeError(f"the sandbox server ended with {process.returncode}: {errors}")
    values: dict[str, Any] = json.loads(line)
    return values


def eventually(check: Callable[[], object], within_s: float = 20) -> None:
    """`check` has become true; for what a real process needs a moment for."""
    deadline = time.monotonic() + within_s
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"still not true after {within_s} s: {check}")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def sandbox_server() -> Iterator[Server]:
    """One server for all tests; whatever a test plans or creates there, it must clear or end."""
    with serve() as server:
        yield server


@pytest.fixture
def sandboxes(sandbox_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, to which the E2B SDK in this process leads; what the test leaves there is removed."""
    monkeypatch.setenv("E2B_API_URL", sandbox_server.url)
    monkeypatch.setenv("E2B_SANDBOX_URL", sandbox_server.url)
    monkeypatch.setenv("E2B_API_KEY", "test")
    before = sandbox_server.states().keys()
    yield sandbox_server
    sandbox_server.call("DELETE", "/admin/faults")
    for sandbox_id, state in sandbox_server.states().items():
        if sandbox_id not in before and state in {"running", "paused"}:
            sandbox_server.call("DELETE", f"/sandboxes/{sandbox_id}")


@pytest.fixture
def sandbox(sandboxes: Server) -> "Sandbox":
    """A sandbox for this test alone."""
    from e2b_code_interpreter import Sandbox  # noqa: PLC0415 - slow, and not for tests of other parts

    return Sandbox.create(timeout=120)


@pytest.fixture(scope="module")
def shared(sandbox_server: Server) -> "Iterator[Sandbox]":
    """A sandbox for all tests of a module that neither end nor clutter it."""
    from e2b_code_interpreter import Sandbox  # noqa: PLC0415 - as above

    sandbox = Sandbox.create(timeout=600, **sandbox_server.sdk)
    yield sandbox
    sandbox.kill()
