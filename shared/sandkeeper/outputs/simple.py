"""What a run put out, in the simple view: the `results` of a reply.

Each displayed object gives one item in its richest form, plus its data where the kernel could tell it: a plot
is an image and a chart, a dataframe is HTML and a table.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, assert_never

from sandkeeper.model import Display, Output, Raised, Stream

CHART = "application/vnd.e2b.chart+json"
DATA = "application/vnd.e2b.data+json"

ResultType = Literal["text", "image", "html", "markdown", "latex", "json", "chart", "table", "error"]

STDERR = "text/plain; stream=stderr"

_RICHEST_FIRST: Sequence[tuple[str, ResultType]] = (
    ("image/png", "image"),
    ("image/jpeg", "image"),
    ("image/svg+xml", "image"),
    ("application/pdf", "image"),
    ("text/html", "html"),
    ("text/markdown", "markdown"),
    ("text/latex", "latex"),
    ("application/json", "json"),
)
_AS_DATA: Sequence[tuple[str, ResultType]] = ((CHART, "chart"), (DATA, "table"))

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultItem:
    """One thing to show. `content` is text, base64 for binary images, and a JSON value for data."""

    type: ResultType
    content: Any
    mime_type: str


def plain(text: str) -> str:
    """Returns the text without terminal colours."""
    return _ANSI.sub("", text)


def simple_view(outputs: Iterable[Output]) -> list[ResultItem]:
    """Returns the items in the order of their appearance; consecutive text of one stream is one item."""
    items: list[ResultItem] = []
    for stream, group in groupby(
        outputs, key=lambda output: getattr(output, "name", None) if isinstance(output, Stream) else None
    ):
        if stream is not None:
            text = "".join(output.text for output in group if isinstance(output, Stream))
            items.append(ResultItem(type="text", content=text, mime_type=_stream_type(stream)))
            continue
        for output in group:
            items.extend(_items(output))
    return items


def _stream_type(name: str) -> str:
    return "text/plain" if name == "stdout" else STDERR


def _items(output: Output) -> Iterator[ResultItem]:
    match output:
        case Stream(name, text):
            yield ResultItem(type="text", content=text, mime_type=_stream_type(name))
        case Display(data):
            yield from _display_items(dict(data))
        case Raised():
            yield ResultItem(type="error", content=plain(output.traceback), mime_type="text/plain")
        case _:
            assert_never(output)


def _display_items(data: dict[str, Any]) -> Iterator[ResultItem]:
    as_data = [(mime, kind) for mime, kind in _AS_DATA if mime in data]
    for mime, kind in _RICHEST_FIRST:
        if mime in data:
            yield ResultItem(type=kind, content=data[mime], mime_type=mime)
            break
    else:
        if "text/plain" in data:
            yield ResultItem(type="text", content=data["text/plain"], mime_type="text/plain")
        elif not as_data and data:
            mime, value = next(iter(data.items()))
            kind = "text" if isinstance(value, str) else "json"
            yield ResultItem(type=kind, content=value, mime_type=mime)
    for mime, kind in as_data:
        yield ResultItem(type=kind, content=data[mime], mime_type=mime)
