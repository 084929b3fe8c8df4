"""How a sandbox's processes are started: what every way to do it has in common, and the way without isolation."""

import asyncio
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from local.sandbox.limits import Limits
from local.sandbox.runtime import Runtime, write_programs

AGENT = Path(__file__).parent / "agent"
PRELOAD = "pandas,matplotlib.pyplot"


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one sandbox on the host; `run` holds its sockets."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    def create(self, version: str, caches: Path) -> None:
        """All folders exist, also that of the user's packages: Python ignores one that appears later."""
        self.root.mkdir(mode=0o700)
        for folder in (self.home / f".local/lib/python{version}/site-packages", self.run, self.tmp):
            folder.mkdir(parents=True)
        if caches.exists():
            shutil.copytree(caches, self.home / ".cache")

    def keep_caches(self, caches: Path) -> None:
        """`caches` has what the first warm sandbox found out, of fonts say, and others need not again."""
        if not caches.exists() and (self.home / ".cache").exists():
            shutil.copytree(self.home / ".cache", self.root / "caches")
            with suppress(OSError):  # another sandbox was faster
                (self.root / "caches").rename(caches)


@dataclass(frozen=True, slots=True)
class Spawned:
    """Processes that have been started; `pid` is the topmost one. They wait until `release` is called."""

    process: asyncio.subprocess.Process
    pid: int
    gate: int | None = None

    def release(self) -> None:
        """The sandbox's own program starts."""
        if self.gate is not None:
            os.close(self.gate)


class Isolation(Protocol):
    """Starts an agent in its folders."""

    @property
    def runtime(self) -> Runtime:
        """The environment that the sandboxes have."""
        ...

    async def spawn(self, folders: Folders, *, network: bool) -> Spawned:
        """The sandbox's processes, which wait to be released."""
        ...


@dataclass(frozen=True, slots=True)
class Unisolated:
    """Sandboxes as plain processes of the user who runs the server: no protection, for trusted code alone.

    A paused one lives on if the server is killed. A program that detaches itself is adopted by the agent.
    """

    runtime: Runtime
    limits: Limits
    preload: str

    async def spawn(self, folders: Folders, *, network: bool) -> Spawned:  # noqa: ARG002  (it is always shared)
        """The agent, in a session of its own."""
        python = self.runtime.prefix / self.runtime.executable
        ours = folders.root / "opt"
        ours.mkdir()
        (ours / "agent").symlink_to(AGENT)
        write_programs(ours / "bin", python)
        environment = self.runtime.environment(python, str(self.runtime.packages), str(folders.home), str(ours))
        with (folders.root / "agent.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *agent_command(str(python), str(folders.run), str(folders.home), self.preload, network=True),
                "--adopt",
                # pip could write to the interpreter's own packages here.
                env={**environment, "TMPDIR": str(folders.tmp), "PIP_USER": "1"},
                cwd=folders.home,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.limits.apply(process.pid, own_users=False)
        return Spawned(process, process.pid)


def agent_command(python: str, run: str, home: str, preload: str, *, network: bool) -> list[str]:
    """The command line of an agent; `preload` names modules, with commas between them.

    Its stdin must be a pipe from the server, whose end it takes for the server's own: bubblewrap does not end a
    sandbox whose server was killed while the sandbox was being made.
    """
    # -P: the working directory is the user's home, from which the agent must import nothing.
    arguments = [python, "-P", "-m", "agent", "--run-dir", run, "--home", home, "--preload", preload]
    arguments.append("--end-with-stdin")
    return [*arguments, *(["--shared-network"] if network else [])]
