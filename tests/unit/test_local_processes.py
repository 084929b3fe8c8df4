"""Servers end when asked, say what they had to say when they end by themselves, and leave nothing behind."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local import processes
from local.processes import Processes, StackError

SLEEP = "import time; print('up'); time.sleep(60)"
HANG = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_and_their_folder_are_gone_after_the_block(tmp_path: Path) -> None:
    with Processes(tmp_path) as family:
        server = family.start("sleeper", python(SLEEP), os.environ)
        assert family.folder.is_dir()
    assert server.process.returncode is not None
    assert not family.folder.exists()


def test_a_server_that_ignores_the_polite_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_WITHIN_S", 0.1)
    with Processes(tmp_path) as family:
        server = family.start("hanger", python(HANG), os.environ)
        until(lambda: "up" in server.log.read_text())
    assert server.process.returncode == -9


def test_a_server_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with Processes(tmp_path) as family:
        server = family.start("quitter", python("print('out of sand'); raise SystemExit(3)"), os.environ)
        server.process.wait()
        with pytest.raises(StackError, match=r"quitter ended by itself, with 3(.|\n)*out of sand"):
            family.check()


def test_a_command_is_waited_for_and_its_failure_is_told_with_its_last_words(tmp_path: Path) -> None:
    with Processes(tmp_path) as family:
        family.finish("counter", python("print(1)"), os.environ)
        assert (tmp_path / "counter.log").read_text() == "1\n"
        with pytest.raises(StackError, match=r"breaker failed, with 3(.|\n)*no sand"):
            family.finish("breaker", python("print('no sand'); raise SystemExit(3)"), os.environ)
        family.check()


def test_a_log_that_grows_too_long_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_LIMIT_BYTES", 100)
    with Processes(tmp_path) as family:
        server = family.start("talker", python(f"print('x' * 200); {SLEEP}"), os.environ)
        until(lambda: "up" in server.log.read_text())
        family.check()
        assert server.log.stat().st_size == 0


def test_what_a_server_leaves_running_goes_with_the_family(tmp_path: Path) -> None:
    """A server that was killed cannot end its own children; the end of the process group does."""
    orphan = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
    with Processes(tmp_path) as family:
        group = os.getpgid(family.start("sleeper", python(SLEEP), os.environ).process.pid)
        parent = family.start("parent", [*python(orphan), SLEEP], os.environ)
        parent.process.wait()
        until(lambda: "up" in parent.log.read_text())
    until(lambda: not exists(group))


def exists(group: int) -> bool:
    """Whether a process group has members, were they but zombies that nobody has collected yet."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_that_is_restarted_ends_hard_and_goes_on_with_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path) as family:
        old = family.start("hanger", python(HANG), os.environ)
        until(lambda: "up" in old.log.read_text())
        new = family.restart("hanger")
        until(lambda: old.log.read_text().count("up") == 2)
        assert old.process.returncode == -9
        assert family.pids == {"hanger": new.process.pid}
        family.check()
    assert new.process.returncode is not None
