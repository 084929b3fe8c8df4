"""What models fill in: the arguments of each tool."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from sandkeeper.http.artifact_schemas import ArtifactId
from sandkeeper.http.execute_schemas import MAX_TIMEOUT_MS
from sandkeeper.http.notebook_schemas import CellId, Title
from sandkeeper.http.schemas import FileId, Wire
from sandkeeper.model import MAX_CODE_CHARS
from sandkeeper.notebooks import MAX_CELLS, MAX_SOURCE_CHARS, CellKind

ExecutionId = Annotated[FileId, Field(description="A run's id, as the run's result tells it.")]
NotebookId = Annotated[FileId, Field(description="A notebook's id.")]
TimeoutMs = Annotated[
    int | None,
    Field(ge=1_000, le=MAX_TIMEOUT_MS, description="Limit for the code, in milliseconds. Variables stay."),
]


class Nothing(Wire):
    """No arguments."""


class RunPython(Wire):
    """Code to run."""

    code: str = Field(
        min_length=1, max_length=MAX_CODE_CHARS, description="Python. Variables of earlier calls are there."
    )
    timeout_ms: TimeoutMs = None


class OfRun(Wire):
    """A run."""

    execution_id: ExecutionId


class Reset(Wire):
    """What is to go."""

    what: Literal["variables", "everything"] = Field(
        default="variables",
        description="`variables`: the kernel is restarted, files stay. `everything`: the sandbox goes, with all"
        " that code has written; the chat's own files, runs, artifacts and notebooks stay.",
    )


class OfFile(Wire):
    """A file of the chat."""

    file: str = Field(min_length=1, max_length=1_000, description="Its id, its name, or its path in the sandbox.")


class OfArtifact(Wire):
    """A file that a run has made."""

    artifact_id: ArtifactId


class OfNotebook(Wire):
    """A notebook."""

    notebook_id: NotebookId


class NewCell(Wire):
    """A cell of a new notebook."""

    type: CellKind = Field(default="code")
    source: str = Field(max_length=MAX_SOURCE_CHARS)


class CreateNotebook(Wire):
    """A new notebook."""

    title: Title
    cells: list[NewCell] = Field(default_factory=list, max_length=MAX_CELLS, description="In their order.")


class ChangedCell(Wire):
    """A cell as it is to be."""

    cell_id: CellId | None = Field(default=None, description="Which cell it is; a new one when absent.")
    type: CellKind | None = Field(default=None, description="As it was when absent; `code` for a new one.")
    source: Annotated[str, StringConstraints(max_length=MAX_SOURCE_CHARS)] | None = Field(
        default=None, description="As it was when absent, which a new cell cannot be."
    )


class UpdateNotebook(Wire):
    """A notebook as it is to be."""

    notebook_id: NotebookId
    version: int = Field(
        ge=1, description="The version that you have read. If it is an older one, nothing is done."
    )
    title: Title | None = Field(default=None, description="As it was when absent.")
    cells: list[ChangedCell] = Field(
        max_length=MAX_CELLS,
        description="All cells, in the order that they are to have. One that stays as it is needs its cellId alone;"
        " one that is not here is deleted.",
    )


class RunNotebook(Wire):
    """What of a notebook is to be run."""

    notebook_id: NotebookId
    cell_id: CellId | None = Field(default=None, description="This cell alone; all code cells when absent.")
    timeout_ms: TimeoutMs = None
