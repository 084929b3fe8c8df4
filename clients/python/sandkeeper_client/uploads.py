"""What is uploaded: a file of this machine, bytes, or what a program has open."""

import io
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO, TypedDict

from sandkeeper_client.errors import InvalidInput

Source = str | PathLike[str] | bytes | BinaryIO
"""A path, or the content itself."""


class About(TypedDict, total=False):
    """What is told of a file besides its content."""

    name: str
    """A path's own, if absent."""
    content_type: str
    """What the name speaks of, if absent."""
    replace: bool
    """Whether it takes the place of the chat's file of this name. If absent, it gets a path of its own."""
    within_s: float
    """How long to wait until it has been read. A minute, if absent."""


@contextmanager
def content_of(source: Source) -> Iterator[BinaryIO]:
    """Gives the content, which can be read more than once."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, str | PathLike):
        with Path(source).open("rb") as content:
            yield content
    else:
        yield source


def name_of(source: Source, name: str | None) -> str:
    """Returns what the file is called. Raises `InvalidInput` where only its content is known."""
    if name:
        return name
    if isinstance(source, str | PathLike):
        return Path(fspath(source)).name
    raise InvalidInput("content needs a name: give upload(…, name='data.csv')")


def type_of(name: str) -> str:
    """Returns the content type that the name speaks of."""
    kind, packed_by = mimetypes.guess_type(name)
    return kind if kind is not None and packed_by is None else "application/octet-stream"


def size_of(content: BinaryIO) -> int:
    """Returns how many bytes there are, and leaves the content at its beginning."""
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    return size
