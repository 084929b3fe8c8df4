"""Read what an uploaded file holds, so that callers and models know its columns before code runs."""

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from charset_normalizer import from_bytes

from sandkeeper.errors import FileNotFound
from sandkeeper.model import ChatKey, Column, FileKind, FileReading, FileRecord, Table
from sandkeeper.ports import FileCatalog, FileContents, Journal, SessionStore

SAMPLE_BYTES = 64 * 1024
SNIFF_CHARS = 8 * 1024
"""How much text the delimiter is guessed from: the time that it takes may grow with the square of it."""
MAX_COLUMNS = 2_000
MAX_HEADER_BYTES = 64 * 1024
"""All names together: they lie in one item of at most 400 KB, and 50 files are listed in one reply."""
MAX_CELL_CHARS = 1024 * 1024
DELIMITERS = ",;\t|"

_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
"""A line as CSV knows it: `str.splitlines` cuts at form feeds and at Unicode's separators too."""

TABLE_SUFFIXES = (".csv", ".tsv")
TABLE_TYPES = ("text/csv", "text/tab-separated-values")


class Unreadable(Exception):
    """The content is not what the file's name or type says; the message tells the caller why."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """Reads a file's content once it has arrived, and records what it holds."""

    catalog: FileCatalog
    contents: FileContents
    sessions: SessionStore
    journal: Journal

    def __call__(self, key: ChatKey, file_id: str) -> None:
        """Marks the file `ready` or `failed`. A file that was deleted meanwhile is left alone.

        Reading it again gives the same record, so a repeated event does no harm.
        """
        record = self.catalog.get(key, file_id)
        if record is None:
            self.journal.note("file.unknown")
            return
        try:
            reading = read_content(record, self.contents.read(key, file_id))
        except FileNotFound:
            self.journal.note("file.unknown")
        except Unreadable as why:
            self.catalog.mark_failed(key, file_id, str(why))
            self.journal.note("file.failed")
        else:
            self.catalog.mark_ready(key, file_id, reading)
            # In this order: a session that begins in between finds the file ready by itself.
            self.sessions.announce_file(key, file_id)
            self.journal.note("file.ready", size_bytes=reading.size_bytes)


def read_content(record: FileRecord, chunks: Iterable[bytes]) -> FileReading:
    """Returns what the content holds, in one pass and bounded memory. Raises `Unreadable`."""
    counted = _Counted(chunks)
    if _is_table(record):
        headers, row_count = _read_table(iter(counted), record.name)
        table = Table(columns=[Column(name=name, type="text", nulls=0) for name in headers], row_count=row_count)
        return FileReading(size_bytes=counted.size_bytes, kind=FileKind.CSV, tables=[table])
    for _ in counted:
        pass
    return FileReading(size_bytes=counted.size_bytes)


def _is_table(record: FileRecord) -> bool:
    by_type = record.content_type.split(";")[0].strip().lower() in TABLE_TYPES
    return by_type or record.name.lower().endswith(TABLE_SUFFIXES)


@dataclass(slots=True)
class _Counted:
    """Chunks, and how many bytes of them have gone by."""

    chunks: Iterable[bytes]
    size_bytes: int = field(default=0)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.size_bytes += len(chunk)
            yield chunk


def _read_table(chunks: Iterator[bytes], name: str) -> tuple[list[str], int]:
    """Returns the header row and the number of rows below it; blank lines are no rows."""
    sample = bytearray()
    for chunk in chunks:
        sample += chunk
        if len(sample) >= SAMPLE_BYTES:
            break
    encoding = _encoding_of(bytes(sample[:SAMPLE_BYTES]), name)
    lines = _lines(chain([bytes(sample)], chunks), encoding)
    csv.field_size_limit(MAX_CELL_CHARS)
    try:
        head = list(islice(lines, 200))
        rows = (row for row in csv.reader(chain(head, lines), delimiter=_delimiter_of(head)) if row)
        headers = next(rows, None)
        if headers is None:
            raise Unreadable(f"{name!r} is empty; upload a table with a header row")
        if len(headers) > MAX_COLUMNS:
            raise Unreadable(f"{name!r} has {len(headers)} columns; at most {MAX_COLUMNS} can be described")
        if len("".join(headers).encode()) > MAX_HEADER_BYTES:
            raise Unreadable(f"{name!r} has a header row of more than {MAX_HEADER_BYTES} bytes; shorten its names")
        return [header.strip() for header in headers], sum(1 for _ in rows)
    except csv.Error as error:
        raise Unreadable(f"{name!r} is not a table that can be read as CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{name!r} is not text in {encoding} throughout; save it as UTF-8") from error


def _encoding_of(sample: bytes, name: str) -> str:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8-sig")().decode(sample)
    except UnicodeDecodeError:
        best = from_bytes(sample).best()
        if best is None:
            raise Unreadable(f"{name!r} is not text; upload a table as CSV") from None
        return best.encoding
    if b"\0" in sample:
        raise Unreadable(f"{name!r} is not text; upload a table as CSV")
    return "utf-8-sig"


def _lines(chunks: Iterable[bytes], encoding: str) -> Iterator[str]:
    """Yields decoded lines with their ends, whatever the chunks' borders cut through."""
    decoder = codecs.getincrementaldecoder(encoding)()
    rest = ""
    for text in chain((decoder.decode(chunk) for chunk in chunks), [None]):
        rest += decoder.decode(b"", final=True) if text is None else text
        *whole, rest = _LINE.findall(rest) or [""]
        yield from whole
        if len(rest) > MAX_CELL_CHARS * 2:
            raise csv.Error(f"a line is longer than {MAX_CELL_CHARS * 2} characters")
    if rest:
        yield rest


def _delimiter_of(head: list[str]) -> str:
    try:
        return csv.Sniffer().sniff("".join(head)[:SNIFF_CHARS], delimiters=DELIMITERS).delimiter
    except csv.Error:
        return ","
