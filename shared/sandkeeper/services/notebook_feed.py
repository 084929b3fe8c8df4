"""Follow a notebook: its changes as they are made, and what its cells put out while they run.

What is told of a change is the notebook as it is by then. A client that has been away is told of each change that
it has missed, and comes to what there is now. Output of a run is told until the run's end is settled: then the cell
shows all of it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from sandkeeper.errors import NotebookNotFound, SandkeeperError
from sandkeeper.model import ChatKey
from sandkeeper.notebooks import Delta, Notebook
from sandkeeper.runs import Accepted, Ended, Execution, RunEvent, Started
from sandkeeper.services.budget import Budget
from sandkeeper.services.notebook_plans import NotebookPlans

TICK_S = 1.0
"""How often changes are looked for while somebody follows."""
RETRY_S = 5.0
"""How long to wait before a plan is moved on again that could not be."""
AT_ONCE = 100

_POSITION = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,12})\.([0-9A-HJKMNP-TV-Z]{26}))?")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client has come: the last change it was told of, and the last event of the run that goes on."""

    version: int
    number: int = 0
    execution_id: str | None = None

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Returns the position that this stands for, None if that is none."""
        found = _POSITION.fullmatch(text)
        return found and cls(int(found[1]), int(found[2] or 0), found[3])

    def __str__(self) -> str:
        return (
            f"{self.version}" if self.execution_id is None else f"{self.version}.{self.number}.{self.execution_id}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What has happened: a change, or an output of a run, or (of neither) more than is remembered."""

    position: Position
    notebook: Notebook | None
    """As it is by now; None once it is deleted."""
    delta: Delta | None = None
    cell_id: str | None = None
    execution: Execution | None = None
    event: RunEvent | None = None


@dataclass(frozen=True, slots=True)
class NotebookFeed:
    """Tells of notebooks to whoever follows them, and moves them on meanwhile."""

    plans: NotebookPlans

    def follow(self, key: ChatKey, notebook_id: str, position: Position | None, wait: timedelta) -> Iterator[Told]:
        """Yields what happens behind the position, for this time, or until the notebook is deleted.

        Without a position, the first thing told is where one begins. Raises `NotebookNotFound`.
        """
        budget = Budget.of(wait.total_seconds())
        try:
            head = self._moved_on(key, notebook_id)
        except NotebookNotFound:
            if position is None:
                raise
            store = self.plans.cells.notebooks.store
            yield from _told(store.deltas(key, notebook_id, after=position.version, limit=AT_ONCE), position, None)
        else:
            if position is None:
                position = Position(head.version)
                yield Told(position=position, notebook=head)
            yield from self._followed(head, position, budget)

    def _followed(self, head: Notebook, position: Position, budget: Budget) -> Iterator[Told]:
        key, notebook_id, store = head.key, head.notebook_id, self.plans.cells.notebooks.store
        retry_at_s = budget.left_s() - RETRY_S
        while True:
            deltas = store.deltas(key, notebook_id, after=position.version, limit=AT_ONCE)
            if _has_gap(deltas, position, head):
                head = store.get(key, notebook_id) or head
                position = Position(head.version)
                yield Told(position=position, notebook=head)
                continue
            if deltas:
                found = store.get(key, notebook_id)
                for told in _told(deltas, position, found):
                    position = told.position
                    yield told
                if found is None:
                    return
                head = found
            began_s = budget.left_s()
            has_ended = False
            for told in self._outputs(head, position, min(TICK_S, began_s)):
                position = told.position
                has_ended = told.event is not None and isinstance(told.event.what, Ended)
                if not has_ended:
                    yield told
            if budget.left_s() <= 0:
                return
            is_late = budget.left_s() <= retry_at_s and (head.running or head.plan)
            if has_ended or is_late:
                with suppress(NotebookNotFound):  # that it is deleted is told in its turn
                    head = self._moved_on(key, notebook_id)
                retry_at_s = budget.left_s() - RETRY_S
            if not deltas and not has_ended:
                budget.sleep(max(0.0, min(TICK_S - (began_s - budget.left_s()), budget.left_s())))

    def _moved_on(self, key: ChatKey, notebook_id: str) -> Notebook:
        return self.plans.moved_on(self.plans.cells.notebooks.get(key, notebook_id))

    def _outputs(self, head: Notebook, position: Position, wait_s: float) -> Iterator[Told]:
        """Yields what the run puts out that goes on, from where the position is in it; and its end."""
        executions, wait = self.plans.cells.executions, timedelta(seconds=wait_s)
        runs = [(slot.run.execution_id, slot.cell_id) for slot in head.running if slot.run is not None]
        for execution_id, cell_id in sorted(runs, key=lambda run: run[0] != position.execution_id):
            try:
                known = executions.get(head.key, execution_id)
                at = position if position.execution_id == known.execution_id else replace(position, number=0)
                for event in executions.follow(known, after=at.number, wait=wait):
                    where = replace(at, number=event.number, execution_id=known.execution_id)
                    if not isinstance(event.what, Accepted | Started):
                        yield Told(position=where, notebook=head, cell_id=cell_id, execution=known, event=event)
            except SandkeeperError:
                continue  # it has not begun, or nobody can tell; whoever settles it finds out
            return


def _told(deltas: Sequence[Delta], position: Position, notebook: Notebook | None) -> Iterator[Told]:
    """Yields the changes, with the notebook as it is by now."""
    for delta in deltas:
        position = _behind(position, delta)
        yield Told(position=position, notebook=notebook, delta=delta, cell_id=delta.cell_id)


def _has_gap(deltas: Sequence[Delta], position: Position, head: Notebook) -> bool:
    """Returns whether changes behind the position are not remembered, or it is none of this notebook."""
    if not deltas:
        return position.version != head.version
    return [delta.version for delta in deltas] != [*range(position.version + 1, position.version + 1 + len(deltas))]


def _behind(position: Position, delta: Delta) -> Position:
    """Returns the position once the change is told. A run whose end is settled is not followed any more."""
    if delta.kind == "cell.finished" and delta.execution_id == position.execution_id:
        return Position(delta.version)
    return replace(position, version=delta.version)
