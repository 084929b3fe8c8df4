"""Files that mean harm, or have come to it: each ends as unreadable, with its name and what to do, and no crash."""

import io
import os
import resource
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from sandkeeper.adapters.reading import workbook as workbooks
from sandkeeper.adapters.reading.__main__ import answer
from sandkeeper.adapters.reading.process import ProcessContentReader, ReaderBroken
from sandkeeper.adapters.reading.source import Source
from sandkeeper.errors import StoreUnavailable
from sandkeeper.model import FileKind, FileReading
from sandkeeper.ports import Unreadable
from tests.files import flights, only, parquet, read, unnamed, workbook

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
BOOK = workbook(Sheet=[["a"], [1]])


def in_a_process(content: bytes, name: str = "file.bin", **limits: object) -> FileReading:
    """Returns what the content holds, read as the function reads it."""
    reader = ProcessContentReader(**limits)  # type: ignore[arg-type]
    return reader([content], name=name, content_type="application/octet-stream")


def repacked(**parts: bytes) -> bytes:
    """Returns a small workbook with some of its parts replaced; `sheet` is its only sheet."""
    buffer = io.BytesIO()
    names = {"xl/worksheets/sheet1.xml": "sheet", "xl/workbook.xml": "book"}
    with ZipFile(io.BytesIO(BOOK)) as old, ZipFile(buffer, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, parts.get(names.get(name, ""), old.read(name)))
    return buffer.getvalue()


def sheet(*cells: str) -> bytes:
    """Returns the XML of a sheet."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{main}"><sheetData>{"".join(cells)}</sheetData></worksheet>'.encode()


def bomb(size_bytes: int) -> bytes:
    """Returns a workbook of which the one sheet unpacks to more than this."""
    return repacked(sheet=sheet() + b" " * size_bytes)


def lying(content: bytes) -> bytes:
    """Returns a zip that says of all its parts that they unpack to ten bytes."""
    changed = bytearray(content)
    for signature, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = changed.find(signature)
        while place >= 0:
            changed[place + at : place + at + 4] = struct.pack("<I", 10)
            place = changed.find(signature, place + 4)
    return bytes(changed)


PARQUET = parquet("SELECT range AS n, 'text ' || range AS t FROM range(10000)")

# ── Damaged and malicious content ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (BOOK[:-200], "damaged zip"),
        (b"PK\x03\x04" + bytes(100), "damaged zip"),
        (repacked(sheet=b"<worksheet><sheetData><row><c"), "damaged workbook"),
        (repacked(book=b"\xff\xfe"), "damaged workbook"),
        (repacked(sheet=sheet(f"<row r='1'>{'<c><v>1</v></c>' * 10_000}</row>")), "has 10000 columns"),
        (OLE + bytes(600) + "Workbook".encode("utf-16-le") + bytes(600), "damaged workbook"),
        (OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600), "protected by a password"),
        (PARQUET[: len(PARQUET) // 2], "no whole Parquet"),
        (PARQUET[:-6] + b"XXPAR1", "no whole Parquet"),
        (b"PAR1", "no whole Parquet"),
        (b"PARE" + PARQUET[4:-4] + b"PARE", "no whole Parquet"),
        (PARQUET[:400] + b"\xff" * 2_000 + PARQUET[2_400:], "no whole Parquet"),
    ],
    ids=[
        "half a zip",
        "a zip of nothing",
        "half a sheet",
        "a workbook's part that is no XML",
        "10,000 columns",
        "a damaged .xls",
        "an encrypted .xlsx",
        "half a Parquet",
        "a Parquet without a footer",
        "a Parquet's first bytes",
        "an encrypted Parquet",
        "a Parquet with bad pages",
    ],
)
def test_damaged_content_is_told_with_its_name_and_what_to_do(content: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=rf"'file\.bin'.*{why}.*[;,]"):
        read(content, "file.bin", "")


def test_a_workbook_that_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 20_000_000
    monkeypatch.setattr(workbooks, "MAX_XML_BYTES", limit)
    packed = bomb(limit)
    for content in (packed, lying(packed)):
        with pytest.raises(Unreadable, match=rf"'file\.xlsx' unpacks to more than {limit} bytes"):
            unnamed(content, "file.xlsx")


def test_an_archive_that_unpacks_to_too_much_is_only_listed() -> None:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(100_000_000))

    reading = unnamed(buffer.getvalue())

    assert (reading.kind, reading.details["unpackedBytes"]) == (FileKind.ZIP, 100_000_000)


def test_json_of_any_depth_is_read_or_told_as_text() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    keyed = '{"a":' * 100_000 + "1" + "}" * 100_000

    for content in (deep, keyed, f'[{{"a": {deep}}}]', deep[:100_000]):
        assert in_a_process(content.encode()).kind in (FileKind.JSON, FileKind.TEXT)


def test_records_with_too_many_keys_are_no_table() -> None:
    content = "\n".join(f'{{"key {number}": 1}}' for number in range(3_000))

    reading = unnamed(content)

    assert reading.tables == []


# ── What only a process of its own withstands ───────────────────────────────────────────────────────


def test_a_sheet_that_claims_the_whole_grid_costs_the_reader_its_life_and_nobody_elses() -> None:
    """Two cells, in the first and the last place that Excel has: calamine makes room for all 17 billion."""
    far = sheet("<row r='1'><c r='A1'><v>1</v></c></row><row r='1048576'><c r='XFD1048576'><v>1</v></c></row>")

    with pytest.raises(Unreadable, match=r"'file\.bin'"):
        in_a_process(repacked(sheet=far))


def test_a_page_that_unpacks_to_more_than_the_memory_fails() -> None:
    content = parquet("SELECT repeat('x', 300000000) AS bomb")
    assert len(content) < 30_000_000

    with pytest.raises(Unreadable, match=r"'file\.bin' needs more than \d+ MiB of memory"):
        in_a_process(content)


def test_a_reader_that_takes_too_long_is_ended() -> None:
    with pytest.raises(Unreadable, match=r"'file\.bin' takes longer than 0\.01 s to read; upload it in parts"):
        in_a_process(flights()[:100], time_limit=timedelta(seconds=0.01))


class Panic(BaseException):
    """As Rust's bindings raise it."""


@pytest.mark.parametrize("error", [Panic("canary"), RecursionError("canary"), MemoryError(), ValueError("canary")])
def test_whatever_a_library_raises_the_file_is_unreadable(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(_: Source) -> FileReading:
        raise error

    monkeypatch.setattr("sandkeeper.adapters.reading.__main__.read_content", fail)

    said = answer(Source(0, "file.bin"), 1)

    assert said.keys() == {"unreadable"}
    assert "'file.bin'" in said["unreadable"]
    assert "canary" not in said["unreadable"]


# ── What is no file's fault ─────────────────────────────────────────────────────────────────────────


def test_a_missing_library_is_no_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Source) -> FileReading:
        raise ModuleNotFoundError("No module named 'duckdb'")

    monkeypatch.setattr("sandkeeper.adapters.reading.__main__.read_content", fail)

    assert answer(Source(0, "file.bin"), 1) == {"broken": "ModuleNotFoundError: No module named 'duckdb'"}


def test_a_reader_that_does_not_start_lets_the_event_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(ReaderBroken):
        in_a_process(b"a,b\n1,2\n")


def test_a_store_that_fails_halfway_is_told_as_it_is() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"a,b\n"
        raise StoreUnavailable("slow down")

    with pytest.raises(StoreUnavailable):
        ProcessContentReader()(chunks(), name="a.csv", content_type="text/csv")


def test_a_file_that_the_disk_has_no_room_for_fails() -> None:
    with _largest_file(1_000_000), pytest.raises(Unreadable, match=r"'file\.bin' is larger than the disk"):
        in_a_process(bytes(2_000_000))


@contextmanager
def _largest_file(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_reader_knows_no_credentials_and_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[dict[str, str]] = []
    run = subprocess.run

    def spied(*args: object, **kwargs: object) -> object:
        seen.append(kwargs["env"])  # type: ignore[arg-type]
        return run(*args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", spied)

    in_a_process("prénom,âge\nZoé,1\n".encode("latin-1"))

    assert [set(environment) for environment in seen] == [{"PYTHONPATH"}]
    assert list(tmp_path.iterdir()) == []


# ── Memory ──────────────────────────────────────────────────────────────────────────────────────────

# Linux hands the peak that `getrusage` tells down to a program that a process becomes; this one is its own.
MEASURED = """
import os, pathlib, re, sys
from sandkeeper.adapters.reading.content import read_content
from sandkeeper.adapters.reading.source import Source
reading = read_content(Source(os.open(sys.argv[1], os.O_RDONLY), "flights.csv"))
print(reading.tables[0].row_count, re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""


def test_a_large_table_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    """Both ways of reading: at once with all processors, and with rows of which one is too short."""
    header, _, rows = flights().partition(b"\n")
    path = tmp_path / "flights.csv"
    for last, times in ((b"", 4), (b"2013\n", 3)):
        path.write_bytes(header + b"\n" + rows * times + last)
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(path)],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        )
        row_count, peak_kib = map(int, done.stdout.split())
        assert row_count == 336_776 * times + len(last) // 5
        assert peak_kib < 512 * 1024


def test_the_flights_are_read_in_a_process_as_they_are_here() -> None:
    content = b"".join(flights().splitlines(keepends=True)[:1_000])

    here, there = unnamed(content), in_a_process(content)

    assert (only(here).columns, here.details, here.size_bytes) == (
        only(there).columns,
        there.details,
        there.size_bytes,
    )
