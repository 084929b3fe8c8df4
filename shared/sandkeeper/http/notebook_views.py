"""Notebooks and cells within the size of a reply."""

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


def fitted_notebook(notebook: Notebook, cells: Sequence[Cell]) -> NotebookSchema:
    """Returns the notebook with its cells. Where all they show has no room, what shows least is told."""
    bare = NotebookSchema.whole(notebook, [CellSchema.of(cell, []) for cell in cells])
    left = REPLY_BYTES - AROUND_BYTES - weight(to_json(bare, by_alias=True))
    sizes = {place: weight(to_json(cell.outputs)) for place, cell in enumerate(cells) if cell.outputs is not None}
    told = dict[int, list[Any]]()
    for place, size in sorted(sizes.items(), key=lambda each: each[1]):
        left -= size
        if left < 0:
            break
        told[place] = [*(cells[place].outputs or ())]
    return NotebookSchema.whole(
        notebook, [CellSchema.of(cell, told.get(place)) for place, cell in enumerate(cells)]
    )


def fitted_cell(key: ChatKey, cell: Cell, overflow: Overflow, max_bytes: int = REPLY_BYTES) -> CellSchema:
    """Returns the cell in at most so many bytes: what shows most is linked to."""
    if cell.outputs is None:
        return CellSchema.of(cell, None)
    room = max_bytes - AROUND_BYTES - weight(to_json(CellSchema.of(cell, []), by_alias=True))
    outputs: list[Any] = [dict(output) for output in cell.outputs]
    return CellSchema.of(cell, Fitting(overflow, key).fit([], outputs, max(0, room))[1])
