"""Artifacts' rows: one for each run that has any."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.items import millis, pack, unpack
from sandkeeper.adapters.dynamodb.table import ABSENT, Table
from sandkeeper.model import Artifact, ArtifactStatus, ChatKey, utc_moment

KEPT = timedelta(days=30)


class DynamoArtifactCatalog:
    """`ArtifactCatalog` on the table's `ARTIFACTS#` rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(self, artifacts: Sequence[Artifact]) -> Sequence[Artifact]:
        """See `ArtifactCatalog.add`."""
        first = artifacts[0]
        described = {
            "artifacts": json.dumps([artifact_fields(artifact) for artifact in artifacts], separators=(",", ":")),
            "ttl": round((first.created_at + KEPT).timestamp()),
        }
        written, found = self._table.put(_key(first.key, first.execution_id) | pack(described), ABSENT)
        return artifacts if written or found is None else _artifacts_of(found)

    def of_run(self, key: ChatKey, execution_id: str) -> Sequence[Artifact]:
        """See `ArtifactCatalog.of_run`."""
        item = self._table.get(_key(key, execution_id))
        return [] if item is None else _artifacts_of(item)

    def of_chat(self, key: ChatKey) -> Sequence[Artifact]:
        """See `ArtifactCatalog.of_chat`: ids of runs are ULIDs, so the key's order is the order of time."""
        found = self._table.query(
            KeyConditionExpression="pk = :pk AND begins_with(sk, :artifacts)",
            ExpressionAttributeValues=pack({":pk": items.chat_pk(key), ":artifacts": items.ARTIFACTS}),
            ConsistentRead=True,
            ScanIndexForward=False,
        )
        return [artifact for item in found for artifact in _artifacts_of(item)]


def _key(key: ChatKey, execution_id: str) -> items.Item:
    return items.row_key(key, items.ARTIFACTS + execution_id)


def _artifacts_of(item: Mapping[str, Any]) -> list[Artifact]:
    row = unpack(item)
    key = items.chat_of(row["pk"])
    execution_id = row["sk"].removeprefix(items.ARTIFACTS)
    return [artifact_of(fields, key, execution_id) for fields in json.loads(row["artifacts"])]


def artifact_fields(artifact: Artifact) -> dict[str, Any]:
    """Returns what is kept of an artifact besides its run."""
    return {
        "id": artifact.artifact_id,
        "path": artifact.path,
        "size": artifact.size_bytes,
        "type": artifact.mime_type,
        "at": millis(artifact.created_at),
        "status": artifact.status.value,
        "reason": artifact.reason,
        "address": artifact.address,
    }


def artifact_of(fields: Mapping[str, Any], key: ChatKey, execution_id: str) -> Artifact:
    """Returns the artifact of a run of which this was kept."""
    return Artifact(
        key=key,
        artifact_id=fields["id"],
        execution_id=execution_id,
        path=fields["path"],
        size_bytes=fields["size"],
        mime_type=fields["type"],
        created_at=utc_moment(fields["at"]),
        status=ArtifactStatus(fields["status"]),
        reason=fields["reason"],
        address=fields["address"],
    )
