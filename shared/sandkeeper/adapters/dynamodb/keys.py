"""API keys' rows."""

from collections.abc import Iterator

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.items import typed
from sandkeeper.adapters.dynamodb.table import EXISTS, Table
from sandkeeper.model import ApiKey


class DynamoApiKeyStore:
    """`ApiKeyStore` and `ApiKeyRegister` on the table's `KEY#` rows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def find(self, token_hash: str) -> ApiKey | None:
        """See `ApiKeyStore.find`."""
        item = self._table.get(items.api_key_key(token_hash))
        return None if item is None else items.api_key_of(item)

    def put(self, api_key: ApiKey) -> None:
        """See `ApiKeyStore.put`."""
        self._table.put(items.api_key_item(api_key))

    def mark_used(self, token_hash: str, day: str) -> None:
        """See `ApiKeyStore.mark_used`."""
        self._table.update(items.api_key_key(token_hash), "SET lastUsedDay = :day", EXISTS, {":day": day})

    def all(self) -> Iterator[ApiKey]:
        """See `ApiKeyRegister.all`. Reads the whole table, as no index is worth its writes for so rare a call."""
        values = typed({":key": "KEY#"})
        rows = self._table.scan(FilterExpression="begins_with(pk, :key)", ExpressionAttributeValues=values)
        return map(items.api_key_of, rows)

    def delete(self, token_hash: str) -> None:
        """See `ApiKeyRegister.delete`."""
        self._table.delete(items.api_key_key(token_hash), EXISTS, {})
