"""The RPC service `filesystem.Filesystem`."""

import asyncio
import contextlib
import errno
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.filesystem import filesystem_pb as pb
from e2b.envd.filesystem.filesystem_connect import Filesystem
from protobuf import Oneof

from ..paths import Paths
from ..watches import Change, Watch, Watches
from .calls import Call, Deadline, told, user_of
from .entries import entry_info


class FilesystemService(Filesystem):
    def __init__(self, paths: Paths, watches: Watches) -> None:
        self._paths = paths
        self._watches = watches
        self._with_entries: set[str] = set()

    async def stat(self, request: pb.StatRequest, call: Call, /) -> pb.StatResponse:
        with told():
            return pb.StatResponse(entry=entry_info(self._path(request.path, call)))

    async def make_dir(self, request: pb.MakeDirRequest, call: Call, /) -> pb.MakeDirResponse:
        with told():
            path = self._path(request.path, call)
            if path.exists() and not path.is_dir():
                raise ConnectError(Code.INVALID_ARGUMENT, f"{str(path)!r} exists and is not a directory")
            path.mkdir(parents=True)
            return pb.MakeDirResponse(entry=entry_info(path))

    async def move(self, request: pb.MoveRequest, call: Call, /) -> pb.MoveResponse:
        with told():
            source, destination = self._path(request.source, call), self._path(request.destination, call)
            source.lstat()
            destination.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(_move, source, destination)
            return pb.MoveResponse(entry=entry_info(destination))

    async def list_dir(self, request: pb.ListDirRequest, call: Call, /) -> pb.ListDirResponse:
        with told():
            path = self._directory(request.path, call)
            found = await asyncio.to_thread(lambda: list(_tree(path, request.depth or 1)))
            return pb.ListDirResponse(entries=found)

    async def remove(self, request: pb.RemoveRequest, call: Call, /) -> pb.RemoveResponse:
        with told():
            await asyncio.to_thread(_remove, self._path(request.path, call))
            return pb.RemoveResponse()

    async def watch_dir(self, request: pb.WatchDirRequest, call: Call, /) -> AsyncIterator[pb.WatchDirResponse]:
        changes: asyncio.Queue[Change] = asyncio.Queue()
        with told():
            directory = self._directory(request.path, call)
            watch = Watch(directory, recursive=request.recursive, tell=changes.put_nowait)
        try:
            deadline = Deadline(call)
            yield _STARTED
            while True:
                change = await deadline.next(changes.get())
                if change is None:
                    yield _ALIVE
                else:
                    yield _told(_event(change, with_entry=request.include_entry))
        finally:
            watch.close()

    async def create_watcher(self, request: pb.CreateWatcherRequest, call: Call, /) -> pb.CreateWatcherResponse:
        with told():
            watch_id = self._watches.create(self._directory(request.path, call), recursive=request.recursive)
        if request.include_entry:
            self._with_entries.add(watch_id)
        return pb.CreateWatcherResponse(watcher_id=watch_id)

    async def get_watcher_events(
        self, request: pb.GetWatcherEventsRequest, _: Call, /
    ) -> pb.GetWatcherEventsResponse:
        with_entry = request.watcher_id in self._with_entries
        try:
            changes = self._watches.take(request.watcher_id)
        except KeyError:
            raise _no_watcher(request.watcher_id) from None
        return pb.GetWatcherEventsResponse(events=[_event(change, with_entry=with_entry) for change in changes])

    async def remove_watcher(self, request: pb.RemoveWatcherRequest, _: Call, /) -> pb.RemoveWatcherResponse:
        self._with_entries.discard(request.watcher_id)
        try:
            self._watches.remove(request.watcher_id)
        except KeyError:
            raise _no_watcher(request.watcher_id) from None
        return pb.RemoveWatcherResponse()

    def _path(self, path: str, call: Call) -> Path:
        return self._paths.resolve(path, user_of(call))

    def _directory(self, path: str, call: Call) -> Path:
        directory = self._path(path, call)
        if not stat.S_ISDIR(directory.stat().st_mode):
            raise ConnectError(Code.INVALID_ARGUMENT, f"{str(directory)!r} is not a directory")
        return directory


_Started: TypeAlias = Oneof[Literal["start"], pb.WatchDirResponse.StartEvent]
_Alive: TypeAlias = Oneof[Literal["keepalive"], pb.WatchDirResponse.KeepAlive]
_Told: TypeAlias = Oneof[Literal["filesystem"], pb.FilesystemEvent]

_STARTED = pb.WatchDirResponse(event=_Started("start", pb.WatchDirResponse.StartEvent()))
_ALIVE = pb.WatchDirResponse(event=_Alive("keepalive", pb.WatchDirResponse.KeepAlive()))


def _told(event: pb.FilesystemEvent) -> pb.WatchDirResponse:
    return pb.WatchDirResponse(event=_Told("filesystem", event))


def _no_watcher(watcher_id: str) -> ConnectError:
    return ConnectError(Code.NOT_FOUND, f"watcher {watcher_id!r} not found: it was removed or never created")


def _event(change: Change, *, with_entry: bool) -> pb.FilesystemEvent:
    event = pb.FilesystemEvent(name=change.name, type=pb.EventType[change.kind])
    if with_entry:
        with contextlib.suppress(OSError):  # gone since: such an event has no entry
            event.entry = entry_info(change.path)
    return event


def _tree(directory: Path, depth: int) -> Iterator[pb.EntryInfo]:
    """Everything in the directory, down to `depth` levels, in the order of names; links are not followed."""
    for child in sorted(directory.iterdir()):
        try:
            yield entry_info(child)
        except FileNotFoundError:  # removed while we list
            continue
        if depth > 1 and child.is_dir() and not child.is_symlink():
            yield from _tree(child, depth - 1)


def _move(source: Path, destination: Path) -> None:
    try:
        source.rename(destination)
    except OSError as reason:
        if reason.errno != errno.EXDEV:  # /home and /tmp are different file systems here, unlike in E2B
            raise
        shutil.move(source, destination)


def _remove(path: Path) -> None:
    """Nothing is at `path`, whatever was there before."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
