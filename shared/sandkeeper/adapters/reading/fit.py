"""What of a file's tables is kept: an item of DynamoDB takes 400 KB, and one reply of 4 MB lists fifty files."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sandkeeper.model import Table

MAX_COLUMNS = 2_000
"""A table with more is told as unreadable."""
SAMPLE_ROWS = 5
MAX_CELL_CHARS = 200
MAX_NAME_CHARS = 200
MAX_TABLES = 50
MAX_BYTES = 48 * 1024
"""Of all tables together, as JSON. The first table's names go over the wire once more, as `headers`."""
MAX_NAMES_BYTES = 16 * 1024
"""Of the names of one table."""


def fitted(tables: Sequence[Table]) -> tuple[list[Table], list[str]]:
    """Returns the tables, cut to what is kept, and a sentence for all that was left out.

    Tables share the room: each may have an equal part of what those before it have left. Samples go before columns.
    """
    cuts: list[str] = []
    kept: list[Table] = []
    if len(tables) > MAX_TABLES:
        cuts.append(f"{MAX_TABLES} of {len(tables)} tables are described")
    left = MAX_BYTES
    for number, table in enumerate(tables[:MAX_TABLES]):
        room = left // (min(len(tables), MAX_TABLES) - number)
        fitting = _fitted_table(table, room, cuts)
        left -= _size(fitting)
        kept.append(fitting)
    return kept, cuts


def _fitted_table(table: Table, room: int, cuts: list[str]) -> Table:
    label = "" if table.name is None else f"{_cut(table.name, 60)!r}: "
    short = replace(
        table,
        name=table.name and _cut(table.name, MAX_NAME_CHARS),
        columns=[replace(column, name=_cut(column.name, MAX_NAME_CHARS)) for column in table.columns],
        sample=[[_cell(cell) for cell in row] for row in table.sample[:SAMPLE_ROWS]],
    )
    if any(len(column.name) > MAX_NAME_CHARS for column in table.columns):
        cuts.append(f"{label}names are cut to {MAX_NAME_CHARS} characters")
    while short.sample and _size(short) > room:
        short = replace(short, sample=short.sample[:-1])
    if len(short.sample) < len(table.sample):
        cuts.append(f"{label}{len(short.sample)} of {len(table.sample)} sample rows are shown")
    count = _columns_within(short, room)
    if count < len(table.columns):
        cuts.append(f"{label}{count} of {len(table.columns)} columns are described")
        short = replace(short, columns=short.columns[:count], sample=[row[:count] for row in short.sample])
    return short


def _columns_within(table: Table, room: int) -> int:
    """Returns how many of the columns, from the first on, fit without a sample."""
    room -= _size(replace(table, columns=[]))
    names = MAX_NAMES_BYTES
    for number, column in enumerate(table.columns):
        room -= _bytes(asdict(column)) + 1
        names -= _bytes(column.name) + 1
        if room < 0 or names < 0:
            return number
    return len(table.columns)


def _size(table: Table) -> int:
    return _bytes(asdict(table))


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def _cell(cell: Any) -> Any:
    """Returns the cell; text that is too long cut, and a value that is too long as text."""
    if isinstance(cell, str):
        return _cut(cell, MAX_CELL_CHARS)
    if isinstance(cell, list | dict):
        text = json.dumps(cell, ensure_ascii=False)
        return cell if len(text) <= MAX_CELL_CHARS else _cut(text, MAX_CELL_CHARS)
    if isinstance(cell, int) and abs(cell) >= 10**30:
        return _cut(str(cell), MAX_CELL_CHARS)
    return cell


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"
