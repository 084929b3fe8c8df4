"""Displayed objects in words: what a model can use of them, and where it has to take the user's word."""

import base64
import html
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sandkeeper.outputs.clipping import clipped
from sandkeeper.outputs.simple import BINARY, CHART, DATA, chart_types, richest_form
from sandkeeper.outputs.sound import as_text, sound
from sandkeeper.outputs.terminal import as_shown

MAX_COLUMNS = 12
MAX_ROWS = 5
MAX_CELL_CHARS = 40
MAX_SERIES = 6
MAX_POINTS = 5
SMALL_HTML_CHARS = 2_000
"""HTML up to this is told as its text."""
SMALL_TABLE_CHARS = 1_200
"""A table that prints itself in no more than this, does so: it knows its index, which its data do not."""

_TEXTS = ("text/markdown", "text/latex", "application/json")
_NO_WORDS = re.compile(r"\s*<.*>\s*", re.DOTALL)
"""How objects print themselves that have nothing to say: `<Figure size 640x480 with 1 Axes>`."""
_UNSEEN = re.compile(r"<(style|script)\b.*?</\1>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_TYPE_CODES = {
    **{"i1": "<b", "i2": "<h", "i4": "<i", "u1": "<B", "u2": "<H", "u4": "<I", "f4": "<f", "f8": "<d"},
    **{"int8": "<b", "int16": "<h", "int32": "<i", "uint8": "<B", "uint16": "<H", "uint32": "<I"},
    **{"float32": "<f", "float64": "<d"},
}
"""Plotly's names of numbers' types → those of `struct`."""
_SIZES = ((1_000_000, "MB"), (1_000, "KB"))


def described(data: Mapping[str, Any], max_chars: int) -> str:
    """Returns a displayed object in words, from whichever of its forms tell most; hardly over `max_chars`."""
    data = {mime: value for mime, value in data.items() if value is not None}
    return "\n".join(filter(None, _parts(data, max_chars)))


def size_text(size_bytes: int) -> str:
    """Returns a size as people say it."""
    for unit, name in _SIZES:
        if size_bytes >= unit:
            return f"{size_bytes / unit:.3g} {name}" if size_bytes < 1000 * unit else f"{size_bytes // unit} {name}"
    return counted(size_bytes, "byte")


def counted(number: int, noun: str) -> str:
    """Returns how many there are of what the noun calls one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _parts(data: Mapping[str, Any], max_chars: int) -> Iterator[str]:
    richest = richest_form(data)
    if richest is not None and richest[1] == "image":
        yield _reference(richest[0], data[richest[0]])
    charts = chart_types(data)
    yield from (_chart(mime, data[mime]) for mime in charts)
    if (table := _table(data.get(DATA), as_text(data.get("text/plain", "")))) is not None:
        yield table
    elif not charts and (richest is None or richest[1] != "image"):
        yield _words(data, max_chars)


def _words(data: Mapping[str, Any], max_chars: int) -> str:
    """Returns the text of what is neither image, chart nor table."""
    text = as_shown(as_text(data.get("text/plain", "")))
    for mime in _TEXTS:
        if mime in data:
            return clipped(as_shown(as_text(data[mime])), max_chars)
    if text and not _NO_WORDS.fullmatch(text[:max_chars]):
        return clipped(text, max_chars)
    if "text/html" in data:
        return _html(as_text(data["text/html"]))
    others = [mime for mime in data if mime != "text/plain"]
    return _reference(others[0], data[others[0]]) if others else clipped(text, max_chars)


def _html(markup: str) -> str:
    if len(markup) > SMALL_HTML_CHARS:
        return _reference("text/html", markup)
    words = " ".join(html.unescape(_TAG.sub(" ", _UNSEEN.sub(" ", markup))).split())
    return words or _reference("text/html", markup)


def _reference(mime: str, value: Any) -> str:
    content = as_text(value)
    size_bytes = len(content) * 3 // 4 if mime in BINARY else len(content.encode())
    return f"[{clipped(mime, 60)}, {size_text(size_bytes)}: shown to the user]"


# ── Tables ──────────────────────────────────────────────────────────────────────────────────────────


def _table(data: Any, printed: str) -> str | None:
    """Returns a table that is given by columns, as it prints itself or as its first rows; None for what is none."""
    if not isinstance(data, dict) or not all(isinstance(column, list) for column in data.values()):
        return None
    rows = max(map(len, data.values()), default=0)
    title = f"[table of {counted(rows, 'row')} × {counted(len(data), 'column')}: shown to the user]"
    if printed and len(printed) <= SMALL_TABLE_CHARS:
        return f"{title}\n{printed}"
    columns = [[name, *islice(cells, MAX_ROWS)] for name, cells in islice(data.items(), MAX_COLUMNS)]
    more = "" if len(data) <= MAX_COLUMNS else f" | … {len(data) - MAX_COLUMNS} more columns"
    lines = [
        " | ".join(_cell(column[index]) if index < len(column) else "" for column in columns) + more
        for index in range(min(rows, MAX_ROWS) + 1)
    ]
    rest = [f"… {rows - MAX_ROWS:,} more rows"] if rows > MAX_ROWS else []
    return "\n".join([title, *lines, *rest])


def _cell(value: Any) -> str:
    text = value[: MAX_CELL_CHARS * 2] if isinstance(value, str) else _json(value)
    return clipped(" ".join(text.split()), MAX_CELL_CHARS)


def _json(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"[{len(value)} items]"
    return json.dumps(sound(value), ensure_ascii=False)


# ── Charts ──────────────────────────────────────────────────────────────────────────────────────────


def _chart(mime: str, chart: Any) -> str:
    """Returns a chart's type, title, axes and a few of its numbers."""
    if not isinstance(chart, dict):
        return _reference(mime, chart)
    facts = _e2b_facts(chart) if mime == CHART else _plotly_facts(chart)
    return f"[chart: {'; '.join(filter(None, facts))}]"


def _e2b_facts(chart: Mapping[str, Any]) -> Iterator[str]:
    yield _word(chart.get("type"))
    yield _named("title", chart.get("title"))
    yield _named("x", chart.get("x_label"))
    yield _named("y", chart.get("y_label"))
    elements = chart.get("elements")
    for element in _some(elements, MAX_SERIES):
        if not isinstance(element, dict):
            continue
        if "elements" in element and chart.get("type") == "superchart":
            inner = {**element, "elements": _some(element["elements"], 2)}
            yield f"({'; '.join(filter(None, _e2b_facts(inner)))})"
        else:
            yield _series(element)
    if isinstance(elements, list) and len(elements) > MAX_SERIES:
        yield f"… {len(elements) - MAX_SERIES} more"


def _series(element: Mapping[str, Any]) -> str:
    points = element.get("points")
    label = _word(element.get("label"))
    if isinstance(points, list):
        shown = ", ".join(map(_point, points[:MAX_POINTS])) + (", …" if len(points) > MAX_POINTS else "")
        return f"{label}: {len(points)} points {shown}"
    numbers = {name: value for name, value in element.items() if isinstance(value, (int, float))}
    return f"{label}: " + ", ".join(f"{_word(name)} {_word(value)}" for name, value in islice(numbers.items(), 8))


def _point(point: Any) -> str:
    if isinstance(point, (list, tuple)):
        return f"({', '.join(map(_word, point[:3]))})"
    return _word(point)


def _plotly_facts(figure: Mapping[str, Any]) -> Iterator[str]:
    layout = figure.get("layout")
    if isinstance(layout, dict):
        yield _named("title", _title(layout))
        yield _named("x", _title(layout.get("xaxis")))
        yield _named("y", _title(layout.get("yaxis")))
    traces = figure.get("data")
    for trace in _some(traces, MAX_SERIES):
        if isinstance(trace, dict):
            axes = (f"{axis} {_numbers(trace[axis])}" for axis in ("x", "y", "labels", "values") if axis in trace)
            yield f"{_word(trace.get('type') or 'trace')} {_word(trace.get('name') or '')}: {', '.join(axes)}"
    if isinstance(traces, list) and len(traces) > MAX_SERIES:
        yield f"… {len(traces) - MAX_SERIES} more"


def _title(thing: Any) -> Any:
    title = thing.get("title") if isinstance(thing, dict) else None
    return title.get("text") if isinstance(title, dict) else title


def _numbers(values: Any) -> str:
    values = _unpacked(values) if isinstance(values, dict) else values
    if not isinstance(values, list):
        return "[…]"
    return f"[{', '.join(map(_word, values[:MAX_POINTS]))}{', …' if len(values) > MAX_POINTS else ''}]"


def _unpacked(packed: Mapping[str, Any]) -> list[Any] | None:
    """Returns the first of the numbers that plotly writes as base64 of an array; None for what is none."""
    code = _TYPE_CODES.get(str(packed.get("dtype")))
    size = 0 if code is None else struct.calcsize(code)
    try:
        data = base64.b64decode(str(packed["bdata"])[: 16 * (MAX_POINTS + 1)])
    except (KeyError, ValueError):
        return None
    count = min(MAX_POINTS + 1, len(data) // size) if size else 0
    return list(struct.unpack_from(f"<{count}{code[-1]}", data)) if code and count else None


def _some(values: Any, most: int) -> Sequence[Any]:
    return values[:most] if isinstance(values, list) else []


def _named(name: str, value: Any) -> str:
    return f"{name} {_word(value)!r}" if value else ""


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else _json(value)
    return clipped(" ".join(text[: MAX_CELL_CHARS * 2].split()), MAX_CELL_CHARS)
