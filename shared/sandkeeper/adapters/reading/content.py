"""What a file holds: the first reader that knows its content says so."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from sandkeeper.adapters.reading.fit import fitted
from sandkeeper.adapters.reading.media import read_image, read_pdf, read_svg
from sandkeeper.adapters.reading.source import Source
from sandkeeper.model import FileKind, FileReading
from sandkeeper.ports import Unreadable

if TYPE_CHECKING:
    from sandkeeper.adapters.reading.text import Text

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
PARQUET = b"PAR1"
PARQUET_ENCRYPTED = b"PARE"

_WEB_PAGE = re.compile(r"\s*(<!doctype html|<html)\b", re.IGNORECASE)

NAMES = {
    FileKind.JSON: "JSON without records",
    FileKind.EXCEL: "a workbook without a table",
    FileKind.TEXT: "text without a table",
    FileKind.IMAGE: "an image",
    FileKind.PDF: "a PDF",
    FileKind.ZIP: "a zip archive",
}


def read_content(source: Source) -> FileReading:
    """Returns what the file holds, cut to what is kept of it. Raises `Unreadable`.

    That is also raised for a file that is called a table of text and holds none of any kind.
    """
    reading = _read(source)
    if source.is_called_a_table and not reading.tables:
        what = NAMES.get(reading.kind, "not text")
        raise Unreadable(f"{source.name!r} is {what}; upload a table as CSV, or the file under its own name")
    tables, cuts = fitted(reading.tables)
    cuts = [*reading.details.get("cut", ()), *cuts][:20]
    details = {**reading.details, "cut": cuts} if cuts else reading.details
    return replace(reading, tables=tables, details=details)


def _read(source: Source) -> FileReading:
    """Returns what the first reader says that knows the content. Each loads its library when it is needed."""
    head = source.head
    if head.startswith((PARQUET, PARQUET_ENCRYPTED)):
        from sandkeeper.adapters.reading.parquet import read_parquet  # noqa: PLC0415

        return read_parquet(source)
    if head.startswith(b"PK"):
        from sandkeeper.adapters.reading.archives import read_zip  # noqa: PLC0415

        archived = read_zip(source)
        if archived is not None:
            return archived
    if head.startswith(OLE):
        from sandkeeper.adapters.reading.workbook import read_workbook  # noqa: PLC0415

        return read_workbook(source, None) or FileReading(size_bytes=source.size_bytes)
    return read_image(source) or read_pdf(source) or _read_text(source)


def _read_text(source: Source) -> FileReading:
    from sandkeeper.adapters.reading.text import NotText, as_utf_8  # noqa: PLC0415

    try:
        with as_utf_8(source) as text:
            if not text.head.strip("\r\n\ufeff"):
                return _empty(source, text)
            svg = read_svg(source, text.head)
            if svg is not None:
                return svg
            if _WEB_PAGE.match(text.head):
                return _plain(source, text)
            from sandkeeper.adapters.reading.records import read_records  # noqa: PLC0415

            records = read_records(text)
            if records is not None:
                return replace(records, size_bytes=source.size_bytes)
            return _read_table(text, source.size_bytes) or _plain(source, text)
    except NotText as why:
        if source.is_called_a_table:
            raise Unreadable(f"{source.name!r} {why}; upload a table as CSV") from None
        return FileReading(size_bytes=source.size_bytes)


def _read_table(text: "Text", size_bytes: int) -> FileReading | None:
    """Returns delimited text as a table; None for text that neither says nor shows that it is one."""
    from sandkeeper.adapters.reading.delimited import read_delimited  # noqa: PLC0415
    from sandkeeper.adapters.reading.dialect import dialect_of  # noqa: PLC0415
    from sandkeeper.adapters.reading.text import HEAD_CHARS  # noqa: PLC0415

    dialect = dialect_of(text.head.removeprefix("\ufeff"), is_whole=len(text.head) < HEAD_CHARS)
    if not (text.source.is_called_a_table or dialect.is_evident):
        return None
    details = {"encoding": text.encoding, "delimiter": dialect.delimiter}
    if dialect.quote != '"':
        details["quote"] = dialect.quote
    if dialect.escape != dialect.quote:
        details["escape"] = dialect.escape
    table = read_delimited(text, dialect)
    return FileReading(size_bytes=size_bytes, kind=FileKind.CSV, tables=[table], details=details)


def _empty(source: Source, text: "Text") -> FileReading:
    if source.is_called_a_table:
        raise Unreadable(f"{source.name!r} is empty; upload a table with a header row")
    return _plain(source, text)


def _plain(source: Source, text: "Text") -> FileReading:
    details = {"encoding": text.encoding, "lines": text.line_count()}
    return FileReading(size_bytes=source.size_bytes, kind=FileKind.TEXT, details=details)
