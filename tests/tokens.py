"""Tokens that tests sign, well or badly."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sandkeeper.adapters.jwt import (
    JwtVerifier,
)

SECRET = "s" * 32
ISSUER, AUDIENCE = "https://issuer.invalid/", "sandkeeper"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def claims(**changes: Any) -> dict[str, Any]:
    """Returns good claims but for the changes; None leaves one out."""
    good = {
        "sub": "auth0|ada",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": datetime.now(UTC) + timedelta(minutes=5),
        "nbf": datetime.now(UTC) - timedelta(minutes=5),
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    """Returns a token with these claims."""
    return jwt.encode(claims(**changes), key, algorithm=algorithm)


def verifier(key: Any = SECRET, *algorithms: str) -> JwtVerifier:
    """Returns a verifier of tokens that were signed with the key."""
    return JwtVerifier(
        find_key=lambda _: key, algorithms=algorithms or ("HS256",), issuer=ISSUER, audience=AUDIENCE
    )


def unsigned(header: dict[str, str]) -> str:
    """Returns a token without a signature."""
    body = {**claims(), "exp": 4_000_000_000, "nbf": 0}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, body)]
    return ".".join([*parts, ""])
