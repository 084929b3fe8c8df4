"""Run code for a chat: the use case that everything else serves.

    claim ─────────────► run ─────────────► release ‖ record     a warm call: three round trips
      │                   ▲     └─────────► leave ‖ open         a run that takes longer than a call may: 202
      ├─► reconnect ──────┤                                       its sandbox is paused, or may be soon
      └─► create ──► activate ‖ hydrate ‖ prepare                 a first call, or one after a loss

What is independent runs side by side: looking up the chat's files beside making its sandbox, making the sandbox
known beside filling it, moving E2B's deadline beside the run. A claimed session knows what files it has and that
new ones are waiting, so a warm call looks nothing up.

The run belongs to its sandbox, where it goes on whether anybody listens or not: see `collect.py` for how it is
followed and ended. Code is never run twice: its id starts it once in one sandbox, and what is tried in another one
is what surely has not started: see `SandboxGone` and `RunLost`.
"""

from concurrent.futures import Executor
from dataclasses import dataclass

from sandkeeper.errors import InvalidRequest
from sandkeeper.model import NewId
from sandkeeper.ports import Journal, Reservation, RunLog, SandboxProvider
from sandkeeper.services.budget import CALL_BUDGET_S, Budget
from sandkeeper.services.call import Call
from sandkeeper.services.executions import Executions
from sandkeeper.services.hydrate import Hydrate
from sandkeeper.services.requests import INLINE_LIMIT, LEAVE_S, Mode, Once, RunReply, RunRequest
from sandkeeper.services.sessions import OnBusy, Sessions
from sandkeeper.services.stopwatch import Stopwatch

__all__ = ["CALL_BUDGET_S", "INLINE_LIMIT", "Execute", "Mode", "OnBusy", "Once", "RunReply", "RunRequest"]


@dataclass(frozen=True, slots=True)
class Execute:
    """Runs code in the chat's sandbox, which is found, made, filled and given back on the way."""

    sessions: Sessions
    executions: Executions
    hydrate: Hydrate
    sandboxes: SandboxProvider
    runs: RunLog
    beside: Executor
    new_id: NewId
    journal: Journal

    def __call__(self, request: RunRequest) -> RunReply:
        """Returns what came of the run, or the run that goes on.

        When it raises, no code was run and the session is free again.
        """
        budget = Budget.of(CALL_BUDGET_S)
        run_id = request.run_id or self.new_id()
        if request.once is not None:
            reserved = self._reserved(request, request.once, run_id)
            if reserved != run_id:
                return self._repeated(request, reserved, budget)
        return Call(self, request, run_id, budget).answer()

    def _reserved(self, request: RunRequest, once: Once, run_id: str) -> str:
        """Returns the id of the run that the key stands for. Raises `InvalidRequest` for another body."""
        wanted = Reservation(run_id, once.digest)
        now = self.sessions.clock()
        reserved = self.runs.reserve(request.key.owner, once.idempotency_key, wanted, now=now)
        if reserved.digest != once.digest:
            raise InvalidRequest(
                f"Idempotency-Key {once.idempotency_key!r} was used for a request with another body; use a new key"
            )
        return reserved.execution_id

    def _repeated(self, request: RunRequest, run_id: str, budget: Budget) -> RunReply:
        """Returns what came of a run that was asked for before; makes it if it surely has not begun."""
        watch = Stopwatch()
        reserve_s = CALL_BUDGET_S if request.mode == "async" else LEAVE_S
        found = self.executions.find(request.key, run_id, budget, reserve_s=reserve_s)
        if found is None:
            return Call(self, request, run_id, budget).answer()
        watch.lap("run")
        return RunReply(
            execution=found,
            expires_in=self.executions.expires_in(found),
            timings=watch.timings(),
            is_repeated=True,
        )
