"""Zip archives: what their directory says; nothing is unpacked."""

from typing import Any
from zipfile import BadZipFile, ZipFile

from sandkeeper.adapters.reading.source import Source
from sandkeeper.adapters.reading.workbook import read_workbook
from sandkeeper.model import FileKind, FileReading
from sandkeeper.ports import Unreadable

SHOWN_NAMES = 50
MAX_NAME_CHARS = 200
ODS = b"application/vnd.oasis.opendocument.spreadsheet"
WORKBOOKS = ("xl/workbook.xml", "xl/workbook.bin")


def read_zip(source: Source) -> FileReading | None:
    """Returns a workbook's tables, or what an archive holds. Raises `Unreadable` for one that is damaged."""
    if not source.head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    try:
        with source.open() as file, ZipFile(file) as archive:
            if _is_workbook(source, archive):
                return read_workbook(source, archive)
            return FileReading(size_bytes=source.size_bytes, kind=FileKind.ZIP, details=_listed(archive))
    except (BadZipFile, ValueError, UnicodeDecodeError):
        raise Unreadable(f"{source.name!r} is a damaged zip archive; make it anew and upload it whole") from None


def _is_workbook(source: Source, archive: ZipFile) -> bool:
    names = set(archive.NameToInfo)
    return any(name in names for name in WORKBOOKS) or ("content.xml" in names and ODS in source.head[:200])


def _listed(archive: ZipFile) -> dict[str, Any]:
    parts = archive.infolist()
    details: dict[str, Any] = {
        "entries": len(parts),
        "unpackedBytes": sum(part.file_size for part in parts),
        "names": [part.filename[:MAX_NAME_CHARS] for part in parts[:SHOWN_NAMES]],
    }
    if len(parts) > SHOWN_NAMES:
        details["cut"] = [f"{SHOWN_NAMES} of {len(parts)} names are shown"]
    return details
