"""The RPC service `process.Process`."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any, Literal, TypeAlias

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process import process_pb as pb
from e2b.envd.process.process_connect import Process
from protobuf import Oneof

from ...child import describe_exit
from ..commands import Chunk, Command, Commands, Program, TerminalSize, Watcher
from ..paths import Paths
from .calls import Call, Deadline, told, user_of

Event = pb.ProcessEvent


class ProcessService(Process):
    def __init__(self, paths: Paths, commands: Commands) -> None:
        self._paths = paths
        self._commands = commands

    async def list(self, _request: pb.ListRequest, _: Call, /) -> pb.ListResponse:
        return pb.ListResponse(processes=[_info(command) for command in self._commands.all()])

    async def start(self, request: pb.StartRequest, call: Call, /) -> AsyncIterator[pb.StartResponse]:
        program = self._program(request, call)
        with told():
            command = self._commands.start(program)
        if call.timeout_ms is not None:
            # The time that the caller gave is the command's too, even if nobody watches any more.
            loop = asyncio.get_running_loop()
            overdue = loop.call_later(call.timeout_ms / 1000, _kill_soon, command)
            command.exited.add_done_callback(lambda _: overdue.cancel())
        async for event in _watch(command, Deadline(call)):
            yield pb.StartResponse(event=event)

    async def connect(self, request: pb.ConnectRequest, call: Call, /) -> AsyncIterator[pb.ConnectResponse]:
        async for event in _watch(self._selected(request.process), Deadline(call)):
            yield pb.ConnectResponse(event=event)

    async def update(self, request: pb.UpdateRequest, _: Call, /) -> pb.UpdateResponse:
        command = self._selected(request.process)
        if request.pty is not None:
            with told():
                command.resize(_size(request.pty))
        return pb.UpdateResponse()

    async def stream_input(
        self, requests: AsyncIterator[pb.StreamInputRequest], _: Call, /
    ) -> pb.StreamInputResponse:
        command: Command | None = None
        async for request in requests:
            match request.event:
                case Oneof(value=pb.StreamInputRequest.StartEvent() as start):
                    command = self._selected(start.process)
                case Oneof(value=pb.StreamInputRequest.DataEvent() as data) if command:
                    await _feed(command, data.input)
                case Oneof(value=pb.StreamInputRequest.DataEvent()):
                    raise ConnectError(Code.INVALID_ARGUMENT, "the stream must start with the process it is for")
        return pb.StreamInputResponse()

    async def send_input(self, request: pb.SendInputRequest, _: Call, /) -> pb.SendInputResponse:
        await _feed(self._selected(request.process), request.input)
        return pb.SendInputResponse()

    async def send_signal(self, request: pb.SendSignalRequest, _: Call, /) -> pb.SendSignalResponse:
        command = self._selected(request.process)
        if request.signal not in (pb.Signal.SIGTERM, pb.Signal.SIGKILL):
            raise ConnectError(Code.INVALID_ARGUMENT, "only SIGTERM and SIGKILL can be sent")
        await command.signal(signal.Signals(int(request.signal)))
        return pb.SendSignalResponse()

    async def close_stdin(self, request: pb.CloseStdinRequest, _: Call, /) -> pb.CloseStdinResponse:
        command = self._selected(request.process)
        with told():
            await command.close_input()
        return pb.CloseStdinResponse()

    def _program(self, request: pb.StartRequest, call: Call) -> Program:
        wanted = request.process or pb.ProcessConfig()
        with told():
            directory = self._paths.resolve(wanted.cwd, user_of(call))
        if not directory.is_dir():
            raise ConnectError(Code.INVALID_ARGUMENT, f"cwd {str(directory)!r} does not exist: create it first")
        return Program(
            command=wanted.cmd,
            arguments=tuple(wanted.args),
            variables=dict(wanted.envs),
            directory=directory,
            tag=request.tag if request.has_field("tag") else None,
            takes_input=request.stdin if request.has_field("stdin") else True,
            terminal=None if request.pty is None else _size(request.pty),
        )

    def _selected(self, selector: pb.ProcessSelector | None) -> Command:
        with told():
            match selector.selector if selector else None:
                case Oneof(value=int() as pid):
                    return self._commands.get(pid)
                case Oneof(value=str() as tag):
                    return self._commands.tagged(tag)
                case _:
                    raise ConnectError(Code.INVALID_ARGUMENT, "name the process by pid or by tag")


async def _watch(command: Command, deadline: Deadline) -> AsyncIterator[Event]:
    """The command's events from now on, beginning with its pid and ending with its exit."""
    with command.watched() as watcher:
        yield Event(event=_Start("start", Event.StartEvent(pid=command.pid)))
        while (chunk := await deadline.next(_next(watcher))) != _OVER:
            yield _event(chunk)
    yield Event(event=_End("end", _end(await command.exited)))


_Start: TypeAlias = Oneof[Literal["start"], pb.ProcessEvent.StartEvent]
_Data: TypeAlias = Oneof[Literal["data"], pb.ProcessEvent.DataEvent]
_Alive: TypeAlias = Oneof[Literal["keepalive"], pb.ProcessEvent.KeepAlive]
_End: TypeAlias = Oneof[Literal["end"], pb.ProcessEvent.EndEvent]

# Stands for the end of the output, since None stands for a silence that was long enough.
_OVER: Any = ("over", b"")


async def _next(watcher: Watcher) -> Chunk:
    return await watcher.next() or _OVER


def _event(chunk: Chunk | None) -> Event:
    if chunk is None:
        return Event(event=_Alive("keepalive", Event.KeepAlive()))
    stream, data = chunk
    output: Any = Oneof(stream, data)
    return Event(event=_Data("data", Event.DataEvent(output=output)))


def _end(returncode: int) -> pb.ProcessEvent.EndEvent:
    status = describe_exit(returncode)
    exited = returncode >= 0
    return Event.EndEvent(
        exit_code=returncode if exited else -1, exited=exited, status=status, error=status if returncode else None
    )


async def _feed(command: Command, given: pb.ProcessInput | None) -> None:
    with told():
        match given.input if given else None:
            case Oneof(field="stdin", value=data):
                await command.write("stdout", data)
            case Oneof(field="pty", value=data):
                await command.write("pty", data)


def _kill_soon(command: Command) -> None:
    killing = asyncio.get_running_loop().create_task(command.signal(signal.SIGKILL))
    command.exited.add_done_callback(lambda _: killing.done())


def _size(terminal: pb.PTY) -> TerminalSize:
    size = terminal.size or pb.PTY.Size(cols=80, rows=24)
    return TerminalSize(columns=size.cols, rows=size.rows)


def _info(command: Command) -> pb.ProcessInfo:
    program = command.program
    config = pb.ProcessConfig(
        cmd=program.command,
        args=list(program.arguments),
        envs=dict(program.variables),
        cwd=str(program.directory),
    )
    return pb.ProcessInfo(config=config, pid=command.pid, tag=program.tag)
