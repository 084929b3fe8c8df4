"""Run cells of notebooks in the chat's session, and write down what comes of it.

    claim: the cell names its run ──► execute ──► settle: the cell shows what the run has put out
                    │                                ▲
                    └── whoever ran it is gone ──────┘ whoever looks at the notebook next

A cell names its run before that begins, and no other one until its end is settled: by the call that began it, or by
whoever reads or follows the notebook after that. Settling is a change of the notebook like any other: of many who
do it, one writes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256

from sandkeeper.errors import ExecutionNotFound, InvalidRequest, SandkeeperError, SessionBusy
from sandkeeper.model import ChatKey, Raised, RunEnd
from sandkeeper.notebooks import CellRun, Change, Expected, Notebook, Plan, Slot
from sandkeeper.ports import Journal, Reservation, RunLog
from sandkeeper.runs import Execution
from sandkeeper.services.cells import output_part, source_of
from sandkeeper.services.executions import Executions
from sandkeeper.services.notebook import shown_by
from sandkeeper.services.notebooks import Notebooks, slot_of
from sandkeeper.services.requests import Mode, Once, RunReply, RunRequest
from sandkeeper.services.sessions import OnBusy
from sandkeeper.services.versions import require_cell

GIVEN_UP = timedelta(seconds=60)
"""A run that is unknown this long after it was claimed never begins: the call that was to begin it is long over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellAsk:
    """How a caller wants a cell to be run. `expected`: which version of it, `None` for whichever it has."""

    limit: timedelta
    mode: Mode = "auto"
    on_busy: OnBusy = "wait"
    expected: Expected = None
    idempotency_key: str | None = None

    @property
    def digest(self) -> str:
        """What tells this from any other: equal digests ask for the same run."""
        return sha256(f"{self.limit} {self.mode} {self.on_busy}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRuns:
    """Runs of cells, one by one or all of them."""

    notebooks: Notebooks
    execute: Callable[[RunRequest], RunReply]
    executions: Executions
    runs: RunLog
    journal: Journal

    # ── One cell ────────────────────────────────────────────────────────────────────────────────────

    def run(self, key: ChatKey, notebook_id: str, cell_id: str, ask: CellAsk) -> RunReply:
        """Returns what came of the cell's run, or the run that goes on.

        When it raises, no code was run, and the cell is as it was. Raises `SessionBusy` for one that is running.
        """
        notebook = self.notebooks.get(key, notebook_id)
        if slot_of(notebook, cell_id).is_running:
            self.settled(notebook)
        once, run_id, known = None, self.notebooks.new_id(), None
        if ask.idempotency_key is not None:
            name = f"{notebook_id} {cell_id} {ask.idempotency_key}"
            once, run_id = self.once(key, name, ask.digest, ask.idempotency_key)
            known = self.runs.get(key, run_id)
        code, before = "", None
        if known is None or known.end is None:
            code, before = self._claimed(key, notebook_id, cell_id, run_id, ask.expected)
        request = RunRequest(
            key=key,
            code=code or "pass",
            file_ids=None,
            limit=ask.limit,
            on_busy=ask.on_busy,
            mode=ask.mode,
            once=once,
            run_id=run_id if once is None else None,
        )
        return self.executed(notebook_id, cell_id, run_id, request, before)

    def once(self, key: ChatKey, name: str, digest: str, idempotency_key: str | None) -> tuple[Once, str]:
        """Returns what keeps a run from being made twice, and its id. No caller's own key has a blank in it."""
        once = Once(f"notebook {name}", digest)
        wanted = Reservation(self.notebooks.new_id(), digest)
        found = self.runs.reserve(key.owner, once.idempotency_key, wanted, now=self.notebooks.clock())
        if found.digest != digest:
            raise InvalidRequest(
                f"Idempotency-Key {idempotency_key!r} was used here for a request with another body; use a new key"
            )
        return once, found.execution_id

    def _claimed(
        self, key: ChatKey, notebook_id: str, cell_id: str, run_id: str, expected: Expected
    ) -> tuple[str, CellRun | None]:
        """Lets the cell name this run, and returns its code and the run that it named before."""
        code: str = ""
        before: CellRun | None = None

        def alter(head: Notebook) -> Change | None:
            nonlocal code, before
            slot = slot_of(head, cell_id)
            code, before = self.code_of(head, slot), slot.run
            if slot.run is not None and slot.run.execution_id == run_id:
                return None
            if expected is not None:
                require_cell(slot, expected)
            if slot.kind != "code":
                raise InvalidRequest(f"cell {cell_id!r} is {slot.kind}, which does not run; run a code cell")
            if slot.run is not None and slot.run.is_open:
                raise SessionBusy(
                    f"cell {cell_id!r} is running as execution {slot.run.execution_id!r}; follow that, or stop it"
                )
            return self.begun(head, slot, run_id)

        self.notebooks.change(key, notebook_id, alter)
        return code, before

    def begun(self, head: Notebook, slot: Slot, run_id: str, plan: Plan | None = None) -> Change:
        """Returns the change that lets a cell name its run, and leaves a plan so."""
        run = CellRun(
            execution_id=run_id,
            source_version=slot.version,
            begun_at=self.notebooks.clock(),
            plan_id=None if plan is None else plan.plan_id,
        )
        slots = head.with_slot(replace(slot, run=run)).slots
        return self.notebooks.changed(
            head,
            "cell.started",
            cell_id=slot.cell_id,
            execution_id=run_id,
            slots=slots,
            plan=head.plan if plan is None else plan,
        )

    def code_of(self, head: Notebook, slot: Slot) -> str:
        """Returns the cell's code. Where that has just changed, so has the head, and the change will be refused."""
        text = self.notebooks.store.texts(head, [slot.source]).get(slot.source.stamp)
        code = "" if text is None else source_of(text).text
        return code if code.strip() else ""

    def executed(
        self, notebook_id: str, cell_id: str, run_id: str, request: RunRequest, before: CellRun | None
    ) -> RunReply:
        """Runs what a cell has claimed to, and settles it if it has ended."""
        try:
            reply = self.execute(request)
        except Exception:
            self.quietly("cell.not_settled", self._given_back, request.key, notebook_id, cell_id, run_id, before)
            raise
        if reply.execution.end is not None:
            self.quietly("cell.not_settled", self._settle, notebook_id, cell_id, reply.execution)
        return reply

    # ── The end ─────────────────────────────────────────────────────────────────────────────────────

    def settled(self, notebook: Notebook) -> Notebook:
        """Returns the notebook with what has come of its runs, as far as they have ended and can be asked for."""
        for slot in notebook.running:
            assert slot.run is not None, "it is running"  # noqa: S101
            try:
                notebook = self._looked_at(notebook, slot.cell_id, slot.run)
            except SandkeeperError as error:
                self.journal.note("cell.not_settled", error=type(error).__name__)
        return notebook

    def _looked_at(self, notebook: Notebook, cell_id: str, run: CellRun) -> Notebook:
        """Returns the notebook with what has come of the run, if that can be said."""
        try:
            execution = self.executions.get(notebook.key, run.execution_id)
        except ExecutionNotFound:
            is_late = run.begun_at + GIVEN_UP < self.notebooks.clock()
            where = notebook.key, notebook.notebook_id, cell_id
            return self._given_back(*where, run.execution_id, None) if is_late else notebook
        return notebook if execution.end is None else self._settle(notebook.notebook_id, cell_id, execution)

    def _settle(self, notebook_id: str, cell_id: str, execution: Execution) -> Notebook:
        """Returns the notebook with what the run has come to, once."""
        count = execution.context.number
        part = output_part(self.notebooks.new_id(), shown_by(execution, count))
        succeeded = has_succeeded(execution)

        def alter(head: Notebook) -> Change | None:
            slot, run = _claim_of(head, cell_id, execution.execution_id)
            if slot is None or run is None:
                return None
            over = replace(run, ended_at=execution.ended_at or self.notebooks.clock(), succeeded=succeeded)
            shown = replace(slot, run=over, count=count, outputs=None if part is None else part.ref)
            return self.notebooks.changed(
                head,
                "cell.finished",
                cell_id=cell_id,
                execution_id=execution.execution_id,
                parts=() if part is None else (part,),
                slots=head.with_slot(shown).slots,
                plan=_plan_after(head.plan, run, succeeded=succeeded),
            )

        return self.notebooks.change(execution.key, notebook_id, alter)

    def _given_back(
        self, key: ChatKey, notebook_id: str, cell_id: str, run_id: str, before: CellRun | None
    ) -> Notebook:
        """Returns the notebook without a run that has not begun and never will; a plan has its cell back."""

        def alter(head: Notebook) -> Change | None:
            slot, run = _claim_of(head, cell_id, run_id)
            if slot is None or run is None:
                return None
            plan = head.plan
            if plan is not None and plan.plan_id == run.plan_id:
                plan = replace(plan, left=(cell_id, *plan.left))
            slots = head.with_slot(replace(slot, run=before)).slots
            return self.notebooks.changed(
                head, "cell.finished", cell_id=cell_id, execution_id=run_id, slots=slots, plan=plan
            )

        return self.notebooks.change(key, notebook_id, alter)

    def quietly(self, event: str, work: Callable[..., object], *args: object) -> None:
        """Does what may fail without harm to the answer: whoever looks next does it again."""
        try:
            work(*args)
        except SandkeeperError as error:
            self.journal.note(event, error=type(error).__name__)


def has_succeeded(execution: Execution) -> bool:
    """Returns whether the code came to its end, and raised nothing."""
    raised = any(isinstance(output, Raised) for output in execution.outcome.outputs)
    return execution.end is RunEnd.FINISHED and not raised


def _claim_of(head: Notebook, cell_id: str, run_id: str) -> tuple[Slot | None, CellRun | None]:
    """Returns the cell and its run if that is this one, and still to be settled."""
    slot = head.slot(cell_id)
    run = None if slot is None else slot.run
    is_this = run is not None and run.execution_id == run_id and run.is_open
    return (slot, run) if is_this else (None, None)


def _plan_after(plan: Plan | None, run: CellRun, *, succeeded: bool) -> Plan | None:
    """Returns what is left of the plan when a run has ended."""
    if plan is None or plan.plan_id != run.plan_id:
        return plan
    return plan if plan.left and (succeeded or not plan.stops) else None
