"""The service on this machine, as `make run` serves it, for as long as the chat takes."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"
READY_WITHIN_S = 90
END_WITHIN_S = 20
ON_FREE_PORTS = {"API_PORT": "0", "SANDBOX_PORT": "0", "AWS_PORT": "0", "HOST": "127.0.0.1"}


class NoService(Exception):
    """The service did not start; the message has its own words."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service is, and what it is to be told."""

    url: str
    token: str = field(repr=False)


@contextmanager
def local_service() -> Iterator[Address]:
    """A service on free ports, which ends with the block. Raises `NoService`."""
    python = PYTHON if PYTHON.exists() else Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="sk-chat-") as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(
            [python, "-m", "local", "run", "--run-dir", folder],
            cwd=ROOT,
            env={**os.environ, **ON_FREE_PORTS, "PYTHONPATH": "shared:clients/python:."},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            yield _ready(process, Path(folder))
        finally:
            process.terminate()
            try:
                process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: subprocess.Popen[bytes], folder: Path) -> Address:
    """Returns where the service is, once it answers."""
    told = folder / "stack.json"
    deadline = time.monotonic() + READY_WITHIN_S
    while not told.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NoService(f"the local service did not start:\n{(folder / 'log').read_text()[-2_000:]}")
        time.sleep(0.05)
    known = json.loads(told.read_text())
    return Address(known["api_url"], known["api_key"])
