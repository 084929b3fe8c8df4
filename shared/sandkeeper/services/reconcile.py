"""Kill sandboxes that no session's row points to: their creator died, or lost its claim and could not kill them.

Each tick looks at a bounded number of the stack's sandboxes and goes on where the last one stopped, so that its
cost does not grow with what is live. A sandbox carries the claim id that it was made for, which leads to the row.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from sandkeeper.errors import CapacityExhausted
from sandkeeper.model import Session, SessionState
from sandkeeper.ports import Journal, Listed, SandboxPage, Sweep, SweepStore
from sandkeeper.services import marks
from sandkeeper.services.budget import CALL_BUDGET_S
from sandkeeper.services.ending import Ending

PAGE = 100
PAGES_PER_TICK = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one tick found. `live` is None unless it saw the end of a sweep through all sandboxes."""

    killed: int
    failed: int
    live: int | None


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Compares the provider's list of sandboxes with the rows of sessions."""

    ending: Ending
    stack: str
    sweeps: SweepStore
    beside: Executor
    journal: Journal

    def __call__(self, has_time: Callable[[], bool]) -> Swept:
        """Kills the orphans among the next sandboxes of the list, page by page while there is time."""
        swept = Swept(killed=0, failed=0, live=None)
        try:
            sweep = self.sweeps.read()
            for _ in range(PAGES_PER_TICK):
                if not has_time():
                    break
                page = self.ending.sandboxes.page(marks.of_stack(self.stack), limit=PAGE, token=sweep.token)
                swept = self._kill_orphans(page, swept)
                seen = sweep.seen + len(page.sandboxes)
                sweep = Sweep(page.token, seen)
                if page.token is None:
                    swept, sweep = replace(swept, live=seen), Sweep()
                    break
            self.sweeps.write(sweep)
        except Exception as error:  # noqa: BLE001 - what else the tick has done is to be told all the same
            swept = replace(swept, failed=swept.failed + 1)
            self.journal.note("reconcile.failed", error=type(error).__name__)
            if not isinstance(error, CapacityExhausted):
                self._start_over()
        return swept

    def _start_over(self) -> None:
        """Forgets where the sweep stood: it may be the very token that is refused."""
        try:
            self.sweeps.write(Sweep())
        except Exception as error:  # noqa: BLE001 - as above
            self.journal.note("reconcile.failed", error=type(error).__name__)

    def _kill_orphans(self, page: SandboxPage, swept: Swept) -> Swept:
        kills = [self.beside.submit(self._kill, orphan) for orphan in self._orphans(page.sandboxes)]
        outcomes = [kill.result() for kill in kills]
        return replace(
            swept,
            killed=swept.killed + outcomes.count("killed"),
            failed=swept.failed + outcomes.count("failed"),
        )

    def _orphans(self, sandboxes: Sequence[Listed]) -> Sequence[Listed]:
        """Returns those that no row points to, and that nobody can be about to write into one."""
        lifetimes = self.ending.lifetimes
        last_call = timedelta(seconds=CALL_BUDGET_S) + lifetimes.lease_margin
        youngest = self.ending.clock() - lifetimes.claim_life - last_call
        grown = [sandbox for sandbox in sandboxes if sandbox.started_at <= youngest]
        rows = self.ending.store.claimants([claim for sandbox in grown if (claim := _claim_of(sandbox))])
        return [sandbox for sandbox in grown if not _belongs(sandbox, rows.get(_claim_of(sandbox)))]

    def _kill(self, orphan: Listed) -> Literal["killed", "failed"]:
        try:
            self.ending.sandboxes.kill(orphan.sandbox_id)
        except Exception as error:  # noqa: BLE001 - the other sandboxes are none the worse for it
            self.journal.note("reconcile.failed", error=type(error).__name__)
            return "failed"
        self.journal.note("sandbox.orphan_killed")
        return "killed"


def _claim_of(sandbox: Listed) -> str:
    return sandbox.metadata.get("claim", "")


def _belongs(sandbox: Listed, row: Session | None) -> bool:
    """Returns whether the row may still lead to the sandbox."""
    if row is None or row.state is SessionState.CLOSED or row.claim_id != _claim_of(sandbox):
        return False
    return row.sandbox is None or row.sandbox.sandbox_id == sandbox.sandbox_id
