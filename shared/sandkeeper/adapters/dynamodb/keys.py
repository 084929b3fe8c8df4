"""API keys' rows."""

from sandkeeper.adapters.dynamodb import items
from sandkeeper.adapters.dynamodb.table import EXISTS, Table
from sandkeeper.model import ApiKey


class DynamoApiKeyStore:
    """`ApiKeyStore` on the table's `KEY#` rows."""

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
