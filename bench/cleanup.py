"""`python -m bench cleanup`: what one tick of cleanup costs, with ever more live sessions and as many expired ones.

Counted on moto, in this process: requests, and items that they read. A tick's cost must not grow with what is live.
The sweep through all sandboxes has a bound instead: see the last lines.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import boto3
from moto import mock_aws

from bench.chapters import Chapter, Table
from local.template import Template
from sandkeeper.adapters import dynamodb
from sandkeeper.adapters.dynamodb.items import claim_item, session_item
from sandkeeper.adapters.memory import (
    MemoryArtifactCatalog,
    MemoryArtifactContents,
    MemoryJournal,
    MemoryRunLog,
    MemorySandboxProvider,
)
from sandkeeper.model import ChatKey, Lifetimes, SandboxRef, Session, SessionState
from sandkeeper.ports import SandboxSpec
from sandkeeper.services import marks
from sandkeeper.services.artifacts import Artifacts
from sandkeeper.services.cleanup import Cleanup, CleanupReport
from sandkeeper.services.collect import Collect
from sandkeeper.services.ending import Ending
from sandkeeper.services.reconcile import Reconcile

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIFETIMES = Lifetimes(session_timeout=timedelta(minutes=30))
STACK = "bench"
TABLE = "sessions"
EXPIRED = 50
BATCH = 25
LIVE = (100, 10_000, 100_000)
SANDBOXES = (1_000, 5_000)


@dataclass(slots=True)
class Counted:
    """A DynamoDB client that counts, and takes one request at a time: moto is no server."""

    client: Any
    requests: int = 0
    items_read: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Stands in the way of every request."""
        send = self.client._make_api_call

        def counted(operation: str, request: dict[str, Any]) -> Any:
            # Without a filter, what a query reads is what it returns.
            assert "FilterExpression" not in request, operation
            with self._lock:
                reply = send(operation, request)
            self.requests += 1
            self.items_read += _items_in(reply)
            return reply

        self.client._make_api_call = counted

    def reset(self) -> None:
        """Counts from zero again."""
        self.requests = self.items_read = 0


def _items_in(reply: dict[str, Any]) -> int:
    batch = sum(len(items) for items in reply.get("Responses", {}).values())
    return int(reply.get("Count", 0)) + batch + ("Item" in reply)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one tick took."""

    live: int
    sandboxes: int
    requests: int
    items_read: int
    report: CleanupReport


def chapter() -> Chapter:
    """Counts; fails when a tick leaves something undone."""
    rows = [tick(live, sandboxes=EXPIRED + LIVE[0]) for live in LIVE]
    bounded = [tick(LIVE[1], sandboxes=sandboxes) for sandboxes in SANDBOXES]
    if any(cost.report.ended != EXPIRED for cost in [*rows, *bounded]):
        raise RuntimeError("a tick left something undone")
    columns = ("live sessions", "expired sessions", "sandboxes", "requests", "items read", "sessions ended")
    figures = [
        (cost.live, EXPIRED, cost.sandboxes, cost.requests, cost.items_read, cost.report.ended)
        for cost in [*rows, *bounded]
    ]
    return Chapter(
        "A tick of cleanup",
        f"""
Requests to DynamoDB and items that they read, counted on moto in one process: {EXPIRED} sessions have expired,
ever more live. The sweep through the provider's sandboxes looks at a bounded number per tick; the last two rows
have more.
""",
        [Table(columns, [[f"{figure:,}" for figure in row] for row in figures])],
        {
            f"the cost of a tick is the same with {LIVE[0]:,} and with {LIVE[-1]:,} live sessions": (
                len({(cost.requests, cost.items_read) for cost in rows}) == 1
            ),
            f"and with {SANDBOXES[0]:,} and {SANDBOXES[-1]:,} sandboxes": len({cost.requests for cost in bounded})
            == 1,
        },
    )


def tick(live: int, *, sandboxes: int) -> Cost:
    """Returns what one tick costs with so many live rows, and so many sandboxes at the provider."""
    with mock_aws(), patch.dict("os.environ", AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none"):  # noqa: S106
        client = boto3.client("dynamodb", region_name="us-east-1")
        client.create_table(TableName=TABLE, **Template.of_this_project().table())
        counted = Counted(client)
        provider = MemorySandboxProvider(clock=lambda: NOW - timedelta(minutes=40))
        sessions = [*(_session(number, NOW - timedelta(seconds=1)) for number in range(EXPIRED))]
        sessions += [_session(EXPIRED + number, NOW + timedelta(minutes=20)) for number in range(live)]
        for session in sessions[:sandboxes]:
            provider.create(_spec(session), within=timedelta(seconds=1))
        _write(client, sessions, pointed=sandboxes)
        counted.reset()
        with _cleanup(client, provider) as cleanup:
            report = cleanup(everything=False, time_left_s=lambda: 240.0)
        return Cost(live, sandboxes, counted.requests, counted.items_read, report)


@contextmanager
def _cleanup(client: Any, provider: MemorySandboxProvider) -> Iterator[Cleanup]:
    table = dynamodb.Table(client, TABLE)
    store, journal = dynamodb.DynamoSessionStore(table), MemoryJournal()
    with ThreadPoolExecutor(8) as beside:
        artifacts = Artifacts(MemoryArtifactCatalog(), MemoryArtifactContents(), provider, beside, journal)
        collect = Collect(store, provider, MemoryRunLog(), artifacts, LIFETIMES, lambda: NOW, journal)
        ending = Ending(store, provider, collect, LIFETIMES, lambda: NOW, lambda: "never")
        reconcile = Reconcile(ending, STACK, dynamodb.DynamoSweepStore(table), beside, journal)
        yield Cleanup(ending, reconcile, beside, journal)


def _session(number: int, expires_at: datetime) -> Session:
    return Session(
        key=ChatKey(f"owner-{number % 1_000}", f"chat-{number}"),
        state=SessionState.READY,
        generation=1,
        claim_id=f"claim-{number}",
        created_at=NOW - timedelta(minutes=40),
        last_used_at=expires_at - LIFETIMES.session_timeout,
        expires_at=expires_at,
        sandbox=SandboxRef(sandbox_id=f"sbx{number + 1}", domain=None, envd_version="0"),
        run_count=1,
    )


def _spec(session: Session) -> SandboxSpec:
    """Returns what gives the memory provider's next sandbox, whose ids count from 1."""
    return SandboxSpec(
        idempotency_key=session.claim_id,
        lifetime=timedelta(minutes=5),
        pauses=True,
        metadata=marks.of_session(STACK, session),
    )


def _write(client: Any, sessions: Sequence[Session], *, pointed: int) -> None:
    items = [*map(session_item, sessions), *map(claim_item, sessions[:pointed])]
    for begin in range(0, len(items), BATCH):
        requests = [{"PutRequest": {"Item": item}} for item in items[begin : begin + BATCH]]
        client.batch_write_item(RequestItems={TABLE: requests})
