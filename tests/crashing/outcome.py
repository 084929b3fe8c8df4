"""What is known of a call of the service, whether it came to its end or died on the way."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SIGKILLED = -9


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker has told of what it did, and how it ended."""

    do: str
    events: tuple[dict[str, Any], ...]

    @property
    def exit_code(self) -> int:
        """Returns its exit status; that of a signal is negative."""
        return int(self._last("exit"))

    @property
    def was_killed(self) -> bool:
        """Returns whether it has died at the moment at which it was to."""
        return self.exit_code == SIGKILLED

    @property
    def reply(self) -> dict[str, Any] | None:
        """Returns what the caller has got: the API's answer to an execution that has ended."""
        reply: dict[str, Any] | None = self._last("reply")
        return reply

    @property
    def is_repeated(self) -> bool:
        """Returns whether the reply is of a run that was asked for before."""
        return bool(self._last("repeated"))

    @property
    def accepted(self) -> dict[str, Any] | None:
        """Returns what the caller has got whose run goes on: where to ask for it."""
        accepted: dict[str, Any] | None = self._last("accepted")
        return accepted

    @property
    def found(self) -> dict[str, Any] | None:
        """Returns what has become of a run that was asked for."""
        found: dict[str, Any] | None = self._last("found")
        return found

    @property
    def kept(self) -> list[str] | None:
        """Returns the contents of the chat's artifacts."""
        kept: list[str] | None = self._last("kept")
        return kept

    @property
    def report(self) -> dict[str, Any] | None:
        """Returns what a cleanup has reported."""
        report: dict[str, Any] | None = self._last("report")
        return report

    @property
    def calls(self) -> list[str]:
        """Returns the I/O calls, as `store.claim#1`, in the order in which they began."""
        return [event["begun"] for event in self.events if "begun" in event]

    @property
    def moments(self) -> list[str]:
        """Returns the moments at which the worker may die: right before and right after each of its I/O calls.

        Right before a call is right after the one before it, where one thread makes both and nothing goes on beside
        them. Of one call made many times over, the first and the last time stand for all.
        """
        alone = self._alone()
        times = Counter(call.split("#")[0] for call in self.calls)
        return [
            f"{side} {call}"
            for previous, call in pairwise(["", *self.calls])
            if call.endswith(("#1", f"#{times[call.split('#')[0]]}"))
            for side in (["after"] if {previous, call} <= alone else ["before", "after"])
        ]

    def _alone(self) -> set[str]:
        """Returns the calls of the main thread beside which there were no others."""
        alone, under_way = set[str](), set[str]()
        for event in self.events:
            if "begun" in event:
                under_way.add(event["begun"])
                alone = alone - under_way if len(under_way) > 1 or not event["main"] else alone | under_way
            under_way.discard(event.get("ended", ""))
        return alone

    @property
    def done(self) -> set[str]:
        """Returns the I/O calls that have succeeded."""
        return {event["ended"] for event in self.events if "ended" in event and not event["failed"]}

    @property
    def has_given_back(self) -> bool:
        """Returns whether it has run its code and then given the session back, or left it."""
        ended = [event["ended"].split("#")[0] for event in self.events if event.get("ended") in self.done]
        after_run = ended[ended.index("sandboxes.run") :] if "sandboxes.run" in ended else []
        return not {"store.release", "store.leave"}.isdisjoint(after_run)

    def sandboxes(self, method: str) -> set[str]:
        """Returns the ids of the sandboxes for which calls of this method have succeeded."""
        return {
            event["sandbox"]
            for event in self.events
            if event.get("begun") in self.done and event["begun"].startswith(f"{method}#")
        }

    def __str__(self) -> str:
        return "\n".join(map(json.dumps, self.events))

    def _last(self, kind: str) -> Any:
        return next((event[kind] for event in reversed(self.events) if kind in event), None)
