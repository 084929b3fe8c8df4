"""What keeps sandboxes from filling the disk: one that has more than its share of files is ended.

Nothing bounds a folder's size without a file system made for it, so this looks at sizes after the fact: when the
disk has lost so much that it may matter, which costs next to nothing to know, and now and then anyway.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from local.sandbox.fleet import Fleet
from local.sandbox.sandbox import State

_MIB = 1024 * 1024
_EVERY_S = 1.0
_ANYWAY_S = 60.0


class DiskWatch:
    """Ends those of a fleet's sandboxes whose files take more than `limit_mib`."""

    def __init__(self, fleet: Fleet, folder: Path, limit_mib: int) -> None:
        self._fleet = fleet
        self._folder = folder
        self._limit = limit_mib * _MIB
        self._free = 0
        self._looked_at = 0.0

    async def run(self) -> None:
        """Watches until it is cancelled."""
        while True:
            if self._may_matter():
                await self._look()
            await asyncio.sleep(_EVERY_S)

    def _may_matter(self) -> bool:
        now, free = asyncio.get_running_loop().time(), shutil.disk_usage(self._folder).free
        if free > self._free - self._limit // 8 and now < self._looked_at + _ANYWAY_S:
            return False
        self._free, self._looked_at = free, now
        return True

    async def _look(self) -> None:
        for sandbox in [sandbox for sandbox in self._fleet if sandbox.state.is_live]:
            if await asyncio.to_thread(used_bytes, sandbox.cell.folders.home) > self._limit:
                await sandbox.end(State.KILLED)


def used_bytes(folder: Path) -> int:
    """Returns what the files below the folder take of the disk: holes and what links lead to are not counted."""
    return sum(_blocks(str(folder))) * 512


def _blocks(folder: str) -> Iterator[int]:
    with suppress(OSError), os.scandir(folder) as entries:  # whoever has it may remove it meanwhile
        for entry in entries:
            with suppress(OSError):
                yield entry.stat(follow_symlinks=False).st_blocks
                if entry.is_dir(follow_symlinks=False):
                    yield from _blocks(entry.path)
