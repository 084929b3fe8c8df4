"""What comes out of a sandbox, made fit to be told: code in it may have written what no JSON reader takes."""

import json
from math import isfinite
from typing import Any

MAX_DEPTH = 60
"""A value nested deeper is told as far as this: readers of JSON, and our own writer, have limits of their own."""
_TOO_DEEP = "…"


def sound(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Returns the value as JSON in UTF-8 can tell it: what it cannot, such as NaN, is None, or text."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if isfinite(value) else None
        case dict() | list() if depth == 0:
            return _TOO_DEEP
        case dict():
            return {sound_text(str(key)): sound(item, depth - 1) for key, item in value.items()}
        case list():
            return [sound(item, depth - 1) for item in value]
        case _:
            return sound_text(str(value))


def sound_text(text: str) -> str:
    """Returns the text with a replacement for halves of characters, which no encoding knows."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def as_text(value: Any) -> str:
    """Returns a value as text: text as it is, a list of lines joined, anything else as JSON."""
    if isinstance(value, str):
        return sound_text(value)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return sound_text("".join(value))
    return json.dumps(sound(value), ensure_ascii=False)
