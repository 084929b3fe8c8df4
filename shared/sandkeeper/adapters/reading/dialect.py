"""How a table of text is written: its delimiter, its quotes, and where it begins."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

DELIMITERS = ",;\t|"
ROWS = 2_000
"""How many rows a dialect is judged by, and first guesses at types."""


_UNFINISHED = "unexpected end of data"
"""What `csv` says of a text that ends within quotes, as one does of which only the beginning is here."""

_SINGLE = re.compile(f"(^|[{DELIMITERS}\r\n])'")


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way to write a table, and its first rows read in this way."""

    delimiter: str
    quote: str
    escape: str
    rows: Sequence[Sequence[str]]
    blank_lines: int
    """Before the header."""
    is_sound: bool = True
    """Every quote that ends a cell is followed by a delimiter or a line's end."""

    @property
    def headers(self) -> Sequence[str]:
        """The first row, without the blanks around its names."""
        return [cell.strip() for cell in self.rows[0]]

    @property
    def is_plain(self) -> bool:
        """Whether no name goes over a line's end."""
        return not any("\n" in cell or "\r" in cell for cell in self.rows[0])

    @property
    def agreement(self) -> float:
        """Which part of the rows is as wide as the header; zero where there is one column alone."""
        width = len(self.rows[0]) if self.rows else 1
        return sum(len(row) == width for row in self.rows) / len(self.rows) if width > 1 else 0.0

    @property
    def is_evident(self) -> bool:
        """Whether this is a table although nothing says so: more than one row, all as wide as a sound header."""
        names = set(self.headers) if self.rows else set()
        sound = "" not in names and len(names) == len(self.rows[0]) if self.rows else False
        return len(self.rows) > 1 and sound and self.agreement == 1.0


def dialect_of(head: str, *, is_whole: bool) -> Dialect:
    """Returns the dialect in which most rows are as wide as the header, and wider than one column.

    Unless the head is the whole text, its last row may be half a row and is not counted.
    """
    # Where single quotes stand at the beginning of cells and the usual ones nowhere, they may be quotes.
    quotes = ["'", '"'] if '"' not in head and _SINGLE.search(head) else ['"']
    usual = _best(_read(head, each, quote, quote, is_whole=is_whole) for quote in quotes for each in DELIMITERS)
    if usual.agreement == 1.0 or f"\\{usual.quote}" not in head:
        return usual
    # Quotes after a backslash: it may escape them, and may also be a cell's last character.
    escaped = (_read(head, each, usual.quote, "\\", is_whole=is_whole) for each in DELIMITERS)
    return _best([usual, *escaped])


def _best(dialects: Iterable[Dialect]) -> Dialect:
    return max(
        dialects, key=lambda each: (each.is_sound, each.agreement, len(each.rows[0])) if each.agreement else ()
    )


def _read(head: str, delimiter: str, quote: str, escape: str, *, is_whole: bool) -> Dialect:
    body = head.lstrip("\r\n")
    before = head[: len(head) - len(body)].replace("\r\n", "\n")
    csv.field_size_limit(len(head) + 1)

    def read(*, strict: bool) -> tuple[list[Sequence[str]], str | None]:
        """Returns the first rows, and what is wrong behind them."""
        reader = csv.reader(
            # Cuts where CSV does: `str.splitlines` cuts at form feeds and at Unicode's separators too.
            io.StringIO(body, newline=""),
            delimiter=delimiter,
            quotechar=quote,
            doublequote=escape == quote,
            escapechar=None if escape == quote else escape,
            strict=strict,
        )
        rows: list[Sequence[str]] = []
        try:
            rows.extend(islice((row for row in reader if row), ROWS + 1))
        except csv.Error as error:
            return rows, str(error)
        return rows, None

    rows, wrong = read(strict=True)
    is_sound = wrong is None or (_UNFINISHED in wrong and not is_whole)
    if not is_sound:
        rows, wrong = read(strict=False)
    if len(rows) > ROWS or (wrong is None and not is_whole):  # the last row may be half a row
        rows = rows[:-1]
    return Dialect(delimiter, quote, escape, rows, len(before), is_sound)
