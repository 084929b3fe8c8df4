"""What a benchmark found, in a form that both a terminal and a page show."""

import html
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from bench.samples import Sample


@dataclass(frozen=True, slots=True)
class Table:
    """Figures with their headings. The first column names what the others measure."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Chapter:
    """One benchmark: how it was made, what it found, and what of it is promised."""

    title: str
    method: str
    tables: Sequence[Table]
    promises: Mapping[str, bool] = field(default_factory=dict)
    """Each promise with the figure that was measured, and whether it holds."""


def milliseconds(samples: Sequence[Sample]) -> Table:
    """Returns the percentiles of durations."""
    percents = (50, 95, 99)
    rows = [
        (sample.name, str(len(sample.durations)), *(f"{sample.quantile(percent):,.1f}" for percent in percents))
        for sample in samples
    ]
    return Table(("milliseconds", "n", *(f"p{percent}" for percent in percents)), rows)


def compared(pairs: Sequence[tuple[Sample, Sample]]) -> Table:
    """Returns the percentiles of pairs that were taken in turn, and the ratio of their medians."""
    rows: list[Sequence[str]] = []
    for ours, theirs in pairs:
        one, other = milliseconds([ours, theirs]).rows
        rows += [(*one, f"{ours.median / theirs.median:.2f}"), (*other, "1")]
    return Table(("milliseconds", "n", "p50", "p95", "p99", "ratio"), rows)


def show(console: Console, chapter: Chapter) -> None:
    """Prints the chapter."""
    console.rule(chapter.title)
    for table in chapter.tables:
        shown = RichTable(*table.columns)
        for column in shown.columns[1:]:
            column.justify = "right"
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for promise, holds in chapter.promises.items():
        console.print(f"[green]holds[/]  {promise}" if holds else f"[red]BROKEN[/] {promise}")


def page(chapters: Sequence[Chapter], at: datetime) -> str:
    """Returns the chapters as a page in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {at:%Y-%m-%d}; {machine()}.",
        "",
        "What is compared was taken in turn (A B A B …), in one run. Times belong to the machine that made them;",
        "quote the ratios. The client, the service, the sandboxes and the local AWS shared these processors.",
    ]
    for chapter in chapters:
        lines += ["", f"## {chapter.title}", "", chapter.method.strip()]
        for table in chapter.tables:
            lines += ["", *_markdown(table)]
        if chapter.promises:
            lines.append("")
        lines += [
            f"- {'holds' if holds else '**broken**'}: {promise}" for promise, holds in chapter.promises.items()
        ]
    return "\n".join([*lines, ""])


def machine() -> str:
    """Returns what the figures were made on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    memory = f", {kib / 2**20:.0f} GiB of memory" if kib else ""
    python = sys.version.split()[0]
    return f"{os.cpu_count()} × {model}{memory}, {platform.system()} {platform.release()}, Python {python}"


def _lines(path: str) -> Sequence[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return ()


def _markdown(table: Table) -> list[str]:
    rows = [[html.escape(cell, quote=False).replace("|", "\\|") for cell in row] for row in table.rows]
    aligned = ["---", *["---:"] * (len(table.columns) - 1)]
    return [f"| {' | '.join(row)} |" for row in [table.columns, aligned, *rows]]
