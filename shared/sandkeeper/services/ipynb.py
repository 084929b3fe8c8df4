"""Notebooks as files: nbformat 4.

    read     whatever 4.x there is, checked, with a pointer to what is wrong; outputs as 4.5 has them
    written  4.5, which Jupyter opens and nbclient runs

Source: https://nbformat.readthedocs.io/en/latest/format_description.html. The library of that name would make every
cold start of the API longer; tests hold this to it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from sandkeeper.errors import FieldProblem, InvalidRequest
from sandkeeper.notebooks import CELL_ID_PATTERN, MAX_CELLS, Cell, CellKind, Draft, Notebook
from sandkeeper.outputs.notebook import mime_bundle
from sandkeeper.outputs.sound import as_text, sound, sound_text
from sandkeeper.services.notebook import MAX_BYTES, METADATA, note

_ID = re.compile(CELL_ID_PATTERN)

Fields = dict[str, Any]


# ── Read ────────────────────────────────────────────────────────────────────────────────────────────


def metadata_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the notebook's own metadata. Raises `InvalidRequest` for what is no notebook of nbformat 4."""
    version = document.get("nbformat")
    if version is None or not isinstance(document.get("cells", []), list):
        raise _wrong(
            "", "this is no notebook: it lacks `nbformat` or a list of `cells`; send an .ipynb file's JSON"
        )
    if version != 4:
        raise _wrong(
            "/nbformat", f"nbformat {_shown(version)} is not read; convert it to 4 with `jupyter nbconvert`"
        )
    metadata = document.get("metadata", {})
    if not isinstance(metadata, dict):
        raise _wrong("/metadata", "metadata are an object")
    return metadata


def read(document: Mapping[str, Any]) -> Sequence[Draft]:
    """Returns the notebook's cells. Raises `InvalidRequest` for what is none, with a pointer to it."""
    metadata_of(document)
    cells = document.get("cells", [])
    if len(cells) > MAX_CELLS:
        raise _wrong("/cells", f"a notebook has at most {MAX_CELLS} cells, not {len(cells)}; split it")
    seen = set[str]()
    return [_draft(cell, f"/cells/{place}", seen) for place, cell in enumerate(cells)]


def _draft(cell: Any, where: str, seen: set[str]) -> Draft:
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        raise _wrong(f"{where}/cell_type", "a cell is an object whose `cell_type` is code, markdown or raw")
    kind = cast("CellKind", cell["cell_type"])
    metadata, attachments = cell.get("metadata", {}), cell.get("attachments", {})
    for name, value in (("metadata", metadata), ("attachments", attachments)):
        if not isinstance(value, dict):
            raise _wrong(f"{where}/{name}", f"{name} are an object")
    for name, forms in attachments.items():
        if not isinstance(forms, dict):
            raise _wrong(f"{where}/attachments/{name}", "an attachment is an object: MIME type → content")
    cell_id = cell.get("id")
    if not (isinstance(cell_id, str) and _ID.fullmatch(cell_id)) or cell_id in seen:
        cell_id = None
    seen.update(() if cell_id is None else (cell_id,))
    return Draft(
        kind=kind,
        source=_lines(cell.get("source", ""), f"{where}/source"),
        cell_id=cell_id,
        metadata=metadata,
        attachments=attachments,
        outputs=[*_outputs(cell.get("outputs", []), f"{where}/outputs")] if kind == "code" else (),
        count=_count(cell.get("execution_count")),
    )


def _outputs(outputs: Any, where: str) -> Iterator[Fields]:
    if not isinstance(outputs, list):
        raise _wrong(where, "outputs are a list")
    for place, output in enumerate(outputs):
        yield _output(output, f"{where}/{place}")


def _output(output: Any, where: str) -> Fields:
    """Returns the output without what nbformat does not know."""
    match output:
        case {"output_type": "stream", "name": "stdout" | "stderr" as name}:
            return {"output_type": "stream", "name": name, "text": _lines(output.get("text"), f"{where}/text")}
        case {"output_type": "display_data" | "execute_result" as kind, "data": dict() as data}:
            metadata = output.get("metadata", {})
            fields = {"output_type": kind, "data": mime_bundle(data.items())}
            fields["metadata"] = sound(metadata) if isinstance(metadata, dict) else {}
            if kind == "execute_result":
                fields["execution_count"] = _count(output.get("execution_count"))
            return fields
        case {"output_type": "error", "ename": str() as name, "evalue": str() as value}:
            lines = output.get("traceback", [])
            traceback = [as_text(line) for line in lines] if isinstance(lines, list) else [as_text(lines)]
            return {
                "output_type": "error",
                "ename": sound_text(name),
                "evalue": sound_text(value),
                "traceback": traceback,
            }
    raise _wrong(where, "an output is a stream, display_data, execute_result or error, as nbformat 4 has them")


def _lines(value: Any, where: str) -> str:
    """Returns text that nbformat may keep as a list of lines."""
    if isinstance(value, str):
        return sound_text(value)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return sound_text("".join(value))
    raise _wrong(where, "this is text, or a list of lines")


def _count(value: Any) -> int | None:
    is_one = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if is_one else None


def _wrong(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest(f"{pointer}: {detail}" if pointer else detail, [FieldProblem(pointer, detail)])


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


# ── Written ─────────────────────────────────────────────────────────────────────────────────────────


def written(notebook: Notebook, cells: Sequence[Cell]) -> bytes:
    """Returns the notebook as a file, of at most `MAX_BYTES`: the largest outputs are left out first."""
    told = [_cell(cell) for cell in cells]
    sizes = {place: len(_encoded(fields["outputs"])) for place, fields in enumerate(told) if "outputs" in fields}
    metadata = {**METADATA, **_sound(notebook.metadata, _OF_NOTEBOOK), "title": notebook.title}
    document = {"cells": told, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    excess = len(_encoded(document)) - MAX_BYTES
    for place, size in sorted(sizes.items(), key=lambda each: -each[1]):
        if excess <= 0:
            break
        told[place]["outputs"] = [note(f"outputs of {size:,} bytes are left out: the file would be too large")]
        excess -= size - len(_encoded(told[place]["outputs"]))
    return _encoded(document)


def _cell(cell: Cell) -> Fields:
    slot, source = cell.slot, cell.source
    fields: Fields = {
        "cell_type": slot.kind,
        "id": slot.cell_id,
        "metadata": _sound(source.metadata, _OF_CELL),
        "source": source.text,
    }
    if slot.kind == "code":
        left_out = [note("the outputs are left out: the notebook has too many of them")]
        outputs = left_out if cell.outputs is None else [dict(output) for output in cell.outputs]
        return fields | {"execution_count": slot.count, "outputs": outputs}
    return fields | ({"attachments": dict(source.attachments)} if source.attachments else {})


def _sound(metadata: Mapping[str, Any], known: Mapping[str, Callable[[Any], bool]]) -> Fields:
    """Returns the metadata without those that nbformat knows, and has rules for that they break."""
    return {name: value for name, value in metadata.items() if name not in known or known[name](value)}


def _has_texts(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)


def _are_tags(value: Any) -> bool:
    are_texts = isinstance(value, list) and all(isinstance(tag, str) and _TAG.search(tag) for tag in value)
    return are_texts and len({*value}) == len(value)


def _is_language(value: Any) -> bool:
    others = {"file_extension", "mimetype", "pygments_lexer"}
    return _has_texts(value, "name", *(others & value.keys() if isinstance(value, dict) else ())) and isinstance(
        value.get("codemirror_mode", ""), str | dict
    )


_TAG, _NAME = re.compile("^[^,]+$"), re.compile("^.+$")

_OF_CELL: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and _NAME.search(value) is not None,
    "tags": _are_tags,
    "collapsed": lambda value: isinstance(value, bool),
    "scrolled": lambda value: isinstance(value, bool) or value == "auto",
    "jupyter": lambda value: isinstance(value, dict),
    "execution": lambda value: _has_texts(value, *(value if isinstance(value, dict) else ())),
    "format": lambda value: isinstance(value, str),
}
_OF_NOTEBOOK: Mapping[str, Callable[[Any], bool]] = {
    "kernelspec": lambda value: _has_texts(value, "name", "display_name"),
    "language_info": _is_language,
    "authors": lambda value: isinstance(value, list),
    "orig_nbformat": lambda _: False,  # never to be written to a file
}


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
