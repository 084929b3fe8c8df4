"""Run all of a notebook's cells, one after another.

That is a plan in the notebook's head: which cells are left. Nothing in the cloud stays awake for it. Whoever looks
at the notebook, or follows it, begins the next cell once the one before has ended. Its run's id is kept for the
plan's cell, and the head names it before it begins: two who do so at once run it once.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Literal

from sandkeeper.errors import ExecutionNotFound, SandkeeperError, SessionBusy
from sandkeeper.model import ChatKey
from sandkeeper.notebooks import Change, Notebook, Plan, Slot
from sandkeeper.services.budget import CALL_BUDGET_S, Budget
from sandkeeper.services.cell_runs import CellRuns
from sandkeeper.services.requests import Once, RunRequest
from sandkeeper.services.sessions import OnBusy

BEGIN_S = 12.0
"""How much of its time a call must have left to begin another cell."""
LOOK_S = 2.0
"""How much of it is left for the notebook to be read and answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAsk:
    """How a caller wants all cells to be run. `limit` is for each."""

    limit: timedelta
    stops: bool = True
    mode: Literal["auto", "async"] = "auto"
    idempotency_key: str | None = None

    @property
    def digest(self) -> str:
        """As with a cell."""
        return sha256(f"{self.limit} {self.stops} {self.mode}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NotebookPlans:
    """Plans to run all cells."""

    cells: CellRuns

    def run_all(self, key: ChatKey, notebook_id: str, ask: PlanAsk) -> Notebook:
        """Returns the notebook once all its code cells have run, or with those left that this call has no time for.

        Raises `SessionBusy` while all are running already. When it raises, no cell was begun.
        """
        budget = Budget.of(CALL_BUDGET_S)
        self.cells.settled(self.cells.notebooks.get(key, notebook_id))
        name = f"{notebook_id} all {ask.idempotency_key or self.cells.notebooks.new_id()}"
        plan_id = self.cells.once(key, name, ask.digest, ask.idempotency_key)[1]
        notebook = self._planned(key, notebook_id, plan_id, ask)
        if notebook.plan is not None:
            notebook = self._first_begun(notebook)
        while _left_of(notebook, plan_id) is not None and ask.mode == "auto":
            if not self._awaited(notebook, plan_id, budget):
                break
            notebook = self.cells.settled(self.cells.notebooks.get(key, notebook_id))
            left = _left_of(notebook, plan_id)
            if not left or budget.left_s() < BEGIN_S:
                break
            notebook = self.moved_on(notebook, on_busy="wait")
            if _left_of(notebook, plan_id) == left:
                break  # it could not be begun, for which nobody needs to wait here
        return notebook

    def _planned(self, key: ChatKey, notebook_id: str, plan_id: str, ask: PlanAsk) -> Notebook:
        """Returns the notebook with a plan to run all its code cells; as it is, if it has had this one."""

        def alter(head: Notebook) -> Change | None:
            if head.plan is not None and head.plan.plan_id != plan_id:
                raise SessionBusy(
                    f"all cells of notebook {notebook_id!r} are running already; follow them, or stop it"
                )
            was_had = any(slot.run is not None and slot.run.plan_id == plan_id for slot in head.slots)
            left = tuple(slot.cell_id for slot in head.slots if slot.kind == "code")
            if head.plan is not None or was_had or not left:
                return None
            plan = Plan(plan_id=plan_id, left=left, stops=ask.stops, limit_ms=_millis(ask.limit))
            return self.cells.notebooks.changed(head, "plan.started", plan=plan)

        return self.cells.notebooks.change(key, notebook_id, alter)

    def _first_begun(self, notebook: Notebook) -> Notebook:
        """Returns the notebook with the plan's first cell begun. Raises what prevents that, and drops the plan."""
        try:
            return self._next_begun(notebook, on_busy="wait")
        except Exception:
            self.cells.quietly("plan.not_moved", self._plan_dropped, notebook.key, notebook.notebook_id)
            raise

    def _awaited(self, notebook: Notebook, plan_id: str, budget: Budget) -> bool:
        """Returns whether the plan's run under way has ended within the budget, or none is under way."""
        open_runs = [slot.run for slot in notebook.running if slot.run is not None]
        run = next((run for run in open_runs if run.plan_id == plan_id), None)
        if run is None:
            return True
        left = timedelta(seconds=budget.left_s() - LOOK_S)
        if left <= timedelta(0):
            return False
        try:
            return self.cells.executions.get(notebook.key, run.execution_id, wait=left).end is not None
        except SandkeeperError:
            return False

    def moved_on(self, notebook: Notebook, on_busy: OnBusy = "reject") -> Notebook:
        """Returns the notebook once its runs are settled and its plan's next cell has begun, if there is one.

        What prevents that is noted: whoever asks next tries again.
        """
        notebook = self.cells.settled(notebook)
        if notebook.plan is None:
            return notebook
        try:
            return self._next_begun(notebook, on_busy)
        except SandkeeperError as error:
            self.cells.journal.note("plan.not_moved", error=type(error).__name__)
            return self.cells.notebooks.get(notebook.key, notebook.notebook_id)

    def _next_begun(self, notebook: Notebook, on_busy: OnBusy) -> Notebook:
        """Returns the notebook with the plan's next cell begun, unless one is running."""
        key, notebook_id = notebook.key, notebook.notebook_id
        if notebook.plan is None or (on_busy == "reject" and self._is_busy(key)):
            return notebook
        code, run_id, once = "", "", Once("", "")
        claimed: Slot | None = None

        def alter(head: Notebook) -> Change | None:
            nonlocal code, run_id, once, claimed
            claimed = None
            plan = head.plan
            if plan is None or any(slot.run and slot.run.plan_id == plan.plan_id for slot in head.running):
                return None
            slots = [slot for cell_id in plan.left if (slot := head.slot(cell_id)) and slot.kind == "code"]
            if not slots:
                return self.cells.notebooks.changed(head, "plan.ended", plan=None)
            if slots[0].is_running:
                return None
            once, run_id = self.cells.once(key, f"{notebook_id} {plan.plan_id} {slots[0].cell_id}", "plan", None)
            code, claimed = self.cells.code_of(head, slots[0]), slots[0]
            left = tuple(slot.cell_id for slot in slots[1:])
            return self.cells.begun(head, claimed, run_id, replace(plan, left=left))

        notebook = self.cells.notebooks.change(key, notebook_id, alter)
        if claimed is None or notebook.plan is None:
            return notebook
        request = RunRequest(
            key=key,
            code=code or "pass",
            file_ids=None,
            limit=timedelta(milliseconds=notebook.plan.limit_ms),
            on_busy=on_busy,
            mode="async",
            once=once,
        )
        self.cells.executed(notebook_id, claimed.cell_id, run_id, request, claimed.run)
        return self.cells.notebooks.get(key, notebook_id)

    def _is_busy(self, key: ChatKey) -> bool:
        """Returns whether another run has the session; one that has ended gives it back now."""
        store = self.cells.executions.sessions.store
        row = store.read(key)
        if row is None or row.run_id is None or not row.is_live(self.cells.notebooks.clock()):
            return False
        try:
            return self.cells.executions.get(key, row.run_id).end is None
        except ExecutionNotFound:
            return row.is_attended(self.cells.notebooks.clock())

    def stop(self, key: ChatKey, notebook_id: str) -> Notebook:
        """Returns the notebook with nothing that runs, and nothing that is still to be run.

        Raises `SessionBusy` when code does not react.
        """
        self._plan_dropped(key, notebook_id)
        notebook = self.cells.notebooks.get(key, notebook_id)
        for slot in notebook.running:
            assert slot.run is not None, "it is running"  # noqa: S101
            try:
                self.cells.executions.cancel(key, slot.run.execution_id)
            except ExecutionNotFound:
                continue  # a call is about to begin it, and cannot be told any more
        return self.cells.settled(self.cells.notebooks.get(key, notebook_id))

    def _plan_dropped(self, key: ChatKey, notebook_id: str) -> Notebook:
        def alter(head: Notebook) -> Change | None:
            return None if head.plan is None else self.cells.notebooks.changed(head, "plan.ended", plan=None)

        return self.cells.notebooks.change(key, notebook_id, alter)


def _left_of(notebook: Notebook, plan_id: str) -> tuple[str, ...] | None:
    """Returns the cells that the plan has yet to begin; None once it is over."""
    plan = notebook.plan
    return plan.left if plan is not None and plan.plan_id == plan_id else None


def _millis(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))
