"""API keys as whoever runs a deployment gives them out, lists them and takes them back."""

import secrets
from collections.abc import Sequence

from sandkeeper.errors import InvalidRequest
from sandkeeper.model import ApiKey, Clock
from sandkeeper.ports import ApiKeyRegister
from sandkeeper.services.auth import API_KEY_PREFIX, hash_token

SECRET_BYTES = 32
ID_LENGTH = 12
"""Hex digits of the hash by which people name a key."""


def id_of(api_key: ApiKey) -> str:
    """Returns the beginning of the key's hash: enough to name it, and of no use to whoever sees it."""
    return api_key.token_hash[:ID_LENGTH]


class ApiKeys:
    """The keys of one deployment. Only hashes are kept, so that nobody can show a key a second time."""

    def __init__(self, keys: ApiKeyRegister, clock: Clock) -> None:
        self._keys, self._clock = keys, clock

    def give(self, owner: str, name: str) -> str:
        """Returns a new token that speaks for `owner`."""
        token = API_KEY_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        self.register(token, owner, name)
        return token

    def register(self, token: str, owner: str, name: str) -> None:
        """Lets `token` speak for `owner`. The same token again replaces its entry."""
        if not owner:
            raise InvalidRequest("owner is empty; say whom the key speaks for")
        key = ApiKey(token_hash=hash_token(token), owner=owner, name=name, created_at=self._clock())
        self._keys.put(key)

    def all(self) -> Sequence[ApiKey]:
        """Returns all keys, the oldest first."""
        return sorted(self._keys.all(), key=lambda key: (key.created_at, key.token_hash))

    def revoke(self, named: str) -> ApiKey:
        """Returns the key that is gone now, named by its id or by the token itself.

        Functions that used it within the last minute still take it for the rest of that. Raises `InvalidRequest`
        for a name that fits none, or several.
        """
        if named.startswith(API_KEY_PREFIX):
            found = [key for key in self._keys.all() if key.token_hash == hash_token(named)]
        else:
            found = [key for key in self._keys.all() if named and key.token_hash.startswith(named)]
        if len(found) != 1:
            raise InvalidRequest(f"{len(found)} keys are named so; give one's id from the list of keys, or itself")
        (key,) = found
        self._keys.delete(key.token_hash)
        return key
