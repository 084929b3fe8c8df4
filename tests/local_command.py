"""`python -m local …` as a user starts it, watched closely enough to see what it leaves behind."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.project import ROOT

WITHIN_S = 60


class LocalCommand:
    """A folder for all its temporary files; processes are found by the folder's name in what they were told."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.run_dir = folder / "run"
        self.temporary.mkdir()

    @contextmanager
    def started(self, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """`python -m local` with these arguments, on free ports unless told otherwise; ended with the block."""
        ports = {"API_PORT": "0", "SANDBOX_PORT": "0", "AWS_PORT": "0"}
        ours = os.pathsep.join(map(str, (ROOT / "shared", ROOT / "clients" / "python", ROOT)))
        paths = {"PYTHONPATH": ours, "TMPDIR": str(self.temporary)}
        with subprocess.Popen(
            [sys.executable, "-m", "local", *arguments, "--run-dir", str(self.run_dir)],
            cwd=ROOT,
            env={**os.environ, **ports, **paths, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                end(process)

    def ready(self, process: subprocess.Popen[str], within_s: float = WITHIN_S) -> dict[str, Any]:
        """What a starting stack writes to stack.json, as soon as it is ready."""
        path = self.run_dir / "stack.json"
        until(lambda: path.exists() or process.poll() is not None, "a ready stack", within_s)
        assert process.poll() is None, process.communicate()[0]
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def assert_nothing_is_left(self) -> None:
        """No process, no temporary file and no stack.json."""
        assert not self.processes()
        assert not list(self.temporary.iterdir())
        assert not (self.run_dir / "stack.json").exists()

    def processes(self) -> list[str]:
        """The processes that were told about the folder; zombies know nothing."""
        return [each.name for each in Path("/proc").glob("[0-9]*") if self._is_known_to(each)]

    def _is_known_to(self, process: Path) -> bool:
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            return False
        return bytes(self.temporary) in told


@contextmanager
def local_command() -> Iterator[LocalCommand]:
    """A command whose folder has a short name, since the names of Unix sockets in it have to be short."""
    with tempfile.TemporaryDirectory(prefix="sk") as folder:
        yield LocalCommand(Path(folder))


def end(process: subprocess.Popen[str]) -> None:
    """Ends it: politely, so that it ends what it started, and by force if it hangs."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def until(true: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
    """Returns once something is true, within bounds."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s} s"
        time.sleep(0.05)
