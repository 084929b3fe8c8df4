"""Attempts to get out of a local sandbox, or to take more than its share: each is refused or contained.

They are bounded in time and number, and this machine is none the worse for those that succeed as far as they may.
"""

import shlex
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2b import SandboxException
from e2b_code_interpreter import Sandbox

from local.sandbox.limits import Limits
from tests.sandbox_server import Server, eventually, serve

REFUSED = "refused"
HOSTS_FILE = "/etc/shadow"
"""One that every host has, and no sandbox."""
FIRST_PROCESS_ROOT = "/proc/1/root"


@dataclass(frozen=True)
class Attempt:
    """Python that tries something, and what it prints if it could."""

    code: str

    @property
    def program(self) -> str:
        """The attempt, with every error of the system as a refusal."""
        body = "\n".join(f"    {line}" for line in self.code.splitlines())
        imports = "import ctypes, mmap, os, resource, socket, subprocess"
        errors = "(OSError, ValueError, subprocess.SubprocessError)"
        return f"{imports}\ntry:\n{body}\nexcept {errors}:\n    print({REFUSED!r})"


def prints(expression: str) -> Attempt:
    return Attempt(f"print('got', {expression})")


def reads(path: str) -> Attempt:
    return prints(f"open({path!r}, 'rb').read(100)")


def follows(path: str) -> Attempt:
    return Attempt(f"os.symlink({path!r}, '/home/user/link')\nprint(open('/home/user/link').read(100))")


def writes(path: str) -> Attempt:
    return Attempt(f"with open({path!r}, 'w') as file: file.write('-1000')\nprint('written')")


def calls(call: str, *arguments: str) -> Attempt:
    """Returns an attempt at a call of the kernel, by way of the C library."""
    done = f"ctypes.CDLL(None).{call}({', '.join(arguments)})"
    return Attempt(f"if {done} < 0: raise OSError({call!r})\nprint('done')")


def connects(family: str, address: str) -> Attempt:
    return Attempt(
        f"with socket.socket(socket.{family}) as made:\n"
        f"    made.settimeout(3)\n"
        f"    made.connect({address})\n"
        f"print('connected')"
    )


def fills(path: str) -> Attempt:
    """Returns an attempt to write 3 GiB, half as much again as a sandbox may have of memory."""
    return Attempt(
        f"file = open({path!r}, 'wb', 0)\n"
        f"try:\n"
        f"    for _ in range(3 * 1024): file.write(bytes(2**20))\n"
        f"finally: os.remove({path!r})\n"
        f"print('written')"
    )


# fmt: off
ATTEMPTS: dict[str, Attempt] = {
    # the host's files
    "read the host's passwords": reads(HOSTS_FILE),
    "read by the first process' root": reads(f"{FIRST_PROCESS_ROOT}{HOSTS_FILE}"),
    "read the kernel's memory": reads("/proc/kcore"),
    "read the kernel's log": reads("/dev/kmsg"),
    "read a disk": reads("/dev/vda"),
    "make a disk's device": prints("os.mknod('/home/user/disk', 0o60600, os.makedev(254, 0))"),
    "write into the runtime": writes("/usr/local/lib/x"),
    "write into the packages": writes("/opt/site/sitecustomize.py"),
    "write into the agent": writes("/opt/sandkeeper/agent/__init__.py"),
    "leave by a link": follows(HOSTS_FILE),
    "leave by going up": reads(f"/home/user/../..{HOSTS_FILE}"),
    "leave by the working directory": reads(f"/proc/self/cwd/../..{HOSTS_FILE}"),
    # the kernel
    "mount something": calls("mount", "b'none'", "b'/home/user'", "b'tmpfs'", "0", "None"),
    "unmount what hides the host": calls("umount2", "b'/proc'", "2"),
    "change the root": calls("chroot", "b'/home/user'"),
    "make a namespace of users": calls("unshare", "0x10000000"),
    "make a namespace of mounts": calls("unshare", "0x00020000"),
    "enter another's namespace": calls("setns", "os.open('/proc/1/ns/mnt', os.O_RDONLY)", "0"),
    "become root": prints("os.setuid(0)"),
    "become root by a program": prints("subprocess.run('su -c id || sudo -n id', shell=True, check=True)"),
    "load a module": calls("syscall", "313", "0", "b''", "0"),
    "name the machine": prints("socket.sethostname('mine')"),
    "set the clock": calls("settimeofday", "ctypes.byref((ctypes.c_long * 2)(0, 0))", "None"),
    "have core dumps run a program": writes("/proc/sys/kernel/core_pattern"),
    "command the kernel": writes("/proc/sysrq-trigger"),
    "lift its own limits": prints("resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)"),
    "lift its parent's limits": prints("resource.prlimit(1, resource.RLIMIT_NPROC, (resource.RLIM_INFINITY,) * 2)"),
    "leave its control group": writes("/sys/fs/cgroup/cgroup.procs"),
    "be spared when memory ends": writes("/proc/self/oom_score_adj"),
    # the network
    "reach the internet": connects("AF_INET", "('1.1.1.1', 53)"),
    "reach it by IPv6": connects("AF_INET6", "('2606:4700:4700::1111', 53)"),
    "reach a cloud's metadata": connects("AF_INET", "('169.254.169.254', 80)"),
    "reach the host's Docker": connects("AF_UNIX", "'/var/run/docker.sock'"),
    "reach the host's screen": connects("AF_UNIX", "b'\\0/tmp/.X11-unix/X0'"),
    "look up a name": prints("socket.getaddrinfo('example.com', 80)"),
    "listen to raw packets": prints("socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)"),
    # more than its share
    "write one endless file": prints("os.truncate(os.open('/home/user/x', os.O_CREAT | os.O_WRONLY), 64 * 2**30)"),
    "fill /tmp, which is memory": fills("/tmp/x"),
    "fill what is shared, which is memory": fills("/dev/shm/x"),
    "open endless files": prints("len([open('/dev/null') for _ in range(100_000)])"),
    "map endless memory": prints("len(mmap.mmap(-1, 64 * 2**30, flags=mmap.MAP_PRIVATE))"),
}
# fmt: on
"""What is tried, by what it is meant to do. All is refused by the system, with an error."""


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_leads_out_is_refused(shared: Sandbox, attempt: str) -> None:
    done = shared.run_code(ATTEMPTS[attempt].program, timeout=60)

    assert done.error is None, done.error
    assert "".join(done.logs.stdout).strip() == REFUSED
    assert shared.run_code("1 + 1").text == "2"


def test_nothing_of_the_servers_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process of a sandbox used to keep it, for every program in there to read: keys of AWS, tokens."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-host")
    with serve() as server:
        seen = "cat /proc/[0-9]*/environ /proc/self/environ | tr '\\0' '\\n'"
        environments = Sandbox.create(timeout=60, **server.sdk).commands.run(seen).stdout

    assert "HOME=/home/user" in environments
    assert "AWS_" not in environments
    assert "canary" not in environments


def test_a_signal_to_all_reaches_no_other_sandbox(sandboxes: Server) -> None:
    one, two = Sandbox.create(timeout=60), Sandbox.create(timeout=60)
    two.run_code("kept = 'still here'")
    pids = {int(pid) for pid in two.commands.run("ls /proc").stdout.split() if pid.isdigit()}

    with suppress(SandboxException):  # it hits whoever would answer, too
        one.commands.run(f"for pid in $(seq 2 {max(pids) + 40_000}); do kill -9 $pid 2>/dev/null; done", timeout=30)

    assert two.run_code("kept").text == "still here"
    assert sandboxes.states()[two.sandbox_id] == "running"


def processes_with(mark: str) -> int:
    """Returns how many processes of this machine have the mark in their command line."""
    count = 0
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            count += mark in file.read_text(errors="replace")
    return count


def test_a_fork_bomb_stays_within_its_sandbox_and_goes_with_it(sandboxes: Server) -> None:
    mark = f"bomb-{uuid.uuid4()}"
    one, two = Sandbox.create(timeout=120), Sandbox.create(timeout=120)
    # Those that cannot be more wait, which leaves the processors to others; all end by themselves.
    code = (
        "import os, time\n"
        "end = time.time() + 60\n"
        "while time.time() < end:\n"
        "    try: os.fork()\n"
        "    except OSError: time.sleep(1)"
    )
    one.commands.run(f"python3 -c {shlex.quote(code)} {mark}", background=True, timeout=0)
    eventually(lambda: processes_with(mark) > 200)

    assert two.run_code("1 + 1").text == "2"
    assert processes_with(mark) <= Limits().processes
    one.kill()
    eventually(lambda: processes_with(mark) == 0)


MEMORY_BOMB = """
import os, time
pids = []
for _ in range(6):
    if not (pid := os.fork()):
        kept = bytearray(300 * 2**20)
        for at in range(0, len(kept), 4096): kept[at] = 1
        time.sleep(5)
        os._exit(0)
    pids.append(pid)
print(sum(os.WIFSIGNALED(os.waitpid(pid, 0)[1]) for pid in pids))
"""


def test_a_memory_bomb_of_many_processes_ends_in_its_sandbox() -> None:
    """Each is within the limit of one process; together they are over that of the sandbox."""
    with serve("--memory-mib", "768") as server:
        if not any(Path("/sys/fs/cgroup").glob(f"**/sandkeeper-{server.pid}")):
            pytest.skip("only control groups bound a sandbox as a whole, and none can be made here")
        one, two = (Sandbox.create(timeout=120, **server.sdk) for _ in range(2))

        ended = int(one.commands.run(f"python3 -c {shlex.quote(MEMORY_BOMB)}", timeout=60).stdout)

        assert 4 <= ended <= 6
        assert one.run_code("1 + 1").text == "2"
        assert two.run_code("1 + 1").text == "2"


def test_a_sandbox_that_fills_the_disk_is_ended_and_no_other() -> None:
    with serve("--disk-mib", "64") as server:
        one, two = (Sandbox.create(timeout=120, **server.sdk) for _ in range(2))
        two.run_code("open('/home/user/kept', 'wb').write(bytes(8 * 2**20))")

        with suppress(SandboxException):
            one.commands.run("mkdir deep; for n in 1 2 3 4; do head -c 32M /dev/urandom > deep/$n; done; sleep 60")

        eventually(lambda: server.states()[one.sandbox_id] == "killed")
        assert two.run_code("len(open('/home/user/kept', 'rb').read())").text == str(8 * 2**20)
