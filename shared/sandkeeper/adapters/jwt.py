"""JSON Web Tokens: of an issuer with published keys, or signed with a shared secret."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from sandkeeper.errors import NotConfigured, StoreUnavailable, Unauthenticated

ISSUER_ALGORITHMS = ("RS256", "ES256")
SECRET_ALGORITHMS = ("HS256",)
LEEWAY_S = 30
MAX_OWNER_CHARS = 256
MIN_SECRET_BYTES = 32
"""As RFC 7518 (3.2) asks of HS256: one good token lets anybody try shorter secrets at home."""

KEYS_LAST_S = 300.0
"""How long an issuer's keys are taken from memory; one that it has withdrawn signs nothing any more after that."""
ASK_AGAIN_S = 30.0
"""After the keys were fetched: how long a token that names an unknown one has nobody ask for them again."""
ASK_AGAIN_AFTER_FAILURE_S = 5.0
FETCH_WITHIN_S = 5.0

FindKey = Callable[[str], Any]
"""Returns the key that a token has to be signed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtVerifier:
    """`TokenVerifier` with pinned algorithms: what a token's header claims chooses nothing."""

    find_key: FindKey
    algorithms: Sequence[str]
    issuer: str | None
    audience: str | None

    def owner_of(self, token: str) -> str:
        """See `TokenVerifier.owner_of`."""
        try:
            claims = jwt.decode(
                token,
                self.find_key(token),
                algorithms=[*self.algorithms],
                issuer=self.issuer,
                audience=self.audience,
                leeway=LEEWAY_S,
                options={
                    "require": ["exp", "sub"],
                    "verify_aud": self.audience is not None,
                    "verify_iss": self.issuer is not None,
                },
            )
        except jwt.PyJWKClientConnectionError as error:
            raise StoreUnavailable("the token issuer's keys (JWT_JWKS_URL) cannot be fetched") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated(
                f"the token is not valid here ({type(error).__name__}); get a new one from its issuer"
            ) from error
        owner = claims["sub"]
        if not isinstance(owner, str) or not 1 <= len(owner) <= MAX_OWNER_CHARS:
            raise Unauthenticated(f"the token's subject must be 1 to {MAX_OWNER_CHARS} characters of text")
        return owner


class _PublishedKeys(jwt.PyJWKClient):
    """The issuer's keys. An issuer that fails is not asked by every call: strangers could have us wait all day."""

    def __init__(self, jwks_url: str) -> None:
        # The library's own memory of single keys (`cache_keys`) has no end: a withdrawn key would stay good in it.
        super().__init__(
            jwks_url,
            cache_keys=False,
            lifespan=KEYS_LAST_S,
            cooldown_duration=ASK_AGAIN_S,
            timeout=FETCH_WITHIN_S,
        )
        self._ask_at = 0.0

    def fetch_data(self) -> Any:
        """Returns the key set. Raises `PyJWKClientConnectionError`, also for an answer that is none."""
        if time.monotonic() < self._ask_at:
            raise jwt.PyJWKClientConnectionError("the issuer has failed a moment ago")
        try:
            return super().fetch_data()
        except (jwt.PyJWTError, ValueError, OSError) as error:
            self._ask_at = time.monotonic() + ASK_AGAIN_AFTER_FAILURE_S
            raise jwt.PyJWKClientConnectionError("the issuer's answer is no key set") from error

    def key_of(self, token: str) -> Any:
        """Returns the key that the token names. What no key of an issuer can have signed leads to no request."""
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ISSUER_ALGORITHMS or "kid" not in header:
            raise jwt.InvalidTokenError("neither RS256 nor ES256 with a key's id")
        key = self.get_signing_key(header["kid"])
        if key.algorithm_name != header["alg"]:
            raise jwt.InvalidTokenError("signed otherwise than its key does")
        return key.key


def of_issuer(jwks_url: str, *, issuer: str | None, audience: str | None) -> JwtVerifier:
    """Returns a verifier that takes its keys from the issuer's published set, and remembers them for a while.

    A token of a key that is not known yet has the set fetched anew, at most every `ASK_AGAIN_S`.
    """
    return JwtVerifier(
        find_key=_PublishedKeys(jwks_url).key_of, algorithms=ISSUER_ALGORITHMS, issuer=issuer, audience=audience
    )


def of_secret(secret: str, *, issuer: str | None, audience: str | None) -> JwtVerifier:
    """Returns a verifier of tokens that are signed with the secret. Raises `NotConfigured` for a short one."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise NotConfigured(
            f"the secret of tokens (JWT_SECRET) has less than {MIN_SECRET_BYTES} bytes; use a longer one"
        )
    return JwtVerifier(find_key=lambda _: secret, algorithms=SECRET_ALGORITHMS, issuer=issuer, audience=audience)
