"""One run, from the request to its result: answered at once, looked at until it ends, or sent again under its key.

Whoever is told that a run goes on must get its result, and always the same one; whoever sends a request again under
its key must get the run that the first one began, and never another.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, Protocol

from soak.program import program
from soak.service import NO_HEADERS, Answer

EXECUTE = "/api/jupyter/execute"
SETTLED_WITHIN_S = 120.0
"""So long a request is sent again, or a run looked at beyond its limit: a dead call has its session for 43 s."""
LOOK_MS = 5_000
AGAIN_AFTER_S = 0.5

Repeat = Literal["never", "if cut", "after", "beside"]
"""When a request is sent once more under its key; `never`: it has none."""
MODES = {"auto": 60, "async": 25, "inline": 15}
REPEATS: dict[Repeat, float] = {"never": 60, "if cut": 15, "after": 15, "beside": 10}


@dataclass(frozen=True, slots=True)
class Manner:
    """How a run is asked for."""

    mode: str = "auto"
    repeat: Repeat = "never"

    @classmethod
    def drawn(cls, dice: Random) -> "Manner":
        """Returns a manner at random."""
        (mode,) = dice.choices([*MODES], [*MODES.values()])
        (repeat,) = dice.choices([*REPEATS], [*REPEATS.values()])
        return cls(mode, repeat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A run that a chat wants."""

    chat_id: str
    run_id: str
    nap_s: float
    limit_ms: int
    manner: Manner

    @property
    def body(self) -> dict[str, Any]:
        """What is sent, each time."""
        code = program(self.run_id, self.nap_s)
        return {"chatId": self.chat_id, "code": code, "timeoutMs": self.limit_ms, "mode": self.manner.mode}

    @property
    def headers(self) -> dict[str, str]:
        """The key, if it has one."""
        return {} if self.manner.repeat == "never" else {"Idempotency-Key": self.run_id}


Meanwhile = Callable[[Answer], Awaitable[None]]


class Call(Protocol):
    """Asks the service."""

    def __call__(
        self,
        name: str,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] = NO_HEADERS,
        expected: set[int],
    ) -> Awaitable[Answer]:
        """Returns what came of it."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """Gets the results of one chat's runs. Complains of what contradicts another answer to the same run."""

    call: Call
    complain: Callable[[str], None]

    async def result(self, wish: Wish, meanwhile: Meanwhile | None = None) -> Answer:
        """Returns the answer with the run's result, or the one that leaves open what came of it.

        It is as old as the first request. Of a run that goes on, `meanwhile` hears before its end is waited for.
        """
        if wish.manner.repeat == "beside":
            first = self._one_of(wish, *await asyncio.gather(self._post(wish), self._post(wish)))
        else:
            first = await self._post(wish)
        if first.broke == "cut" and wish.manner.repeat != "never":
            first = await self._sent_again(wish, first)
        if first.status == 202:
            if meanwhile is not None:
                await meanwhile(first)
            return await self._looked_at(wish, first)
        if first.status == 200 and wish.manner.repeat == "after":
            self._compare(wish, first, await self._post(wish))
        return first

    async def _post(self, wish: Wish) -> Answer:
        return await self.call("run", "POST", EXECUTE, json=wish.body, headers=wish.headers, expected={200, 202})

    def _one_of(self, wish: Wish, one: Answer, other: Answer) -> Answer:
        """Returns the answer that says more, as old as the older one."""
        better, worse = sorted((one, other), key=_worth, reverse=True)
        if better.status in (200, 202) and worse.status in (200, 202):
            ids = {answer.body["executionId"] for answer in (one, other)}
            if len(ids) != 1:
                self.complain(f"{wish.run_id}: two requests of one key began two runs")
            if one.is_replay and other.is_replay:
                self.complain(f"{wish.run_id}: of two requests of one key none is the first")
        return replace(better, sent_at=min(one.sent_at, other.sent_at))

    async def _sent_again(self, wish: Wish, cut: Answer) -> Answer:
        """Returns what the request is answered that was cut off; the cut one where nobody can tell for long."""
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while time.monotonic() < deadline:
            again = await self._post(wish)
            if again.status in (200, 202):
                return replace(again, sent_at=cut.sent_at, is_late=True)
            await asyncio.sleep(AGAIN_AFTER_S)
        return cut

    async def _looked_at(self, wish: Wish, accepted: Answer) -> Answer:
        """Returns the result of a run that was said to go on."""
        path = accepted.body["statusUrl"]
        deadline = time.monotonic() + wish.limit_ms / 1000 + SETTLED_WITHIN_S
        while time.monotonic() < deadline:
            looked = await self._look(path, LOOK_MS)
            if looked.status == 200 and looked.body["state"] == "ended":
                told = replace(looked, body=looked.body["result"], sent_at=accepted.sent_at, is_late=True)
                if told.body["executionId"] != accepted.body["executionId"]:
                    self.complain(f"{wish.run_id}: another run's result was told")
                self._compare(wish, told, await self._post(wish) if wish.headers else await self._look(path))
                return told
            if looked.status == 404:
                break
            if looked.status != 200:
                await asyncio.sleep(AGAIN_AFTER_S)
        self.complain(f"{wish.run_id} was accepted, and no result was told")
        return replace(accepted, status=0, broke="cut", body={})

    async def _look(self, path: str, wait_ms: int = 0) -> Answer:
        return await self.call("look at run", "GET", f"{path}?waitMs={wait_ms}", expected={200})

    def _compare(self, wish: Wish, told: Answer, again: Answer) -> None:
        """Complains if a result that was told once is told otherwise. Nobody need be there to tell it again."""
        if again.status not in (200, 202):
            return
        result = again.body.get("result") or again.body
        if again.status == 202 or _essence(result) != _essence(told.body):
            self.complain(f"{wish.run_id}: a result was told, and then another one")
        if "state" not in again.body and not again.is_replay:
            self.complain(f"{wish.run_id}: a request was repeated, and not taken for the one before")


def _worth(answer: Answer) -> tuple[bool, bool, bool]:
    return answer.status == 200, answer.status == 202, answer.broke == "cut"


def _essence(result: dict[str, Any]) -> dict[str, Any]:
    """Returns what does not depend on when, and by whom, it is told."""
    return {name: result[name] for name in ("executionId", "results", "errorDetail", "session", "sandboxId")}
