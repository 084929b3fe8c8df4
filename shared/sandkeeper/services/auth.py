"""Who is calling: API keys that we keep, and tokens that others issue."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from sandkeeper.errors import Unauthenticated
from sandkeeper.model import ApiKey, Clock
from sandkeeper.ports import ApiKeyStore, TokenVerifier

API_KEY_PREFIX = "sk_"
REMEMBER_S = 60.0
"""A revoked key is refused after at most this time by functions that have just used it."""
REMEMBER_MOST = 1_000


def hash_token(token: str) -> str:
    """Returns the SHA-256 of an API key, in hex: what is stored in its stead."""
    return sha256(token.encode()).hexdigest()


@dataclass(slots=True)
class _Memory:
    """Keys that were found lately, so that a warm call need not look its key up again."""

    monotonic: Callable[[], float]
    found: dict[str, tuple[float, ApiKey]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def recall(self, token_hash: str) -> ApiKey | None:
        with self.lock:
            until, api_key = self.found.get(token_hash, (0.0, None))
            return api_key if self.monotonic() < until else None

    def remember(self, api_key: ApiKey) -> None:
        with self.lock:
            if len(self.found) >= REMEMBER_MOST:
                self.found.clear()
            self.found[api_key.token_hash] = (self.monotonic() + REMEMBER_S, api_key)


class Authenticate:
    """Turns a bearer token into the owner that it speaks for."""

    def __init__(
        self,
        keys: ApiKeyStore,
        tokens: TokenVerifier | None,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._clock = clock
        self._memory = _Memory(monotonic)

    def recall(self, token: str) -> str | None:
        """Returns the owner of a key that was used lately, without any I/O."""
        api_key = self._memory.recall(hash_token(token))
        return None if api_key is None else api_key.owner

    def __call__(self, token: str) -> str:
        """Returns the owner. Raises `Unauthenticated`; a stranger learns nothing but that."""
        if token.startswith(API_KEY_PREFIX):
            return self._owner_of_key(hash_token(token))
        if self._tokens is None:
            raise Unauthenticated("this deployment takes API keys (sk_…) only; send one as a bearer token")
        return self._tokens.owner_of(token)

    def _owner_of_key(self, token_hash: str) -> str:
        api_key = self._keys.find(token_hash)
        if api_key is None:
            raise Unauthenticated("the API key is unknown or revoked; send a valid one as a bearer token")
        today = self._clock().date().isoformat()
        if api_key.last_used_day != today:
            self._keys.mark_used(token_hash, today)
        self._memory.remember(api_key)
        return api_key.owner
