"""What a sandbox can see: the command line is the whole truth about it."""

from pathlib import Path

from local.sandbox.bubblewrap import Bubblewrap, write_files
from local.sandbox.isolation import Folders
from local.sandbox.limits import Limits
from local.sandbox.runtime import Runtime


def command(tmp_path: Path, *, network: bool = False, prefix: str = "/srv/py") -> list[str]:
    packages = Path("/srv/env/lib/python3.13/site-packages")
    runtime = Runtime(
        Path(prefix), Path(prefix, "lib/python3.13/site-packages"), packages, "3.13", "bin/python3.13"
    )
    files = write_files(tmp_path / "files", runtime)
    sandbox = Bubblewrap(Path("bwrap"), runtime, Limits(memory_mib=400), files, preload="pandas")
    return sandbox.command(Folders(Path("/data/i1")), network=network, options=[])


def binds(arguments: list[str]) -> dict[str, tuple[str, str]]:
    """Every path of the host that is seen, with where and how."""
    return {
        arguments[index + 1]: (arguments[index + 2], argument)
        for index, argument in enumerate(arguments)
        if argument in {"--bind", "--ro-bind", "--ro-bind-try"}
    }


def test_only_home_and_sockets_can_be_written(tmp_path: Path) -> None:
    writable = {host: inside for host, (inside, how) in binds(command(tmp_path)).items() if how == "--bind"}
    assert writable == {"/data/i1/home": "/home/user", "/data/i1/run": "/run/sandkeeper"}


def test_nothing_of_the_host_is_seen_but_the_runtime(tmp_path: Path) -> None:
    seen = {
        host
        for host in binds(command(tmp_path))
        if not host.startswith(("/data/i1/", "/etc/", "/lib", "/bin", "/sbin", str(tmp_path)))
    }
    agent = next(host for host in seen if host.endswith("local/sandbox/agent"))
    assert seen == {"/usr", "/srv/py", "/srv/env/lib/python3.13/site-packages", agent}


def test_every_namespace_is_its_own_and_the_network_unless_it_is_shared(tmp_path: Path) -> None:
    alone = command(tmp_path)
    for flag in ("user", "pid", "ipc", "uts", "net"):
        assert f"--unshare-{flag}" in alone
    assert {"--die-with-parent", "--new-session", "--clearenv"} <= set(alone)
    (tmp_path / "other").mkdir()
    shared = command(tmp_path / "other", network=True)
    assert "--unshare-net" not in shared
    assert "--shared-network" in shared


def test_packages_installed_into_the_hosts_python_are_hidden(tmp_path: Path) -> None:
    arguments = command(tmp_path)
    hidden = arguments[arguments.index("/srv/py") + 3]
    assert hidden == "/opt/python/lib/python3.13/site-packages"


def test_a_python_of_the_system_is_used_where_it_is(tmp_path: Path) -> None:
    arguments = command(tmp_path, prefix="/usr")
    assert "/usr/bin/python3.13" in arguments
    assert "/opt/python" not in arguments


def test_the_users_own_packages_stand_before_those_of_the_sandbox(tmp_path: Path) -> None:
    arguments = command(tmp_path)
    path = arguments[arguments.index("PYTHONPATH") + 1].split(":")
    assert path == ["/home/user/.local/lib/python3.13/site-packages", "/opt/site", "/opt/sandkeeper"]
