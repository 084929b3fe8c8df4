"""Notebooks: ordered cells, and how they change.

A notebook's head tells all of it but what its cells say and show: these are parts, texts that are written once,
each with its own stamp. A change writes new parts, and then a head that names them if nobody was faster. So
whatever stops it halfway leaves the notebook as it was, and whoever reads sees one state of it.

Every change counts `version` up by one. What was edited keeps the number of that change as its own version, with
which an editor's `If-Match` is compared: outputs that arrive make nobody's edit stale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from sandkeeper.model import ChatKey

MAX_NOTEBOOKS = 100
"""How many a chat may have."""
MAX_CELLS = 200
MAX_SOURCE_CHARS = 50_000
"""How long one cell may be: as long as code that is run."""
MAX_SOURCE_BYTES = 1_000_000
"""How much all of a notebook's cells may say, as JSON: as much as fits into a request."""
MAX_TITLE_CHARS = 200
MAX_METADATA_BYTES = 10_000
"""How large the metadata of a notebook, or of one of its cells, may be as JSON."""

CELL_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""What nbformat takes for the id of a cell."""

ANY: Literal["*"] = "*"
Expected = int | Literal["*"] | None
"""Which version of it a caller has seen of what it overwrites: `ANY` for whichever, None if it does not say."""

CellKind = Literal["code", "markdown", "raw"]

Outputs = Sequence[Mapping[str, Any]]
"""Outputs of a code cell in nbformat 4.5."""

NOTHING: Mapping[str, Any] = {}

DeltaKind = Literal[
    "cell.inserted",
    "cell.updated",
    "cell.moved",
    "cell.deleted",
    "cell.started",
    "cell.finished",
    "notebook.updated",
    "notebook.cleared",
    "notebook.deleted",
    "plan.started",
    "plan.ended",
]


@dataclass(frozen=True, slots=True)
class Ref:
    """Names a part, and tells how large its text is."""

    stamp: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """What a cell says or shows, as JSON."""

    stamp: str
    text: str

    @property
    def ref(self) -> Ref:
        """What it is found by."""
        return Ref(self.stamp, len(self.text.encode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRun:
    """The last run of a cell. Its end may have come while nobody looked: it is settled by whoever looks next."""

    execution_id: str
    source_version: int
    """The version of the cell that ran."""
    begun_at: datetime
    plan_id: str | None = None
    """It is part of running all cells."""
    ended_at: datetime | None = None
    succeeded: bool | None = None
    """None until it is settled; and of what never began."""

    @property
    def is_open(self) -> bool:
        """Whether its end is still to be settled."""
        return self.ended_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A cell, as the head knows it."""

    cell_id: str
    kind: CellKind
    version: int
    """The change that edited it last."""
    source: Ref
    outputs: Ref | None = None
    count: int | None = None
    """The execution count: which of its session's runs it was."""
    run: CellRun | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has a run of which the end is still to be settled."""
        return self.run is not None and self.run.is_open


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Cells that are still to be run, one after another."""

    plan_id: str
    left: tuple[str, ...]
    stops: bool
    """The first cell that fails ends it."""
    limit_ms: int
    """For each cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """The head of a notebook."""

    key: ChatKey
    notebook_id: str
    title: str
    version: int
    """Counts its changes."""
    edited: int
    """The version of the last edit: outputs that arrive are none."""
    created_at: datetime
    updated_at: datetime
    slots: tuple[Slot, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan | None = None

    def slot(self, cell_id: str) -> Slot | None:
        """Returns the cell of this id."""
        return next((slot for slot in self.slots if slot.cell_id == cell_id), None)

    @property
    def running(self) -> Sequence[Slot]:
        """The cells with runs of which the end is still to be settled, the first begun first."""
        open_runs = [(slot.run.begun_at, slot) for slot in self.slots if slot.run is not None and slot.run.is_open]
        return [slot for _, slot in sorted(open_runs, key=lambda each: each[0])]

    @property
    def refs(self) -> Mapping[str, Ref]:
        """Stamp → part, of all that the notebook has."""
        named = [ref for slot in self.slots for ref in (slot.source, slot.outputs) if ref is not None]
        return {ref.stamp: ref for ref in named}

    def with_slot(self, changed: Slot) -> "Notebook":
        """Returns the notebook with this in place of its cell of the same id."""
        slots = tuple(changed if slot.cell_id == changed.cell_id else slot for slot in self.slots)
        return replace(self, slots=slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A cell as an editor gives it. None: as it was, or none."""

    source: str
    kind: CellKind | None = None
    """None for a new one: code."""
    cell_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    attachments: Mapping[str, Any] | None = None
    outputs: Outputs = ()
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a cell says."""

    text: str
    metadata: Mapping[str, Any]
    attachments: Mapping[str, Any]
    """Images that Markdown refers to."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it is read. `outputs` None: there are some, but they were not asked for."""

    slot: Slot
    source: Source
    outputs: Outputs | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A change of a notebook: what kind of, to what. What it came to, the notebook tells."""

    version: int
    at: datetime
    kind: DeltaKind
    cell_id: str | None = None
    execution_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What turns one state of a notebook into the next: all of it is written, or nothing."""

    before: Notebook
    after: Notebook
    delta: Delta
    parts: Sequence[Part] = ()
    """What the notebook has from now on, and has not had before."""

    @property
    def dropped(self) -> Sequence[Ref]:
        """The parts that it no longer has."""
        kept = self.after.refs
        return [ref for stamp, ref in self.before.refs.items() if stamp not in kept]
