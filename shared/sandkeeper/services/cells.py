"""Cells between editors and parts: what is written of them, what is read, and how much there may be."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sandkeeper.errors import FieldProblem, InvalidRequest
from sandkeeper.model import NewId
from sandkeeper.notebooks import (
    MAX_CELLS,
    MAX_METADATA_BYTES,
    MAX_SOURCE_BYTES,
    MAX_SOURCE_CHARS,
    CellKind,
    Draft,
    Outputs,
    Part,
    Slot,
    Source,
)
from sandkeeper.outputs.notebook import mime_bundle
from sandkeeper.outputs.sound import sound, sound_text

MAX_OUTPUT_BYTES = 3_000_000
"""How much of a cell's outputs is kept. Nearly as much as fits into a reply; what is behind that is left out."""


def source_part(stamp: str, source: Source) -> Part:
    """Returns the part that says this."""
    fields: dict[str, Any] = {"source": sound_text(source.text)}
    if source.metadata:
        fields["metadata"] = sound(dict(source.metadata))
    if source.attachments:
        fields["attachments"] = {
            sound_text(name): mime_bundle(forms.items()) for name, forms in source.attachments.items()
        }
    return Part(stamp, _text(fields))


def source_of(text: str) -> Source:
    """Returns what a part says."""
    fields = json.loads(text)
    return Source(fields["source"], fields.get("metadata", {}), fields.get("attachments", {}))


def source_drafted(draft: Draft, kind: CellKind, before: Source | None) -> Source:
    """Returns what the cell says from now on: what its editor leaves out stays."""
    known = before or Source("", {}, {})
    metadata = known.metadata if draft.metadata is None else draft.metadata
    attachments = known.attachments if draft.attachments is None else draft.attachments
    return Source(sound_text(draft.source), metadata, {} if kind == "code" else attachments)


def output_part(stamp: str, outputs: Outputs) -> Part | None:
    """Returns the part that shows this, None for nothing. Of too much the last outputs are left out."""
    kept, left = list[Mapping[str, Any]](), MAX_OUTPUT_BYTES
    for output in outputs:
        left -= len(_text(output).encode())
        if left < 0:
            text = f"[{len(outputs) - len(kept)} more outputs are too large to be kept in a notebook]\n"
            kept.append({"output_type": "stream", "name": "stderr", "text": text})
            break
        kept.append(output)
    return Part(stamp, _text(kept)) if kept else None


def outputs_of(text: str) -> Outputs:
    """Returns what a part shows."""
    outputs: Outputs = json.loads(text)
    return outputs


def require_fit(slots: Sequence[Slot]) -> None:
    """Raises `InvalidRequest` unless a notebook may have these cells."""
    if len(slots) > MAX_CELLS:
        raise _too_much("/cells", f"a notebook has at most {MAX_CELLS} cells, not {len(slots)}; begin another one")
    said = sum(slot.source.size_bytes for slot in slots)
    if said > MAX_SOURCE_BYTES:
        raise _too_much(
            "/cells",
            f"a notebook's cells have at most {MAX_SOURCE_BYTES:,} bytes together, not {said:,}; begin another one",
        )


def require_sound(drafts: Sequence[Draft], pointer: str = "/cells") -> None:
    """Raises `InvalidRequest` for a cell that is none: too long, or with an id that another one has."""
    seen = set[str]()
    for place, draft in enumerate(drafts):
        where = f"{pointer}/{place}" if pointer else ""
        if len(draft.source) > MAX_SOURCE_CHARS:
            raise _too_much(
                f"{where}/source",
                f"a cell has at most {MAX_SOURCE_CHARS:,} characters, not {len(draft.source):,}; split it",
            )
        if draft.metadata is not None:
            require_small(draft.metadata, f"{where}/metadata")
        if draft.cell_id is not None and draft.cell_id in seen:
            raise _too_much(f"{where}/cellId", f"two cells have the id {draft.cell_id!r}; leave one of them out")
        seen.update(() if draft.cell_id is None else (draft.cell_id,))


def require_small(metadata: Mapping[str, Any], pointer: str) -> None:
    """Raises `InvalidRequest` for metadata that are too large."""
    size = len(_text(sound(dict(metadata))).encode())
    if size > MAX_METADATA_BYTES:
        raise _too_much(
            pointer, f"metadata have at most {MAX_METADATA_BYTES:,} bytes, not {size:,}; leave some out"
        )


def new_cell_id(new_id: NewId, known: Iterable[str]) -> str:
    """Returns an id for a cell that none of these has."""
    taken = {*known}
    while (cell_id := new_id().lower()) in taken:
        pass
    return cell_id


def _too_much(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest(detail, [FieldProblem(pointer, detail)])


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
