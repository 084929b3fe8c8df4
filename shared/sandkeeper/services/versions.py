"""What an editor has to have seen before it may be overwritten."""

from collections.abc import Mapping

from sandkeeper.errors import VersionMissing, VersionStale
from sandkeeper.notebooks import ANY, DeltaKind, Expected, Notebook, Slot
from sandkeeper.ports import NotebookStore

TOLD = 5
"""Of how many edits an editor is told that come too late."""

_EDITS: Mapping[DeltaKind, str] = {
    "cell.inserted": "cell {!r} was inserted",
    "cell.updated": "cell {!r} was edited",
    "cell.moved": "cell {!r} was moved",
    "cell.deleted": "cell {!r} was deleted",
    "notebook.updated": "all of it was replaced",
}


def require_whole(store: NotebookStore, head: Notebook, expected: Expected) -> None:
    """Raises `VersionMissing` or `VersionStale` unless the caller has seen the last edit of the notebook."""
    if expected is None:
        raise _missing(f"notebook {head.notebook_id!r}", head.edited)
    if expected not in (ANY, head.edited):
        raise _stale(f"notebook {head.notebook_id!r}", head.edited, expected, _edits(store, head, expected))


def require_cell(slot: Slot, expected: Expected) -> None:
    """Raises `VersionMissing` or `VersionStale` unless the caller has seen the last edit of the cell."""
    if expected is None:
        raise _missing(f"cell {slot.cell_id!r}", slot.version)
    if expected not in (ANY, slot.version):
        raise _stale(f"cell {slot.cell_id!r}", slot.version, expected, "somebody else has edited it")


def _edits(store: NotebookStore, head: Notebook, since: Expected) -> str:
    """Returns in words what has been edited since a version, as far as that is remembered."""
    assert isinstance(since, int), "whoever takes any version is never too late"  # noqa: S101
    known = store.deltas(head.key, head.notebook_id, after=min(since, head.edited), limit=100)
    told = [_EDITS[delta.kind].format(delta.cell_id) for delta in known if delta.kind in _EDITS]
    before = [f"{len(told) - TOLD} earlier edits"] if len(told) > TOLD else []
    return ", ".join([*before, *told[-TOLD:]]) or "somebody else has edited it"


def _missing(what: str, version: int) -> VersionMissing:
    return VersionMissing(
        f'send If-Match with the ETag of {what} that you have read; that of now is "{version}"', version
    )


def _stale(what: str, version: int, expected: Expected, changed: str) -> VersionStale:
    return VersionStale(
        f'{what} has changed since version {expected}: {changed}. Read it again; its ETag is "{version}"', version
    )
