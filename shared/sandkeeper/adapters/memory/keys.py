"""API keys and a journal in memory."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sandkeeper.model import ApiKey


class MemoryApiKeyStore:
    """`ApiKeyStore` and `ApiKeyRegister` in a dictionary."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}

    def find(self, token_hash: str) -> ApiKey | None:
        """See `ApiKeyStore.find`."""
        return self._keys.get(token_hash)

    def put(self, api_key: ApiKey) -> None:
        """See `ApiKeyStore.put`."""
        self._keys[api_key.token_hash] = api_key

    def mark_used(self, token_hash: str, day: str) -> None:
        """See `ApiKeyStore.mark_used`."""
        if token_hash in self._keys:
            self._keys[token_hash] = replace(self._keys[token_hash], last_used_day=day)

    def all(self) -> Iterable[ApiKey]:
        """See `ApiKeyRegister.all`."""
        return [*self._keys.values()]

    def delete(self, token_hash: str) -> None:
        """See `ApiKeyRegister.delete`."""
        self._keys.pop(token_hash, None)


@dataclass(slots=True)
class MemoryJournal:
    """`Journal` as a list of what was noted."""

    notes: list[tuple[str, dict[str, str | int | float]]] = field(default_factory=list)

    def note(self, event: str, **facts: str | int | float) -> None:
        """See `Journal.note`."""
        self.notes.append((event, facts))
