"""Images and PDF: what their headers say, without decoding them."""

import re
import struct
from typing import Any

from sandkeeper.adapters.reading.source import Source
from sandkeeper.model import FileKind, FileReading

JPEG_BYTES = 1024 * 1024
"""Where a JPEG's size has to be found: thumbnails and profiles come before it."""
CHUNK_BYTES = 1024 * 1024
OVERLAP_BYTES = 256

_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_PAGES = re.compile(
    rb"/Type\s*/Pages\b[^>]{0,200}?/Count\s+(\d{1,7})|/Count\s+(\d{1,7})[^>]{0,200}?/Type\s*/Pages\b"
)

_SVG = re.compile(r"<svg\b([^>]*)>", re.IGNORECASE)
_SVG_BEFORE = re.compile(r"\s*(<\?xml[^>]*\?>|<!--.*?-->|<!DOCTYPE[^>]*>|\s+)*", re.IGNORECASE | re.DOTALL)
_LENGTH = r"""\b{}\s*=\s*["']\s*([0-9.]+)\s*(?:px)?\s*["']"""
_VIEW_BOX = re.compile(r"""\bviewBox\s*=\s*["']\s*[-0-9.]+[\s,]+[-0-9.]+[\s,]+([0-9.]+)[\s,]+([0-9.]+)""")


def read_image(source: Source) -> FileReading | None:
    """Returns an image's format and size in pixels; None for what is no image of a known format."""
    head = source.head
    size: tuple[int, int] | None = None
    match head:
        case _ if head.startswith(b"\x89PNG\r\n\x1a\n"):
            format_ = "png"
            size = _unpacked(">II", head, 16)
        case _ if head.startswith((b"GIF87a", b"GIF89a")):
            format_ = "gif"
            size = _unpacked("<HH", head, 6)
        case _ if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            format_, size = "webp", _webp_size(head)
        case _ if head.startswith(b"\xff\xd8\xff"):
            format_, size = "jpeg", _jpeg_size(source)
        case _:
            return None
    return _image(source, format_, size)


def read_svg(source: Source, text: str) -> FileReading | None:
    """Returns an SVG's size; None for text that is no SVG."""
    before = _SVG_BEFORE.match(text)
    svg = _SVG.match(text, before.end() if before else 0)
    if svg is None:
        return None
    lengths = [re.search(_LENGTH.format(name), svg[1]) for name in ("width", "height")]
    found = [length[1] for length in lengths if length]
    view_box = _VIEW_BOX.search(svg[1])
    if len(found) < 2 and view_box:
        found = [view_box[1], view_box[2]]
    try:
        size = (round(float(found[0])), round(float(found[1]))) if len(found) == 2 else None
    except ValueError:
        size = None
    return _image(source, "svg", size)


def _image(source: Source, format_: str, size: tuple[int, int] | None) -> FileReading:
    details: dict[str, Any] = {"format": format_}
    if size is not None:
        details |= {"width": size[0], "height": size[1]}
    return FileReading(size_bytes=source.size_bytes, kind=FileKind.IMAGE, details=details)


def _unpacked(layout: str, data: bytes, offset: int) -> tuple[int, int] | None:
    try:
        width, height = struct.unpack_from(layout, data, offset)
    except struct.error:
        return None
    return width, height


def _webp_size(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X" if len(head) >= 30:
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L" if len(head) >= 25:
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if len(head) >= 30:
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def _jpeg_size(source: Source) -> tuple[int, int] | None:
    with source.open() as file:
        data = file.read(JPEG_BYTES)
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def read_pdf(source: Source) -> FileReading | None:
    """Returns a PDF and, unless they are packed away, its number of pages; None for what is no PDF."""
    if b"%PDF-" not in source.head[:1024]:
        return None
    pages, most, before = 0, 0, b""
    with source.open() as file:
        while chunk := file.read(CHUNK_BYTES):
            window = before + chunk
            # What begins in the last bytes is met again, whole, at the beginning of the next window.
            end = len(window) - OVERLAP_BYTES if len(chunk) == CHUNK_BYTES else len(window)
            pages += sum(found.start() < end for found in _PAGE.finditer(window))
            most = max([most, *(int(found[1] or found[2]) for found in _PAGES.finditer(window))])
            before = window[max(0, end) :]
    count = most or pages
    return FileReading(size_bytes=source.size_bytes, kind=FileKind.PDF, details={"pages": count} if count else {})
