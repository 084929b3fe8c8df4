"""Rows of the one table: where each kind lies, and how it is written down.

| item    | pk                        | sk               |
|---------|---------------------------|------------------|
| session | `CHAT#<owner>#<chatId>`   | `SESSION`        |
| file    | `CHAT#<owner>#<chatId>`   | `FILE#<fileId>`  |
| path    | `CHAT#<owner>#<chatId>`   | `PATH#<path>`    |
| API key | `KEY#<sha256 of token>`   | `KEY`            |

A chat id holds no `#`, so the last one parts owner from chat whatever an owner is called. Times are epoch
milliseconds; `ttl` alone is in seconds, as DynamoDB wants it. A `path` row reserves a path for one file.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zlib import crc32

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from sandkeeper.model import (
    ApiKey,
    ChatKey,
    EndReason,
    FileRecord,
    FileStatus,
    SandboxRef,
    Session,
    SessionState,
)

Item = dict[str, Any]
"""An item as botocore takes and gives it: attribute name → typed value."""

SESSION = "SESSION"
FILE = "FILE#"
SHARDS = 16
"""Over how many partitions of `by_expiry` live sessions are spread."""
TTL_GRACE = timedelta(days=7)
"""TTL lies this far behind a live row's expiry, so that cleanup always sees the row first."""

_write = TypeSerializer().serialize
_read = TypeDeserializer().deserialize


def pack(values: Mapping[str, Any]) -> Item:
    """Returns the values typed for DynamoDB, without those that are None."""
    return {name: _write(value) for name, value in values.items() if value is not None}


def unpack(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an item's plain values; whole numbers are ints."""
    return {name: _plain(_read(value)) for name, value in item.items()}


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) else value


def millis(when: datetime) -> int:
    """Returns the time as epoch milliseconds."""
    return round(when.timestamp() * 1000)


def moment(epoch_ms: int) -> datetime:
    """Returns the time of epoch milliseconds, in UTC."""
    return datetime.fromtimestamp(epoch_ms // 1000, UTC) + timedelta(milliseconds=epoch_ms % 1000)


def _maybe_millis(when: datetime | None) -> int | None:
    return None if when is None else millis(when)


def _maybe_moment(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else moment(epoch_ms)


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
        "sandboxUntil": _maybe_millis(session.sandbox_until),
    }


def session_of(item: Mapping[str, Any]) -> Session:
    """Returns the session that a row tells of."""
    row = unpack(item)
    end_reason = row.get("endReason")
    return Session(
        key=chat_of(row["pk"]),
        state=SessionState(row["state"]),
        generation=row["generation"],
        claim_id=row["claimId"],
        claim_until=_maybe_moment(row.get("claimUntil")),
        sandbox=_sandbox_of(row),
        sandbox_until=_maybe_moment(row.get("sandboxUntil")),
        created_at=moment(row["createdAt"]),
        last_used_at=moment(row["lastUsedAt"]),
        expires_at=moment(row["expiresAt"]),
        run_id=row.get("runId"),
        run_until=_maybe_moment(row.get("runUntil")),
        run_count=row.get("runCount", 0),
        hydrated=row.get("hydrated", {}),
        fresh_files=frozenset(row.get("freshFiles", ())),
        predecessor_id=row.get("predecessorId"),
        end_reason=EndReason(end_reason) if end_reason else None,
    )


def _sandbox_of(row: Mapping[str, Any]) -> SandboxRef | None:
    if "sandboxId" not in row:
        return None
    return SandboxRef(
        sandbox_id=row["sandboxId"],
        domain=row.get("sandboxDomain"),
        envd_version=row["envdVersion"],
        envd_token=row.get("envdToken"),
        traffic_token=row.get("trafficToken"),
    )


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


def file_item(record: FileRecord) -> Item:
    """Returns the row of a file."""
    return pack(
        {
            "pk": chat_pk(record.key),
            "sk": FILE + record.file_id,
            "name": record.name,
            "path": record.path,
            "sizeBytes": record.size_bytes,
            "contentType": record.content_type,
            "createdAt": millis(record.created_at),
            "status": record.status.value,
            "reason": record.reason,
            "headers": None if record.headers is None else list(record.headers),
            "rowCount": record.row_count,
        }
    )


def file_of(item: Mapping[str, Any]) -> FileRecord:
    """Returns the file that a row tells of."""
    row = unpack(item)
    return FileRecord(
        key=chat_of(row["pk"]),
        file_id=row["sk"].removeprefix(FILE),
        name=row["name"],
        path=row["path"],
        size_bytes=row["sizeBytes"],
        content_type=row["contentType"],
        created_at=moment(row["createdAt"]),
        status=FileStatus(row["status"]),
        reason=row.get("reason"),
        headers=row.get("headers"),
        row_count=row.get("rowCount"),
    )


def path_key(record: FileRecord) -> Item:
    """Returns the primary key of the row that reserves the file's path."""
    return row_key(record.key, f"PATH#{record.path}")


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
        created_at=moment(row["createdAt"]),
        last_used_day=row.get("lastUsedDay"),
    )
