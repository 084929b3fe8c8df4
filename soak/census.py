"""The sandboxes that there are, counted against each other and against the rows."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from local import aws
from sandkeeper.adapters.dynamodb import items
from soak.tally import Tally

SAMPLE_EVERY_S = 4.0
GRACE_S = 120.0
"""Two claim windows, within which a sandbox that has been replaced is nobody's orphan yet, and some cleanups."""
GONE_WITHIN_S = 240.0
POLL_EVERY_S = 2.0
LIVE = ("running", "paused")

Record = Mapping[str, Any]
"""A sandbox as the server's `/admin/sandboxes` tells of it."""


@dataclass(slots=True)
class Census:
    """Looks at the server's sandboxes and the table's rows."""

    sandboxes: httpx.AsyncClient
    aws_url: str
    tally: Tally
    most_live: int = 0
    _replaced_since: dict[str, float] = field(default_factory=dict)
    """Sandbox id → since when its chat has been seen with a newer one beside it."""

    async def watch(self) -> None:
        """Looks every so often whether a chat has two sandboxes for longer than it may, until cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            self.look(await self._records(), time.monotonic())

    def look(self, records: Sequence[Record], now: float) -> None:
        """Takes a sample into account."""
        live = [record for record in records if record["state"] in LIVE]
        self.most_live = max(self.most_live, len(live))
        replaced = {record["sandboxID"]: record for record in _replaced(live)}
        for sandbox_id, record in replaced.items():
            since = self._replaced_since.setdefault(sandbox_id, now)
            if since <= now - GRACE_S:
                chat, generation = record["metadata"].get("chat"), record["metadata"].get("generation")
                self.tally.violate(
                    f"{sandbox_id} of generation {generation} has been beside a newer sandbox for {GRACE_S:.0f} s",
                    f"chat {chat}",
                )
                self._replaced_since[sandbox_id] = float("inf")  # told once
        self._replaced_since = {known: at for known, at in self._replaced_since.items() if known in replaced}

    async def await_end(self) -> None:
        """Returns once no sandbox is left; complains of those that no row knows, and of those that stay."""
        began = time.monotonic()
        orphans_until = 0.0
        while live := await self._live():
            waited = time.monotonic() - began
            if await self._orphans(live):
                orphans_until = waited
            if waited > GONE_WITHIN_S:
                for record in live:
                    self.tally.violate(f"{record['sandboxID']} was never ended", _chat(record))
                break
            await asyncio.sleep(POLL_EVERY_S)
        if orphans_until > GRACE_S:
            self.tally.violate(f"orphans were there until {orphans_until:.0f} s after the last call", "the end")
        self.tally.facts["after the last call: the last sandbox without a row was gone"] = f"{orphans_until:.0f} s"
        self.tally.facts["after the last call: the last sandbox was gone"] = f"{time.monotonic() - began:.0f} s"

    async def conclude(self) -> None:
        """Counts all sandboxes and runs that there were, and looks for two of one claim and for rows left open."""
        records = await self._records()
        states = Counter(str(record["state"]) for record in records)
        self.tally.facts["sandboxes created"] = str(len(records))
        self.tally.facts["most at once"] = str(self.most_live)
        self.tally.facts["how they ended"] = ", ".join(f"{state} {states[state]}" for state in sorted(states))
        claims = Counter(str(record["metadata"].get("claim")) for record in records)
        for claim, count in claims.items():
            if count > 1:
                self.tally.violate(f"{count} sandboxes were created for one claim", f"claim {claim}")
        for row in await asyncio.to_thread(self._rows):
            if row["state"]["S"] != "closed":
                self.tally.violate(f"the row is still {row['state']['S']!r}", row["pk"]["S"])
        runs = await asyncio.to_thread(self._runs)
        self.tally.facts["runs recorded"] = str(len(runs))
        # Those whose callers were cut off and never knew their ids; all others were asked for to their end.
        self.tally.facts["of them without an end"] = str(sum("endedAs" not in row for row in runs))

    async def _live(self) -> list[Record]:
        return [record for record in await self._records() if record["state"] in LIVE]

    async def _records(self) -> list[Record]:
        records: list[Record] = (await self.sandboxes.get("/admin/sandboxes")).json()
        return records

    async def _orphans(self, live: Sequence[Record]) -> list[Record]:
        rows = await asyncio.to_thread(self._rows)
        known = {row[name]["S"] for row in rows for name in ("sandboxId", "predecessorId") if name in row}
        claims = {row["claimId"]["S"] for row in rows if row["state"]["S"] == "creating"}
        return [
            record
            for record in live
            if record["sandboxID"] not in known and record["metadata"].get("claim") not in claims
        ]

    def _rows(self) -> list[dict[str, Any]]:
        return self._scan("sk = :kind", items.SESSION)

    def _runs(self) -> list[dict[str, Any]]:
        return self._scan("begins_with(sk, :kind)", items.RUN)

    def _scan(self, condition: str, kind: str) -> list[dict[str, Any]]:
        pages = (
            aws.client("dynamodb", self.aws_url)
            .get_paginator("scan")
            .paginate(
                TableName=aws.TABLE,
                FilterExpression=condition,
                ExpressionAttributeValues={":kind": {"S": kind}},
            )
        )
        return [row for page in pages for row in page["Items"]]


def _replaced(live: Sequence[Record]) -> list[Record]:
    """Returns those beside which their chat has a newer one."""
    chats: dict[str, list[Record]] = defaultdict(list)
    for record in live:
        chats[_chat(record)].append(record)
    return [
        record
        for ofchat in chats.values()
        for record in sorted(ofchat, key=lambda record: str(record["startedAt"]))[:-1]
    ]


def _chat(record: Record) -> str:
    return str(record["metadata"].get("chat"))
