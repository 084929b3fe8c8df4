"""What has been run in a chat: a list, and a notebook that runs again."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta

from sandkeeper.model import ChatKey, Clock
from sandkeeper.ports import FileCatalog, RunLog
from sandkeeper.runs import Execution
from sandkeeper.services.notebook import About, Entry, written
from sandkeeper.summary import RunSummary

KEPT = timedelta(days=30)
"""For how long runs are told of."""

NOTEBOOK_RUNS = 200
"""How many runs a notebook has at most: the latest."""

READ_CHARS = 24_000_000
"""How much output is read for a notebook: of one run all that there may be, or of many the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Some of a chat's runs, the latest first."""

    runs: Sequence[RunSummary]
    after: str | None
    """The id behind which the next part begins, None behind the last."""


@dataclass(frozen=True, slots=True)
class History:
    """Looks back at the runs of chats. A run that nobody has seen the end of counts as running."""

    runs: RunLog
    catalog: FileCatalog
    beside: Executor
    clock: Clock

    def page(self, key: ChatKey, *, limit: int, after: str | None = None) -> RunPage:
        """Returns up to `limit` of the chat's runs, those behind `after`."""
        found = self.runs.latest(key, since=self.clock() - KEPT, limit=limit, before=after)
        return RunPage(runs=found, after=found[-1].run.execution_id if len(found) == limit else None)

    def notebook(self, key: ChatKey) -> bytes:
        """Returns the chat's latest runs that have ended as a notebook: JSON that fits into a reply."""
        looking = self.beside.submit(self.catalog.of_chat, key)
        now = self.clock()
        found = self.runs.latest(key, since=now - KEPT, limit=NOTEBOOK_RUNS)
        ended = [each for each in found if each.run.end is not None]
        entries = self._read(ended)
        about = About(
            key=key,
            exported_at=now,
            files=looking.result(),
            running=len(found) - len(ended),
            is_cut=len(found) == NOTEBOOK_RUNS,
        )
        return written(about, entries)

    def _read(self, latest_first: Sequence[RunSummary]) -> Sequence[Entry]:
        """Returns the runs with their outputs, as far as these are worth reading."""
        left, wanted = READ_CHARS, list[Execution]()
        for each in latest_first:
            if each.output_chars <= left:
                left -= each.output_chars
                wanted.append(each.run)
        read = self.beside.map(lambda run: self.runs.get(run.key, run.execution_id), wanted)
        whole = {run.execution_id: run for run in read if run is not None}
        return [Entry(each, whole.get(each.run.execution_id)) for each in latest_first]
