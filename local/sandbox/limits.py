"""What one sandbox may use.

The memory of one process is limited by RLIMIT_DATA, which counts private writable memory. RLIMIT_AS would also
count what is only reserved, and OpenBLAS, glibc's arenas and JavaScript engines reserve gigabytes. A program
over the limit gets a MemoryError. It is a little less than the limit on the sandbox as a whole, for which the
kernel ends a process; that one needs control groups. So does the number of processes where the server runs as
root, whom RLIMIT_NPROC does not bind; for others, it counts those of the sandbox alone.
"""

import resource
from dataclasses import dataclass

from local.sandbox.cgroups import Cgroup, Cgroups

CPU_COUNT = 2  # as many threads as numeric libraries start
DISK_MIB = 8192  # see disk.py
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox may use."""

    memory_mib: int = 2048
    processes: int = 512
    open_files: int = 4096
    file_mib: int = 4096
    cpu_s: int = 4 * 3600

    def apply(self, pid: int, *, own_users: bool) -> None:
        """`pid`, and all it starts from now on, is limited; by number only where its users are its own."""
        for which, limit in (
            *([(resource.RLIMIT_NPROC, self.processes)] if own_users else []),
            (resource.RLIMIT_DATA, self.memory_mib * _MIB * 7 // 8),
            (resource.RLIMIT_CPU, self.cpu_s),
            (resource.RLIMIT_FSIZE, self.file_mib * _MIB),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.prlimit(pid, which)
            allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.prlimit(pid, which, (allowed, allowed))

    def group(self, cgroups: Cgroups | None, name: str) -> Cgroup | None:
        """The control group that holds the sandbox `name` to these limits, where there are any."""
        if cgroups is None:
            return None
        return cgroups.create(name, processes=self.processes, memory_bytes=self.memory_mib * _MIB)
