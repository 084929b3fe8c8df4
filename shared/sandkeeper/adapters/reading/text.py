"""Text of any encoding, as UTF-8."""

import codecs
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from sandkeeper.adapters.reading.source import Source

SAMPLE_BYTES = 64 * 1024
CHUNK_BYTES = 1024 * 1024
HEAD_CHARS = 1024 * 1024

UTF_8 = "utf-8-sig"


class NotText(Exception):
    """The content is no text; the message says how that shows."""


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text. `source` holds it as UTF-8, `head` is its beginning, `encoding` what it was uploaded in."""

    source: Source
    encoding: str
    head: str

    def line_count(self) -> int:
        """Returns the number of lines, the last of which may have no end."""
        count, last = 0, b"\n"
        with self.source.open() as file:
            while chunk := file.read(CHUNK_BYTES):
                count += chunk.count(b"\n")
                last = chunk[-1:]
        return count + (last != b"\n")


@contextmanager
def as_utf_8(source: Source) -> Iterator[Text]:
    """Opens the file's text, which is checked to its end. Raises `NotText`."""
    encoding = _encoding_of(source)
    if encoding == UTF_8:
        yield Text(source, "utf-8", _checked(source, encoding, None))
        return
    with tempfile.TemporaryFile() as copy:
        head = _checked(source, encoding, copy)
        copy.flush()
        written = Source(copy.fileno(), source.name, source.content_type)
        yield Text(written, encoding.replace("_", "-"), head)


def _encoding_of(source: Source) -> str:
    with source.open() as file:
        sample = file.read(SAMPLE_BYTES)
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in sample:
        return _utf_16(sample)
    try:
        codecs.getincrementaldecoder(UTF_8)().decode(sample)
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes  # noqa: PLC0415 - most files need no guess

        found = from_bytes(sample)
        best = found.best()
        if best is None:
            raise NotText("is not text") from None
        # Of two that make equally good sense of it, the one that most programs have written.
        western = any(
            "cp1252" in each.could_be_from_charset and each.chaos <= best.chaos and each.coherence >= best.coherence
            for each in found
        )
        return "cp1252" if western else best.encoding
    return UTF_8


def _utf_16(sample: bytes) -> str:
    """Returns which of the two a sample without a mark is in. In either, most of a table's other bytes are NUL."""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    for encoding, high, low in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if high * 4 >= len(sample) and low * 100 <= len(sample):
            return encoding
    raise NotText("is not text")


def _checked(source: Source, encoding: str, copy: BinaryIO | None) -> str:
    """Returns the text's beginning, and writes all of it to the copy as UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)()
    head = ""
    with source.open() as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError:
                shown = "utf-8" if encoding == UTF_8 else encoding
                raise NotText(f"is not text in {shown} throughout; save it as UTF-8") from None
            if "\0" in text:
                raise NotText("is not text")
            head += text[: HEAD_CHARS - len(head)]
            if copy is not None:
                copy.write(text.encode())
            if not chunk:
                return head
