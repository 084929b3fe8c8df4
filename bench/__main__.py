"""`make bench`: what a call takes and costs, measured side by side on this machine.

`python -m bench` makes every chapter, and `python -m bench NAME …` some; `--write FILE` leaves a page of them.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from rich.console import Console

from bench.chapters import Chapter, machine, page, show

CHAPTERS = ("calls", "runs", "roundtrips", "critical", "throughput", "ingest", "coldstart", "cleanup", "costs")
"""Modules of this package, each with a function `chapter`; in the order of the page."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and returns 0 if every promise holds."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "chapters", nargs="*", metavar="NAME", help=f"of {', '.join(CHAPTERS)}; all, if none is named"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there, too")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.chapters) - set(CHAPTERS):
        parser.error(f"there is no chapter {min(unknown)}; there are {', '.join(CHAPTERS)}")
    console = Console()
    console.print(machine())
    chapters: list[Chapter] = []
    for name in asked.chapters or CHAPTERS:
        measure: Callable[[], Chapter] = import_module(f"bench.{name}").chapter
        chapters.append(measure())
        show(console, chapters[-1])
    if asked.write is not None:
        asked.write.write_text(page(chapters, datetime.now(UTC)))
    return 0 if all(holds for chapter in chapters for holds in chapter.promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
