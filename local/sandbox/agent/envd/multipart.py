"""Reads `multipart/form-data` as it arrives; nothing of it is held in memory."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol
from urllib.parse import unquote

from python_multipart import MultipartParser
from python_multipart.multipart import parse_options_header


class Sink(Protocol):
    """Where one part goes."""

    def write(self, data: bytes) -> object: ...

    def close(self) -> None: ...


# Given the part's field name and file name, says where it goes; None leaves the part out.
Choose = Callable[[str, str], Sink | None]


class MalformedError(ValueError):
    """The body is not what its content type says."""


async def read(content_type: str, body: AsyncIterator[bytes], choose: Choose) -> None:
    """Writes each part of the body to the sink chosen for it."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedError("the content type multipart/form-data names no boundary")
    parts = _Parts(choose)
    parser = MultipartParser(boundary, parts.callbacks())
    try:
        async for chunk in body:
            parser.write(chunk)
        parser.finalize()
    except ValueError as reason:
        raise MalformedError(f"the multipart body cannot be read: {reason}") from reason
    finally:
        parts.end()


class _Parts:
    """The parser's callbacks: collects a part's headers, then passes its data on."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._sink: Sink | None = None
        self._name = bytearray()
        self._value = bytearray()
        self._disposition = b""

    def callbacks(self) -> Any:
        return {
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._begin,
            "on_part_data": self._data,
            "on_part_end": self.end,
        }

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _begin(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name, filename = (options.get(option, b"").decode(errors="replace") for option in (b"name", b"filename"))
        # Clients write a quote or a line break in a file name as %22, %0D, %0A, and nothing else.
        for escape in ("%22", "%0D", "%0A"):
            filename = filename.replace(escape, unquote(escape))
        self._sink = self._choose(name, filename)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._sink:
            self._sink.write(data[start:end])

    def end(self) -> None:
        """The part under way is closed."""
        if self._sink:
            self._sink.close()
        self._sink = None
        self._disposition = b""
