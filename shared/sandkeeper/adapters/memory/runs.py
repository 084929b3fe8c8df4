"""The log of runs in memory."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sandkeeper.model import ChatKey
from sandkeeper.ports import Reservation
from sandkeeper.runs import Execution
from sandkeeper.summary import RunSummary


class MemoryRunLog:
    """`RunLog` in a dictionary."""

    def __init__(self) -> None:
        self._reserved: dict[tuple[str, str], Reservation] = {}
        self._runs: dict[tuple[ChatKey, str], Execution] = {}
        self._lock = threading.Lock()

    def reserve(self, owner: str, idempotency_key: str, reservation: Reservation, *, now: datetime) -> Reservation:
        """See `RunLog.reserve`."""
        with self._lock:
            return self._reserved.setdefault((owner, idempotency_key), reservation)

    def open(self, execution: Execution) -> bool:
        """See `RunLog.open`."""
        with self._lock:
            address = execution.key, execution.execution_id
            if address in self._runs:
                return False
            self._runs[address] = replace(execution, events=(), artifacts=())
            return True

    def withdraw(self, execution: Execution) -> None:
        """See `RunLog.withdraw`."""
        with self._lock:
            address = execution.key, execution.execution_id
            if self._runs.get(address) == replace(execution, events=(), artifacts=()):
                del self._runs[address]

    def finish(self, execution: Execution) -> bool:
        """See `RunLog.finish`."""
        with self._lock:
            address = execution.key, execution.execution_id
            known = self._runs.get(address)
            if known is not None and known.end is not None:
                return False
            self._runs[address] = execution
            return True

    def get(self, key: ChatKey, execution_id: str) -> Execution | None:
        """See `RunLog.get`."""
        with self._lock:
            return self._runs.get((key, execution_id))

    def latest(
        self, key: ChatKey, *, since: datetime, limit: int, before: str | None = None
    ) -> Sequence[RunSummary]:
        """See `RunLog.latest`."""
        with self._lock:
            runs = [run for (chat, _), run in self._runs.items() if chat == key and run.created_at > since]
        behind = [run for run in runs if before is None or run.execution_id < before]
        highest_first = sorted(behind, key=lambda run: run.execution_id, reverse=True)
        return [RunSummary.of(run) for run in highest_first[:limit]]
