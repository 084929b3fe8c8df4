"""What a kernel says, as the events of `/execute`."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

Event = Mapping[str, Any]

# The MIME types that have a field of their own in a result; any other goes to `extra`.
_FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}

KEEPALIVE: Event = {"type": "keepalive"}
END: Event = {"type": "end_of_execution"}


def events(message: Mapping[str, Any]) -> Iterator[Event]:
    """The events that a kernel's IOPub message stands for; most kinds stand for none."""
    content = message["content"]
    match message["msg_type"]:
        case "stream":
            yield {"type": content["name"], "text": content["text"], "timestamp": _nanoseconds(message)}
        case "display_data":
            yield result(content["data"], is_main_result=False)
        case "execute_result":
            yield result(content["data"], is_main_result=True)
        case "execute_input":
            yield {"type": "number_of_executions", "execution_count": content["execution_count"]}


def result(bundle: Mapping[str, Any], *, is_main_result: bool) -> Event:
    """A `result` event of a MIME bundle; absent kinds have no field."""
    fields = {_FIELDS[mime]: value for mime, value in bundle.items() if mime in _FIELDS and value}
    extra = {mime: value for mime, value in bundle.items() if mime not in _FIELDS}
    if "text" in fields:
        fields["text"] = _unquoted(fields["text"])
    return {"type": "result", "is_main_result": is_main_result, **fields, **({"extra": extra} if extra else {})}


def error(name: str, value: str, traceback: list[str]) -> Event:
    return {"type": "error", "name": name, "value": value, "traceback": "\n".join(traceback)}


def _unquoted(text: str) -> str:
    """The text of a string's `repr` without its quotes, as E2B answers it."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text


def _nanoseconds(message: Mapping[str, Any]) -> int:
    date = message["header"]["date"]
    if isinstance(date, str):
        date = datetime.datetime.fromisoformat(date)
    return int(date.timestamp() * 1_000_000) * 1_000
