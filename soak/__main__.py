"""`make soak`: chats live on the local stack for half an hour while things go wrong; one page says what came of it.

Exit status 1 means that something happened which must not; the page tells what, and what came before.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import httpx

from local import aws
from local.project import ROOT
from local.settings import Settings
from local.stack import E2B_API_KEY, Stack
from sandkeeper.adapters.dynamodb import DynamoApiKeyStore, Table
from sandkeeper.model import ApiKey, utc_now
from sandkeeper.services.auth import hash_token
from soak.census import Census
from soak.chat import Chat, Owner
from soak.mischief import Mischief, kill_servers
from soak.service import GIVEN_UP_AFTER_S, Outages, Service, pause
from soak.tally import Tally

OWNERS = 4
SESSION_TIMEOUT_S = 60
IDLE_PAUSE_S = 15
CLEANUP_EVERY_S = 20
CALLS_PER_S = 6.0
"""Of all chats together; more would keep two cores busy with nothing but waiting for each other."""
BUSIEST_THINKS_S = 2.0
FAULT_EVERY_S = 1.5
ONE_MORE_EVERY_S = 0.8
"""The chats begin one after the other: all first calls at once would be a test of this machine."""
KILL_EVERY_S, KILL_EVERY_S_WHEN_SHORT = 150.0, 30.0
SHORT_S = 600.0
"""A soak shorter than this kills its servers more often, so that it does so at all."""
SPARE_SANDBOXES = 30
TELL_EVERY_S = 30.0


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--chats", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of what is drawn; not of what it meets")
    parser.add_argument("--report", type=Path, default=ROOT / ".run" / "soak.md")
    asked = parser.parse_args()
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    tally = Tally()
    tally.facts["chats, minutes, seed"] = f"{asked.chats}, {asked.minutes:g}, {seed}"
    status = _soak(asked.minutes, asked.chats, seed, asked.report.parent / "soak", tally)
    page = tally.report()
    asked.report.parent.mkdir(parents=True, exist_ok=True)
    asked.report.write_text(page)
    print(page)
    return status


def _soak(minutes: float, chats: int, seed: int, logs: Path, tally: Tally) -> int:
    cap = max(1, -(-chats // OWNERS))
    os.environ |= {
        "E2B_SESSION_TIMEOUT": str(SESSION_TIMEOUT_S * 1000),
        "E2B_IDLE_PAUSE": str(IDLE_PAUSE_S * 1000),
        "MAX_SESSIONS_PER_OWNER": str(cap),
    }
    settings = Settings(cleanup_every_s=CLEANUP_EVERY_S).on_free_ports()
    # Many start and few import anything, so that nothing is preloaded.
    flags = ["--max-sandboxes", str(chats + SPARE_SANDBOXES), "--preload", ""]
    try:
        with Stack(settings, logs, sandbox_flags=flags) as stack:
            asyncio.run(_Soak(stack, chats, cap, seed, tally).run(minutes * 60))
            tally.cleanup.update(_cleanups(logs / "events.log"))
            tally.finished = True
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 1 if tally.violated else 0


class _Soak:
    def __init__(self, stack: Stack, chats: int, cap: int, seed: int, tally: Tally) -> None:
        self._stack, self._tally = stack, tally
        self._dice = Random(seed)  # noqa: S311 - no secret
        self._outages, self._stop = Outages(), asyncio.Event()
        self._count, self._cap = chats, cap

    async def run(self, seconds: float) -> None:
        """Returns when all is over and counted."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None, "a coroutine runs in a task"  # noqa: S101
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        self._outages.up.set()
        settings = self._stack.settings
        # A connection is given up before the server would end it, which could be just as it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=2)
        async with (
            httpx.AsyncClient(base_url=settings.api_url, limits=limits, timeout=GIVEN_UP_AFTER_S) as api,
            httpx.AsyncClient(
                base_url=settings.sandbox_url, headers={"X-API-KEY": E2B_API_KEY}, timeout=GIVEN_UP_AFTER_S
            ) as sandboxes,
        ):
            chats = self._make_chats(api)
            census = Census(sandboxes, settings.aws_url, self._tally)
            async with _beside(census.watch()):
                await self._live(chats, Mischief(sandboxes, chats, self._tally, self._dice), seconds)
                await asyncio.gather(*(chat.run() for chat in chats))
                await census.await_end()
            await census.conclude()

    async def _live(self, chats: Sequence[Chat], mischief: Mischief, seconds: float) -> None:
        """Returns when all chats have ended their last action, and nothing goes wrong any more."""
        every_s = KILL_EVERY_S if seconds >= SHORT_S else KILL_EVERY_S_WHEN_SHORT
        async with asyncio.TaskGroup() as group:
            for chat in chats:
                group.create_task(chat.live())
            group.create_task(mischief.make(FAULT_EVERY_S, self._stop))
            group.create_task(
                kill_servers(self._stack, self._outages, self._tally, self._dice, every_s=every_s, stop=self._stop)
            )
            group.create_task(self._tell())
            await asyncio.sleep(seconds)
            self._stop.set()
        await mischief.end()

    async def _tell(self) -> None:
        """Says on stderr how it goes, until the stop."""
        began, told = time.monotonic(), 0
        while not await pause(self._stop, TELL_EVERY_S):
            tally = self._tally
            for violation in tally.violations[told:]:
                print(f"{violation.where}: {violation.what}", file=sys.stderr)
            told = len(tally.violations)
            print(
                f"{time.monotonic() - began:6.0f} s: {tally.calls.total()} calls, {tally.faults.total()} faults,"
                f" {tally.violated} violations",
                file=sys.stderr,
                flush=True,
            )

    def _make_chats(self, api: httpx.AsyncClient) -> list[Chat]:
        """Returns the chats. The first owner has one more than may live at once, so that some are refused."""
        keys = DynamoApiKeyStore(Table(aws.client("dynamodb", self._stack.settings.aws_url), aws.TABLE))
        owners, services = [], []
        for number in range(OWNERS):
            token = f"sk_soak_{secrets.token_hex(16)}"
            keys.put(_api_key(token, f"owner-{number}"))
            owners.append(Owner(self._cap))
            services.append(Service(api, token, self._outages, self._tally))
        think_s = max(BUSIEST_THINKS_S, self._count / CALLS_PER_S)
        chats = []
        for number in range(self._count):
            which = 0 if number <= self._cap else 1 + number % (OWNERS - 1)
            chats.append(
                Chat(
                    f"c{number}",
                    owners[which],
                    services[which],
                    self._tally,
                    dice=Random(self._dice.random()),  # noqa: S311 - no secret
                    delay_s=number * ONE_MORE_EVERY_S,
                    think_s=think_s,
                    session_timeout_s=SESSION_TIMEOUT_S,
                    stop=self._stop,
                )
            )
        return chats


def _api_key(token: str, owner: str) -> ApiKey:
    return ApiKey(token_hash=hash_token(token), owner=owner, name="soak", created_at=utc_now())


@asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """The work goes on beside the block, and ends with it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _cleanups(log: Path) -> dict[str, int]:
    """Returns the sums of what the cleanups have noted."""
    sums: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            noted = json.loads(line)
            if noted.get("message") == "cleanup.ended":
                sums.update({name: noted[name] for name in ("expired", "killed", "orphans", "skipped", "failed")})
                sums["ticks"] += 1
    return dict(sums)


if __name__ == "__main__":
    sys.exit(main())
