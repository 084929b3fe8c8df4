"""Text that was written for a terminal, as it looks when the terminal is done with it."""

import re

WINDOW = 200_000
"""How much of a text is looked at closely: its two ends, where it is longer."""
FARTHEST = 200
"""How far from a line's beginning a cursor that moves up can come to stand."""

_ESCAPES = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,1000}(?:\x07|\x1b\\)|[@-Z\\^_=>])"
_ESCAPE = re.compile(_ESCAPES)
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PIECE = re.compile(rf"{_ESCAPES}|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+")


def plain(text: str) -> str:
    """Returns the text without terminal colours and other escapes."""
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def as_shown(text: str) -> str:
    """Returns what is left to see: a progress bar is its last state, and what was rubbed out is gone.

    Of a text longer than `WINDOW` the middle may be missing, which a line tells.
    """
    if not _STEERING.search(text):
        return text
    if len(text) > WINDOW:
        text = "\n".join(_last_frame(line) for line in text.split("\n"))
    if len(text) > WINDOW:
        half = WINDOW // 2
        return f"{_typed(text[:half])}\n[… {len(text) - WINDOW:,} characters left out …]\n{_typed(text[-half:])}"
    return _typed(text)


def _last_frame(line: str) -> str:
    """Returns what a line says since the last time that it was begun anew."""
    return line.rstrip("\r").rpartition("\r")[2]


def _typed(text: str) -> str:
    """Returns the lines of a screen without edges on which the text was typed."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for piece in _PIECE.findall(text):
        line = lines[row]
        match piece:
            case "\n":
                row, column = row + 1, 0
                if row == len(lines):
                    lines.append([])
            case "\r":
                column = 0
            case "\b":
                column = max(0, column - 1)
            case "\x1b[K" | "\x1b[0K":
                del line[column:]
            case "\x1b[2K":
                line.clear()
                column = 0
            case _ if piece[0] == "\x1b":
                if rows := _rows_up(piece):
                    row, column = max(0, row - rows), min(column, FARTHEST)
            case _ if piece >= " " or piece == "\t":
                line.extend(" " * (column - len(line)))
                line[column : column + len(piece)] = piece
                column += len(piece)
            case _:
                pass  # bells and the like
    return "\n".join("".join(line) for line in lines)


def _rows_up(escape: str) -> int:
    """Returns by how many rows an escape moves the cursor up."""
    count = escape[2:-1]
    if not (escape.startswith("\x1b[") and escape.endswith("A")) or not (count.isdecimal() or not count):
        return 0
    return min(int(count[:4] or 1), 1000)
