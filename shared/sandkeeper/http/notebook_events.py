"""A notebook's events as they go over the wire, live or in slices: as with runs, in connections of 25 seconds."""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from fastapi.sse import format_sse_event

from sandkeeper.errors import FieldProblem, InvalidRequest, SandkeeperError
from sandkeeper.http.execute_routes import (
    BEGINNING,
    GATHER_S,
    PAUSE_S,
    SIGN_OF_LIFE,
    SIGN_OF_LIFE_S,
    SLICE_S,
    STREAM_S,
)
from sandkeeper.http.execute_schemas import event_data
from sandkeeper.http.fitting import EVENT_BYTES, Fitting, weight
from sandkeeper.http.notebook_schemas import etag
from sandkeeper.http.notebook_views import fitted_cell
from sandkeeper.http.result_schemas import LinkedResult, ResultSchema
from sandkeeper.model import ChatKey
from sandkeeper.notebooks import Notebook
from sandkeeper.services.notebook_feed import Position, Told
from sandkeeper.services.notebooks import READ_BYTES
from sandkeeper.services.requests import REPLY_BYTES
from sandkeeper.wiring import ApiWiring

SHOWING = ("cell.inserted", "cell.finished")
"""Events that tell what their cell shows."""


def position_of(last_event_id: str | None, after: int | None) -> Position | None:
    """Returns how far a client has come, None for one that has not begun. Raises `InvalidRequest`."""
    if not last_event_id:
        return None if after is None else Position(after)
    position = Position.of(last_event_id)
    if position is None:
        detail = f"Last-Event-ID {last_event_id[:60]!r} is not the id of an event; leave it out to begin anew"
        raise InvalidRequest(detail, [FieldProblem("header/last-event-id", detail)])
    return position


def live(
    wiring: ApiWiring, key: ChatKey, notebook_id: str, position: Position | None, wait_s: float
) -> Iterator[bytes]:
    """Yields events as they happen, and comments in between to keep the connection."""
    until = time.monotonic() + min(wait_s, STREAM_S)
    yield BEGINNING
    while True:
        asked_at = time.monotonic()
        for told in _followed(wiring, key, notebook_id, position, max(0.0, min(SIGN_OF_LIFE_S, until - asked_at))):
            position = told.position
            yield _event(wiring, key, told)
            if _is_last(told):
                return
        yield SIGN_OF_LIFE
        if time.monotonic() >= until:
            return
        time.sleep(max(0.0, PAUSE_S - (time.monotonic() - asked_at)))


def sliced(
    wiring: ApiWiring, key: ChatKey, notebook_id: str, position: Position | None, wait_s: float
) -> Iterator[bytes]:
    """Yields what has happened; or waits for it, and then a little for more."""
    yield BEGINNING
    first = next(_followed(wiring, key, notebook_id, position, min(wait_s, SLICE_S)), None)
    if first is None:
        yield SIGN_OF_LIFE
        return
    text = _event(wiring, key, first)
    yield text
    left = REPLY_BYTES - weight(BEGINNING + text)
    if _is_last(first):
        return
    for told in _followed(wiring, key, notebook_id, first.position, GATHER_S):
        text = _event(wiring, key, told)
        left -= weight(text)
        if left < 0:
            return  # whoever follows asks again from here
        yield text


def _followed(
    wiring: ApiWiring, key: ChatKey, notebook_id: str, position: Position | None, wait_s: float
) -> Iterator[Told]:
    """Yields what happens in this time. Ends early where nobody can tell: whoever wants the rest asks again."""
    try:
        yield from wiring.notebook_feed.follow(key, notebook_id, position, timedelta(seconds=wait_s))
    except SandkeeperError:
        return


def _is_last(told: Told) -> bool:
    return told.delta is not None and told.delta.kind == "notebook.deleted"


def _event(wiring: ApiWiring, key: ChatKey, told: Told) -> bytes:
    name, data = _data(wiring, key, told)
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return format_sse_event(id=str(told.position), event=name, data_str=text)


def _data(wiring: ApiWiring, key: ChatKey, told: Told) -> tuple[str, dict[str, Any]]:
    """Returns the name of an event and what it tells."""
    if told.event is not None and told.execution is not None:
        fitting = Fitting(wiring.overflow, key)

        def fit(results: Sequence[ResultSchema]) -> Sequence[ResultSchema | LinkedResult]:
            return fitting.fit(results, [], EVENT_BYTES)[0]

        known = {"cellId": told.cell_id, "executionId": told.execution.execution_id}
        return "cell.output", known | event_data(told.event, told.execution, fit)[1]
    if told.delta is None:
        return "reset", {} if told.notebook is None else _state(told.notebook)
    delta = told.delta
    data: dict[str, Any] = {"at": delta.at.isoformat().replace("+00:00", "Z"), "change": delta.version}
    if delta.cell_id is not None:
        data |= {"cellId": delta.cell_id, "cell": _cell(wiring, key, told)}
    if delta.execution_id is not None:
        data |= {"executionId": delta.execution_id}
    return delta.kind, data | ({} if told.notebook is None else _state(told.notebook))


def _cell(wiring: ApiWiring, key: ChatKey, told: Told) -> dict[str, Any] | None:
    """Returns the cell as it is by now, None if it is gone. What it shows is told where that may have changed."""
    if told.notebook is None or told.cell_id is None or told.notebook.slot(told.cell_id) is None:
        return None
    try:
        max_bytes = READ_BYTES if told.delta is not None and told.delta.kind in SHOWING else 0
        _, cell = wiring.notebooks.cell(key, told.notebook.notebook_id, told.cell_id, max_bytes=max_bytes)
    except SandkeeperError:
        return None
    return fitted_cell(key, cell, wiring.overflow, EVENT_BYTES).model_dump(mode="json", by_alias=True)


def _state(notebook: Notebook) -> dict[str, Any]:
    """Returns what every event tells: with this a client sees what it has not got."""
    plan = notebook.plan
    return {
        "version": notebook.version,
        "etag": etag(notebook.edited),
        "title": notebook.title,
        "cells": [{"cellId": slot.cell_id, "etag": etag(slot.version)} for slot in notebook.slots],
        "plan": None if plan is None else {"left": [*plan.left], "stopOnError": plan.stops},
    }
