"""A sandbox's agent as a plain process, and a client for it."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".envs" / "kernel" / "bin" / "python"
START_TIMEOUT_S = 60

INTERPRETER = {"E2b-Sandbox-Port": "49999"}

Event = dict[str, Any]


@dataclass(frozen=True)
class Agent:
    """A running agent; `client` talks to its socket."""

    process: subprocess.Popen[bytes]
    folder: Path
    client: httpx.Client

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def execute(self, code: str, **options: Any) -> list[Event]:
        """All events of a run but signs of life."""
        answer = self.client.post("/execute", json={"code": code, **options}, headers=INTERPRETER)
        answer.raise_for_status()
        return [event for event in map(json.loads, answer.text.splitlines()) if event["type"] != "keepalive"]

    def value(self, code: str, **options: Any) -> str | None:
        """The text of a run's main result; AssertionError if the code failed."""
        events = self.execute(code, **options)
        assert not only(events, "error"), events
        return next((event["text"] for event in events if event.get("is_main_result")), None)

    def rpc(self, method: str, **message: Any) -> httpx.Response:
        """The answer to a call such as `filesystem.Filesystem/Stat`."""
        return self.client.post(f"/{method}", json=message)


def only(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def unix_client(path: Path, headers: Mapping[str, str] | None = None) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(path))
    return httpx.Client(transport=transport, base_url="http://sandbox", headers=headers, timeout=30)


@contextmanager
def running_agent(
    preload: str = "", headers: Mapping[str, str] | None = None, python_path: Path | None = None, flags: str = ""
) -> Iterator[Agent]:
    """An agent with a warm kernel; it, its kernels and its folder are gone afterwards.

    All of them import from `python_path` first. `flags` are more of the agent's.
    """
    # Not pytest's folder: socket paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="sk-"))
    for name in ("home", "run", "tmp"):
        (folder / name).mkdir()
    where = ("--run-dir", str(folder / "run"), "--home", str(folder / "home"))
    options = (*where, "--preload", preload, "--shared-network", *flags.split())
    process = subprocess.Popen(
        [PYTHON, "-P", "-m", "agent", *options],
        cwd=folder / "home",
        env={
            "PATH": f"{PYTHON.parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(map(str, filter(None, (python_path, ROOT / "local" / "sandbox")))),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
    )
    try:
        path = folder / "run" / "agent.sock"
        with unix_client(path, headers) as client:
            _wait_until_warm(client, path, process)
            yield Agent(process, folder, client)
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _wait_until_warm(client: httpx.Client, socket_path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the agent ended with {process.returncode}; its reason is on stderr"
        if _listens(socket_path) and client.get("/health").status_code == 204:
            return
        time.sleep(0.05)
    raise TimeoutError(f"the agent was not warm after {START_TIMEOUT_S} s")


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
