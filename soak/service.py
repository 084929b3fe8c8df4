"""Calls of the API, answered or cut off."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from soak.tally import Tally

LONGEST_REPLY_S = 30.0
GIVEN_UP_AFTER_S = 60.0

NO_HEADERS: Mapping[str, str] = {}
PROBLEM = "urn:sandkeeper:problem:"
HONEST = {409: {"session-busy"}, 429: {"quota-exceeded"}, 503: {"capacity-exhausted", "sandbox-unavailable"}}
"""The refusals that faults may cause, by status: whatever was asked for has not begun."""


@dataclass(slots=True)
class Outages:
    """When the API was not there."""

    kills: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)

    def mark(self) -> tuple[int, bool]:
        """Returns what is to be compared with a later mark: unequal, or down, means that there was an outage."""
        return self.kills, self.up.is_set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a call. `status` 0: no answer, and `broke` says whether the call may have been begun."""

    status: int
    broke: Literal["", "refused", "cut"] = ""
    body: dict[str, Any] = field(default_factory=dict)
    sent_at: float
    at: float
    is_replay: bool = False
    """It says that it is an earlier request's."""
    is_late: bool = False
    """It came to a later request than the one that began what it tells of."""

    @property
    def slug(self) -> str:
        """The kind of problem, empty for an answer that is none."""
        return str(self.body.get("type", "")).removeprefix(PROBLEM)

    @property
    def is_refusal(self) -> bool:
        """Whether the service says, or the connection shows, that nothing was begun."""
        return self.broke == "refused" or self.slug in HONEST.get(self.status, ())

    @property
    def shown(self) -> str:
        """The answer in a line of history."""
        return f"{self.broke or self.status}{f' {self.slug}' if self.slug else ''} ({self.at - self.sent_at:.2f} s)"


Complain = Callable[[str], None]


class Service:
    """The API as one owner sees it. What no call may answer is a violation here already."""

    def __init__(self, http: httpx.AsyncClient, token: str, outages: Outages, tally: Tally) -> None:
        self._http, self._outages, self._tally = http, outages, tally
        self._headers = {"Authorization": f"Bearer {token}"}

    async def call(
        self,
        complain: Complain,
        name: str,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] = NO_HEADERS,
        expected: set[int],
    ) -> Answer:
        """Returns the answer; `name` is what it is counted as, `expected` which statuses beside refusals."""
        before, sent_at = self._outages.mark(), time.monotonic()
        try:
            reply = await self._http.request(method, path, json=json, headers={**self._headers, **headers})
        except httpx.TransportError as error:
            answer = Answer(
                status=0,
                broke="refused" if isinstance(error, httpx.ConnectError) else "cut",
                sent_at=sent_at,
                at=time.monotonic(),
            )
            if before == self._outages.mark() and self._outages.up.is_set():
                complain(f"{name}: {type(error).__name__}, though the API was not killed")
        else:
            body = reply.json() if reply.content else {}
            answer = Answer(
                status=reply.status_code,
                body=body,
                sent_at=sent_at,
                at=time.monotonic(),
                is_replay="idempotency-replayed" in reply.headers,
            )
            self._check(complain, name, reply, answer, expected)
        self._tally.calls[f"{name} {answer.broke or answer.status}"] += 1
        return answer

    def _check(
        self, complain: Complain, name: str, reply: httpx.Response, answer: Answer, expected: set[int]
    ) -> None:
        if answer.at - answer.sent_at > LONGEST_REPLY_S:
            complain(f"{name} took {answer.at - answer.sent_at:.1f} s")
        if answer.slug:
            self._tally.problems[f"{answer.status} {answer.slug}"] += 1
        if answer.is_refusal and "retry-after" not in reply.headers:
            complain(f"{name}: {answer.status} without Retry-After")
        if not answer.is_refusal and answer.status not in expected:
            complain(f"{name}: {answer.status} {answer.slug or 'without a problem'} {answer.body.get('requestId')}")

    async def upload(self, ticket: dict[str, Any], content: bytes) -> bool:
        """Sends the file to where its ticket says. Returns whether it was taken."""
        try:
            reply = await self._http.post(ticket["url"], data=ticket["fields"], files={"file": content})
        except httpx.TransportError:
            return False
        return reply.is_success

    async def back(self) -> None:
        """Returns once the API is there again."""
        await self._outages.up.wait()


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Returns after so long, or as soon as it is time to stop, and then True."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
