"""What goes wrong: sandboxes, the control plane's calls, and the API's own process."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import httpx

from local.stack import Stack
from soak.chat import Chat
from soak.service import Outages, pause
from soak.tally import Tally

SANDBOX_FAULTS: Mapping[str, float] = {
    "vanish": 2,
    "expire": 1,
    "delete": 2,
    "pause": 4,
    "run_dropped": 4,
    "unreachable": 3,
}
FATAL = {"vanish", "expire", "delete"}
TRAPS = {"run_dropped", "unreachable"}
"""These wait for the sandbox's next request, the others happen at once. A connection that breaks costs nothing."""

CALL_FAULTS = ("rate_limited", "unavailable", "failed", "slow", "reply_lost")
CALLS: Mapping[str, float] = {"create": 4, "connect": 4, "kill": 2, "timeout": 3, "list": 0.7}
SANDBOX_SHARE = 0.6
"""Of all faults, how many befall sandboxes; the others befall the control plane."""
MOST_PLANNED = 2
"""More failures of one call do not wait at a time: calls differ in how often they come."""
SLOWEST_MS = 5_000
UNREACHABLE_TIMES = 12
"""Enough that a call gives up now and then."""
EVENTS_SHARE = 0.2
"""Of all kills, how many hit what calls cleanup."""


@dataclass(frozen=True, slots=True)
class Mischief:
    """Breaks things at random. The chats whose sandboxes suffer hear of it, as their truth must allow for it."""

    sandboxes: httpx.AsyncClient
    chats: Sequence[Chat]
    tally: Tally
    dice: Random

    async def make(self, every_s: float, stop: asyncio.Event) -> None:
        """Plans a fault every so often, until told to stop."""
        while not await pause(stop, self.dice.expovariate(1 / every_s)):
            if self.dice.random() < SANDBOX_SHARE:
                await self._strike()
            else:
                await self._spoil_calls()

    async def end(self) -> None:
        """Returns once nothing that was planned will happen any more."""
        await self.sandboxes.delete("/admin/faults")

    async def _strike(self) -> None:
        chat = self.dice.choice(self.chats)
        sandbox_id = chat.truth.sandbox_id
        if sandbox_id is None:
            return
        kind = self.dice.choices([*SANDBOX_FAULTS], [*SANDBOX_FAULTS.values()])[0]
        if kind in TRAPS:
            await self._set_trap(chat, kind, sandbox_id)
            return
        _mark(chat, kind)
        done = await (self._delete(sandbox_id) if kind == "delete" else self._befall(kind, sandbox_id))
        _mark(chat, kind)
        if done:
            self.tally.faults[kind] += 1
            chat.note(f"fault: {kind} of {sandbox_id}")

    async def _befall(self, kind: str, sandbox_id: str) -> bool:
        fault = {"kind": kind, "sandbox_id": sandbox_id}
        return (await self.sandboxes.post("/admin/faults", json=fault)).is_success

    async def _delete(self, sandbox_id: str) -> bool:
        """Ends the sandbox behind the service's back, by a call that may itself meet a fault."""
        try:
            return (await self.sandboxes.delete(f"/sandboxes/{sandbox_id}")).is_success
        except httpx.TransportError:
            return True

    async def _set_trap(self, chat: Chat, kind: str, sandbox_id: str) -> None:
        times = 1
        if kind == "unreachable":
            times = self.dice.randint(1, UNREACHABLE_TIMES)
            chat.traps += times
        fault = {"kind": kind, "sandbox_id": sandbox_id, "times": times, "after_bytes": self.dice.randint(0, 400)}
        await self.sandboxes.post("/admin/faults", json=fault)
        self.tally.faults[kind] += 1
        chat.note(f"fault: {kind} of {sandbox_id}, {times} times")

    async def _spoil_calls(self) -> None:
        call = self.dice.choices([*CALLS], [*CALLS.values()])[0]
        kind = self.dice.choice(CALL_FAULTS)
        planned = (await self.sandboxes.get("/admin/faults")).json()
        if sum(fault["call"] == call for fault in planned) >= MOST_PLANNED:
            return
        fault = {"kind": kind, "call": call, "delay_ms": self.dice.randint(300, SLOWEST_MS)}
        (await self.sandboxes.post("/admin/faults", json=fault)).raise_for_status()
        self.tally.faults[f"{call} {kind}"] += 1


def _mark(chat: Chat, kind: str) -> None:
    """Lets the chat know: before, as it may find out at once, and after, as it may take a while."""
    chat.struck_at = time.monotonic()
    if kind in FATAL:
        chat.truth.lost_at = chat.struck_at


async def kill_servers(
    stack: Stack, outages: Outages, tally: Tally, dice: Random, *, every_s: float, stop: asyncio.Event
) -> None:
    """Kills the API hard, and now and then what calls cleanup, and starts them anew, until told to stop."""
    while not await pause(stop, dice.uniform(every_s * 2 / 3, every_s * 4 / 3)):
        if dice.random() < EVENTS_SHARE:
            await asyncio.to_thread(stack.restart, "events")
            tally.kills["events"] += 1
            continue
        outages.up.clear()
        outages.kills += 1
        await asyncio.to_thread(stack.restart, "api")
        outages.up.set()
        tally.kills["api"] += 1
