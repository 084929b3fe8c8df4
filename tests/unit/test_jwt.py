"""JSON Web Tokens: whom they speak for, and every way in which they do not."""

import base64
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandkeeper.adapters.jwt import (
    ISSUER_ALGORITHMS,
    LEEWAY_S,
    MIN_SECRET_BYTES,
    of_issuer,
    of_secret,
)
from sandkeeper.errors import NotConfigured, Unauthenticated
from tests.tokens import EC_KEY, RSA_KEY, SECRET, claims, signed, unsigned, verifier


@pytest.mark.parametrize(
    ("key", "public", "algorithm"),
    [
        (SECRET, SECRET, "HS256"),
        (RSA_KEY, RSA_KEY.public_key(), "RS256"),
        (EC_KEY, EC_KEY.public_key(), "ES256"),
    ],
    ids=["HS256", "RS256", "ES256"],
)
def test_a_good_token_speaks_for_its_subject(key: Any, public: Any, algorithm: str) -> None:
    assert verifier(public, algorithm).owner_of(signed(key, algorithm)) == "auth0|ada"


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": LONG_AGO},
        {"exp": None},
        pytest.param({"nbf": datetime.now(UTC) + timedelta(hours=1)}, id="not valid yet"),
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"iss": "https://another.invalid/"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 257},
        {"sub": 42},
    ],
    ids=str,
)
def test_a_token_with_a_bad_claim_speaks_for_nobody(changes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of some of these while it makes them
        token = jwt.encode(claims(**changes), SECRET, algorithm="HS256", sort_headers=False)

    with pytest.raises(Unauthenticated):
        verifier().owner_of(token)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS256", ""])
@pytest.mark.parametrize("allowed", [("HS256",), ISSUER_ALGORITHMS])
def test_a_token_without_a_signature_speaks_for_nobody(algorithm: str, allowed: tuple[str, ...]) -> None:
    key = SECRET if allowed == ("HS256",) else RSA_KEY.public_key()

    with pytest.raises(Unauthenticated):
        verifier(key, *allowed).owner_of(unsigned({"alg": algorithm, "typ": "JWT"}))


def test_a_public_key_used_as_a_secret_signs_nothing() -> None:
    """The classic confusion: an RS256 service is given an HS256 token, signed with its own public key."""
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = signed().split(".")[1]
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{header}.{body}".encode(), public
    )
    forged = f"{header}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    with pytest.raises(Unauthenticated):
        verifier(RSA_KEY.public_key(), *ISSUER_ALGORITHMS).owner_of(forged)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(SECRET, "HS384"), (RSA_KEY, "RS384"), (RSA_KEY, "PS256")],
    ids=["HS384", "RS384", "PS256"],
)
def test_an_algorithm_that_was_not_agreed_on_is_refused(key: Any, algorithm: str) -> None:
    public = SECRET if key is SECRET else RSA_KEY.public_key()
    allowed = ("HS256",) if key is SECRET else ISSUER_ALGORITHMS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a secret that is short for HS384
        token = signed(key, algorithm)

    with pytest.raises(Unauthenticated):
        verifier(public, *allowed).owner_of(token)


def test_a_token_signed_by_somebody_else_speaks_for_nobody() -> None:
    with pytest.raises(Unauthenticated):
        verifier().owner_of(signed("t" * 32))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_token_that_was_tampered_with_speaks_for_nobody(part: int) -> None:
    parts = signed().split(".")
    middle = len(parts[part]) // 2
    flipped = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + flipped + parts[part][middle + 1 :]

    with pytest.raises(Unauthenticated):
        verifier().owner_of(".".join(parts))


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "eyJ", "a" * 10_000, "\x00.\x00.\x00"])
def test_what_is_no_token_speaks_for_nobody(token: str) -> None:
    for kind in (
        verifier(),
        of_secret(SECRET, issuer=None, audience=None),
        of_issuer("https://issuer.invalid/keys", issuer=None, audience=None),
    ):
        with pytest.raises(Unauthenticated):
            kind.owner_of(token)


def test_without_issuer_and_audience_neither_is_asked_for() -> None:
    lenient = of_secret(SECRET, issuer=None, audience=None)

    assert lenient.owner_of(signed(iss=None, aud=None)) == "auth0|ada"
    assert lenient.owner_of(signed()) == "auth0|ada"


def test_half_a_minute_of_clock_skew_is_forgiven() -> None:
    now = datetime.now(UTC)
    skewed = timedelta(seconds=LEEWAY_S - 10)

    assert verifier().owner_of(signed(exp=now - skewed, nbf=now + skewed, iat=now + skewed))


@pytest.mark.parametrize(("claim", "sign"), [("exp", -1), ("nbf", 1), ("iat", 1)])
def test_more_clock_skew_is_not(claim: str, sign: int) -> None:
    moment = datetime.now(UTC) + sign * timedelta(seconds=LEEWAY_S + 5)

    with pytest.raises(Unauthenticated):
        verifier().owner_of(jwt.encode(claims(**{claim: moment}), SECRET, "HS256"))


def test_a_secret_that_can_be_guessed_is_not_configured() -> None:
    with pytest.raises(NotConfigured, match="JWT_SECRET"):
        of_secret("s" * (MIN_SECRET_BYTES - 1), issuer=None, audience=None)


def test_what_a_header_demands_and_nobody_knows_is_refused() -> None:
    demanding = jwt.encode(claims(), SECRET, "HS256", headers={"crit": ["x"], "x": 1})

    with pytest.raises(Unauthenticated):
        verifier().owner_of(demanding)


def test_what_is_told_of_a_bad_token_does_not_tell_the_token() -> None:
    token = signed("t" * 32)

    with pytest.raises(Unauthenticated) as refused:
        verifier().owner_of(token)

    assert all(part not in refused.value.detail for part in token.split("."))
