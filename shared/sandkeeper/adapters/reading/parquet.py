"""Parquet, read by DuckDB: names, types and the row count from the footer, nulls by counting."""

from collections.abc import Mapping
from typing import Any

import duckdb

from sandkeeper.adapters.reading import engine
from sandkeeper.adapters.reading.columns import plain
from sandkeeper.adapters.reading.fit import MAX_COLUMNS, SAMPLE_ROWS
from sandkeeper.adapters.reading.source import Source
from sandkeeper.model import Column, ColumnType, FileKind, FileReading, Table
from sandkeeper.ports import Unreadable

WRONG = "is no whole Parquet file, or is encrypted; write it anew"

_NUMBERS = ("FLOAT", "DOUBLE", "DECIMAL")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
TYPES: Mapping[str, ColumnType] = {
    **dict.fromkeys(_INTEGERS, "integer"),
    **dict.fromkeys((f"U{name}" for name in _INTEGERS), "integer"),
    **dict.fromkeys(_NUMBERS, "number"),
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "datetime",
    "STRUCT": "json",
    "MAP": "json",
    "JSON": "json",
    "VARIANT": "json",
}


def read_parquet(source: Source) -> FileReading:
    """Returns the file's one table. Raises `Unreadable`."""
    path = engine.quoted(source.path)
    with engine.connected() as connection, engine.told(source.name, WRONG):
        [(row_count, row_groups)] = connection.execute(
            f"SELECT num_rows, num_row_groups FROM parquet_file_metadata({path})"
        ).fetchall()
        described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({path})").fetchall()
        if len(described) > MAX_COLUMNS:
            raise Unreadable(
                f"{source.name!r} has {len(described)} columns; at most {MAX_COLUMNS} can be described"
            )
        # A column's name in the file may be another's in capitals: DuckDB tells them apart by a suffix.
        filled = _filled(connection, path, [row[0] for row in described])
        sample = connection.execute(f"SELECT * FROM read_parquet({path}) LIMIT {SAMPLE_ROWS}").fetchall()
    columns = [
        Column(name=name, type=_type(type_) if filled[number] else "empty", nulls=row_count - filled[number])
        for number, (name, type_, *_) in enumerate(described)
    ]
    table = Table(columns=columns, row_count=row_count, sample=[[plain(cell) for cell in row] for row in sample])
    details = {"rowGroups": row_groups}
    return FileReading(size_bytes=source.size_bytes, kind=FileKind.PARQUET, tables=[table], details=details)


def _filled(connection: duckdb.DuckDBPyConnection, path: str, names: list[str]) -> tuple[Any, ...]:
    """Returns how many rows have a value in each column."""
    counts = ", ".join('count("' + name.replace('"', '""') + '")' for name in names)
    return connection.execute(f"SELECT {counts} FROM read_parquet({path})").fetchone() or ()


def _type(type_: str) -> ColumnType:
    """Returns what we call a type of DuckDB's, parameters and all: `DECIMAL(9,2)`, `TIMESTAMP_NS`, `INTEGER[]`."""
    if type_.endswith("]"):
        return "json"
    name = type_.partition("(")[0].partition("_")[0].split(" ")[0]
    return TYPES.get(name, "text")
