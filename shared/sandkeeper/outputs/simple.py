"""What a run put out, in the simple view: the `results` of a reply.

Each displayed object gives one item in its richest form, plus its data where the kernel could tell it: a plot
is an image and a chart, a dataframe is HTML and a table.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, assert_never

from sandkeeper.model import Display, Output, Raised, Stream
from sandkeeper.outputs.sound import as_text, sound, sound_text
from sandkeeper.outputs.terminal import plain

CHART = "application/vnd.e2b.chart+json"
DATA = "application/vnd.e2b.data+json"

ResultType = Literal["text", "image", "html", "markdown", "latex", "json", "chart", "table", "error"]

STDERR = "text/plain; stream=stderr"

BINARY = ("image/png", "image/jpeg", "application/pdf")
"""Types whose content comes as base64."""

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
_CHARTS = re.compile(r"application/vnd\.(e2b\.chart|plotly\.v\d+|vega(lite)?\.v\d+)\+json")
"""Charts as data, which a client that knows the format can draw: of matplotlib by E2B, of plotly, of Altair."""

_JSON: Sequence[ResultType] = ("json", "chart", "table")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultItem:
    """One thing to show. `content` is text, base64 for binary images, and a JSON value for data."""

    type: ResultType
    content: Any
    mime_type: str


def simple_view(outputs: Iterable[Output]) -> list[ResultItem]:
    """Returns the items in the order of their appearance; consecutive text of one stream is one item.

    All of them can be told as JSON in UTF-8, whatever the sandbox has sent.
    """
    items: list[ResultItem] = []
    for stream, group in groupby(outputs, key=stream_name):
        if stream is not None:
            text = "".join(output.text for output in group if isinstance(output, Stream))
            items.append(_text(text, _stream_type(stream)))
            continue
        for output in group:
            items.extend(_items(output))
    return items


def stream_name(output: Output) -> str | None:
    """Returns which stream an output belongs to, None for what is no text of a stream."""
    return output.name if isinstance(output, Stream) else None


def richest_form(data: Mapping[str, Any]) -> tuple[str, ResultType] | None:
    """Returns the type in which an object is best shown, None where only its data or its text can be."""
    return next((form for form in _RICHEST_FIRST if data.get(form[0]) is not None), None)


def best_form(data: Mapping[str, Any]) -> str:
    """Returns the type, of those that an object has, in which it is best shown."""
    richest = richest_form(data)
    if richest is not None:
        return richest[0]
    return next(iter([*chart_types(data), *(mime for mime in (DATA, "text/plain") if mime in data), *data]))


def chart_types(data: Mapping[str, Any]) -> list[str]:
    """Returns under which types an object has itself as a chart."""
    return [mime for mime, value in data.items() if value is not None and _CHARTS.fullmatch(str(mime))]


def _stream_type(name: str) -> str:
    return "text/plain" if name == "stdout" else STDERR


def _text(text: str, mime_type: str) -> ResultItem:
    return ResultItem(type="text", content=sound_text(text), mime_type=mime_type)


def _items(output: Output) -> Iterator[ResultItem]:
    match output:
        case Stream(name, text):
            yield _text(text, _stream_type(name))
        case Display(data):
            yield from _display_items({mime: value for mime, value in data.items() if value is not None})
        case Raised():
            yield ResultItem(type="error", content=sound_text(plain(output.traceback)), mime_type="text/plain")
        case _:
            assert_never(output)


def _display_items(data: dict[str, Any]) -> Iterator[ResultItem]:
    as_data: list[tuple[str, ResultType]] = [(mime, "chart") for mime in chart_types(data)]
    as_data += [(DATA, "table")] if DATA in data else []
    richest = richest_form(data)
    if richest is not None:
        yield _item(*richest, data)
    elif "text/plain" in data:
        yield _item("text/plain", "text", data)
    elif not as_data and data:
        mime, value = next(iter(data.items()))
        yield _item(mime, "text" if isinstance(value, str) else "json", data)
    for mime, kind in as_data:
        yield _item(mime, kind, data)


def _item(mime: str, kind: ResultType, data: dict[str, Any]) -> ResultItem:
    content = sound(data[mime]) if kind in _JSON else as_text(data[mime])
    return ResultItem(type=kind, content=content, mime_type=sound_text(mime))
