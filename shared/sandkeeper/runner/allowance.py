"""How much of what a program puts out is told: text, and what it displays, each within bounds of its own."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandkeeper.runner.runs import Event, Order

DISPLAY_BYTES = 20_000_000
"""What may be displayed in all, where the order does not say."""
EVENT_BYTES = 500
"""What a displayed object takes besides its content, wherever it is kept."""
MAX_ERROR_CHARS = 200_000
TOO_LONG: Event = {"type": "too_long"}
"""Stands for an event that was too long to be read."""


class Allowance:
    """What a run may still put out."""

    def __init__(self, order: Order) -> None:
        self._text_bytes = order["output_bytes"]
        self._display_bytes = order.get("display_bytes", DISPLAY_BYTES)

    def take(self, event: Event) -> tuple[Event | None, bool]:
        """Returns as much of the event as may be told, None for nothing of it; and whether that is all of it."""
        if event["type"] in {"stdout", "stderr"}:
            return self._text(event)
        if event["type"] == "error":
            return self._error(cut_error(event))
        size = self._display_bytes + 1 if event is TOO_LONG else len(json.dumps(event)) + EVENT_BYTES
        if size > self._display_bytes:
            return None, False
        self._display_bytes -= size
        return event, True

    def _text(self, event: Event) -> tuple[Event | None, bool]:
        written = event["text"].encode(errors="replace")
        left, self._text_bytes = self._text_bytes, max(0, self._text_bytes - len(written))
        if len(written) <= left:
            return event, True
        text = written[:left].decode(errors="ignore")
        return ({**event, "text": text} if text else None), False

    def _error(self, event: Event) -> tuple[Event | None, bool]:
        size = len(json.dumps(event))
        left, self._text_bytes = self._text_bytes, max(0, self._text_bytes - size)
        return (event, True) if size <= left else (None, False)


def cut_error(event: Event) -> Event:
    """Returns an error with as much of its fields as may be told."""
    return {name: str(value)[:MAX_ERROR_CHARS] for name, value in event.items()}
