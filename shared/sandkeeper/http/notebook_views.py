"""Notebooks and cells within the size of a reply: the largest outputs are linked to."""

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from sandkeeper.http.fitting import Fitting, weight
from sandkeeper.http.notebook_schemas import CellSchema, NotebookSchema
from sandkeeper.model import ChatKey
from sandkeeper.notebooks import Cell, Notebook
from sandkeeper.services.overflow import Overflow
from sandkeeper.services.requests import REPLY_BYTES

AROUND_BYTES = 10_000
"""What a reply has besides its cells, and commas."""


def fitted_notebook(notebook: Notebook, cells: Sequence[Cell], overflow: Overflow) -> NotebookSchema:
    """Returns the notebook with its cells. Where room is short, each cell has the same share of it."""
    bare = [CellSchema.of(cell, []) for cell in cells]
    told = NotebookSchema.whole(notebook, bare)
    room = REPLY_BYTES - AROUND_BYTES - weight(to_json(told, by_alias=True))
    sizes = [0 if cell.outputs is None else weight(to_json(cell.outputs)) for cell in cells]
    share = _share(sizes, room)
    fitting = Fitting(overflow, notebook.key)
    return NotebookSchema.whole(notebook, [_with_outputs(cell, fitting, share) for cell in cells])


def fitted_cell(key: ChatKey, cell: Cell, overflow: Overflow, max_bytes: int = REPLY_BYTES) -> CellSchema:
    """Returns the cell, within so many bytes."""
    room = max_bytes - AROUND_BYTES - weight(to_json(CellSchema.of(cell, []), by_alias=True))
    return _with_outputs(cell, Fitting(overflow, key), max(0, room))


def _with_outputs(cell: Cell, fitting: Fitting, room: int) -> CellSchema:
    if cell.outputs is None:
        return CellSchema.of(cell, None)
    outputs: list[Any] = [dict(output) for output in cell.outputs]
    return CellSchema.of(cell, fitting.fit([], outputs, room)[1])


def _share(sizes: Sequence[int], room: int) -> int:
    """Returns how much each may have at most, so that all have room: who needs less leaves it to others."""
    left, share = room, room
    for place, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - place)
        if size > share:
            return share
        left -= size
    return room if not sizes else max(share, *sizes)
