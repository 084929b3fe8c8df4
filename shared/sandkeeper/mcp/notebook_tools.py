"""Tools that make, read, change and run notebooks."""

from collections.abc import Mapping, Sequence

from mcp_types import CallToolResult
from pydantic_core import to_json

from sandkeeper.errors import CellNotFound, InvalidRequest
from sandkeeper.mcp.arguments import ChangedCell, CreateNotebook, Nothing, OfNotebook, RunNotebook, UpdateNotebook
from sandkeeper.mcp.call import Call
from sandkeeper.mcp.content import came_of, told
from sandkeeper.notebooks import Cell, Draft, Notebook
from sandkeeper.services.cell_runs import CellAsk
from sandkeeper.services.notebook_plans import PlanAsk

MOST_LISTED = 50
SOURCES_CHARS = 60_000
"""How much all cells' sources may have in a result: of more, each has its beginning."""
CUT_CHARS = 200


def list_notebooks(call: Call, _: Nothing) -> CallToolResult:
    """Returns the chat's latest notebooks, a line for each."""
    found, after = call.wiring.notebooks.page(call.key, limit=MOST_LISTED)
    lines = [f"- {each.notebook_id}: {each.title!r}, {len(each.slots)} cells" for each in found]
    if after is not None:
        lines.append("- and earlier ones")
    return told("\n".join(lines) or "The chat has no notebook.")


def read_notebook(call: Call, asked: OfNotebook) -> CallToolResult:
    """Returns the notebook as JSON."""
    call.wiring.notebook_plans.moved_on(call.wiring.notebooks.get(call.key, asked.notebook_id))
    return _whole(call, asked.notebook_id)


def create_notebook(call: Call, asked: CreateNotebook) -> CallToolResult:
    """Returns the new notebook as JSON."""
    drafts = [Draft(source=cell.source, kind=cell.type) for cell in asked.cells]
    return _whole(call, call.wiring.notebooks.create(call.key, asked.title, drafts).notebook_id)


def update_notebook(call: Call, asked: UpdateNotebook) -> CallToolResult:
    """Returns the notebook as JSON, once it has exactly these cells."""
    notebook, cells = call.wiring.notebooks.read(call.key, asked.notebook_id)
    known = {cell.slot.cell_id: cell for cell in cells}
    call.wiring.notebooks.replace(
        call.key,
        asked.notebook_id,
        asked.version,
        title=asked.title or notebook.title,
        drafts=[_draft(number, cell, known) for number, cell in enumerate(asked.cells)],
    )
    return _whole(call, asked.notebook_id)


def _draft(number: int, cell: ChangedCell, known: Mapping[str, Cell]) -> Draft:
    """Returns the cell to be written. What it leaves out is as it was when the caller's version was read."""
    source = cell.source
    if source is None:
        if cell.cell_id is None:
            raise InvalidRequest(f"cells[{number}] has neither a cellId nor a source: a new cell needs a source")
        if cell.cell_id not in known:
            raise CellNotFound(f"the notebook has no cell {cell.cell_id!r}; read it again, or send a source")
        source = known[cell.cell_id].source.text
    return Draft(source=source, kind=cell.type, cell_id=cell.cell_id)


def run_notebook(call: Call, asked: RunNotebook) -> CallToolResult:
    """Returns what came of a cell; of all of them, the notebook as JSON."""
    limit = call.limit(asked.timeout_ms)
    if asked.cell_id is not None:
        reply = call.wiring.cell_runs.run(call.key, asked.notebook_id, asked.cell_id, CellAsk(limit=limit))
        return came_of(reply.execution)
    call.wiring.notebook_plans.run_all(call.key, asked.notebook_id, PlanAsk(limit=limit))
    return _whole(call, asked.notebook_id)


def _whole(call: Call, notebook_id: str) -> CallToolResult:
    notebook, cells = call.wiring.notebooks.read(call.key, notebook_id)
    return told(to_json(_fields(notebook, cells), indent=1).decode())


def _fields(notebook: Notebook, cells: Sequence[Cell]) -> Mapping[str, object]:
    whole = sum(len(cell.source.text) for cell in cells)
    return {
        "notebookId": notebook.notebook_id,
        "version": notebook.edited,
        "title": notebook.title,
        "cells": [_cell(cell, is_cut=whole > SOURCES_CHARS) for cell in cells],
        **({} if notebook.plan is None else {"stillToRun": notebook.plan.left}),
    }


def _cell(cell: Cell, *, is_cut: bool) -> Mapping[str, object]:
    slot, source = cell.slot, cell.source.text
    fields: dict[str, object] = {"cellId": slot.cell_id, "type": slot.kind, "source": source}
    if is_cut and len(source) > CUT_CHARS:
        fields |= {"source": source[:CUT_CHARS], "sourceIsCut": True, "chars": len(source)}
    if slot.run is not None:
        fields["executionId"] = slot.run.execution_id
        fields["state"] = {None: "running", True: "succeeded", False: "failed"}[slot.run.succeeded]
    return fields
