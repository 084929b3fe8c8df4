"""One run of code in a kernel: what the kernel says of it becomes events, and at last its end."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from .outputs import Event, error, events

Emit = Callable[[Event], None]

# The reply comes before a kernel is idle, but on another channel; a broken request gets none at all.
REPLY_GRACE_S = 0.5
_NO_REPLY = ("KernelError", "the kernel was done but gave no answer; run the code again")


class Run:
    """One piece of code under way in a kernel.

    Its output comes on one channel and the reply on another, in any order between the two.
    """

    def __init__(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()
        self._emit = emit
        self._failed = False
        self._failed_reply: Mapping[str, Any] | None = None
        self._awaited = {"idle", "reply"}

    def hear(self, message: Mapping[str, Any]) -> None:
        """Takes in a message whose parent is this run's request."""
        content = message["content"]
        match message["msg_type"]:
            case "status":
                if content["execution_state"] == "idle":
                    self._settle("idle")
                    asyncio.get_running_loop().call_later(REPLY_GRACE_S, self.lose, *_NO_REPLY)
            case "execute_reply":
                if content["status"] in ("error", "abort", "aborted"):
                    self._failed_reply = content
                self._settle("reply")
            case "error":
                self._failed = True
                self._tell_error(content)
            case _:
                if message["msg_type"] == "execute_input" and not self.accepted.done():
                    self.accepted.set_result(None)
                for event in events(message):
                    self._emit(event)

    def lose(self, name: str, reason: str) -> None:
        """Ends the run with an error, because its kernel is gone."""
        if not self.finished.done():
            self._emit(error(name, reason, []))
            self.finished.set_result(None)

    def _tell_error(self, content: Mapping[str, Any]) -> None:
        name = content.get("ename", "KeyboardInterrupt")
        self._emit(error(name, content.get("evalue", ""), content.get("traceback", [])))

    def _settle(self, what: str) -> None:
        self._awaited.discard(what)
        if self._awaited or self.finished.done():
            return
        if self._failed_reply and not self._failed:  # a run that was never begun has its error in the reply alone
            self._tell_error(self._failed_reply)
        self.finished.set_result(None)
