"""`python -m bench throughput`: how many calls one process of the API answers, with instant sandboxes."""

import http.client
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from bench.chapters import Chapter, Table
from bench.instant import STORES
from bench.samples import Sample, timed
from local.processes import Processes
from local.settings import Settings
from local.stack import Stack

CHATS = (1, 10, 100)
CALLS = 1_000
"""Of each kind, after `WARMING` that are not counted."""
WARMING = 100
READY_WITHIN_S = 20
LEAST_KEPT = 0.8
"""How much of the throughput with ten chats has to be left with a hundred."""
MOST_GROWTH_MIB = 64


@dataclass(frozen=True, slots=True)
class Api:
    """A server under test."""

    url: str
    token: str
    pid: int

    def connect(self) -> http.client.HTTPConnection:
        """Returns a connection that is kept between calls."""
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)

    def run(self, connection: http.client.HTTPConnection, chat_id: str) -> None:
        """Runs code in the chat; it must succeed."""
        body = json.dumps({"chatId": chat_id, "code": "1 + 1"})
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request("POST", "/api/jupyter/execute", body, headers)
        reply = connection.getresponse()
        answer = reply.read()
        if reply.status != http.client.OK:
            raise RuntimeError(f"{chat_id}: {reply.status} {answer[:300]!r}")

    def health(self, connection: http.client.HTTPConnection, _: str) -> None:
        """Asks for what needs nothing but the web framework."""
        connection.request("GET", "/api/health")
        connection.getresponse().read()

    @property
    def memory_mib(self) -> float:
        """Returns the memory that is its own (PSS)."""
        found = re.search(r"^Pss:\s*(\d+) kB", Path(f"/proc/{self.pid}/smaps_rollup").read_text(), re.MULTILINE)
        if found is None:
            raise RuntimeError("the kernel does not tell a process' own share of memory")
        return int(found[1]) / 1024


@dataclass(frozen=True, slots=True)
class Load:
    """What came of so many chats that called as fast as they were answered."""

    chats: int
    durations: Sample
    per_second: float


def load(api: Api, name: str, chats: int) -> Load:
    """Returns what the chats saw. Each has a connection of its own, and its next call follows its last."""
    work = {"run": api.run, "health": api.health}[name]
    connections = {f"load-{number}": api.connect() for number in range(chats)}

    def one(chat_id: str, calls: int) -> list[float]:
        return [timed(lambda: work(connections[chat_id], chat_id)) for _ in range(-(-calls // chats))]

    with ThreadPoolExecutor(chats) as pool:
        [*pool.map(lambda chat_id: one(chat_id, WARMING), connections)]
        started = time.perf_counter()
        taken = [*pool.map(lambda chat_id: one(chat_id, CALLS), connections)]
        elapsed_s = time.perf_counter() - started
    durations = [*chain.from_iterable(taken)]
    for connection in connections.values():
        connection.close()
    return Load(chats, Sample(name, durations), len(durations) / elapsed_s)


@contextmanager
def serving(stack: Stack, processes: Processes, store: str) -> Iterator[Api]:
    """The API on this store, beside the stack."""
    port = int(urlsplit(Settings().on_free_ports().with_ports_chosen().api_url).port or 0)
    environment = {**stack.environment, "MAX_SESSIONS_PER_OWNER": "100"}
    server = processes.start(store, [sys.executable, "-m", "bench.instant", str(port), store], environment)
    api = Api(f"http://127.0.0.1:{port}", stack.settings.api_key, server.process.pid)
    until = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            api.health(connection := api.connect(), "")
            connection.close()
            break
        except OSError:
            server.check()
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    yield api
    server.stop()


def chapter() -> Chapter:
    """Measures, each store in turn."""
    rows: list[tuple[str, ...]] = []
    promises: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as logs, Stack(Settings().on_free_ports(), Path(logs)) as stack:
        for store in STORES:
            with Processes(Path(logs)) as processes, serving(stack, processes, store) as api:
                loads: list[Load] = []
                memory: list[float] = []
                for chats in CHATS:
                    floor = load(api, "health", chats)
                    loads.append(load(api, "run", chats))
                    memory.append(api.memory_mib)
                    rows.append(_row(store, loads[-1], loads[0], floor, memory[-1]))
            kept, growth = loads[-1].per_second / loads[1].per_second, memory[-1] - memory[0]
            promises[f"{store}: with {CHATS[-1]} chats {kept:.2f} ≥ {LEAST_KEPT} of the calls with {CHATS[1]}"] = (
                kept >= LEAST_KEPT
            )
            promises[
                f"{store}: {growth:.0f} MiB ≤ {MOST_GROWTH_MIB} MiB more memory with {CHATS[-1]} than with 1"
            ] = growth <= MOST_GROWTH_MIB
    columns = ("store, chats at once", "calls/s", "to 1 chat", "p50 ms", "p95 ms", "p99 ms", "health/s", "MiB")
    return Chapter(
        "Throughput of one process",
        f"""
{CALLS:,} calls `1 + 1` from chats that each ask again as soon as they have been answered, over kept connections;
the sandbox answers at once. On the store in memory what is left is the service and its web framework; on `dynamodb`
the local emulator answers, which shares the processors and is the slower part. Beside it as many requests for
`/api/health`, which is the framework alone. A Lambda instance has one call at a time: see the rows of one chat.
""",
        [Table(columns, rows)],
        promises,
    )


def _row(store: str, load: Load, first: Load, floor: Load, memory_mib: float) -> tuple[str, ...]:
    quantiles = (f"{load.durations.quantile(percent):,.1f}" for percent in (50, 95, 99))
    relative = load.per_second / first.per_second
    return (
        f"{store}, {load.chats}",
        f"{load.per_second:,.0f}",
        f"{relative:.2f}",
        *quantiles,
        f"{floor.per_second:,.0f}",
        f"{memory_mib:.0f}",
    )
