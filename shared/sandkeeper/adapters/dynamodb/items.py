"""Rows of the one table: where each kind lies, and how it is written down.

| item    | pk                        | sk               |
|---------|---------------------------|------------------|
| session | `CHAT#<owner>#<chatId>`   | `SESSION`        |
| file    | `CHAT#<owner>#<chatId>`   | `FILE#<fileId>`  |
| path    | `CHAT#<owner>#<chatId>`   | `PATH#<path>`    |
| run     | `CHAT#<owner>#<chatId>`   | `RUN#<executionId>` |
| artifacts | `CHAT#<owner>#<chatId>` | `ARTIFACTS#<executionId>` |
| notebook | `CHAT#<owner>#<chatId>`  | `NOTEBOOK#<notebookId>` |
| part    | `CHAT#<owner>#<chatId>`   | `PART#<notebookId>#<stamp>` |
| delta   | `CHAT#<owner>#<chatId>`   | `DELTA#<notebookId>#<version>` |
| once    | `ONCE#<digest of owner and idempotency key>` | `ONCE` |
| claim   | `CLAIM#<claimId>`         | `CLAIM`          |
| sweep   | `SWEEP`                   | `SWEEP`          |
| API key | `KEY#<sha256 of token>`   | `KEY`            |

A `claim` row leads from a sandbox, which carries the claim id in its metadata, to the chat that made it. A `path`
row reserves a path for one file. A chat id holds no `#`, so the last one parts owner from chat whatever an owner is
called. Times are epoch milliseconds; `ttl` alone is in seconds, as DynamoDB wants it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, Self
from zlib import crc32

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from sandkeeper.model import (
    ApiKey,
    ChatKey,
    EndReason,
    SandboxRef,
    Session,
    SessionState,
    utc_moment,
)
from sandkeeper.ports import Position

Item = dict[str, Any]
"""An item as botocore takes and gives it: attribute name → typed value."""

SESSION = "SESSION"
FILE = "FILE#"
RUN = "RUN#"
ARTIFACTS = "ARTIFACTS#"
NOTEBOOK = "NOTEBOOK#"
PART = "PART#"
DELTA = "DELTA#"
SHARDS = 16
"""Over how many partitions of `by_expiry` live sessions are spread."""
TTL_GRACE = timedelta(days=7)
"""TTL lies this far behind a live row's expiry, so that cleanup always sees the row first."""

LAST_MILLIS = 253_402_300_800_000
"""The end of the year 9999, in epoch milliseconds: where Python's times end too."""
STAMP = ("state", "claimId", "expiresAt")
"""The attributes by which an unchanged session's row is recognised: using or ending a session changes one."""

_write = TypeSerializer().serialize
_read = TypeDeserializer().deserialize


def typed(values: Mapping[str, Any]) -> Item:
    """Returns the values typed for DynamoDB, which knows a null that equals itself alone."""
    return {name: _write(value) for name, value in values.items()}


def pack(values: Mapping[str, Any]) -> Item:
    """Returns the values typed for DynamoDB, without those that are None."""
    return typed({name: value for name, value in values.items() if value is not None})


def unpack(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an item's plain values; whole numbers are ints."""
    return {name: _plain(_read(value)) for name, value in item.items()}


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) else value


def millis(when: datetime) -> int:
    """Returns the time as epoch milliseconds."""
    return round(when.timestamp() * 1000)


def _moment_of(epoch_ms: object) -> datetime:
    if not isinstance(epoch_ms, int) or not 0 <= epoch_ms < LAST_MILLIS:
        raise ValueError("is no time in epoch milliseconds")
    return utc_moment(epoch_ms)


Moment = Annotated[datetime, BeforeValidator(_moment_of)]
HIGHEST_COUNT = 10**15
"""Far below the 38 digits that a number of DynamoDB holds exactly, so that there is always a next one."""
Count = Annotated[int, Field(ge=0, le=HIGHEST_COUNT, strict=True)]


def _set_of(values: object) -> object:
    if isinstance(values, set):
        return values
    raise ValueError("is no set, so that nothing can be added to it")


Texts = Annotated[frozenset[str], BeforeValidator(_set_of)]


def _maybe_millis(when: datetime | None) -> int | None:
    return None if when is None else millis(when)


def chat_pk(key: ChatKey) -> str:
    """Returns the partition of all that belongs to the chat."""
    return f"CHAT#{key.owner}#{key.chat_id}"


def chat_of(pk: str) -> ChatKey:
    """Returns the chat of a partition."""
    owner, _, chat_id = pk.removeprefix("CHAT#").rpartition("#")
    return ChatKey(owner, chat_id)


def row_key(key: ChatKey, sk: str) -> Item:
    """Returns the primary key of one of the chat's rows."""
    return pack({"pk": chat_pk(key), "sk": sk})


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────


def expiry_shard(key: ChatKey) -> str:
    """Returns the chat's partition in the index `by_expiry`."""
    return f"LIVE#{crc32(chat_pk(key).encode()) % SHARDS}"


def shards() -> list[str]:
    """Returns all partitions of the index `by_expiry`."""
    return [f"LIVE#{number}" for number in range(SHARDS)]


def owner_key(owner: str) -> str:
    """Returns the owner's partition in the index `by_owner`."""
    return f"OWNER#{owner}"


def owned_key(owner: str, position: Position) -> Item:
    """Returns the key in the index `by_owner` of the session at this position."""
    key = ChatKey(owner, position.chat_id)
    return row_key(key, SESSION) | pack({"ownerKey": owner_key(owner), "expiresAt": millis(position.expires_at)})


def position_of(entry: Mapping[str, Any]) -> Position:
    """Returns the position of an entry of the index `by_owner`."""
    return Position(utc_moment(int(entry["expiresAt"]["N"])), chat_of(entry["pk"]["S"]).chat_id)


def ttl_of(expires_at: datetime) -> int:
    """Returns when the table may drop a live row, in epoch seconds."""
    return round((expires_at + TTL_GRACE).timestamp())


def session_item(session: Session) -> Item:
    """Returns the row of a session that is not `closed`: it is in both indexes."""
    return pack(
        {
            "pk": chat_pk(session.key),
            "sk": SESSION,
            "state": session.state.value,
            "generation": session.generation,
            "claimId": session.claim_id,
            "claimUntil": _maybe_millis(session.claim_until),
            **sandbox_values(session),
            "createdAt": millis(session.created_at),
            "lastUsedAt": millis(session.last_used_at),
            "expiresAt": millis(session.expires_at),
            "runId": session.run_id,
            "runUntil": _maybe_millis(session.run_until),
            "runCount": session.run_count,
            "untold": session.untold and session.untold.value,
            "hydrated": dict(session.hydrated),
            "freshFiles": set(session.fresh_files) or None,
            "predecessorId": session.predecessor_id,
            "endReason": session.end_reason and session.end_reason.value,
            "expiryShard": expiry_shard(session.key),
            "ownerKey": owner_key(session.key.owner),
            "ttl": ttl_of(session.expires_at),
        }
    )


def sandbox_values(session: Session) -> dict[str, Any]:
    """Returns what a row says of the session's sandbox; None for what it does not have."""
    sandbox = session.sandbox
    return {
        "sandboxId": sandbox and sandbox.sandbox_id,
        "sandboxDomain": sandbox and sandbox.domain,
        "envdVersion": sandbox and sandbox.envd_version,
        "envdToken": sandbox and sandbox.envd_token,
        "trafficToken": sandbox and sandbox.traffic_token,
        "pausesAt": _maybe_millis(session.pauses_at),
    }


class _SessionRow(BaseModel):
    """A session's row as it ought to be; rows of older versions lack what has a default here."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")

    state: SessionState
    generation: Count
    claim_id: str = Field(strict=True)
    claim_until: Moment | None = None
    sandbox_id: str | None = None
    sandbox_domain: str | None = None
    envd_version: str = "0"
    envd_token: str | None = None
    traffic_token: str | None = None
    pauses_at: Moment | None = None
    expires_at: Moment
    created_at: Moment | None = None
    last_used_at: Moment | None = None
    run_id: str | None = None
    run_until: Moment | None = None
    run_count: Count = 0
    untold: EndReason | None = None
    hydrated: dict[str, str] = Field(default_factory=dict)
    fresh_files: Texts = frozenset()
    predecessor_id: str | None = None
    end_reason: EndReason | None = None

    @model_validator(mode="after")
    def _has_what_its_state_needs(self) -> Self:
        """Refuses a row that could be neither used nor ended: a condition on what is missing never holds."""
        match self.state:
            case SessionState.READY:
                whole = self.sandbox_id is not None
            case SessionState.CREATING | SessionState.CLOSING:
                whole = self.claim_until is not None
            case SessionState.CLOSED:
                whole = True
        if not whole or (self.run_id is not None and self.run_until is None):
            raise ValueError(f"lacks what a row that is {self.state.value!r} needs")
        return self


def session_of(item: Mapping[str, Any]) -> Session:
    """Returns the session that a row tells of; an `unreadable` one of a row that nothing of ours has written."""
    row = unpack(item)
    key = chat_of(row["pk"])
    stamp = {name: _read(item[name]) for name in STAMP if name in item}
    try:
        known = _SessionRow.model_validate(row)
    except ValidationError:
        return _unreadable(key, row, stamp)
    return Session(
        key=key,
        state=known.state,
        generation=known.generation,
        claim_id=known.claim_id,
        claim_until=known.claim_until,
        sandbox=_sandbox_of(known),
        pauses_at=known.pauses_at,
        created_at=known.created_at or known.expires_at,
        last_used_at=known.last_used_at or known.expires_at,
        expires_at=known.expires_at,
        run_id=known.run_id,
        run_until=known.run_until,
        run_count=known.run_count,
        untold=known.untold,
        hydrated=known.hydrated,
        fresh_files=known.fresh_files,
        predecessor_id=known.predecessor_id,
        end_reason=known.end_reason,
        stamp=stamp,
    )


def _sandbox_of(row: _SessionRow) -> SandboxRef | None:
    if row.sandbox_id is None:
        return None
    return SandboxRef(
        sandbox_id=row.sandbox_id,
        domain=row.sandbox_domain,
        envd_version=row.envd_version,
        envd_token=row.envd_token,
        traffic_token=row.traffic_token,
    )


def _unreadable(key: ChatKey, row: Mapping[str, Any], stamp: Mapping[str, Any]) -> Session:
    """Returns what can be made of a broken row: above all the sandbox that has to be ended."""
    generation, claim_id, sandbox_id = (row.get(name) for name in ("generation", "claimId", "sandboxId"))
    return Session(
        key=key,
        state=SessionState.CLOSED,
        generation=generation if isinstance(generation, int) and 0 < generation <= HIGHEST_COUNT else 1,
        claim_id=claim_id if isinstance(claim_id, str) else "",
        created_at=utc_moment(0),
        last_used_at=utc_moment(0),
        expires_at=utc_moment(0),
        predecessor_id=sandbox_id if isinstance(sandbox_id, str) else None,
        end_reason=EndReason.SANDBOX_LOST,
        unreadable=True,
        stamp=stamp,
    )


# ── Claims ──────────────────────────────────────────────────────────────────────────────────────────

CLAIM_KEPT = timedelta(days=400)
"""Longer than any sandbox lives: one whose claim leads nowhere is taken for an orphan."""


def claim_key(claim_id: str) -> Item:
    """Returns the primary key of a claim's row."""
    return pack({"pk": f"CLAIM#{claim_id}", "sk": "CLAIM"})


def claim_item(session: Session) -> Item:
    """Returns the row that leads from the session's claim to its chat."""
    values = {"chat": chat_pk(session.key), "ttl": round((session.created_at + CLAIM_KEPT).timestamp())}
    return claim_key(session.claim_id) | pack(values)


def claims_of(pointers: Iterable[Mapping[str, Any]]) -> dict[str, ChatKey]:
    """Returns claim id → chat. A pointer that was broken by hand points nowhere."""
    rows = [unpack(item) for item in pointers]
    return {
        row["pk"].removeprefix("CLAIM#"): chat_of(row["chat"]) for row in rows if isinstance(row.get("chat"), str)
    }


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────


def once_key(owner: str, idempotency_key: str) -> Item:
    """Returns the primary key of the row that says what an owner's idempotency key stands for."""
    digest = sha256(f"{owner}\0{idempotency_key}".encode()).hexdigest()
    return pack({"pk": f"ONCE#{digest}", "sk": "ONCE"})


# ── API keys ────────────────────────────────────────────────────────────────────────────────────────


def api_key_key(token_hash: str) -> Item:
    """Returns the primary key of an API key's row."""
    return pack({"pk": f"KEY#{token_hash}", "sk": "KEY"})


def api_key_item(api_key: ApiKey) -> Item:
    """Returns the row of an API key."""
    return api_key_key(api_key.token_hash) | pack(
        {
            "owner": api_key.owner,
            "name": api_key.name,
            "createdAt": millis(api_key.created_at),
            "lastUsedDay": api_key.last_used_day,
        }
    )


def api_key_of(item: Mapping[str, Any]) -> ApiKey:
    """Returns the API key that a row tells of."""
    row = unpack(item)
    return ApiKey(
        token_hash=row["pk"].removeprefix("KEY#"),
        owner=row["owner"],
        name=row["name"],
        created_at=utc_moment(row["createdAt"]),
        last_used_day=row.get("lastUsedDay"),
    )
