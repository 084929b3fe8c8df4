"""Process trees, with real processes."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.sandbox import processes
from tests.sandbox_server import eventually


@pytest.fixture
def root() -> Iterator[int]:
    """A shell with two generations below it."""
    script = "sh -c 'sleep 100 & echo; wait' & wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        eventually(lambda: len(processes.tree(process.pid)) == 3)
        yield process.pid
        processes.kill(process.pid)


def states(root: int) -> set[str]:
    return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in processes.tree(root)}


def test_a_tree_is_stopped_and_runs_again_as_a_whole(root: int) -> None:
    processes.stop(root)
    eventually(lambda: states(root) == {"T"})
    processes.resume(root)
    eventually(lambda: "T" not in states(root))


def test_a_killed_tree_is_gone_with_all_descendants(root: int) -> None:
    pids = processes.tree(root)
    processes.kill(root)
    eventually(lambda: not any(processes.tree(pid) for pid in pids))


def test_a_process_that_is_gone_is_no_error() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    processes.send(process.pid, signal.SIGKILL)
    assert processes.tree(process.pid) == []
    assert processes.usage(process.pid) == processes.Usage(memory_bytes=0, cpu_s=0)


def test_usage_counts_the_whole_tree(root: int) -> None:
    assert processes.usage(root).memory_bytes > 100_000
