"""What came of a run, as one bounded text for a language model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, assert_never

from sandkeeper.model import Display, Output, Raised, Stream
from sandkeeper.outputs.clipping import clipped, shares
from sandkeeper.outputs.described import described, size_text
from sandkeeper.outputs.simple import stream_name
from sandkeeper.outputs.sound import sound_text
from sandkeeper.outputs.terminal import as_shown
from sandkeeper.outputs.traceback import own_frames

MAX_CHARS = 8_000
MAX_SHOWN_FILES = 20
SMALLEST_SHARE = 100
"""What an output gets at least; where there are too many for that, those in the middle are left out."""
NOTHING = "(The code ran and put out nothing.)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run did not succeed. `traceback` where no output has it."""

    kind: str
    name: str
    value: str
    hint: str
    traceback: str | None = None


class File(Protocol):
    """A file that a run has made."""

    @property
    def path(self) -> str:
        """Where it is in the sandbox."""
        ...

    @property
    def size_bytes(self) -> int:
        """How large it is."""
        ...


def model_view(
    outputs: Iterable[Output],
    *,
    failure: Failure | None = None,
    reset_reason: str | None = None,
    artifacts: Sequence[File] = (),
    max_chars: int = MAX_CHARS,
) -> str:
    """Returns what a model has to know of a run, in at most `max_chars` characters.

    First that variables of earlier calls are gone, if they are (`reset_reason` says why); then the outputs, each
    with a share of the room: text as a terminal would show it, head and tail of what is long, tables as their first
    rows, tracebacks as the user's own frames, images and the like as references; then why it failed, and what files
    it made.
    """
    before = [clipped(_reset(reset_reason), max_chars // 8)] if reset_reason else []
    after = [clipped(_failed(failure), max_chars // 4)] if failure else []
    if artifacts:
        after.append(clipped(_made(artifacts), max_chars // 8))
    room = max_chars - sum(len(text) + 1 for text in [*before, *after])
    blocks = [block for block in _blocks(outputs, max_chars) if block]
    if not blocks and failure is None:
        blocks = [NOTHING]
    text = "\n".join([*before, *_in_room(blocks, room), *after])
    return clipped(sound_text(text), max_chars)


def _in_room(blocks: Sequence[str], room: int) -> list[str]:
    """Returns the blocks cut to their shares; from the middle of very many, some are left out."""
    most = max(2, room // SMALLEST_SHARE)
    if len(blocks) > most:
        first, last = blocks[: most - most // 2], blocks[-(most // 2) :]
        left_out = f"[… {len(blocks) - most:,} outputs left out …]"
        blocks = [*first, left_out, *last]
    granted = shares([len(block) for block in blocks], room - len(blocks))
    return [clipped(block, share) for block, share in zip(blocks, granted, strict=True)]


def _reset(reason: str) -> str:
    return f"Warning: variables of earlier calls are gone ({reason}): define again what is needed."


def _failed(failure: Failure) -> str:
    traceback = "" if failure.traceback is None else own_frames(failure.traceback) + "\n"
    return f"{traceback}Error ({failure.kind}): {failure.name}: {failure.value}\n{failure.hint}"


def _made(artifacts: Sequence[File]) -> str:
    files = [f"{file.path} ({size_text(file.size_bytes)})" for file in artifacts[:MAX_SHOWN_FILES]]
    others = len(artifacts) - len(files)
    return "Files made: " + ", ".join(files) + (f", and {others} more" if others else "")


def _blocks(outputs: Iterable[Output], max_chars: int) -> Iterator[str]:
    """Yields what each output, or run of text in one stream, comes to; hardly longer than `max_chars`."""
    for stream, group in groupby(outputs, key=stream_name):
        if stream is None:
            yield from (_block(output, max_chars) for output in group)
            continue
        text = as_shown("".join(output.text for output in group if isinstance(output, Stream))).strip("\n")
        yield f"{stream}:\n{text}" if text.strip() else ""


def _block(output: Output, max_chars: int) -> str:
    match output:
        case Stream(_, text):
            return as_shown(text)
        case Display(data):
            return described(data, max_chars)
        case Raised():
            return own_frames(output.traceback) or f"{output.name}: {output.value}"
        case _:
            assert_never(output)
