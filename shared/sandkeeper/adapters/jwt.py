"""JSON Web Tokens: of an issuer with published keys, or signed with a shared secret."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from sandkeeper.errors import StoreUnavailable, Unauthenticated

ISSUER_ALGORITHMS = ("RS256", "ES256")
SECRET_ALGORITHMS = ("HS256",)
LEEWAY_S = 30
MAX_OWNER_CHARS = 256

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


def of_issuer(jwks_url: str, *, issuer: str | None, audience: str | None) -> JwtVerifier:
    """Returns a verifier that takes its keys from the issuer's published set, and remembers them."""
    published = jwt.PyJWKClient(jwks_url, cache_keys=True, timeout=5)
    return JwtVerifier(
        find_key=lambda token: published.get_signing_key_from_jwt(token).key,
        algorithms=ISSUER_ALGORITHMS,
        issuer=issuer,
        audience=audience,
    )


def of_secret(secret: str, *, issuer: str | None, audience: str | None) -> JwtVerifier:
    """Returns a verifier of tokens that were signed with the shared secret."""
    return JwtVerifier(find_key=lambda _: secret, algorithms=SECRET_ALGORITHMS, issuer=issuer, audience=audience)
