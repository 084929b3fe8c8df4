"""One kernel: its process, its channels, and the runs sent to it."""

import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.session import Session

from ..child import Child, describe_exit
from ..environment import AGENT_ROOT
from .run import Emit, Run

log = logging.getLogger("agent.kernel")

START_TIMEOUT_S = 30
# A kernel greets its subscriber. It does not when the subscription comes just as it sends something: ipykernel's
# thread sends past the event loop that watches the socket, and takes the wake-up along (seen in 7.4).
WELCOME_TIMEOUT_S = 0.5
REHEARSE_AGAIN_S = 0.5
# A signal can be lost while Python code swallows KeyboardInterrupt, so that it is sent again.
INTERRUPT_AGAIN_S = 1.0

# Socket paths have to be short: the kernel's folder and these numbers are all of their names.
_PORTS = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}
# What E2B's kernels are called in a list of processes, by which programs find the one to interrupt.
_LAUNCHERS = {"python": "ipykernel_launcher", "bash": "bash_kernel"}
# Kernels answer few requests at a time: a second arena or a thread pool per core is only memory to them.
_FRUGAL = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Variables:
    """Environment variables that come with a run: `kept` from now on, and `run` while it lasts."""

    kept: Mapping[str, str] = field(default_factory=dict)
    run: Mapping[str, str] = field(default_factory=dict)


class KernelStartError(RuntimeError):
    """The kernel's process ended, or said nothing for too long, before it was ready."""


class Kernel:
    """A running kernel; made by `start`, ended by `close`."""

    def __init__(self, child: Child, folder: Path, session: Session, context: zmq.asyncio.Context) -> None:
        self.exited = child.exited
        self._child = child
        self._folder = folder
        self._session = session
        self._shell = context.socket(zmq.DEALER)
        self._iopub = context.socket(zmq.SUB)
        self._runs: dict[str, Run] = {}
        self._readers: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls,
        context: zmq.asyncio.Context,
        language: str,
        cwd: str,
        variables: Mapping[str, str],
        preload: tuple[str, ...] = (),
    ) -> "Kernel":
        """A kernel that is ready to run code; KernelStartError when it does not get there."""
        folder = Path(tempfile.mkdtemp(prefix="k"))
        session = Session(key=secrets.token_hex().encode())
        try:
            child, ready = _spawn(language, cwd, variables, preload, _connection_file(folder, session.key))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        kernel = cls(child, folder, session, context)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await _until_ready(child, ready)
                await kernel._connect()
        except BaseException as reason:
            await kernel.close()
            if isinstance(reason, TimeoutError):
                raise KernelStartError(f"the {language} kernel was not ready in {START_TIMEOUT_S} s") from reason
            raise
        return kernel

    def submit(self, code: str, variables: Variables, emit: Emit, *, silent: bool = False) -> Run:
        """The run of `code`, under way."""
        run = Run(emit)
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        metadata = {"environment": {"kept": dict(variables.kept), "run": dict(variables.run)}}
        request = self._session.msg("execute_request", content, metadata=metadata)
        self._runs[request["header"]["msg_id"]] = run
        run.finished.add_done_callback(lambda _: self._runs.pop(request["header"]["msg_id"], None))
        # Not by `Session.send`, which goes past this socket: whatever comes in meanwhile would wake nobody.
        self._shell.send_multipart(self._session.serialize(request))
        if self.exited.done():
            run.lose(*_obituary(self.exited.result()))
        return run

    async def interrupt(self, run: Run) -> None:
        """Returns when the run has ended; its code sees KeyboardInterrupt, again and again if it goes on."""
        await asyncio.wait({run.accepted, run.finished}, return_when=asyncio.FIRST_COMPLETED)
        while not run.finished.done():
            self._child.signal(signal.SIGINT)
            await asyncio.wait({run.finished}, timeout=INTERRUPT_AGAIN_S)

    async def close(self) -> None:
        """The kernel's processes, sockets and files are gone when this returns."""
        await self._child.kill()
        for reader in self._readers:
            reader.cancel()
        self._shell.close(linger=0)
        self._iopub.close(linger=0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def abandon_runs(self, name: str, reason: str) -> None:
        """Ends every run under way with an error of this name."""
        for run in list(self._runs.values()):
            run.lose(name, reason)

    async def _connect(self) -> None:
        welcomed = asyncio.get_running_loop().create_future()
        self._iopub.set(zmq.RCVHWM, 0)
        self._iopub.subscribe(b"")
        for channel, port in ((self._iopub, _PORTS["iopub_port"]), (self._shell, _PORTS["shell_port"])):
            channel.connect(f"ipc://{self._folder}/c-{port}")
            self._readers.append(asyncio.create_task(self._read(channel, welcomed)))
        self.exited.add_done_callback(lambda exited: self.abandon_runs(*_obituary(exited.result())))
        await asyncio.wait({welcomed, self.exited}, timeout=WELCOME_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        await self._rehearse()
        if self.exited.done():
            raise KernelStartError(f"the kernel ended while starting ({describe_exit(self.exited.result())})")

    async def _rehearse(self) -> None:
        """Returns when a run has come to its end, which proves that the channels work, or the kernel has ended.

        The first run is slower than all others. Its end is not heard if it comes before the subscription.
        """
        rehearsals: list[Run] = []
        while not self.exited.done() and not any(run.finished.done() for run in rehearsals):
            rehearsals.append(self.submit("", Variables(), lambda _: None, silent=True))
            ends: set[asyncio.Future[Any]] = {self.exited, *(run.finished for run in rehearsals)}
            await asyncio.wait(ends, timeout=REHEARSE_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
        self.abandon_runs("KernelError", "one rehearsal is enough")

    async def _read(self, channel: "zmq.asyncio.Socket", welcomed: "asyncio.Future[None]") -> None:
        while True:
            frames = await channel.recv_multipart()
            await asyncio.sleep(0)  # receiving what is there already gives nobody else a turn, not even its senders
            try:
                message = self._session.deserialize(self._session.feed_identities(frames)[1])
            except (ValueError, TypeError):  # user code can reach these sockets too, and write what it wants
                log.warning("a kernel's message cannot be read")
                continue
            if message["msg_type"] == "iopub_welcome" and not welcomed.done():
                welcomed.set_result(None)
            elif run := self._runs.get(message["parent_header"].get("msg_id", "")):
                run.hear(message)


def _obituary(returncode: int) -> tuple[str, str]:
    """Name and value of the error that a run gets when its kernel dies (the name is E2B's)."""
    reason = f"the kernel ended ({describe_exit(returncode)}); it starts again, and its variables are lost"
    return "ContextRestarting", reason


def _connection_file(folder: Path, key: bytes) -> Path:
    """The written file that tells a kernel where to listen: on Unix sockets in `folder`."""
    path = folder / "connection.json"
    where = {"transport": "ipc", "ip": str(folder / "c"), **_PORTS}
    path.write_text(json.dumps({**where, "key": key.decode(), "signature_scheme": "hmac-sha256"}))
    return path


def _spawn(
    language: str, cwd: str, variables: Mapping[str, str], preload: tuple[str, ...], connection_file: Path
) -> tuple[Child, int]:
    """The kernel's process, and the file descriptor on which it says that it is ready."""
    ready, tell = os.pipe()
    options = ("--connection-file", str(connection_file), "--ready-fd", str(tell), "--preload", ",".join(preload))
    python_path = os.pathsep.join(filter(None, (AGENT_ROOT, variables.get("PYTHONPATH"))))
    try:
        process = subprocess.Popen(
            # -P: a user's file beside the kernel must not shadow a module that the kernel needs.
            [sys.executable, "-P", "-m", f"{__package__.split('.')[0]}.kernels", _LAUNCHERS[language], *options],
            cwd=cwd,
            env={**_FRUGAL, **_shown_inline(variables), "PYTHONPATH": python_path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(tell,),
            start_new_session=True,
        )
    except OSError:
        os.close(ready)
        raise
    finally:
        os.close(tell)
    return Child(process), ready


def _shown_inline(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without Matplotlib's backend for programs with no display: a kernel displays figures."""
    return {name: value for name, value in variables.items() if (name, value) != ("MPLBACKEND", "agg")}


async def _until_ready(child: Child, ready: int) -> None:
    """Returns when the kernel wrote to `ready`, which is closed here."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        loop.remove_reader(ready)
        told.set_result(os.read(ready, 1))

    loop.add_reader(ready, read)
    try:
        if not await told:
            returncode = await asyncio.shield(child.exited)
            raise KernelStartError(f"the kernel ended while starting ({describe_exit(returncode)})")
    finally:
        loop.remove_reader(ready)
        os.close(ready)
