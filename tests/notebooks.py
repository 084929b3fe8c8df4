"""Notebooks that tests start from, and how they change."""

from dataclasses import replace
from typing import Any

from sandkeeper.notebooks import Change, Delta, DeltaKind, Notebook, Part, Ref, Slot
from tests.world import CHAT, START

NOTEBOOK_ID = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"


def part(stamp: str, text: str = '{"source":"1"}') -> Part:
    """Returns a part of this text."""
    return Part(stamp, text)


def slot(cell_id: str, **changes: Any) -> Slot:
    """Returns a code cell as the first version has it; what it says is the part `source of <id>`."""
    ref = part(f"source-of-{cell_id}").ref
    values: dict[str, Any] = {"cell_id": cell_id, "kind": "code", "version": 1, "source": ref}
    return Slot(**values | changes)


def notebook(*cells: str | Slot, **changes: Any) -> Notebook:
    """Returns the first version of a notebook of CHAT with these cells."""
    values: dict[str, Any] = {
        "key": CHAT,
        "notebook_id": NOTEBOOK_ID,
        "title": "Salaries",
        "version": 1,
        "edited": 1,
        "created_at": START,
        "updated_at": START,
        "slots": tuple(slot(cell) if isinstance(cell, str) else cell for cell in cells),
    }
    return Notebook(**values | changes)


def parts_of(made: Notebook) -> list[Part]:
    """Returns what the cells of such a notebook say."""
    return [part(each.source.stamp) for each in made.slots]


def edit(
    before: Notebook, cell_id: str = "a", text: str = '{"source":"2"}', kind: DeltaKind = "cell.updated"
) -> Change:
    """Returns a change of what the cell says. Two of the same notebook differ in their stamps if in their texts."""
    version = before.version + 1
    made = Part(f"{cell_id}-{version}-{text[:40]}", text)
    found = before.slot(cell_id)
    assert found is not None
    changed = before.with_slot(replace(found, version=version, source=made.ref))
    after = replace(changed, version=version, edited=version)
    return Change(before=before, after=after, delta=delta(version, kind=kind, cell_id=cell_id), parts=[made])


def showing(before: Notebook, cell_id: str, text: str) -> Change:
    """Returns a change of what the cell shows."""
    version = before.version + 1
    made = Part(f"shown-{cell_id}-{version}", text)
    found = before.slot(cell_id)
    assert found is not None
    after = replace(before.with_slot(replace(found, outputs=made.ref)), version=version)
    told = delta(version, kind="cell.finished", cell_id=cell_id)
    return Change(before=before, after=after, delta=told, parts=[made])


def delta(version: int, **changes: Any) -> Delta:
    """Returns a change of the cell `a`."""
    values: dict[str, Any] = {"version": version, "at": START, "kind": "cell.updated", "cell_id": "a"}
    return Delta(**values | changes)


def ref(stamp: str, size_bytes: int = 1) -> Ref:
    """Returns what a part is found by."""
    return Ref(stamp, size_bytes)
