"""End what has expired, every five minutes, and what nobody can reach any more.

A session that is used again in between wins: every step is conditional on what the row says by then.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice

from sandkeeper import log_context
from sandkeeper.model import ChatKey, EndReason
from sandkeeper.ports import Journal
from sandkeeper.services.ending import Ending
from sandkeeper.services.reconcile import Reconcile

PAGE = 32
DUE_PER_SHARD = 1_000
"""How many due sessions of one shard a tick takes on; the next tick takes the rest."""

SPARE_S = 10.0
"""What a tick leaves of the function's time, so that what has been begun is finished."""

TimeLeft = Callable[[], float]
"""Returns how many seconds the function has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupReport:
    """What one tick did. `skipped` sessions were used again, or are being ended by somebody else."""

    ended: int
    skipped: int
    orphans: int
    """Sandboxes without a session that were killed."""
    failed: int
    live: int | None
    """How many sandboxes there are; None when this tick has not seen them all."""
    complete: bool
    """False when there is more to do than time or bounds allowed; the next tick goes on."""


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Ends expired sessions, several at a time; one that cannot be ended does not hold up the others."""

    ending: Ending
    reconcile: Reconcile
    beside: Executor
    journal: Journal

    def __call__(self, *, everything: bool, time_left_s: TimeLeft) -> CleanupReport:
        """Ends what is due, or with `everything` all sessions of the stack, while there is time left."""
        due, outcomes, complete = self._due(everything)
        for page in _pages(due):
            if time_left_s() < SPARE_S:
                complete = False
                break
            ending = [self.beside.submit(self._end, key, everything) for key in page]
            outcomes += [future.result() for future in ending]
        swept = self.reconcile(lambda: time_left_s() >= SPARE_S)
        report = CleanupReport(
            ended=outcomes.count("ended"),
            skipped=outcomes.count("skipped"),
            orphans=swept.killed,
            failed=outcomes.count("failed") + swept.failed,
            live=swept.live,
            complete=complete,
        )
        self._note(report, found=len(due))
        return report

    def _due(self, everything: bool) -> tuple[list[ChatKey], list[str], bool]:
        """Returns the chats to look at, `failed` for each shard that could not be read, and whether this is all."""
        found = [self.beside.submit(self._due_of, shard, everything) for shard in self.ending.store.shards()]
        chats: list[ChatKey] = []
        failures: list[str] = []
        complete = True
        for shard in found:
            try:
                due = shard.result()
                chats += due
                complete = complete and len(due) < DUE_PER_SHARD
            except Exception as error:  # noqa: BLE001 - the other shards are none the worse for it
                failures.append(self._failed(error))
        return chats, failures, complete and not failures

    def _due_of(self, shard: str, everything: bool) -> list[ChatKey]:
        store, now = self.ending.store, self.ending.clock()
        chats = store.live(shard) if everything else store.expired(shard, now=now)
        return list(islice(chats, DUE_PER_SHARD))

    def _end(self, key: ChatKey, everything: bool) -> str:
        log_context.begin_chat(key)
        try:
            ended = self.ending.close(key, EndReason.FORCED) if everything else self.ending.expire(key)
        except Exception as error:  # noqa: BLE001 - the other sessions are none the worse for it
            return self._failed(error)
        return "ended" if ended else "skipped"

    def _failed(self, error: Exception) -> str:
        self.journal.note("cleanup.failed", error=type(error).__name__)
        return "failed"

    def _note(self, report: CleanupReport, *, found: int) -> None:
        live = {} if report.live is None else {"live": report.live}
        self.journal.note(
            "cleanup.ended",
            expired=found,
            killed=report.ended,
            orphans=report.orphans,
            skipped=report.skipped,
            failed=report.failed,
            **live,
        )


def _pages(chats: Iterable[ChatKey]) -> Iterable[list[ChatKey]]:
    """Yields the chats in pages, so that memory stays bounded."""
    remaining = iter(chats)
    while page := list(islice(remaining, PAGE)):
        yield page
