"""A chat's runs as a notebook (nbformat 4.5): one code cell each, in the order of time.

Source: https://nbformat.readthedocs.io/en/latest/format_description.html
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from sandkeeper.model import HOME, ChatKey, EndReason, FileRecord, FileStatus, Raised, RunEnd
from sandkeeper.outputs import notebook_view
from sandkeeper.outputs.clipping import clipped
from sandkeeper.runs import Execution
from sandkeeper.services.packages import install_report, shown_code
from sandkeeper.summary import RunSummary

MAX_BYTES = 3_900_000
"""How large a notebook may be: a reply has 4 MB."""

CODE_BYTES = MAX_BYTES // 2
"""How much of that its code may take. Older runs than fit into it are left out."""

OUTPUT_BYTES = 1_500_000
"""How large one output may be. Of a larger one, the largest forms or the middle of the text are left out."""

CLIP_CHARS = 200_000
"""How much of such a text stays: of its beginning and of its end."""

MIME_CHARS = 80

HEAD_BYTES = 60_000
"""What is set aside for all that is not the runs': a chat has at most 100 files."""

NOTE_BYTES = 300
"""What is set aside for each run, to say that its outputs are left out."""

Cell = dict[str, Any]

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "name": "python",
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}

_RESETS: Mapping[EndReason, str] = {
    EndReason.CLOSED: "the session had been closed",
    EndReason.EXPIRED: "the session had not been used for long",
    EndReason.FORCED: "an operator had ended the session",
    EndReason.SANDBOX_LOST: "the sandbox had been lost",
    EndReason.RESTARTED: "the kernel had been restarted",
    EndReason.KERNEL_DIED: "the kernel had ended",
}

_ENDS: Mapping[RunEnd, str] = {
    RunEnd.TIMEOUT: "was stopped at its time limit",
    RunEnd.CANCELLED: "was stopped by a caller",
    RunEnd.OUTPUT_LIMIT: "was stopped, because it put out too much",
    RunEnd.OUT_OF_MEMORY: "needed more memory than there was, and ended the kernel",
    RunEnd.KERNEL_DIED: "ended with its kernel",
    RunEnd.SANDBOX_LOST: "was lost with its sandbox; how far it came is unknown",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a notebook says of itself."""

    key: ChatKey
    exported_at: datetime
    files: Sequence[FileRecord]
    running: int
    """How many of the chat's runs go on, and are not in it."""
    is_cut: bool
    """There may be earlier runs, which are not in it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A run that has ended. `whole` is None where its outputs were not worth reading, or are gone."""

    summary: RunSummary
    whole: Execution | None

    @property
    def run(self) -> Execution:
        """The run in brief."""
        return self.summary.run

    @property
    def place(self) -> tuple[datetime, str]:
        """Where the run stands in the order of time: calls may have waited for each other."""
        return self.run.started_at or self.run.created_at, self.run.execution_id


def written(about: About, entries: Sequence[Entry]) -> bytes:
    """Returns the notebook as JSON, of at most `MAX_BYTES`.

    The latest runs come first where not all fit: older outputs are left out before code is.
    """
    ordered = sorted(entries, key=lambda entry: entry.place)
    groups = _that_fit([*_cells_of(ordered)])
    shown = ordered[len(ordered) - len(groups) :]
    left = MAX_BYTES - HEAD_BYTES - sum(_bytes(group) + NOTE_BYTES for group in groups)
    for count, cells, entry in reversed([*zip(range(1, len(shown) + 1), groups, shown, strict=True)]):
        left = _fill(cells[-1], entry, count, left)
    about = replace(about, is_cut=about.is_cut or len(shown) < len(ordered))
    cells = [_head(about, shown), *(cell for group in groups for cell in group)]
    return _encoded({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


# ── Cells of runs ───────────────────────────────────────────────────────────────────────────────────


def _cells_of(ordered: Sequence[Entry]) -> Iterator[list[Cell]]:
    """Yields each run's cells: its code, without outputs so far, after a word on a fresh kernel."""
    for before, entry in pairwise([None, *ordered]):
        assert entry is not None, "only the first one has none before it"  # noqa: S101
        run = entry.run
        fresh = _fresh_kernel(None if before is None else before.run, run)
        yield [*([] if fresh is None else [_markdown(f"{run.execution_id}-reset", fresh)]), _code_cell(run)]


def _fresh_kernel(before: Execution | None, run: Execution) -> str | None:
    """Returns why variables of the runs before were gone when this one began; None if they were there."""
    is_other = before is not None and before.context.claim_id != run.context.claim_id
    reason = run.reset_reason or (EndReason.CLOSED if is_other else None)
    if reason is None:
        return None
    files = "The chat's files were put back; others were gone too." if is_other else "Files were still there."
    return f"**A fresh kernel begins here:** {_RESETS[reason]}, and variables of earlier cells were gone. {files}"


def _code_cell(run: Execution) -> Cell:
    tags = []
    if run.end is not RunEnd.FINISHED:
        tags.append("skip-execution")  # it would not end well again
    elif any(isinstance(output, Raised) for output in run.outcome.outputs):
        tags.append("raises-exception")  # whoever runs all cells goes on behind it
    known = {
        "executionId": run.execution_id,
        "end": run.end,
        "startedAt": None if run.started_at is None else run.started_at.isoformat(),
        "endedAt": None if run.ended_at is None else run.ended_at.isoformat(),
    }
    return {
        "cell_type": "code",
        "id": run.execution_id,
        "metadata": {"sandkeeper": known, **({"tags": tags} if tags else {})},
        "execution_count": None,
        "source": shown_code(run.code),
        "outputs": [],
    }


def _that_fit(groups: Sequence[list[Cell]]) -> Sequence[list[Cell]]:
    """Returns the last of these that fit into what code may take."""
    left = CODE_BYTES
    for place, group in reversed([*enumerate(groups)]):
        left -= _bytes(group) + NOTE_BYTES
        if left < 0:
            return groups[place + 1 :]
    return groups


def _fill(cell: Cell, entry: Entry, count: int, left: int) -> int:
    """Puts the run's outputs into its cell, and returns how many bytes are left for others."""
    cell["execution_count"] = count
    outputs = _outputs(entry, count)
    if outputs is None or (size := _bytes(outputs)) > left:
        cell["outputs"] = [note(f"{entry.summary.output_chars:,} characters of output are left out")]
        return left
    cell["outputs"] = outputs
    return left - size


def _outputs(entry: Entry, count: int) -> list[Cell] | None:
    """Returns what the run has put out, None where that is not known."""
    run = entry.whole
    return None if run is None or run.end is None else shown_by(run, count)


def shown_by(run: Execution, count: int | None) -> list[Cell]:
    """Returns what a run that has ended has put out, as a cell shows it: too large forms of it are left out."""
    outputs = run.outcome.outputs
    report = install_report(run.code, outputs)
    if report is not None:
        view: list[Cell] = [_stream("stdout", report)] if report else []
    else:
        shown = notebook_view(outputs, execution_count=count)
        view = [kept for output in shown for kept in _bounded(output)]
    if run.end is not None and run.end is not RunEnd.FINISHED:
        view.append(note(f"this run {_ENDS[run.end]}"))
    return view


def _bounded(output: Cell) -> Iterator[Cell]:
    """Yields the output if it is not too large; else what can be kept of it, and a note of what is left out."""
    if _bytes(output) <= OUTPUT_BYTES:
        yield output
        return
    if "data" not in output:
        yield {name: _clipped(value) for name, value in output.items()}
        return
    forms, dropped = dict(output["data"]), list[str]()
    for mime in sorted(forms, key=lambda mime: _bytes(forms[mime]), reverse=True):
        if _bytes(forms) <= OUTPUT_BYTES:
            break
        dropped.append(f"{mime[:MIME_CHARS]} of {_bytes(forms.pop(mime)):,} bytes")
    if forms:
        yield {**output, "data": forms}
    yield note(f"too large for a notebook: {', '.join(dropped[:3])}")


def _clipped(value: Any) -> Any:
    """Returns an output's text or lines, without the middle where there is too much of it."""
    if isinstance(value, list):
        return clipped("\n".join(value), CLIP_CHARS).split("\n")
    return clipped(value, CLIP_CHARS)


def note(text: str) -> Cell:
    """Returns an output in which we say something ourselves."""
    return _stream("stderr", f"[{text}]\n")


def _stream(name: str, text: str) -> Cell:
    return {"output_type": "stream", "name": name, "text": text}


# ── The first cell ──────────────────────────────────────────────────────────────────────────────────


def _head(about: About, shown: Sequence[Entry]) -> Cell:
    """Returns the cell that says what the notebook is, and which files it reads."""
    runs = f"{len(shown)} run{'' if len(shown) == 1 else 's'}"
    parts = [
        f"# Chat {_span(about.key.chat_id)}",
        f"Exported by Sandkeeper on {about.exported_at:%Y-%m-%d at %H:%M} UTC: {runs} in the order of time, with"
        " what they put out.",
    ]
    if about.is_cut:
        parts.append("Earlier runs are not in this notebook.")
    if about.running:
        parts.append(f"Not in it yet: {about.running} that had not ended.")
    if files := [file for file in about.files if _is_read(file, shown)]:
        listed = "\n".join(f"- {_span(_name(file))}, {file.size_bytes:,} bytes" for file in files)
        parts.append(
            f"It reads these files, which belong in its folder (in the sandbox: {_span(HOME)}):\n\n{listed}"
        )
    return _markdown("about", "\n\n".join(parts))


def _is_read(file: FileRecord, shown: Sequence[Entry]) -> bool:
    return file.status is FileStatus.READY and any(_name(file) in entry.run.code for entry in shown)


def _name(file: FileRecord) -> str:
    return PurePosixPath(file.path).name


def _span(text: str) -> str:
    """Returns the text as code in Markdown, whatever it holds."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}" if len(fence) == 1 else f"{fence} {text} {fence}"


def _markdown(cell_id: str, source: str) -> Cell:
    return {"cell_type": "markdown", "id": cell_id, "metadata": {}, "source": source}


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _bytes(value: object) -> int:
    return len(_encoded(value))
