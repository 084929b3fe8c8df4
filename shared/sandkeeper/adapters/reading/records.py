"""JSON and JSON Lines, read by DuckDB record by record: a long array takes no more memory than a short one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from sandkeeper.adapters.reading import engine
from sandkeeper.adapters.reading.columns import PATTERNS
from sandkeeper.adapters.reading.fit import MAX_COLUMNS, SAMPLE_ROWS
from sandkeeper.adapters.reading.text import Text
from sandkeeper.model import Column, ColumnType, FileKind, FileReading, Table

MAX_VALUE_BYTES = 16 * 1024 * 1024
"""Of one record, or of a document that is none of records: it is held in memory."""
SHOWN_KEYS = 30
PARSED_CHARS = 500

TYPES: Mapping[str, ColumnType] = {
    "BIGINT": "integer",
    "UBIGINT": "integer",
    "HUGEINT": "integer",
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "VARCHAR": "text",
    "ARRAY": "json",
    "OBJECT": "json",
}
"""What DuckDB calls JSON's values."""


def read_records(text: Text) -> FileReading | None:
    """Returns what the text holds if it is JSON or JSON Lines, else None."""
    if text.head.lstrip("\ufeff \t\r\n")[:1] not in ("{", "["):
        return None
    size_bytes = text.source.size_bytes
    with engine.connected() as connection:
        for layout, kind in (("array", FileKind.JSON), ("newline_delimited", FileKind.JSON_LINES)):
            values = _values(text, layout)
            try:
                count, records = _count(connection, values)
                if count != records or not count or (kind is FileKind.JSON_LINES and not _is_lines(text, count)):
                    continue
                table = _table(connection, values, count)
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error:
                continue
            tables = [] if table is None else [table]
            return FileReading(size_bytes=size_bytes, kind=kind, tables=tables, details={"records": count})
        details = _document(connection, text)
    return None if details is None else FileReading(size_bytes=size_bytes, kind=FileKind.JSON, details=details)


def _values(text: Text, layout: str) -> str:
    path, size_bytes = engine.quoted(text.source.path), MAX_VALUE_BYTES
    return f"read_json_objects({path}, format='{layout}', maximum_object_size={size_bytes})"


def _is_lines(text: Text, count: int) -> bool:
    """Returns whether the records are lines on purpose: a document of one line is no JSON Lines by itself."""
    return count > 1 or text.source.name.lower().endswith((".jsonl", ".ndjson"))


def _count(connection: duckdb.DuckDBPyConnection, values: str) -> tuple[int, int]:
    """Returns how many values there are, and how many of them are records."""
    [found] = connection.execute(
        f"SELECT count(*), count(CASE WHEN json_type(json) = 'OBJECT' THEN 1 END) FROM {values}"
    ).fetchall()
    return found


def _table(connection: duckdb.DuckDBPyConnection, values: str, row_count: int) -> Table | None:
    """Returns the records as a table, a column for each key; None when there are too many of these."""
    keys = _keys(connection, values)
    if len(keys) > MAX_COLUMNS:
        return None
    if not keys:
        return Table(columns=[], row_count=row_count)
    paths = [_pointer(key) for key in keys]
    found = connection.execute(
        "SELECT i, type, count(*) FROM (SELECT unnest(json_type(json, $paths)) AS type, "
        f"unnest(range(len($paths))) AS i FROM {values}) WHERE type IS NOT NULL AND type <> 'NULL' GROUP BY ALL",
        {"paths": paths},
    ).fetchall()
    types: dict[int, dict[ColumnType, int]] = {column: {} for column in range(len(keys))}
    for column, type_, count in found:
        ours = TYPES.get(type_, "text")
        types[column][ours] = types[column].get(ours, 0) + count
    filled = {column: sum(counts.values()) for column, counts in types.items()}
    texts = [column for column, counts in types.items() if set(counts) == {"text"}]
    moments = _moments(connection, values, [paths[column] for column in texts])
    columns = []
    for column, key in enumerate(keys):
        type_ = _type(set(types[column]))
        if column in texts:
            fitting = (each for each, counts in moments.items() if counts[texts.index(column)] == filled[column])
            type_ = next(fitting, "text")
        columns.append(Column(name=key, type=type_, nulls=row_count - filled[column]))
    rows = connection.execute(
        f"SELECT json_extract(json, $paths)::VARCHAR[] FROM {values} LIMIT {SAMPLE_ROWS}", {"paths": paths}
    ).fetchall()
    sample = [[_cell(cell) for cell in cells] for (cells,) in rows]
    return Table(columns=columns, row_count=row_count, sample=sample)


def _cell(text: str | None) -> Any:
    """Returns a value as it is written in JSON; one that is not shown whole stays text, however deep it goes."""
    return None if text is None else json.loads(text) if len(text) <= PARSED_CHARS else text


def _keys(connection: duckdb.DuckDBPyConnection, values: str) -> list[str]:
    """Returns the records' keys in the order in which they first appear; at most one more than is described."""
    found = connection.execute(
        "SELECT key FROM (SELECT unnest(json_keys(json)) AS key, unnest(range(len(json_keys(json)))) AS place, row "
        f"FROM (SELECT json, row_number() OVER () AS row FROM {values})) "
        f"GROUP BY key ORDER BY min(row), min(place) LIMIT {MAX_COLUMNS + 1}"
    ).fetchall()
    return [key for (key,) in found]


def _pointer(key: str) -> str:
    """Returns the key as a JSON pointer (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _type(types: set[ColumnType]) -> ColumnType:
    if not types:
        return "empty"
    if types == {"integer", "number"}:
        return "number"
    if len(types) == 1:
        return next(iter(types))
    return "json" if "json" in types else "text"


def _moments(
    connection: duckdb.DuckDBPyConnection, values: str, paths: Sequence[str]
) -> Mapping[ColumnType, Sequence[int]]:
    """Returns how many texts at each path are dates, datetimes and times."""
    kinds: tuple[ColumnType, ...] = ("date", "datetime", "time")
    if not paths:
        return {}
    counts = [
        f"count(CASE WHEN regexp_full_match(texts[{column}], {engine.quoted(PATTERNS[kind])}) THEN 1 END)"
        for kind in kinds
        for column in range(1, len(paths) + 1)
    ]
    found = connection.execute(
        f"SELECT {', '.join(counts)} FROM (SELECT json_extract_string(json, $paths) AS texts FROM {values})",
        {"paths": list(paths)},
    ).fetchone()
    return {
        kind: (found or ())[number * len(paths) : (number + 1) * len(paths)] for number, kind in enumerate(kinds)
    }


def _document(connection: duckdb.DuckDBPyConnection, text: Text) -> dict[str, Any] | None:
    """Returns what is to be said of JSON that is no table; None when it is no JSON, or too large to tell."""
    if text.source.size_bytes > MAX_VALUE_BYTES:
        return None
    try:
        found = connection.execute(
            "SELECT json_type(json), json_array_length(json), json_keys(json) "
            f"FROM {_values(text, 'unstructured')} LIMIT 2"
        ).fetchall()
    except duckdb.Error:
        return None
    if len(found) != 1:
        return None
    [(type_, length, keys)] = found
    if type_ == "OBJECT":
        return {"value": "object", "length": len(keys), "keys": [key[:100] for key in keys[:SHOWN_KEYS]]}
    return {"value": "array", "length": length}
