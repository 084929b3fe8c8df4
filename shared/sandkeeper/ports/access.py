"""Who may call, and where it is noted."""

from collections.abc import Iterable
from typing import Protocol

from sandkeeper.model import ApiKey


class ApiKeyStore(Protocol):
    """API keys by the hash of their token."""

    def find(self, token_hash: str) -> ApiKey | None:
        """Returns the key, None for one that never was or was revoked."""
        ...

    def put(self, api_key: ApiKey) -> None:
        """Adds the key, in place of one of the same hash."""
        ...

    def mark_used(self, token_hash: str, day: str) -> None:
        """Notes the day of use. Does nothing for a key that is gone."""
        ...


class ApiKeyRegister(Protocol):
    """All API keys, for whoever runs the deployment. No function lists them."""

    def all(self) -> Iterable[ApiKey]:
        """Returns every key, in any order. It may read everything that is stored to find them."""
        ...

    def put(self, api_key: ApiKey) -> None:
        """See `ApiKeyStore.put`."""
        ...

    def delete(self, token_hash: str) -> None:
        """Removes the key. Does nothing for one that is gone."""
        ...


class TokenVerifier(Protocol):
    """Says who a JSON Web Token speaks for."""

    def owner_of(self, token: str) -> str:
        """Returns the token's subject once signature, issuer, audience and times hold.

        Raises `Unauthenticated` otherwise.
        """
        ...


class Journal(Protocol):
    """Where domain events go: log lines and metrics. Never code, contents, names or tokens."""

    def note(self, event: str, **facts: str | int | float) -> None:
        """Records that `event` (`noun.verb`) happened. Never raises."""
        ...
