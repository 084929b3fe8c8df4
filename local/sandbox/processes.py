"""A process and its descendants, read from /proc: stop, continue, end and measure them as one."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process tree uses: its own share of memory (PSS) and the CPU time it has spent."""

    memory_bytes: int
    cpu_s: float


def tree(root: int) -> list[int]:
    """The living process `root` and all its descendants, parents before children."""
    children: dict[int, list[int]] = {}
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root] if _stat(root) else []
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def stop(root: int) -> None:
    """Every process of the tree is stopped, also those forked meanwhile.

    Parents first: a shell that saw its child stop before itself would take that for Ctrl-Z.
    """
    stopped: set[int] = set()
    while fresh := [pid for pid in tree(root) if pid not in stopped]:
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped.update(fresh)


def resume(root: int) -> None:
    """Every process of the tree runs again; children first, for the reason given in `stop`."""
    for pid in reversed(tree(root)):
        send(pid, signal.SIGCONT)


def kill(root: int) -> None:
    """Every process of the tree has got SIGKILL."""
    stop(root)  # so that none forks its way out while the list is read
    for pid in tree(root):
        send(pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    """`pid` has the signal, or is gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def usage(root: int) -> Usage:
    """What the tree uses now; processes that end meanwhile count as nothing."""
    pids = tree(root)
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in map(_stat, pids) if fields)
    return Usage(memory_bytes=sum(map(_memory_bytes, pids)), cpu_s=ticks / _TICKS_PER_S)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on, or None for a dead or ended process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # a program's name may hold spaces and parentheses
    return None if fields[0] in "ZX" else fields


def _memory_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # another user's process, or a kernel without the file: count resident pages instead
    fields = _stat(pid)
    return int(fields[21]) * _PAGE_BYTES if fields else 0
