"""Excel workbooks (.xlsx, .xlsm, .xlsb, .xls) and OpenDocument spreadsheets, read by calamine.

A sheet's table begins at its first row that has a value; that row is the header.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from zipfile import ZipFile, ZipInfo

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
)

from sandkeeper.adapters.reading.columns import plain, type_of_classes
from sandkeeper.adapters.reading.fit import MAX_COLUMNS, MAX_TABLES, SAMPLE_ROWS
from sandkeeper.adapters.reading.source import Source
from sandkeeper.model import Column, FileKind, FileReading, Table
from sandkeeper.ports import Unreadable

MAX_XML_BYTES = 768 * 1024 * 1024
"""Of all parts of a zipped workbook, unpacked. Calamine holds a sheet in memory: about half as much as its XML."""
CHUNK_BYTES = 1024 * 1024
LOCAL_HEADER_BYTES = 30

ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
"""The stream of an OLE file that a password keeps a workbook's zip in."""


def read_workbook(source: Source, archive: ZipFile | None) -> FileReading | None:
    """Returns a table for each sheet; None for an OLE file that is no workbook. Raises `Unreadable`.

    `archive` is the same file where it is a zip: its size is checked before calamine unpacks it.
    """
    if archive is not None:
        _check_size(source, archive)
    try:
        with source.open() as file, CalamineWorkbook.from_filelike(file) as workbook:
            names = [sheet.name for sheet in workbook.sheets_metadata if sheet.typ is SheetTypeEnum.WorkSheet]
            tables = [_table(workbook.get_sheet_by_name(name), source.name) for name in names[:MAX_TABLES]]
    except PasswordError:
        raise Unreadable(_locked(source.name)) from None
    except CalamineError:
        if archive is None and not _is_workbook(source):
            return None
        raise Unreadable(f"{source.name!r} is a damaged workbook; open it and save it anew") from None
    details: dict[str, Any] = {"sheets": len(names)}
    if len(names) > MAX_TABLES:
        details["cut"] = [f"{MAX_TABLES} of {len(names)} sheets are read"]
    return FileReading(
        size_bytes=source.size_bytes,
        kind=FileKind.EXCEL,
        tables=[table for table in tables if table.columns],
        details=details,
    )


def _locked(name: str) -> str:
    return f"{name!r} is protected by a password; remove it and upload the workbook again"


def _is_workbook(source: Source) -> bool:
    """Returns whether an OLE file that calamine cannot read has a workbook in it. Raises `Unreadable` if locked."""
    with source.open() as file:
        content = file.read()
    if ENCRYPTED in content:
        raise Unreadable(_locked(source.name))
    return any(name.encode("utf-16-le") in content for name in ("Workbook", "Book"))


def _check_size(source: Source, archive: ZipFile) -> None:
    """Raises `Unreadable` if the parts unpack to more than is read: by what they say, then by what they do."""
    room = MAX_XML_BYTES
    for part in archive.infolist():
        room -= part.file_size
    with source.open() as file:
        for part in archive.infolist():
            if room < 0:
                break
            room -= max(0, _unpacked_bytes(file, part, part.file_size + room) - part.file_size)
    if room < 0:
        raise Unreadable(
            f"{source.name!r} unpacks to more than {MAX_XML_BYTES} bytes; upload its data as CSV or Parquet"
        )


def _unpacked_bytes(file: Any, part: ZipInfo, limit: int) -> int:
    """Returns what the part really unpacks to, or something above the limit: its own figure may be a lie."""
    file.seek(part.header_offset)
    header = file.read(LOCAL_HEADER_BYTES)
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if part.compress_type == 0:
        return part.compress_size
    file.seek(names, 1)
    unpacker, left, size_bytes = zlib.decompressobj(-zlib.MAX_WBITS), part.compress_size, 0
    try:
        while (left > 0 or unpacker.unconsumed_tail) and not unpacker.eof and size_bytes <= limit:
            packed = unpacker.unconsumed_tail or file.read(min(left, CHUNK_BYTES))
            left -= 0 if unpacker.unconsumed_tail else len(packed)
            size_bytes += len(unpacker.decompress(packed, CHUNK_BYTES))
            if not packed:
                break
    except zlib.error:
        return size_bytes  # calamine will say so
    return size_bytes


def _table(sheet: CalamineSheet, name: str) -> Table:
    """Returns a sheet's table, without columns for an empty sheet. Raises `Unreadable` when it is too wide."""
    rows = _rows(sheet)
    header = next(rows, None)
    if header is None:
        return Table(name=sheet.name, columns=[], row_count=0)
    width = max(column + 1 for column, cell in enumerate(header) if cell != "")
    if width > MAX_COLUMNS:
        raise Unreadable(
            f"the sheet {sheet.name!r} of {name!r} has {width} columns; at most {MAX_COLUMNS} can be described"
        )
    return _described(sheet.name, [str(plain(cell)) for cell in header[:width]], rows)


def _rows(sheet: CalamineSheet) -> Iterator[Sequence[Any]]:
    """Yields the rows that have a value."""
    for row in sheet.iter_rows():
        if any(cell != "" for cell in row):
            yield row


def _described(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    filled = [0] * len(header)
    classes: list[set[type]] = [set() for _ in header]
    sample: list[Sequence[Any]] = []
    row_count = 0
    for row_count, row in enumerate(rows, 1):  # noqa: B007 - the last one counts
        if len(sample) < SAMPLE_ROWS:
            sample.append(row)
        for column, cell in zip(range(len(header)), row, strict=False):
            if cell != "":
                filled[column] += 1
                # Excel knows no integers: a whole number is one.
                classes[column].add(int if type(cell) is float and cell.is_integer() else type(cell))
    types = [type_of_classes(each) for each in classes]
    return Table(
        name=name,
        columns=[
            Column(name=header[column], type=types[column], nulls=row_count - filled[column])
            for column in range(len(header))
        ],
        row_count=row_count,
        sample=[[None if cell == "" else plain(_whole(cell)) for cell in row[: len(header)]] for row in sample],
    )


def _whole(cell: Any) -> Any:
    return int(cell) if type(cell) is float and cell.is_integer() else cell
