"""A family of processes that ends as one: in order when asked, and also when its supervisor is killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from local.project import ROOT

STOP_WITHIN_S = 5
LOG_LIMIT_BYTES = 4_000_000
WATCHDOG = Path(__file__).with_name("watchdog.py")


class StackError(Exception):
    """A server ended, or never got ready. The message says which, how, and ends with its last log lines."""

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(f"{what}\n{last_lines(log)}".rstrip())


@dataclass(frozen=True)
class Server:
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    ended_by: signal.Signals
    command: Sequence[str] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)

    def check(self) -> None:
        """Raises StackError if it is not running any more."""
        if (code := self.process.poll()) is not None:
            raise StackError(f"{self.name} ended by itself, with {code}; the end of its log:", self.log)

    def stop(self) -> None:
        """Ends it: politely, and by force if it hangs."""
        self.process.send_signal(self.ended_by)
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Processes:
    """Servers with one temporary folder between them; none of either is left when the block ends.

    The servers share one process group, led by the watchdog: a Ctrl-C on the terminal reaches the supervisor
    alone, which then ends them in order; if it is killed, the watchdog does it.
    """

    def __init__(self, logs: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sandkeeper-"))
        self._logs = logs
        self._servers: list[Server] = []
        self._watchdog = subprocess.Popen(
            [sys.executable, WATCHDOG, self.folder], stdin=subprocess.PIPE, process_group=0
        )

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        ended_by: signal.Signals = signal.SIGTERM,
    ) -> Server:
        """A server that was started; its output goes to `<name>.log`, its temporary files to our folder."""
        path = self._new_log(name)
        process = self._spawn(command, environment, path)
        self._servers.append(server := Server(name, process, path, ended_by, command, environment))
        return server

    def finish(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Runs a command to its end; raises StackError if it fails. An interrupted one ends with the servers."""
        path = self._new_log(name)
        if code := self._spawn(command, environment, path).wait():
            raise StackError(f"{name} failed, with {code}; the end of its log:", path)

    def restart(self, name: str) -> Server:
        """The server of this name anew, after a hard end in the middle of whatever it did. Its log goes on."""
        index, old = next((index, server) for index, server in enumerate(self._servers) if server.name == name)
        old.process.kill()
        old.process.wait()
        self._servers[index] = replace(old, process=self._spawn(old.command, old.environment, old.log))
        return self._servers[index]

    def _new_log(self, name: str) -> Path:
        path = self._logs / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str], path: Path) -> subprocess.Popen[bytes]:
        with path.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environment, "TMPDIR": str(self.folder), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=self._watchdog.pid,
            )

    @property
    def pids(self) -> dict[str, int]:
        return {server.name: server.process.pid for server in self._servers}

    def check(self) -> None:
        """Raises StackError if one of them is not running any more; keeps their logs short."""
        for server in self._servers:
            server.check()
            if server.log.stat().st_size > LOG_LIMIT_BYTES:
                os.truncate(server.log, 0)

    def close(self) -> None:
        """Ends all of them, the latest first, then whatever they left behind, and removes the folder."""
        for server in reversed(self._servers):
            server.stop()
        os.killpg(self._watchdog.pid, signal.SIGKILL)
        self._watchdog.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, indented; empty if there is none."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "".join(f"  | {line}\n" for line in lines[-count:])
