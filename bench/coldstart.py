"""`python -m bench coldstart`: from a function's start to its first reply, as built and with a naive layer.

In turn, under Lambda's own emulator and runtime client, on the Python that the template names, against the local
stack. The chat that runs code has its sandbox from the first round on. Neither may write bytecode, as /opt is
read-only.

The naive layer is what `pip install --target` leaves, and our sources beside it. Its size is told without the
bytecode that pip adds for the Python that runs it, which is of no use to another: with it we would look better.
"""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chapters import Chapter, compared
from bench.samples import Sample
from layers.build import copy, install
from local.project import ROOT
from local.sam import MACHINE
from local.settings import Settings
from local.stack import Stack
from tests.lambda_runtime import Built, running, sam_build

ROUNDS = 12
"""Cold starts of each kind. The first of both warm the disk's cache, and are left out."""
EVENTS = {"ApiFunction": "execute", "CleanupFunction": "cleanup"}
PROMISED = {"ApiFunction": 0.3, "CleanupFunction": 0.2}
PROMISED_SIZE = 0.6


@dataclass(frozen=True)
class Naive(Built):
    """The same build, of which the functions import from other layers."""

    layers: Sequence[Path] = ()

    def python_path(self, logical_id: str) -> list[Path]:
        """See `Built.python_path`."""
        return [self.code(logical_id), *self.layers, self.client]


def naive_layers(folder: Path, python: str) -> list[Path]:
    """Returns folders for third-party packages and for our own, as one would make them by hand."""
    packages, ours = folder / "packages", folder / "ours"
    install(ROOT / "layers" / "dependencies" / "requirements.txt", packages, python, MACHINE, without=set())
    ours.mkdir()
    copy(ROOT / "shared" / "sandkeeper", ours)
    return [packages, ours]


def cold(built: Built, logical_id: str, environment: Mapping[str, str]) -> float:
    """Returns the time from the start of the function's runtime to its first reply, in milliseconds."""
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{EVENTS[logical_id]}.json").read_text())
    with running(built, logical_id, environment) as function:  # the emulator waits for an event before it starts it
        started = time.perf_counter()
        answer = function.invoke(event)
        duration_ms = (time.perf_counter() - started) * 1000
    if answer.get("statusCode", 200) != 200 or answer.get("failed"):
        raise RuntimeError(f"{logical_id}: {answer}")
    return duration_ms


def size_of(folder: Path) -> int:
    """Returns the size of all files, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def chapter() -> Chapter:
    """Measures, as built and naively in turn."""
    with (
        tempfile.TemporaryDirectory(prefix="sk-cold-") as scratch,
        Stack(Settings().on_free_ports(), Path(scratch) / "logs") as stack,
    ):
        folder = Path(scratch, "built")
        folder.mkdir()
        built = sam_build(folder)
        version = built.python.name.removeprefix("python")
        folders = naive_layers(Path(scratch), version)
        naive = Naive(built.template, built.python, built.client, folders)
        pairs: list[tuple[Sample, Sample]] = []
        promises: dict[str, bool] = {}
        for logical_id, most in PROMISED.items():
            environment = built.settings(logical_id, stack.environment)
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(ROUNDS + 1):
                ours.append(cold(built, logical_id, environment))
                theirs.append(cold(naive, logical_id, environment))
            pair = Sample(f"{logical_id}, as built", ours[1:]), Sample(f"{logical_id}, naive layers", theirs[1:])
            ratio = pair[0].median / pair[1].median
            pairs.append(pair)
            promises[f"{logical_id}: cold start {ratio:.3f} ≤ {most} of the naive layers'"] = ratio <= most
        sizes = size_of(built.layer("DependenciesLayer")), size_of(folders[0])
    promises[f"dependencies: {sizes[0] / 1e6:.1f} MB ≤ {PROMISED_SIZE:.0%} of {sizes[1] / 1e6:.1f} MB"] = (
        sizes[0] <= PROMISED_SIZE * sizes[1]
    )
    return Chapter(
        "Cold starts",
        f"""
From the start of a function's process to its first reply, under Lambda's own emulator and runtime client on
Python {version}, without a snapshot; against the same code with what `pip install --target` leaves. Neither may
write bytecode, as /opt is read-only. The API runs code in a chat that has its sandbox; cleanup does a tick with
nothing to do.
""",
        [compared(pairs)],
        promises,
    )
