"""What server-sent events tell, by the events' names: for the document. Tests hold every event to it."""

from typing import Any, get_args

from pydantic import AwareDatetime, Field, create_model

from sandkeeper.http.artifact_schemas import ArtifactSchema
from sandkeeper.http.error_details import ErrorDetail
from sandkeeper.http.notebook_schemas import CellSchema, PlanSchema
from sandkeeper.http.result_schemas import LinkedResult, ResultSchema
from sandkeeper.http.schemas import SCHEMAS, Wire
from sandkeeper.model import EndReason
from sandkeeper.notebooks import DeltaKind

# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────


class RunAccepted(Wire):
    """The run is known, and begins when its turn comes."""

    at: AwareDatetime
    execution_id: str
    limit_ms: int


class RunStarted(Wire):
    """The code begins to run."""

    at: AwareDatetime
    state_reset: bool = Field(description="Variables of earlier runs are gone.")
    reason: EndReason | None


class RunOutput(Wire):
    """The code has put something out."""

    at: AwareDatetime
    results: list[ResultSchema | LinkedResult]


class RunEnded(Wire):
    """The run is over: this is its last event."""

    at: AwareDatetime
    success: bool
    error: str | None
    error_detail: ErrorDetail | None
    artifacts: list[ArtifactSchema]


class RunEvents(Wire):
    """A run's events: name → data."""

    accepted: RunAccepted
    started: RunStarted
    output: RunOutput
    end: RunEnded


# ── Notebooks ───────────────────────────────────────────────────────────────────────────────────────


class CellStamp(Wire):
    """A cell, and what it says by now."""

    cell_id: str
    etag: str


class NotebookReset(Wire):
    """The notebook is to be read again. What it is by now is left out where it is gone."""

    version: int | None = None
    etag: str | None = None
    title: str | None = None
    cells: list[CellStamp] | None = Field(default=None, description="In their order: shows what a client lacks.")
    plan: PlanSchema | None = None


class NotebookChange(NotebookReset):
    """The notebook has changed."""

    at: AwareDatetime
    change: int = Field(description="The version that this change has made. `version` is what it is by now.")
    cell_id: str | None = Field(default=None, description="Which cell has changed.")
    cell: CellSchema | None = Field(default=None, description="What it is by now; null where it is gone.")
    execution_id: str | None = None


class CellOutput(Wire):
    """A cell's run has put something out, or has ended: then `results` are left out."""

    at: AwareDatetime
    cell_id: str
    execution_id: str
    results: list[ResultSchema | LinkedResult] | None = None
    success: bool | None = None
    error: str | None = None
    error_detail: ErrorDetail | None = None
    artifacts: list[ArtifactSchema] | None = None


_CHANGES: dict[str, Any] = {
    kind.replace(".", "_"): (NotebookChange, Field(alias=kind)) for kind in get_args(DeltaKind)
}
NotebookEvents = create_model(
    "NotebookEvents",
    __base__=Wire,
    __doc__="A notebook's events: name → data.",
    reset=NotebookReset,
    cell_output=(CellOutput, Field(alias="cell.output")),
    **_CHANGES,
)

# ── The document ────────────────────────────────────────────────────────────────────────────────────


def schemas_of_events() -> dict[str, Any]:
    """Returns what the document's components need: see `event_stream`."""
    found: dict[str, Any] = {}
    for events in (RunEvents, NotebookEvents):
        schema = events.model_json_schema(ref_template=SCHEMAS, mode="serialization")
        found |= schema.pop("$defs")
        found[events.__name__] = schema
    return found
