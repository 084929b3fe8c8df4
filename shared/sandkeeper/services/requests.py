"""What a caller asks to be run, and what is answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sandkeeper.model import ChatKey
from sandkeeper.runs import Execution
from sandkeeper.services.budget import CALL_BUDGET_S
from sandkeeper.services.sessions import OnBusy
from sandkeeper.services.stopwatch import Timings

INLINE_LIMIT = timedelta(seconds=25)
"""How long a call waits for its run, and the longest limit of one that must end within the call."""

MAX_LIMIT = timedelta(hours=1)
"""The longest limit that a run may have."""

REPLY_BYTES = 4_000_000
"""How large a reply may be: Lambda passes no more than 6 MB on, with every quote escaped."""

ANSWER_S = 1.0
"""What a run that must end within the call leaves of its budget: enough to give the session back and to answer."""

INTERRUPT_S = 1.0
"""What such a run leaves besides, so that code which is interrupted at its limit can end within the call."""

LEAVE_S = CALL_BUDGET_S - INLINE_LIMIT.total_seconds()
"""What is left of the budget when a call stops waiting for its run."""

Mode = Literal["auto", "inline", "async"]
"""`auto`: with the result if that is there in time; `inline`: with the result; `async`: at once."""


@dataclass(frozen=True, slots=True)
class Once:
    """What makes a repeated request known: its caller's key, and a digest of all that it asks for."""

    idempotency_key: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a caller wants to be run. `file_ids` None means all of the chat's files."""

    key: ChatKey
    code: str
    file_ids: Sequence[str] | None
    limit: timedelta
    on_busy: OnBusy
    mode: Mode = "auto"
    once: Once | None = None
    run_id: str | None = None
    """The run's id, where its caller has drawn it, and sends no `once`: it is a new one."""

    @property
    def is_awaited(self) -> bool:
        """Somebody may ask for the run who has not been answered: it is to be known before it begins."""
        return self.once is not None or self.run_id is not None or self.mode == "async"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReply:
    """What came of a run, or that it goes on; and when the session ends that it ran in."""

    execution: Execution
    expires_in: timedelta
    timings: Timings
    is_repeated: bool = False
    """It is a run that a request before this one has begun."""
