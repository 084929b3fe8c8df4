"""Runs as JSON: what is sent to a runner, what it answers, and what is kept of it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter

from sandkeeper.model import (
    HOME,
    NO_CHANGES,
    ChangedFile,
    Changes,
    Display,
    EndReason,
    Output,
    Raised,
    RunEnd,
    Stream,
    utc_moment,
)
from sandkeeper.outputs import CHART, DATA
from sandkeeper.outputs.sound import sound_text
from sandkeeper.ports import Completion, Completions
from sandkeeper.runner.greeting import MOST_MATCHES
from sandkeeper.runs import Accepted, Ended, RunContext, RunEvent, RunOrder, Started

_MIME_TYPES = {
    "text": "text/plain",
    "html": "text/html",
    "markdown": "text/markdown",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "pdf": "application/pdf",
    "latex": "text/latex",
    "json": "application/json",
    "javascript": "text/javascript",
    "data": DATA,
    "chart": CHART,
}
"""The interpreter's names → what they are. Whatever else a program displays is under `extra`."""

MAX_CHANGED_FILES = 100
MAX_PATH_BYTES = 1_024
MAX_COUNT = 2**50
"""Larger than any file, and exact wherever it is written down."""

MATCH_CHARS = 300
"""A completion that is longer is left out."""

_ENDS = {"lost": RunEnd.SANDBOX_LOST}
"""The runner's words for ends that are not ours."""


def order_json(order: RunOrder) -> dict[str, Any]:
    """Returns the order as the runner takes it."""
    return {
        "code": order.code,
        "limit_ms": order.context.limit_ms,
        "output_bytes": order.output_bytes,
        "display_bytes": order.display_bytes,
        "on_busy": "wait",
        "given": [path.removeprefix(f"{HOME}/") for path in order.context.paths],
        "digest": sha256(order.code.encode(errors="replace")).hexdigest(),
        "about": context_json(order.context),
    }


def context_json(context: RunContext) -> dict[str, Any]:
    """Returns the context's fields."""
    return asdict(context)


def context_of(fields: Mapping[str, Any]) -> RunContext:
    """Returns the context of these fields. Raises `ValueError`."""
    return _contexts().validate_python(fields)


@cache
def _contexts() -> TypeAdapter[RunContext]:
    return TypeAdapter(RunContext)


def told_by_runner(fields: Mapping[str, Any]) -> RunEvent:
    """Returns the event that a runner tells. Raises `ValueError`, `KeyError` or `TypeError` for what is none.

    Code in the sandbox could have changed what its runner keeps: nothing here is taken on trust.
    """
    try:
        return RunEvent(int(fields["n"]), utc_moment(int(fields["at"])), _what(fields))
    except OverflowError as error:
        raise ValueError("a number that is none of a runner's") from error


def _what(fields: Mapping[str, Any]) -> Accepted | Started | Output | Ended:
    match fields["type"]:
        case "accepted":
            return Accepted(str(fields["code"]), context_of(fields["about"]))
        case "started":
            return Started(EndReason(fields["reset"]) if fields["reset"] else None)
        case "stdout" | "stderr" as name:
            return Stream(name, str(fields["text"]))
        case "result":
            return _display(fields)
        case "error":
            return Raised(*(str(fields.get(name, "")) for name in ("name", "value", "traceback")))
        case "end":
            end = _ENDS.get(fields["end"]) or RunEnd(fields["end"])
            return Ended(end, reset=bool(fields.get("reset")), changes=_changes(fields))
        case unknown:
            raise ValueError(f"an event of type {unknown!r}")


def _display(fields: Mapping[str, Any]) -> Display:
    """Returns all forms of a result by MIME type."""
    data = {mime: value for name, mime in _MIME_TYPES.items() if (value := fields.get(name)) is not None}
    return Display({**data, **(fields.get("extra") or {})}, is_main_result=bool(fields.get("is_main_result")))


def _changes(fields: Mapping[str, Any]) -> Changes:
    files = [ChangedFile(_path(file["path"]), _count(file["size"])) for file in fields.get("files", ())]
    if len(files) > MAX_CHANGED_FILES:
        raise ValueError(f"{len(files)} changed files")
    more, all_seen = _count(fields.get("more_files", 0)), bool(fields.get("all_seen", True))
    return Changes(files, more, all_seen) if files or more or not all_seen else NO_CHANGES


def _path(below_home: object) -> str:
    """Returns the absolute path of a file below the user's home."""
    path = str(below_home)
    parts = path.split("/")
    if not path.isprintable() or len(path.encode()) > MAX_PATH_BYTES or {"", ".", ".."} & {*parts}:
        raise ValueError("a path that is none of a runner's")
    return f"{HOME}/{path}"


def _count(number: object) -> int:
    if not isinstance(number, int) or not 0 <= number < MAX_COUNT:
        raise ValueError("a number that is none of a runner's")
    return number


def completions_of(told: Any, code: str, cursor: int) -> Completions | None:
    """Returns what a runner says could stand at the cursor. Raises as `told_by_runner`, for the same reason."""
    if told is None:
        return None
    if not isinstance(told, dict):
        raise TypeError("completions that are none of a runner's")
    if not told:
        return Completions(cursor, cursor, [])
    start, end = _count(told["start"]), _count(told["end"])
    if not start <= end <= len(code):
        raise ValueError("a place that is not in the code")
    matches = [
        Completion(sound_text(match["text"]), sound_text(match["kind"])[:MATCH_CHARS])
        for match in told["matches"][:MOST_MATCHES]
        if len(match["text"]) <= MATCH_CHARS
    ]
    return Completions(start, end, matches)


def kept(event: RunEvent) -> dict[str, Any]:
    """Returns the event as it is kept. Code and context are kept besides."""
    return {"n": event.number, "at": _millis(event.at), **_kept(event.what)}


def _kept(what: Accepted | Started | Output | Ended) -> dict[str, Any]:
    match what:
        case Accepted():
            return {"type": "accepted"}
        case Started(reset):
            return {"type": "started", "reset": reset}
        case Stream(name, text):
            return {"type": name, "text": text}
        case Display(data, is_main_result):
            return {"type": "result", "extra": dict(data), "is_main_result": is_main_result}
        case Raised(name, value, traceback):
            return {"type": "error", "name": name, "value": value, "traceback": traceback}
        case Ended(end, reset, changes):
            return {"type": "end", "end": end, "reset": reset, **_kept_changes(changes)}


def _kept_changes(changes: Changes) -> dict[str, Any]:
    if changes == NO_CHANGES:
        return {}
    files = [{"path": file.path.removeprefix(f"{HOME}/"), "size": file.size_bytes} for file in changes.files]
    return {"files": files, "more_files": changes.more, "all_seen": changes.all_seen}


def recalled(fields: Mapping[str, Any], code: str, context: RunContext) -> RunEvent:
    """Returns the event that was kept."""
    if fields["type"] == "accepted":
        return RunEvent(fields["n"], utc_moment(fields["at"]), Accepted(code, context))
    return told_by_runner(fields)


def _millis(when: datetime) -> int:
    return round(when.timestamp() * 1000)
