"""Texts cut to a size: their two ends stay, and a note tells how much was between them."""

from collections.abc import Sequence
from itertools import accumulate

SHORTEST = 60
"""Below this a text's ends tell nothing, and only its beginning stays."""
_HEAD = 0.6
_LINE_IS_NEAR = 80


def clipped(text: str, max_chars: int) -> str:
    """Returns the text, or its head and its tail; never longer than `max_chars`."""
    if len(text) <= max_chars:
        return text
    if max_chars < SHORTEST:
        return text[: max(0, max_chars - 1)] + "…"[: max(0, max_chars)]
    room = max_chars - len(_note(len(text)))
    head = _to_line_end(text[: int(room * _HEAD)])
    tail = _from_line_start(text[len(text) - (room - int(room * _HEAD)) :])
    return f"{head}{_note(len(text) - len(head) - len(tail))}{tail}"


def shares(sizes: Sequence[int], room: int) -> list[int]:
    """Returns how much of the room each gets: the small all they need, the large equal parts of the rest."""
    left, granted = room, [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=sizes.__getitem__)
    for position, index in enumerate(smallest_first):
        granted[index] = min(sizes[index], left // (len(sizes) - position))
        left -= granted[index]
    return granted


def fitting(sizes: Sequence[int], room: int) -> int:
    """Returns how many of the sizes, from the first on, have room."""
    return sum(1 for total in accumulate(sizes) if total <= room)


def _note(count: int) -> str:
    return f"\n[… {count:,} characters left out …]\n"


def _to_line_end(text: str) -> str:
    """Returns the text to the end of a line that ends near, else as it is."""
    end = text.rfind("\n", max(0, len(text) - _LINE_IS_NEAR))
    return text if end <= 0 else text[:end]


def _from_line_start(text: str) -> str:
    """Returns the text from the start of a line that starts near, else as it is."""
    start = text.find("\n", 0, _LINE_IS_NEAR)
    return text[start + 1 :]
