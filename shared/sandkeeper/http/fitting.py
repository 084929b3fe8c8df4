"""Replies within their size: what is too large for one is linked to, the largest first.

Where there are too many things for that, the first ones stay, and the rest is linked to as one document. Both views
of a run are cut like this, and each stays what it is: a list of results, and a notebook's outputs.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

from pydantic_core import to_json

from sandkeeper.http.result_schemas import Cell, LinkedResult, ResultSchema
from sandkeeper.model import ChatKey
from sandkeeper.outputs import best_form, size_text
from sandkeeper.outputs.clipping import clipped, fitting
from sandkeeper.outputs.simple import BINARY
from sandkeeper.ports import Link
from sandkeeper.services.overflow import Content, Overflow

EVENT_BYTES = 1_000_000
"""How large an event of a stream is at most."""

MOST_LINKS = 20
"""How many things a reply links to one by one."""
WORTH_LINKING_BYTES = 10_000
LINK_BYTES = 5_000
"""More than a link takes, which has a session's token in it; a notebook tells it twice."""

_JSON = "application/json"
_TEXT = "text/plain"

P = TypeVar("P", bound="_Part")


class _Part(Protocol):
    """One result, or one output of a notebook."""

    @property
    def size_bytes(self) -> int:
        """How much of a reply it takes."""
        ...

    def content(self) -> Content:
        """Returns what is kept of it where it is too large."""
        ...

    def linked(self, content: Content, link: Link | None) -> Self:
        """Returns what stands in its place; without a link, what tells that there is none."""
        ...

    @classmethod
    def of_all(cls, parts: "Sequence[Self]") -> Self:
        """Returns one that holds all of these."""
        ...


@dataclass(frozen=True, slots=True)
class Fitting:
    """Fits the views of a chat's run into replies."""

    overflow: Overflow
    key: ChatKey

    def fit(
        self, results: Sequence[ResultSchema], cells: Sequence[Cell], max_bytes: int
    ) -> tuple[list[ResultSchema | LinkedResult], list[Cell]]:
        """Returns both, in at most so many bytes of JSON together."""
        told = [_Result(result) for result in results]
        outputs = [_Output(cell) for cell in cells]
        parts: list[_Part] = [*told, *outputs]
        sizes = [part.size_bytes + 1 for part in parts]
        if sum(sizes) > max_bytes:
            chosen = _too_large(sizes, max_bytes)
            linked = dict(zip(chosen, self._linked([parts[index] for index in chosen]), strict=True))
            told = [linked.get(index, part) for index, part in enumerate(told)]  # type: ignore[misc]
            outputs = [linked.get(index, part) for index, part in enumerate(outputs, len(told))]  # type: ignore[misc]
            told, outputs = self._cut(told, outputs, max_bytes)
        return [part.result for part in told], [part.cell for part in outputs]

    def _linked(self, parts: Sequence[P]) -> list[P]:
        """Returns what stands in the place of these."""
        contents = [part.content() for part in parts]
        links = self.overflow.keep(self.key, contents)
        return [part.linked(content, link) for part, content, link in zip(parts, contents, links, strict=True)]

    def _cut(
        self, told: list["_Result"], outputs: list["_Output"], max_bytes: int
    ) -> tuple[list["_Result"], list["_Output"]]:
        """Returns what has room of both lists, which have it in proportion, each with a document of its rest."""
        sizes = [sum(part.size_bytes + 1 for part in parts) for parts in (told, outputs)]
        if sum(sizes) <= max_bytes:
            return told, outputs
        room = max(0, max_bytes - 2 * LINK_BYTES)
        shares = [room * size // sum(sizes) for size in sizes]
        return self._without_rest(told, shares[0]), self._without_rest(outputs, shares[1])

    def _without_rest(self, parts: list[P], max_bytes: int) -> list[P]:
        count = fitting([part.size_bytes + 1 for part in parts], max_bytes)
        if count == len(parts):
            return parts
        return [*parts[:count], *self._linked([parts[count].of_all(parts[count:])])]


def _too_large(sizes: Sequence[int], max_bytes: int) -> list[int]:
    """Returns which parts have to give way for the others to have room: as few as can be."""
    excess = sum(sizes) - max_bytes
    chosen: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index])[:MOST_LINKS]:
        if excess <= 0 or sizes[index] < WORTH_LINKING_BYTES:
            break
        excess -= sizes[index] - LINK_BYTES
        chosen.append(index)
    return chosen


# ── The views' parts ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Result:
    result: ResultSchema | LinkedResult

    @cached_property
    def size_bytes(self) -> int:
        return weight(to_json(self.result, by_alias=True))

    def content(self) -> Content:
        assert isinstance(self.result, ResultSchema), "a link is not linked to"  # noqa: S101
        return _content(self.result.mime_type, self.result.content)

    def linked(self, content: Content, link: Link | None) -> "_Result":
        if link is not None:
            return _Result(LinkedResult.of(self.result.type, content.mime_type, link))
        return _Result(ResultSchema(type="text", content=_lost(content), mime_type=_TEXT))

    @classmethod
    def of_all(cls, parts: Sequence["_Result"]) -> "_Result":
        whole = [part.result.model_dump(mode="json", by_alias=True) for part in parts]
        return cls(ResultSchema(type="json", content=whole, mime_type=_JSON))


@dataclass(frozen=True)
class _Output:
    cell: Cell

    @cached_property
    def size_bytes(self) -> int:
        return weight(to_json(self.cell))

    def content(self) -> Content:
        match self.cell:
            case {"data": data}:
                mime_type = best_form(data)
                return _content(mime_type, data[mime_type])
            case {"traceback": traceback}:
                return _content(_TEXT, "\n".join(traceback))
            case _:
                return _content(_TEXT, self.cell["text"])

    def linked(self, content: Content, link: Link | None) -> "_Output":
        note = _lost(content) if link is None else _note(content, link)
        if self.cell["output_type"] == "error":
            names = {name: clipped(self.cell[name], 1_000) for name in ("ename", "evalue")}
            return _Output({"output_type": "error", **names, "traceback": [note]})
        metadata = {} if link is None else {"sandkeeper": link_json(content.mime_type, link)}
        return _Output({"output_type": "display_data", "data": {_TEXT: note}, "metadata": metadata})

    @classmethod
    def of_all(cls, parts: Sequence["_Output"]) -> "_Output":
        whole = [part.cell for part in parts]
        return cls({"output_type": "display_data", "data": {_JSON: whole}, "metadata": {}})


def weight(told: bytes) -> int:
    """Returns how many bytes some JSON counts for: as many as it has, or more where it is full of quotes.

    Lambda hands a reply on as a string in JSON of its own, of which 6 MB get through.
    """
    within = len(told) + told.count(b'"') + told.count(b"\\")
    return max(len(told), within * 2 // 3)


def link_json(mime_type: str, link: Link) -> dict[str, Any]:
    """Returns a link as a notebook's metadata have it."""
    return LinkedResult.of("json", mime_type, link).model_dump(mode="json", by_alias=True, exclude={"type"})


def _content(mime_type: str, value: Any) -> Content:
    """Returns a form of an object as a file of its own would hold it."""
    mime_type = clipped(mime_type.partition(";")[0], 100)
    if isinstance(value, str) and mime_type in BINARY:
        try:
            return Content(base64.b64decode("".join(value.split()), validate=True), mime_type)
        except binascii.Error:
            pass  # what a program calls an image need not be one
    data = value.encode() if isinstance(value, str) else to_json(value)
    return Content(data, mime_type)


def _note(content: Content, link: Link) -> str:
    lasts = link.expires_in // timedelta(minutes=1)
    size = size_text(link.size_bytes)
    return f"[{content.mime_type}, {size}, is too large to be shown here. For {lasts} minutes it is at {link.url}]"


def _lost(content: Content) -> str:
    return (
        f"[{content.mime_type}, {size_text(len(content.data))}, was too large for the reply and could not be kept]"
    )
