"""Notebooks in memory."""

import threading
from collections.abc import Mapping, Sequence

from sandkeeper.model import ChatKey
from sandkeeper.notebooks import Change, Delta, Notebook, Part, Ref

Address = tuple[ChatKey, str]


class MemoryNotebookStore:
    """`NotebookStore` in dictionaries."""

    def __init__(self) -> None:
        self.parts: dict[tuple[Address, str], str] = {}
        """Notebook and stamp → text."""
        self._heads: dict[Address, Notebook] = {}
        self._deltas: dict[Address, list[Delta]] = {}
        self._lock = threading.Lock()

    def add(self, notebook: Notebook, parts: Sequence[Part]) -> None:
        """See `NotebookStore.add`."""
        with self._lock:
            self._heads[_address(notebook)] = notebook
            self._keep(notebook, parts)

    def get(self, key: ChatKey, notebook_id: str) -> Notebook | None:
        """See `NotebookStore.get`."""
        return self._heads.get((key, notebook_id))

    def latest(self, key: ChatKey, *, limit: int, before: str | None = None) -> Sequence[Notebook]:
        """See `NotebookStore.latest`."""
        with self._lock:
            found = [head for (chat, _), head in self._heads.items() if chat == key]
        behind = [head for head in found if before is None or head.notebook_id < before]
        return sorted(behind, key=lambda head: head.notebook_id, reverse=True)[:limit]

    def count(self, key: ChatKey) -> int:
        """See `NotebookStore.count`."""
        with self._lock:
            return sum(chat == key for chat, _ in self._heads)

    def texts(self, notebook: Notebook, refs: Sequence[Ref]) -> Mapping[str, str]:
        """See `NotebookStore.texts`."""
        where = _address(notebook)
        with self._lock:
            return {ref.stamp: self.parts[where, ref.stamp] for ref in refs if (where, ref.stamp) in self.parts}

    def commit(self, change: Change) -> bool:
        """See `NotebookStore.commit`."""
        where = _address(change.after)
        with self._lock:
            head = self._heads.get(where)
            if head is None or head.version != change.before.version:
                return False
            self._heads[where] = change.after
            self._keep(change.after, change.parts)
            self._deltas.setdefault(where, []).append(change.delta)
            for ref in change.dropped:
                self.parts.pop((where, ref.stamp), None)
            return True

    def deltas(self, key: ChatKey, notebook_id: str, *, after: int, limit: int) -> Sequence[Delta]:
        """See `NotebookStore.deltas`."""
        with self._lock:
            known = self._deltas.get((key, notebook_id), [])
            return [delta for delta in known if delta.version > after][:limit]

    def remove(self, notebook: Notebook, delta: Delta) -> bool:
        """See `NotebookStore.remove`."""
        where = _address(notebook)
        with self._lock:
            head = self._heads.get(where)
            if head is None or head.version != notebook.version:
                return False
            del self._heads[where]
            self._deltas.setdefault(where, []).append(delta)
        self.sweep(*where)
        return True

    def sweep(self, key: ChatKey, notebook_id: str) -> None:
        """See `NotebookStore.sweep`."""
        with self._lock:
            for known in [known for known in self.parts if known[0] == (key, notebook_id)]:
                del self.parts[known]

    def forget_deltas(self) -> None:
        """Stands for a day in which nothing changes."""
        with self._lock:
            self._deltas.clear()

    def _keep(self, notebook: Notebook, parts: Sequence[Part]) -> None:
        self.parts.update({(_address(notebook), part.stamp): part.text for part in parts})


def _address(notebook: Notebook) -> Address:
    return notebook.key, notebook.notebook_id
