"""Tables of delimited text, read by DuckDB: of any size, in bounded memory, with all processors."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, assert_never

import duckdb

from sandkeeper.adapters.reading import engine
from sandkeeper.adapters.reading.columns import NULL_WORDS, PATTERNS, type_of_texts, value_of
from sandkeeper.adapters.reading.dialect import Dialect
from sandkeeper.adapters.reading.fit import MAX_COLUMNS, SAMPLE_ROWS
from sandkeeper.adapters.reading.text import HEAD_CHARS, Text
from sandkeeper.model import Column, ColumnType, Table
from sandkeeper.ports import Unreadable

VALUES_AT_ONCE = 400
"""In one scan: DuckDB holds a few thousand rows at once, so that its memory grows with their width."""
TEXTS = ("text", "empty", "json")
"""Guesses that no cast can test."""
MAX_LINE_BYTES = 2 * 1024 * 1024

WRONG = (
    f"cannot be read as a table: a row is longer than {MAX_LINE_BYTES} bytes, or its quotes do not close; "
    "save it as CSV anew"
)

_WORDS = ", ".join(map(engine.quoted, NULL_WORDS))
_GAPS = [
    (engine.quoted(low), engine.quoted(high))
    for low, high in pairwise(sorted(NULL_WORDS))
    if low[:1] != high[:1] and high[:1].isalpha()
]
"""Between which of these words, in order, there is none: most text lies there, and is looked at no closer."""

STRICT = "strict_mode=true, parallel=true"
LENIENT = "strict_mode=false, null_padding=true, parallel=false"
"""For rows that are too short, too long or strangely quoted. One processor reads them alone."""


def read_delimited(text: Text, dialect: Dialect) -> Table:
    """Returns the table: every row is counted, and every value takes part in its column's type.

    Raises `Unreadable`.
    """
    name = text.source.name
    _check(dialect, name)
    with engine.connected() as connection, engine.told(name, WRONG):
        connection.execute("SET preserve_insertion_order = false")  # nothing but counts is asked for
        try:
            # DuckDB 2.0 takes a newline in a quoted name for the end that all rows have, and loses rows of another.
            return _read(connection, text, dialect, STRICT if dialect.is_plain else LENIENT)
        except duckdb.InvalidInputException:
            return _read(connection, text, dialect, LENIENT)


def _check(dialect: Dialect, name: str) -> None:
    if not dialect.rows:
        raise Unreadable(f"{name!r} has a header row of more than {HEAD_CHARS} characters; shorten its names")
    if len(dialect.headers) > MAX_COLUMNS:
        raise Unreadable(f"{name!r} has {len(dialect.headers)} columns; at most {MAX_COLUMNS} can be described")


def _read(connection: duckdb.DuckDBPyConnection, text: Text, dialect: Dialect, mode: str) -> Table:
    source, width = _source(text, dialect, mode), len(dialect.headers)
    guesses = [_guess(dialect, column) for column in range(width)]
    quick = [test for column, guess in enumerate(guesses) for test in (f"c{column}", _quick(column, guess))]
    row_count, counts = _counted(connection, _with_numbers(source, guesses), quick)
    filled, told = counts[::2], counts[1::2]
    for column, guess in enumerate(guesses):
        filled[column] -= told[column] if guess in TEXTS else 0
    types: list[ColumnType] = ["text" if guess == "empty" else guess for guess in guesses]
    # What the first rows promised and a later one broke, and what they said nothing of, is looked at more closely.
    unclear = [
        column
        for column, guess in enumerate(guesses)
        if (guess not in TEXTS and told[column] < filled[column]) or (guess == "empty" and filled[column])
    ]
    if unclear:
        _, counts = _counted(connection, source, [test for column in unclear for test in _close(column)])
        each = len(PATTERNS) + 1
        for number, column in enumerate(unclear):
            filled[column], *passing = counts[number * each : (number + 1) * each]
            fitting = (type_ for type_, count in zip(PATTERNS, passing, strict=True) if count == filled[column])
            types[column] = next(fitting, "text")
    return Table(
        columns=[
            Column(
                name=header,
                type=types[column] if filled[column] else "empty",
                nulls=row_count - filled[column],
            )
            for column, header in enumerate(dialect.headers)
        ],
        row_count=row_count,
        sample=[_sampled(row, types) for row in dialect.rows[1 : SAMPLE_ROWS + 1]],
    )


def _sampled(row: Sequence[str], types: Sequence[ColumnType]) -> list[Any]:
    """Returns a row as JSON values, as long as the header."""
    cells = [None if cell in NULL_WORDS else cell for cell in row[: len(types)]]
    cells += [None] * (len(types) - len(cells))
    return [value_of(cell, type_) for cell, type_ in zip(cells, types, strict=True)]


def _source(text: Text, dialect: Dialect, mode: str) -> str:
    """Returns the rows below the header as an SQL table of text with the columns c0, c1 …; NULL where missing."""
    width = len(dialect.headers)
    columns = ", ".join(f"'c{column}': 'VARCHAR'" for column in range(width))
    quote, escape, delimiter = map(engine.quoted, (dialect.quote, dialect.escape, dialect.delimiter))
    # In a table of one column a blank line is no row, and an empty value is written with quotes.
    words = ", ".join(map(engine.quoted, _words_in(dialect) if width > 1 else [""]))
    rows = (
        f"read_csv({engine.quoted(text.source.path)}, auto_detect=false, header=true, skip={dialect.blank_lines}, "
        f"delim={delimiter}, quote={quote}, escape={escape}, columns={{{columns}}}, nullstr=[{words}], "
        f"allow_quoted_nulls={width > 1}, max_line_size={MAX_LINE_BYTES}, {mode})"
    )
    return rows if width > 1 else f"(SELECT c0 FROM {rows} WHERE c0 IS NOT NULL)"


def _words_in(dialect: Dialect) -> list[str]:
    """Returns the words for a missing value that the first rows have. The fewer, the faster the table is read."""
    cells = {cell for row in dialect.rows[1:] for cell in row}
    return [word for word in NULL_WORDS if word == "" or word in cells]


def _guess(dialect: Dialect, column: int) -> ColumnType:
    """Returns a column's type as far as the first rows tell."""
    cells = (row[column] for row in dialect.rows[1:] if column < len(row))
    return type_of_texts(cell for cell in cells if cell not in NULL_WORDS)


def _value(column: int) -> str:
    """Returns the column's values, NULL for all words that mean a missing one."""
    return f"CASE WHEN c{column} NOT IN ({_WORDS}) THEN c{column} END"


def _with_numbers(source: str, guesses: Sequence[ColumnType]) -> str:
    """Returns the table with n0, n1 … beside it: the numbers that columns seem to hold, each cast once."""
    numeric = [column for column, guess in enumerate(guesses) if guess in ("integer", "number")]
    casts = [f"TRY_CAST(c{column} AS DOUBLE) AS n{column}" for column in numeric]
    return f"(SELECT {', '.join(['*', *casts])} FROM {source})"


def _quick(column: int, guess: ColumnType) -> str:
    """Returns what counts the values that are as guessed; in text, the words for a missing one.

    A scan hardly notices it: a cast takes a fraction of a pattern's time, and lets through no other value that goes
    with those of the first rows. A word for a missing value passes no test: whatever fails is looked at closely.
    """
    c, number = f"c{column}", f"n{column}"
    no_zero_leads = f"{c} NOT BETWEEN '00' AND '0~'"
    match guess:
        case "integer":
            test = f"{number} = round({number}) AND abs({number}) < 1e18 AND {no_zero_leads}"
        case "number":
            test = f"{number} IS NOT NULL AND {c} < ':' AND {no_zero_leads}"
        case "date":
            test = f"TRY_CAST({c} AS DATE) IS NOT NULL AND strlen({c}) = 10 AND NOT contains({c}, '/')"
        case "datetime":
            test = f"TRY_CAST({c} AS TIMESTAMP) IS NOT NULL AND strlen({c}) > 10 AND NOT contains({c}, '/')"
        case "boolean" | "time":
            test = _matches(c, PATTERNS[guess])
        case "text" | "empty" | "json":
            near = [f"NOT ({c} > {low} AND {c} < {high})" for low, high in _GAPS]
            test = " AND ".join([*near, f"{c} IN ({_WORDS})"])
        case _ as unreachable:
            assert_never(unreachable)
    return f"CASE WHEN {test} THEN 1 END"


def _close(column: int) -> list[str]:
    """Returns what counts the column's values, and those of each type."""
    return [
        _value(column),
        *(f"CASE WHEN {_matches(f'c{column}', pattern)} THEN 1 END" for pattern in PATTERNS.values()),
    ]


def _matches(value: str, pattern: str) -> str:
    return f"regexp_full_match(trim({value}), {engine.quoted(pattern)})"


def _counted(connection: duckdb.DuckDBPyConnection, source: str, values: Sequence[str]) -> tuple[int, list[int]]:
    """Returns the number of rows, and how many of them have each of the values."""
    row_count, found = 0, []
    for begin in range(0, max(len(values), 1), VALUES_AT_ONCE):
        counts = [f"count({value})" for value in values[begin : begin + VALUES_AT_ONCE]]
        query = f"SELECT {', '.join(['count(*)', *counts])} FROM {source}"
        row_count, *batch = connection.execute(query).fetchone() or (0,)
        found += batch
    return row_count, found
