"""What the runner keeps on disk of runs that have ended."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from sandkeeper.runner import runs
from sandkeeper.runner.runs import Run, Spool
from sandkeeper.runner.worker import Worker
from tests.local_command import until

if TYPE_CHECKING:
    from sandkeeper.runner.runs import Order

ORDER: "Order" = {
    "code": "1",
    "limit_ms": 60_000,
    "output_bytes": 1_000_000,
    "on_busy": "wait",
    "given": [],
    "digest": "d",
    "about": {},
}


def executed(_: str) -> Iterator[bytes]:
    """Yields what an interpreter says of code that says nothing."""
    yield b'{"type": "end_of_execution"}'


def kept(spool: Path) -> list[str]:
    """Returns the runs that are on disk."""
    return sorted(path.stem for path in spool.iterdir())


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def worker(spool: Path, tmp_path: Path) -> Worker:
    kernel: Any = SimpleNamespace(ready=lambda: None, execute=executed)
    worker = Worker(Spool(str(spool)), kernel, str(tmp_path))
    worker.start()
    return worker


def ended(worker: Worker, run_id: str) -> Run:
    """Returns the run once it has ended."""
    run = worker.accept(run_id, ORDER)
    assert run.wait_for_end(10)
    return run


def test_the_oldest_are_forgotten_once_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, spool: Path
) -> None:
    monkeypatch.setattr(runs, "RUNS_ON_DISK", 4)
    for number in range(9):
        ended(worker, f"run-{number}")

    until(lambda: kept(spool) == ["run-5", "run-6", "run-7", "run-8"], "the oldest are forgotten")
    assert ended(worker, "run-5").order["digest"] == "d"  # it is found, and not run again
    assert kept(spool) == ["run-5", "run-6", "run-7", "run-8"]


def test_the_oldest_are_forgotten_once_they_take_too_much(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, spool: Path
) -> None:
    ended(worker, "first")
    monkeypatch.setattr(runs, "BYTES_ON_DISK", 3 * (spool / "first.jsonl").stat().st_size)
    for number in range(5):
        ended(worker, f"run-{number}")

    until(lambda: len(kept(spool)) < 4, "the oldest are forgotten")
    assert kept(spool)[-1] == "run-4"
