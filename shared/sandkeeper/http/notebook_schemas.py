"""What goes over the wire of notebooks."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints, model_validator

from sandkeeper.http.execute_schemas import INLINE_MS, MAX_TIMEOUT_MS
from sandkeeper.http.result_schemas import Cell as Output
from sandkeeper.http.schemas import FileId, Wire
from sandkeeper.notebooks import (
    CELL_ID_PATTERN,
    MAX_CELLS,
    MAX_SOURCE_CHARS,
    MAX_TITLE_CHARS,
    Cell,
    CellKind,
    CellRun,
    Draft,
    Notebook,
    Plan,
    Slot,
)
from sandkeeper.runs import ExecutionState
from sandkeeper.services.execute import Mode

CellId = Annotated[
    str,
    StringConstraints(pattern=CELL_ID_PATTERN),
    Field(description="Names the cell in its notebook, as nbformat's `id` does.", examples=["imports"]),
]
Title = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_TITLE_CHARS), Field(examples=["Salaries by department"])
]
Metadata = dict[str, Any]
Attachments = dict[str, dict[str, Any]]
"""File name → MIME type → content."""
TimeoutMs = Annotated[
    int | None,
    Field(default=None, ge=1_000, le=MAX_TIMEOUT_MS, description="Limit for each cell's code, in milliseconds."),
]


# ── What is asked for ───────────────────────────────────────────────────────────────────────────────


class CellRequest(Wire):
    """What a cell is to say. What it shows comes of running it."""

    cell_id: CellId | None = Field(default=None, description="Which cell it is; one that is new when absent.")
    type: CellKind | None = Field(default=None, description="As it was when absent; `code` for a new one.")
    source: str = Field(max_length=MAX_SOURCE_CHARS, examples=["import pandas as pd"])
    metadata: Metadata | None = Field(default=None, description="As nbformat has them; as they were when absent.")
    attachments: Attachments | None = Field(
        default=None, description="Images that Markdown refers to, as nbformat has them; as they were when absent."
    )

    @property
    def draft(self) -> Draft:
        """The cell as services take it."""
        return Draft(
            kind=self.type,
            source=self.source,
            cell_id=self.cell_id,
            metadata=self.metadata,
            attachments=self.attachments,
        )


class CellChange(Wire):
    """What a cell is to say from now on. What it shows stays, unless its type is another one."""

    type: CellKind | None = Field(default=None, description="As it was when absent.")
    source: str = Field(max_length=MAX_SOURCE_CHARS)
    metadata: Metadata | None = Field(default=None, description="As they were when absent.")
    attachments: Attachments | None = Field(default=None, description="As they were when absent.")

    @property
    def draft(self) -> Draft:
        """The cell as services take it."""
        return Draft(kind=self.type, source=self.source, metadata=self.metadata, attachments=self.attachments)


class NewCellRequest(CellRequest):
    """A cell, and where it is to stand: at the end unless something else is said."""

    after: CellId | None = Field(default=None, description="Behind this cell.")
    index: int | None = Field(default=None, ge=0, description="So many cells come before it.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.after is not None and self.index is not None:
            raise ValueError("a cell has one place: send `after` or `index`, not both")
        return self


class MoveRequest(Wire):
    """Where a cell is to stand."""

    after: CellId | None = Field(description="Behind this cell; in front of all for null.")


class NotebookRequest(Wire):
    """A notebook: exactly these cells, in this order."""

    title: Title
    cells: list[CellRequest] = Field(default_factory=list, max_length=MAX_CELLS)
    metadata: Metadata | None = Field(default=None, description="As nbformat has them; as they were when absent.")

    @property
    def drafts(self) -> Sequence[Draft]:
        """The cells as services take them."""
        return [cell.draft for cell in self.cells]


class IpynbRequest(Wire):
    """An `.ipynb` file's JSON, of nbformat 4."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=None)

    nbformat: int
    nbformat_minor: int = 0
    metadata: Metadata = Field(default_factory=dict)
    cells: list[Metadata]


class RunCellRequest(Wire):
    """How a cell is to be run."""

    timeout_ms: TimeoutMs
    mode: Mode = Field(default="auto", description="As of `POST /api/jupyter/execute`.")
    on_busy: Literal["wait", "reject"] = Field(
        default="wait", description="What to do while another run has the session."
    )

    @model_validator(mode="after")
    def _ends_within_the_call(self) -> Self:
        if self.mode == "inline" and (self.timeout_ms or 0) > INLINE_MS:
            raise ValueError(f"timeoutMs {self.timeout_ms} is over the {INLINE_MS} ms of mode 'inline'; use 'auto'")
        return self

    def limit(self, default_ms: int) -> timedelta:
        """Returns the limit of the code."""
        usual_ms = min(default_ms, INLINE_MS) if self.mode == "inline" else default_ms
        return timedelta(milliseconds=self.timeout_ms or usual_ms)


class RunAllRequest(Wire):
    """How all code cells are to be run, one after another."""

    timeout_ms: TimeoutMs
    stop_on_error: bool = Field(
        default=True, strict=True, description="The first cell that fails is the last one that runs."
    )
    mode: Literal["auto", "async"] = Field(
        default="auto", description="`auto`: answer when all have run, or after 25 s. `async`: at once."
    )


# ── What is told ────────────────────────────────────────────────────────────────────────────────────


class LastRun(Wire):
    """The last run of a cell."""

    execution_id: str
    state: ExecutionState
    success: bool | None = Field(description="Null while it runs.")
    began_at: AwareDatetime
    ended_at: AwareDatetime | None
    is_current: bool = Field(description="The cell says what ran.")

    @classmethod
    def of(cls, run: CellRun, slot: Slot) -> "LastRun":
        """Returns the run as it goes over the wire."""
        return cls(
            execution_id=run.execution_id,
            state="running" if run.is_open else "ended",
            success=run.succeeded,
            began_at=run.begun_at,
            ended_at=run.ended_at,
            is_current=run.source_version == slot.version,
        )


class CellSchema(Wire):
    """A cell: what it says, and what it shows."""

    cell_id: str
    type: CellKind
    source: str
    metadata: Mapping[str, Any]
    attachments: Mapping[str, Any]
    etag: str = Field(description="For `If-Match`: names what the cell says, whatever it shows.")
    execution_count: int | None = Field(description="Which of its session's runs it was.")
    outputs: list[Output] | None = Field(
        description="As nbformat 4.5 has them. Null where they are not told: an event tells of something else, or"
        " there is no room for them; ask for the cell."
    )
    last_run: LastRun | None

    @classmethod
    def of(cls, cell: Cell, outputs: list[Output] | None) -> "CellSchema":
        """Returns the cell as it goes over the wire, with these outputs in place of all."""
        slot, source = cell.slot, cell.source
        return cls(
            cell_id=slot.cell_id,
            type=slot.kind,
            source=source.text,
            metadata=source.metadata,
            attachments=source.attachments,
            etag=etag(slot.version),
            execution_count=slot.count,
            outputs=outputs,
            last_run=None if slot.run is None else LastRun.of(slot.run, slot),
        )


class PlanSchema(Wire):
    """What is left of running all cells."""

    left: list[str] = Field(description="The cells that are to be begun, in this order.")
    stop_on_error: bool

    @classmethod
    def of(cls, plan: Plan) -> "PlanSchema":
        """Returns the plan as it goes over the wire."""
        return cls(left=[*plan.left], stop_on_error=plan.stops)


class NotebookBrief(Wire):
    """A notebook without its cells."""

    notebook_id: FileId = Field(description="The notebook's id.")
    title: str
    etag: str = Field(description="For `If-Match`: names what the notebook says, whatever its cells show.")
    version: int = Field(description="Counts all changes: follow the notebook's events from here on.")
    cell_count: int
    created_at: AwareDatetime
    updated_at: AwareDatetime
    plan: PlanSchema | None = Field(description="Present while all cells are being run.")

    @classmethod
    def of(cls, notebook: Notebook) -> "NotebookBrief":
        """Returns the notebook in brief as it goes over the wire."""
        return cls(**brief_fields(notebook))


class NotebookSchema(NotebookBrief):
    """A notebook with its cells."""

    metadata: Mapping[str, Any]
    cells: list[CellSchema]

    @classmethod
    def whole(cls, notebook: Notebook, cells: list[CellSchema]) -> "NotebookSchema":
        """Returns the notebook with these cells as it goes over the wire."""
        return cls(**brief_fields(notebook), metadata=notebook.metadata, cells=cells)


class NotebookPage(Wire):
    """Some of the chat's notebooks, the latest first."""

    notebooks: list[NotebookBrief] = Field(description="At most `limit` of them.")
    next: str | None = Field(description="Give this as `next` to get those before them; null at the end.")


class RanCell(Wire):
    """What came of running a cell. Code that raises is a result: `success` is false, and `error` says why."""

    execution_id: str
    success: bool
    error: str | None
    cell: CellSchema


class RunningCell(Wire):
    """A cell that goes on. Follow its run, or its notebook."""

    execution_id: str
    state: Literal["running"] = "running"
    status_url: str
    events_url: str
    notebook_events_url: str


def brief_fields(notebook: Notebook) -> dict[str, Any]:
    """Returns what a notebook tells besides its cells."""
    return {
        "notebook_id": notebook.notebook_id,
        "title": notebook.title,
        "etag": etag(notebook.edited),
        "version": notebook.version,
        "cell_count": len(notebook.slots),
        "created_at": notebook.created_at,
        "updated_at": notebook.updated_at,
        "plan": None if notebook.plan is None else PlanSchema.of(notebook.plan),
    }


def etag(version: int) -> str:
    """Returns the version as `ETag` and `If-Match` have it."""
    return f'"{version}"'
