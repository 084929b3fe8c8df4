"""Notebooks as editors see them: made, read, changed, removed.

Every change is made of the head as it is read, and written if that is still the head. If it is not, what is to
change is looked at again: an edit of one cell does not mind that another one has changed, and is refused if its own
has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sandkeeper.errors import (
    CellNotFound,
    InvalidRequest,
    NotebookNotFound,
    QuotaExceeded,
    StoreUnavailable,
)
from sandkeeper.model import ChatKey, Clock, NewId
from sandkeeper.notebooks import (
    MAX_NOTEBOOKS,
    Cell,
    Change,
    Delta,
    DeltaKind,
    Draft,
    Expected,
    Notebook,
    Part,
    Ref,
    Slot,
    Source,
)
from sandkeeper.outputs.sound import sound, sound_text
from sandkeeper.ports import NotebookStore
from sandkeeper.services.budget import Budget
from sandkeeper.services.cells import (
    new_cell_id,
    output_part,
    outputs_of,
    require_fit,
    require_small,
    require_sound,
    source_drafted,
    source_of,
    source_part,
)
from sandkeeper.services.versions import require_cell, require_whole

WRITE_S = 5.0
"""How long a change is tried that others are faster with."""
READ_TRIES = 5
"""How often a notebook is read that changes meanwhile."""
READ_BYTES = 24_000_000
"""How much output is read for one reply, which shows less than that: the others are asked for one by one."""

Alter = Callable[[Notebook], Change | None]
"""Returns what is to change, None for nothing. May be asked again, with a later head."""


@dataclass(frozen=True, slots=True)
class Notebooks:
    """The notebooks of chats."""

    store: NotebookStore
    clock: Clock
    new_id: NewId

    # ── Read ────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: ChatKey, notebook_id: str) -> Notebook:
        """Returns the notebook's head. Raises `NotebookNotFound`."""
        found = self.store.get(key, notebook_id)
        if found is None:
            raise _not_found(key, notebook_id)
        return found

    def page(self, key: ChatKey, *, limit: int, after: str | None = None) -> tuple[Sequence[Notebook], str | None]:
        """Returns up to `limit` of the chat's notebooks, the latest first, and the id to go on behind."""
        found = self.store.latest(key, limit=limit, before=after)
        return found, found[-1].notebook_id if len(found) == limit else None

    def read(self, key: ChatKey, notebook_id: str) -> tuple[Notebook, Sequence[Cell]]:
        """Returns the notebook and its cells, as they are at one moment. Of very many outputs some are left out."""
        for _ in range(READ_TRIES):
            notebook = self.get(key, notebook_id)
            cells = self._cells(notebook, notebook.slots, READ_BYTES)
            if cells is not None:
                return notebook, cells
        raise StoreUnavailable(f"notebook {notebook_id!r} changes faster than it can be read; try again")

    def cell(
        self, key: ChatKey, notebook_id: str, cell_id: str, *, max_bytes: int = READ_BYTES
    ) -> tuple[Notebook, Cell]:
        """Returns a cell of the notebook; with what it shows, unless that is too much. Raises `CellNotFound`."""
        for _ in range(READ_TRIES):
            notebook = self.get(key, notebook_id)
            cells = self._cells(notebook, [slot_of(notebook, cell_id)], max_bytes)
            if cells is not None:
                return notebook, cells[0]
        raise StoreUnavailable(f"cell {cell_id!r} changes faster than it can be read; try again")

    def _cells(self, notebook: Notebook, slots: Sequence[Slot], max_bytes: int) -> Sequence[Cell] | None:
        """Returns the cells, None if the notebook has changed since it was read."""
        refs, left = [slot.source for slot in slots], max_bytes
        shown = dict[str, Ref]()
        for slot in slots:
            if slot.outputs is not None and slot.outputs.size_bytes <= left:
                left -= slot.outputs.size_bytes
                shown[slot.cell_id] = slot.outputs
        wanted = [*refs, *shown.values()]
        texts = self.store.texts(notebook, wanted)
        if any(ref.stamp not in texts for ref in wanted):
            return None
        return [_cell(slot, texts, shown.get(slot.cell_id)) for slot in slots]

    # ── Make and remove ─────────────────────────────────────────────────────────────────────────────

    def create(
        self, key: ChatKey, title: str, drafts: Sequence[Draft], metadata: Mapping[str, Any] | None = None
    ) -> Notebook:
        """Returns a new notebook with these cells. Raises `InvalidRequest` and `QuotaExceeded`."""
        require_sound(drafts)
        require_small(metadata or {}, "/metadata")
        slots, parts = self._drafted(drafts, version=1)
        require_fit(slots)
        if self.store.count(key) >= MAX_NOTEBOOKS:
            raise QuotaExceeded(f"chat {key.chat_id!r} has {MAX_NOTEBOOKS} notebooks; delete one to make another")
        now = self.clock()
        made = Notebook(
            key=key,
            notebook_id=self.new_id(),
            title=sound_text(title),
            version=1,
            edited=1,
            created_at=now,
            updated_at=now,
            slots=tuple(slots),
            metadata=sound(dict(metadata or {})),
        )
        self.store.add(made, parts)
        return made

    def delete(self, key: ChatKey, notebook_id: str, expected: Expected) -> None:
        """Removes the notebook. Raises `NotebookNotFound`, `VersionMissing` and `VersionStale`."""
        budget, attempt = Budget.of(WRITE_S), 0
        while (notebook := self.store.get(key, notebook_id)) is not None:
            require_whole(self.store, notebook, expected)
            if self.store.remove(notebook, self._delta(notebook, "notebook.deleted")):
                return
            if not budget.pause(attempt, reserve_s=0):
                raise _too_busy(notebook_id)
            attempt += 1
        self.store.sweep(key, notebook_id)  # whoever removed it may have died over its parts
        raise _not_found(key, notebook_id)

    def _drafted(self, drafts: Sequence[Draft], version: int) -> tuple[list[Slot], list[Part]]:
        """Returns new cells, as an editor has drafted them, and their parts."""
        ids = {draft.cell_id for draft in drafts if draft.cell_id is not None}
        slots, parts = list[Slot](), list[Part]()
        for draft in drafts:
            cell_id = draft.cell_id or new_cell_id(self.new_id, ids)
            ids.add(cell_id)
            kind = draft.kind or "code"
            said = source_part(self.new_id(), source_drafted(draft, kind, None))
            shown = output_part(self.new_id(), draft.outputs) if kind == "code" else None
            parts += [said] if shown is None else [said, shown]
            slots.append(
                Slot(
                    cell_id=cell_id,
                    kind=kind,
                    version=version,
                    source=said.ref,
                    outputs=None if shown is None else shown.ref,
                    count=draft.count if kind == "code" else None,
                )
            )
        return slots, parts

    # ── Edit ────────────────────────────────────────────────────────────────────────────────────────

    def replace(
        self,
        key: ChatKey,
        notebook_id: str,
        expected: Expected,
        *,
        title: str,
        drafts: Sequence[Draft],
        metadata: Mapping[str, Any] | None = None,
    ) -> Notebook:
        """Returns the notebook with this title and exactly these cells, in this order.

        A cell that it has already keeps what it shows, and its version too if it says what it said.
        """
        require_sound(drafts)
        require_small(metadata or {}, "/metadata")

        def alter(head: Notebook) -> Change | None:
            require_whole(self.store, head, expected)
            texts = self.store.texts(head, [slot.source for slot in head.slots])
            slots, parts = list[Slot](), list[Part]()
            for draft in drafts:
                known = None if draft.cell_id is None else head.slot(draft.cell_id)
                made, new = self._redrafted(head, draft, known, texts)
                slots.append(made)
                parts += new
            ids = [slot.cell_id for slot in slots]
            plan = None if head.plan is None else replace(head.plan, left=_those_in(head.plan.left, ids))
            kept = head.metadata if metadata is None else sound(dict(metadata))
            whole = replace(head, title=sound_text(title), slots=tuple(slots), metadata=kept, plan=plan)
            return self.changed(whole, "notebook.updated", parts=parts, edited=True, before=head)

        return self.change(key, notebook_id, alter)

    def _redrafted(
        self, head: Notebook, draft: Draft, known: Slot | None, texts: Mapping[str, str]
    ) -> tuple[Slot, Sequence[Part]]:
        """Returns a cell as it is to be, and its new parts."""
        if known is None:
            slots, parts = self._drafted([draft], head.version + 1)
            return slots[0], parts
        before = texts.get(known.source.stamp)
        kind, source = draft.kind or known.kind, None if before is None else source_of(before)
        said = source_part(self.new_id(), source_drafted(draft, kind, source))
        is_other = kind != known.kind
        if said.text == before and not is_other:
            return known, ()
        changed = replace(known, kind=kind, version=head.version + 1, source=said.ref)
        return replace(changed, outputs=None, count=None, run=None) if is_other else changed, [said]

    def insert(
        self, key: ChatKey, notebook_id: str, draft: Draft, *, after: str | None = None, index: int | None = None
    ) -> tuple[Notebook, str]:
        """Returns the notebook with one more cell, and that one's id.

        It stands behind the cell `after`, or has this index; else it is the last one. Raises `CellNotFound`.
        """
        require_sound([draft], "")
        cell_id = draft.cell_id or new_cell_id(self.new_id, ())

        def alter(head: Notebook) -> Change:
            if head.slot(cell_id) is not None:
                raise InvalidRequest(
                    f"the notebook has a cell {cell_id!r} already; leave cellId out, or change that"
                )
            place = len(head.slots) if index is None else min(index, len(head.slots))
            if after is not None:
                place = head.slots.index(slot_of(head, after)) + 1
            (made,), parts = self._drafted([replace(draft, cell_id=cell_id)], head.version + 1)
            slots = (*head.slots[:place], made, *head.slots[place:])
            return self.changed(head, "cell.inserted", cell_id=cell_id, parts=parts, edited=True, slots=slots)

        return self.change(key, notebook_id, alter), cell_id

    def update(
        self, key: ChatKey, notebook_id: str, cell_id: str, expected: Expected, draft: Draft
    ) -> tuple[Notebook, Slot]:
        """Returns the notebook and its cell, once this is what the cell says. What it shows stays."""
        require_sound([draft], "")

        def alter(head: Notebook) -> Change:
            slot = slot_of(head, cell_id)
            require_cell(slot, expected)
            made, parts = self._redrafted(head, draft, slot, self.store.texts(head, [slot.source]))
            slots = head.with_slot(made).slots
            return self.changed(head, "cell.updated", cell_id=cell_id, parts=parts, edited=True, slots=slots)

        notebook = self.change(key, notebook_id, alter)
        return notebook, slot_of(notebook, cell_id)

    def move(self, key: ChatKey, notebook_id: str, cell_id: str, after: str | None) -> Notebook:
        """Returns the notebook with the cell behind the one named, or in front of all."""

        def alter(head: Notebook) -> Change:
            moved = slot_of(head, cell_id)
            rest = [slot for slot in head.slots if slot is not moved]
            if after == cell_id:
                raise InvalidRequest(f"cell {cell_id!r} cannot stand behind itself; name another one")
            place = 0 if after is None else rest.index(slot_of(head, after)) + 1
            slots = (*rest[:place], moved, *rest[place:])
            return self.changed(head, "cell.moved", cell_id=cell_id, edited=True, slots=slots)

        return self.change(key, notebook_id, alter)

    def drop(self, key: ChatKey, notebook_id: str, cell_id: str, expected: Expected) -> Notebook:
        """Returns the notebook without the cell."""

        def alter(head: Notebook) -> Change:
            dropped = slot_of(head, cell_id)
            require_cell(dropped, expected)
            slots = tuple(slot for slot in head.slots if slot is not dropped)
            return self.changed(head, "cell.deleted", cell_id=cell_id, edited=True, slots=slots)

        return self.change(key, notebook_id, alter)

    def clear(self, key: ChatKey, notebook_id: str) -> Notebook:
        """Returns the notebook with cells that show nothing. Those that run show what they come to."""

        def alter(head: Notebook) -> Change:
            slots = tuple(
                replace(slot, outputs=None, count=None, run=slot.run if slot.is_running else None)
                for slot in head.slots
            )
            return self.changed(head, "notebook.cleared", slots=slots)

        return self.change(key, notebook_id, alter)

    # ── How a change is made ────────────────────────────────────────────────────────────────────────

    def change(self, key: ChatKey, notebook_id: str, alter: Alter) -> Notebook:
        """Returns the notebook with what `alter` changes. Raises what that raises, and `NotebookNotFound`."""
        budget, attempt = Budget.of(WRITE_S), 0
        while True:
            change = alter(head := self.get(key, notebook_id))
            if change is None:
                return head
            require_fit(change.after.slots)
            if self.store.commit(change):
                return change.after
            if not budget.pause(attempt, reserve_s=0):
                raise _too_busy(notebook_id)
            attempt += 1

    def changed(
        self,
        head: Notebook,
        kind: DeltaKind,
        *,
        cell_id: str | None = None,
        execution_id: str | None = None,
        parts: Sequence[Part] = (),
        edited: bool = False,
        before: Notebook | None = None,
        **fields: Any,
    ) -> Change:
        """Returns the change of a head, or of the one `before` it, to one with these fields."""
        delta = self._delta(head, kind, cell_id, execution_id)
        after = replace(head, version=delta.version, updated_at=delta.at, **fields)
        after = replace(after, edited=delta.version) if edited else after
        return Change(before=before or head, after=after, delta=delta, parts=parts)

    def _delta(
        self, head: Notebook, kind: DeltaKind, cell_id: str | None = None, execution_id: str | None = None
    ) -> Delta:
        version = head.version + 1
        return Delta(version=version, at=self.clock(), kind=kind, cell_id=cell_id, execution_id=execution_id)


def slot_of(notebook: Notebook, cell_id: str) -> Slot:
    """Returns the cell of this id. Raises `CellNotFound`."""
    found = notebook.slot(cell_id)
    if found is None:
        raise CellNotFound(f"notebook {notebook.notebook_id!r} has no cell {cell_id!r}; read it to see its cells")
    return found


def _cell(slot: Slot, texts: Mapping[str, str], shown: Ref | None) -> Cell:
    source: Source = source_of(texts[slot.source.stamp])
    if slot.outputs is None:
        return Cell(slot, source, ())
    return Cell(slot, source, None if shown is None else outputs_of(texts[shown.stamp]))


def _those_in(left: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell_id for cell_id in left if cell_id in ids)


def _not_found(key: ChatKey, notebook_id: str) -> NotebookNotFound:
    return NotebookNotFound(
        f"chat {key.chat_id!r} has no notebook {notebook_id!r}; list its notebooks to see their ids"
    )


def _too_busy(notebook_id: str) -> StoreUnavailable:
    return StoreUnavailable(f"others change notebook {notebook_id!r} again and again; try again")
