"""Where chats' notebooks are kept."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sandkeeper.model import ChatKey
from sandkeeper.notebooks import Change, Delta, Notebook, Part, Ref


class NotebookStore(Protocol):
    """Heads, parts and changes of notebooks. Changes are told for a day, all else until it is removed."""

    def add(self, notebook: Notebook, parts: Sequence[Part]) -> None:
        """Adds a notebook, whose id nothing had before. Whoever finds its head finds its parts."""
        ...

    def get(self, key: ChatKey, notebook_id: str) -> Notebook | None:
        """Returns the head as the last write left it."""
        ...

    def latest(self, key: ChatKey, *, limit: int, before: str | None = None) -> Sequence[Notebook]:
        """Returns the chat's notebooks, the highest id first: those with ids below `before`, at most `limit`."""
        ...

    def count(self, key: ChatKey) -> int:
        """Returns how many notebooks the chat has."""
        ...

    def texts(self, notebook: Notebook, refs: Sequence[Ref]) -> Mapping[str, str]:
        """Returns stamp → text of these parts. One that is missing was dropped since the head was read."""
        ...

    def commit(self, change: Change) -> bool:
        """Writes the change. Returns False, and changes nothing, unless the head still is the one before it."""
        ...

    def deltas(self, key: ChatKey, notebook_id: str, *, after: int, limit: int) -> Sequence[Delta]:
        """Returns the changes behind a version in their order, as the last writes left them, at most `limit`.

        Those of more than a day ago may be missing.
        """
        ...

    def remove(self, notebook: Notebook, delta: Delta) -> bool:
        """Removes the notebook with its parts, and tells of it. Returns False, doing nothing, if it has changed."""
        ...

    def sweep(self, key: ChatKey, notebook_id: str) -> None:
        """Removes parts that are left of a notebook which is gone: whoever removed it may have died over it."""
        ...
