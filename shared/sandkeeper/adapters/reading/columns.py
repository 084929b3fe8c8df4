"""What a column's values are. When in doubt it is text: an id that lost its zeros is worse than a number as text.

- `integer`: at most 18 digits, none of them a leading zero; a value such as `007` or `+49…` makes its column text.
- `number`: with a decimal point or an exponent, or both kinds mixed. A decimal comma is text.
- `boolean`: true and false, in small or capital letters or capitalised; never 0 and 1, yes and no.
- `date`, `datetime`, `time`: ISO 8601 alone. Of `03/04/2025` nobody knows whether it is in March or in April.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from sandkeeper.model import ColumnType

NULL_WORDS = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""What `pandas.read_csv` takes for a missing value: code in the sandbox will count the same nulls."""

_WHOLE = r"-?(0|[1-9][0-9]{0,17})"
_DAY = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?"

PATTERNS: Mapping[ColumnType, str] = {
    "integer": _WHOLE,
    "number": rf"({_WHOLE}(\.[0-9]*)?|-?\.[0-9]+)([eE][+-]?[0-9]{{1,3}})?",
    "boolean": "true|false|True|False|TRUE|FALSE",
    "date": _DAY,
    "datetime": rf"{_DAY}[T ]{_CLOCK} ?(Z|UTC|[+-][0-9]{{2}}(:?[0-9]{{2}})?)?",
    "time": _CLOCK,
}
"""What a value of each type looks like, for `re` and RE2. The first that fits all values is their column's type."""

_COMPILED = {type_: re.compile(pattern) for type_, pattern in PATTERNS.items()}


def type_of_texts(texts: Iterable[str]) -> ColumnType:
    """Returns what values written as text are; `empty` when there are none."""
    fitting: list[ColumnType] | None = None
    for text in texts:
        fitting = [type_ for type_ in fitting or PATTERNS if _COMPILED[type_].fullmatch(text.strip(" "))]
        if not fitting:
            return "text"
    return fitting[0] if fitting else "empty"


def value_of(text: str | None, type_: ColumnType) -> Any:
    """Returns a value written as text as a JSON value."""
    if text is None:
        return None
    match type_:
        case "integer":
            return int(text)
        case "number":
            number = float(text)
            return number if math.isfinite(number) else text
        case "boolean":
            return text.strip().lower() == "true"
        case _:
            return text


def type_of_classes(classes: Iterable[type]) -> ColumnType:
    """Returns what a column is that holds Python values of these classes."""
    types = {_type_of_class(each) for each in classes}
    if not types:
        return "empty"
    if types == {"integer", "number"}:
        return "number"
    return types.pop() if len(types) == 1 else "text"


def _type_of_class(class_: type) -> ColumnType:
    # A bool is an int and a datetime a date: the narrower come first.
    known: Sequence[tuple[type, ColumnType]] = (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (Decimal, "number"),
        (datetime, "datetime"),
        (date, "date"),
        (time, "time"),
        (list, "json"),
        (dict, "json"),
    )
    return next((type_ for parent, type_ in known if issubclass(class_, parent)), "text")


def plain(value: Any) -> Any:
    """Returns any library's value as a JSON value; what JSON has no word for becomes text."""
    match value:
        case None | bool() | int() | str():
            word: Any = value
        case float() | Decimal():
            word = float(value) if math.isfinite(value) else str(value)
        case date() | time():
            word = value.isoformat()
        case bytes() | bytearray() | memoryview():
            word = f"<{len(value)} bytes>"
        case list() | tuple():
            word = [plain(each) for each in value]
        case dict():
            word = {str(key): plain(each) for key, each in value.items()}
        case _:
            word = str(value)
    return word
