"""Commands: processes that run on whether or not somebody watches them."""

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from ..child import Child
from ..environment import Environment

Stream = Literal["stdout", "stderr", "pty"]
Chunk = tuple[Stream, bytes]

CHUNK_BYTES = 32 * 1024
# A watcher that is this far behind makes the command wait; without watchers, output is dropped.
BEHIND_BYTES = 4 * 1024 * 1024
# What a command wrote before it exited is in its pipe; what others keep writing there is not waited for.
LAST_BYTES = 1024 * 1024


class NoSuchCommandError(LookupError):
    """No running command has this id or tag."""


class InputError(ValueError):
    """The command does not take this kind of input (any more)."""


@dataclass(frozen=True)
class TerminalSize:
    columns: int
    rows: int


@dataclass(frozen=True)
class Program:
    """What to run and how."""

    command: str
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    tag: str | None = None
    takes_input: bool = False
    terminal: TerminalSize | None = None


class Watcher:
    """Receives a command's output from its subscription on."""

    def __init__(self, command: "Command") -> None:
        self.behind_bytes = 0
        self._command = command
        self._chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()

    def put(self, chunk: Chunk | None) -> None:
        self.behind_bytes += len(chunk[1]) if chunk else 0
        self._chunks.put_nowait(chunk)

    async def next(self) -> Chunk | None:
        """The next piece of output; None when the command has ended and everything was received."""
        chunk = await self._chunks.get()
        if chunk:
            self.behind_bytes -= len(chunk[1])
            self._command.resume_reading()
        return chunk


class Command:
    """A running command."""

    def __init__(self, program: Program, child: Child, input_fd: int | None, outputs: dict[int, Stream]) -> None:
        self.pid = child.pid
        self.program = program
        self.exited = child.exited
        self._child = child
        self._input = input_fd
        self._input_lock = asyncio.Lock()
        self._outputs = outputs
        self._reading: set[int] = set()
        self._watchers: set[Watcher] = set()
        self._closing: set[asyncio.Task[None]] = set()
        for fd in (*outputs, *([] if input_fd is None else [input_fd])):
            os.set_blocking(fd, False)
        self.exited.add_done_callback(self._end)
        self.resume_reading()

    @contextlib.contextmanager
    def watched(self) -> Iterator[Watcher]:
        """A watcher that receives all output from now on."""
        watcher = Watcher(self)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
            self.resume_reading()

    async def write(self, stream: Stream, data: bytes) -> None:
        """All of `data` was taken by the command's input."""
        if (stream == "pty") != (self.program.terminal is not None):
            raise InputError(f"process {self.pid} has no {stream} input")
        async with self._input_lock:
            rest = memoryview(data)
            while rest:
                if self._input is None:
                    raise InputError(f"the input of process {self.pid} is closed or was never open")
                try:
                    rest = rest[os.write(self._input, rest) :]
                except BlockingIOError:
                    await _writable(self._input)
                except OSError as reason:
                    raise InputError(f"process {self.pid} does not read its input any more") from reason

    async def close_input(self) -> None:
        if self.program.terminal:
            raise InputError(f"process {self.pid} has a terminal; send it Ctrl+D (0x04) instead")
        async with self._input_lock:
            if self._input is not None:
                os.close(self._input)
                self._input = None

    def resize(self, size: TerminalSize) -> None:
        if self.program.terminal is None or self._input is None:
            raise InputError(f"process {self.pid} has no terminal")
        _set_size(self._input, size)

    async def signal(self, number: signal.Signals) -> None:
        """The command's processes got the signal; after SIGKILL they are gone."""
        if number == signal.SIGKILL:
            await self._child.kill()
        else:
            self._child.signal(number)

    def resume_reading(self) -> None:
        """Reads on, unless a watcher is too far behind."""
        if self.exited.done() or any(watcher.behind_bytes > BEHIND_BYTES for watcher in self._watchers):
            return
        for fd in self._outputs.keys() - self._reading:
            self._reading.add(fd)
            asyncio.get_running_loop().add_reader(fd, self._read, fd)

    def _pause_reading(self) -> None:
        for fd in self._reading:
            asyncio.get_running_loop().remove_reader(fd)
        self._reading.clear()

    def _read(self, fd: int) -> None:
        data = _read_now(fd)
        if not data:
            self._forget(fd)
            return
        self._publish((self._outputs[fd], data))
        if any(watcher.behind_bytes > BEHIND_BYTES for watcher in self._watchers):
            self._pause_reading()

    def _publish(self, chunk: Chunk | None) -> None:
        for watcher in self._watchers:
            watcher.put(chunk)

    def _forget(self, fd: int) -> None:
        """The output is at its end; a terminal is one descriptor both ways and closed as such."""
        if fd in self._reading:
            self._reading.discard(fd)
            asyncio.get_running_loop().remove_reader(fd)
        del self._outputs[fd]
        if fd == self._input:
            self._input = None
        os.close(fd)

    def _end(self, _: asyncio.Future[int]) -> None:
        self._pause_reading()
        for fd in list(self._outputs):
            total_bytes = 0
            while total_bytes < LAST_BYTES and (data := _read_now(fd)):
                total_bytes += len(data)
                self._publish((self._outputs[fd], data))
            self._forget(fd)
        self._publish(None)
        if self._input is not None:
            closing = asyncio.get_running_loop().create_task(self.close_input())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


class Commands:
    """All running commands of the sandbox."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._running: dict[int, Command] = {}

    def start(self, program: Program) -> Command:
        """The command, running; OSError if it cannot be started."""
        variables = {**self._environment.variables(), **program.variables}
        command = (
            _on_terminal(program, program.terminal, variables)
            if program.terminal
            else _on_pipes(program, variables)
        )
        self._running[command.pid] = command
        command.exited.add_done_callback(lambda _: self._running.pop(command.pid, None))
        return command

    def all(self) -> list[Command]:
        return list(self._running.values())

    def get(self, pid: int) -> Command:
        try:
            return self._running[pid]
        except KeyError:
            raise NoSuchCommandError(f"process with pid {pid} not found: it never ran or has ended") from None

    def tagged(self, tag: str) -> Command:
        for command in self._running.values():
            if command.program.tag == tag:
                return command
        raise NoSuchCommandError(f"process with tag {tag!r} not found: it never ran or has ended")

    async def close(self) -> None:
        await asyncio.gather(*(command.signal(signal.SIGKILL) for command in self.all()))


def _on_pipes(program: Program, variables: dict[str, str]) -> Command:
    process = subprocess.Popen(
        [program.command, *program.arguments],
        cwd=program.directory,
        env=variables,
        stdin=subprocess.PIPE if program.takes_input else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    stdout, stderr = _taken(process.stdout), _taken(process.stderr)
    stdin = _taken(process.stdin) if program.takes_input else None
    return Command(program, Child(process), stdin, {stdout: "stdout", stderr: "stderr"})


def _on_terminal(program: Program, size: TerminalSize, variables: dict[str, str]) -> Command:
    ours, theirs = os.openpty()
    try:
        _set_size(ours, size)
        process = subprocess.Popen(
            [program.command, *program.arguments],
            cwd=program.directory,
            env=variables,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - nothing else makes the terminal the session's own
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Command(program, Child(process), ours, {ours: "pty"})


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _set_size(fd: int, size: TerminalSize) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


def _taken(pipe: IO[bytes] | None) -> int:
    """The descriptor of a pipe that was asked for, from now on ours to close."""
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    with pipe:
        return os.dup(pipe.fileno())


def _read_now(fd: int) -> bytes:
    """What can be read without waiting; nothing at the end, and nothing when there is nothing yet."""
    try:
        return os.read(fd, CHUNK_BYTES)
    except OSError:  # a terminal's end is an error, and so is an empty pipe
        return b""


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        loop.remove_writer(fd)
        ready.set_result(None)

    loop.add_writer(fd, tell)
    try:
        await ready
    finally:
        loop.remove_writer(fd)
