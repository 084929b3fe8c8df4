"""Reading what an uploaded file holds."""

import codecs
import csv
import io
import zipfile
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandkeeper.errors import StoreUnavailable
from sandkeeper.model import FileReading, FileStatus
from sandkeeper.services.ingest import MAX_CELL_CHARS, SAMPLE_BYTES, Unreadable, read_content
from tests.factories import record
from tests.world import CHAT, World

TABLE = "name,age\nAda,36\nAlan,41\n"


def read(content: bytes | str, name: str = "data.csv", content_type: str = "text/csv") -> FileReading:
    """Returns what the content holds, read in one piece."""
    data = content.encode() if isinstance(content, str) else content
    return read_content(record(name, content_type=content_type), [data])


def shape(reading: FileReading) -> tuple[list[str] | None, int | None]:
    """Returns headers and row count."""
    return None if reading.headers is None else list(reading.headers), reading.row_count


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out(delimiter: str) -> None:
    assert shape(read(TABLE.replace(",", delimiter))) == (["name", "age"], 2)


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("latin-1", b""),
    ],
)
def test_the_encoding_is_found_out(encoding: str, bom: bytes) -> None:
    text = "prénom,âge,société\n" + "Zoé,36,Crédit Général à Orléans\nAndré,41,Pâtisserie Noël\n" * 20

    headers, rows = shape(read(bom + text.encode(encoding)))

    assert (headers, rows) == (["prénom", "âge", "société"], 40)


@pytest.mark.parametrize(
    ("content", "headers", "rows"),
    [
        ("name,age\n", ["name", "age"], 0),
        ("name,age", ["name", "age"], 0),
        ("name,age\nAda,36", ["name", "age"], 1),
        ("name,age\r\nAda,36\r\n", ["name", "age"], 1),
        ("name,age\rAda,36\rAlan,41\r", ["name", "age"], 2),
        ("\n\nname,age\n\nAda,36\n\n\n", ["name", "age"], 1),
        ('name,note\nAda,"one\ntwo\n\nthree"\nAlan,x\n', ["name", "note"], 2),
        ('name,note\r\nAda,"one\r\ntwo"\r\n', ["name", "note"], 1),
        ('"first, last","say ""hi"""\n1,2\n', ["first, last", 'say "hi"'], 1),
        (" name , age \nAda,36\n", ["name", "age"], 1),
        ("name\nAda\nAlan\n", ["name"], 2),
        ("a,,b\n1,2,3\n", ["a", "", "b"], 1),
        ("a,b\n1\n1,2,3\n", ["a", "b"], 2),
        ("name,note\nAda,one\u2028two\nAlan,one\x85two\x0cthree\x1cfour\n", ["name", "note"], 2),
    ],
    ids=[
        "header only",
        "header without end",
        "last row without end",
        "CRLF",
        "CR",
        "blank lines",
        "quoted newlines",
        "quoted CRLF",
        "quotes",
        "spaces around headers",
        "one column",
        "empty header",
        "ragged rows",
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
        assert read("x,y\n1,2\n", name, content_type).headers == ["x", "y"], name


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"x,y\n1,2\n"])
def test_what_is_no_table_is_only_measured(content: bytes) -> None:
    assert read(content, "image.png", "image/png") == FileReading(size_bytes=len(content))


# ── Content that is not what it says ────────────────────────────────────────────────────────────────


def zipped() -> bytes:
    """Returns a spreadsheet that was only renamed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>" * 500)
    return buffer.getvalue()


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 8


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n\r\n\n", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        (PNG, "is not text"),
        (zipped(), "is not text"),
        (b"a,b\n1,\x002\n", "is not text"),
        (TABLE.encode("utf-16-le"), "is not text"),
        (",".join(["c"] * 2001).encode(), "has 2001 columns"),
        (b"a,b\n1," + b"x" * (MAX_CELL_CHARS + 1) + b"\n", "cannot be read|not a table"),
        (b"x" * (MAX_CELL_CHARS * 3), "cannot be read|not a table"),
        (b"x" * (MAX_CELL_CHARS - 1), "header"),
        (",".join(["ü" * 200] * 1500).encode(), "header"),
        (TABLE.encode() + b"1,2\n" * SAMPLE_BYTES + b"\xff\xff,3\n", "is not text in utf-8"),
        (TABLE.encode() * 4000 + b"\xff\xff,3\n", "is not text in utf-8"),
        (codecs.BOM_UTF16_LE + TABLE.encode("utf-16-le") + b"x", "is not text in utf-16"),
    ],
    ids=[
        "nothing",
        "blank lines",
        "a BOM alone",
        "an image",
        "a spreadsheet",
        "a NUL",
        "UTF-16 without a BOM",
        "too many columns",
        "a huge cell",
        "a huge line",
        "a huge header",
        "large headers",
        "bad bytes far behind",
        "bad bytes behind the sample",
        "half a character",
    ],
)
def test_what_cannot_be_read_is_told_with_its_name(content: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=rf"'data\.csv'.*({why})"):
        read(content)


def test_2000_columns_can_be_described() -> None:
    assert len(read(",".join(f"c{number}" for number in range(2000))).headers or []) == 2000


def test_no_content_gets_into_what_is_told() -> None:
    with pytest.raises(Unreadable) as told:
        read(b'canary,"' + b"canary" * MAX_CELL_CHARS)

    assert "canary" not in str(told.value)


# ── Chunks ──────────────────────────────────────────────────────────────────────────────────────────

CONTENTS = {
    "UTF-8": 'näme,nöte\r\nÄda,"one\r\ntwo"\r\n\r\nAlan,🐎\r\n'.encode(),
    "UTF-16": 'näme,nöte\r\nÄda,"one\r\ntwo"\r\n\r\nAlan,🐎\r\n'.encode("utf-16"),
    "CR": b"a;b\r1;2\r\r3;4\r",
}


def cut(content: bytes, at: Iterable[int]) -> list[bytes]:
    """Returns the content in pieces that end at these places, empty ones included."""
    places = [0, *sorted(place % (len(content) + 1) for place in at), len(content)]
    return [content[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize("name", CONTENTS)
@given(at=st.lists(st.integers(min_value=0, max_value=200), max_size=12))
def test_however_the_content_is_cut_it_reads_the_same(name: str, at: list[int]) -> None:
    content = CONTENTS[name]

    assert read_content(record(), cut(content, at)) == read(content)


@pytest.mark.parametrize("at", [SAMPLE_BYTES - 1, SAMPLE_BYTES, SAMPLE_BYTES + 1])
def test_a_character_across_the_samples_end_is_no_harm(at: int) -> None:
    content = ("a,b\n" + "1,ü\n" * SAMPLE_BYTES).encode()

    assert shape(read_content(record(), [content[:at], content[at:]])) == (["a", "b"], SAMPLE_BYTES)


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=6))
def test_what_pythons_csv_writes_is_counted_as_it_was_written(rows: list[list[str]]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(rows)

    headers, count = shape(read(buffer.getvalue()))

    assert headers == [header.strip() for header in rows[0]]
    assert count == len(rows) - 1


# ── Recording it ────────────────────────────────────────────────────────────────────────────────────


def test_a_table_becomes_ready_and_its_session_hears_of_it(world: World) -> None:
    world.run()
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)

    world.ingest(CHAT, file.file_id)

    read_file = world.files.get(CHAT, file.file_id)
    assert (read_file.status, read_file.headers, read_file.row_count) == (FileStatus.READY, ["name", "age"], 2)
    assert read_file.size_bytes == len(TABLE)
    assert world.run().execution.context.paths == [file.path]


def test_a_repeated_event_does_no_harm(world: World) -> None:
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)
    world.ingest(CHAT, file.file_id)
    once = world.files.get(CHAT, file.file_id)

    world.ingest(CHAT, file.file_id)

    assert world.files.get(CHAT, file.file_id) == once


def test_what_cannot_be_read_fails_with_a_reason_and_is_put_in_no_sandbox(world: World) -> None:
    file = world.add_file("data.csv", PNG, status=FileStatus.PENDING)

    world.ingest(CHAT, file.file_id)

    failed = world.files.get(CHAT, file.file_id)
    assert failed.status is FileStatus.FAILED
    assert failed.reason is not None
    assert "is not text" in failed.reason
    assert world.run().execution.context.paths == []


def test_a_file_that_was_deleted_meanwhile_is_left_alone(world: World) -> None:
    world.ingest(CHAT, "never")
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)
    world.contents.delete(CHAT, file.file_id)

    world.ingest(CHAT, file.file_id)

    assert world.files.get(CHAT, file.file_id).status is FileStatus.PENDING
    assert world.events() == ["file.unknown", "file.unknown"]


def test_a_store_that_fails_is_told_so_that_the_event_comes_again(world: World) -> None:
    file = world.add_file("data.csv", TABLE.encode(), status=FileStatus.PENDING)
    world.taps["contents"].fail("read", StoreUnavailable("slow down"))

    with pytest.raises(StoreUnavailable):
        world.ingest(CHAT, file.file_id)

    assert world.files.get(CHAT, file.file_id).status is FileStatus.PENDING


def test_neither_names_nor_contents_are_noted(world: World) -> None:
    for content in (b"canary,b\n", PNG + b"canary"):
        file = world.add_file(f"canary-{len(content)}.csv", content, status=FileStatus.PENDING)
        world.ingest(CHAT, file.file_id)

    assert "canary" not in repr(world.journal.notes)
