"""End what has expired, every five minutes.

A session that is used again in between wins: every step is conditional on what the row says by then.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice

from sandkeeper.errors import SandkeeperError
from sandkeeper.model import ChatKey, EndReason
from sandkeeper.ports import Granted, Journal, Refused
from sandkeeper.services.sessions import Sessions

PAGE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupReport:
    """What one tick did. `skipped` sessions were used again, or are being ended by somebody else."""

    ended: int
    skipped: int
    failed: int
    complete: bool
    """False when time ran out; the next tick goes on."""


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Ends expired sessions, several at a time; one that cannot be ended does not hold up the others."""

    sessions: Sessions
    beside: Executor
    journal: Journal

    def __call__(self, *, everything: bool, time_left_s: Callable[[], float]) -> CleanupReport:
        """Ends what is due, or with `everything` all sessions of the stack, while there is time left.

        Stops with at least 10 s to spare, so that what has been begun is finished.
        """
        store, now = self.sessions.store, self.sessions.clock()
        chats = store.live() if everything else store.expired(now=now)
        outcomes: list[str] = []
        complete = True
        for page in _pages(chats):
            if time_left_s() < 10:
                complete = False
                break
            ending = [self.beside.submit(self._end, key, everything) for key in page]
            outcomes += [future.result() for future in ending]
        report = CleanupReport(
            ended=outcomes.count("ended"),
            skipped=outcomes.count("skipped"),
            failed=outcomes.count("failed"),
            complete=complete,
        )
        self.journal.note("cleanup.ended", ended=report.ended, skipped=report.skipped, failed=report.failed)
        return report

    def _end(self, key: ChatKey, everything: bool) -> str:
        now = self.sessions.clock()
        store, until = self.sessions.store, now + self.sessions.lifetimes.claim_window
        try:
            match (
                store.begin_close(key, now=now, claim_until=until, reason=EndReason.FORCED)
                if everything
                else store.begin_expire(key, now=now, claim_until=until)
            ):
                case Granted(session):
                    self.sessions.finish(session)
                    return "ended"
                case Refused():
                    return "skipped"
        except SandkeeperError as error:
            self.journal.note("cleanup.failed", error=type(error).__name__)
            return "failed"


def _pages(chats: Iterable[ChatKey]) -> Iterable[list[ChatKey]]:
    """Yields the chats in pages, so that memory stays bounded."""
    remaining = iter(chats)
    while page := list(islice(remaining, PAGE)):
        yield page
