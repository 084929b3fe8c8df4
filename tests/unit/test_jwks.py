"""Keys that an issuer publishes: fetched when they are needed, and no longer good than they are published."""

import base64
import io
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sandkeeper.adapters.jwt import (
    ASK_AGAIN_AFTER_FAILURE_S,
    ASK_AGAIN_S,
    KEYS_LAST_S,
    JwtVerifier,
    of_issuer,
)
from sandkeeper.errors import StoreUnavailable, Unauthenticated
from tests.tokens import AUDIENCE, EC_KEY, ISSUER, OTHER_KEY, RSA_KEY, SECRET, claims, signed, unsigned

# ── Keys that the issuer publishes ──────────────────────────────────────────────────────────────────


@dataclass
class Issuer:
    """An issuer on the network: which keys it publishes, how often it is asked, how it fails."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    failure: Exception | None = None
    now: float = 1_000.0

    def answer(self, _: object, *, timeout: float) -> io.BytesIO:
        """Answers a request of the key set."""
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return io.BytesIO(json.dumps({"keys": self.keys}).encode())


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """Returns an issuer that publishes one key, `one`, and whose time the test moves."""
    made = Issuer([public_jwk("one")])
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", made.answer)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def keys(issuer: Issuer) -> JwtVerifier:
    """Returns the verifier of the issuer's tokens."""
    return of_issuer("https://issuer.invalid/keys", issuer=ISSUER, audience=AUDIENCE)


def public_jwk(kid: str, key: Any = RSA_KEY, use: str = "sig") -> dict[str, Any]:
    """Returns the public half as an issuer publishes it."""
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    jwk: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": kid, "use": use}


def issued(kid: str | None = "one", key: Any = RSA_KEY, algorithm: str = "RS256", **headers: Any) -> str:
    """Returns a token that names the key that it is signed with."""
    return jwt.encode(claims(), key, algorithm, headers={**headers, **({"kid": kid} if kid else {})})


def test_the_key_is_the_one_that_the_token_names(keys: JwtVerifier, issuer: Issuer) -> None:
    issuer.keys.append(public_jwk("curve", EC_KEY))

    assert keys.owner_of(issued()) == "auth0|ada"
    assert keys.owner_of(issued("curve", EC_KEY, "ES256")) == "auth0|ada"
    with pytest.raises(Unauthenticated):
        keys.owner_of(issued("two"))


def test_a_token_that_claims_another_kind_of_key_than_it_names_is_refused(
    keys: JwtVerifier, issuer: Issuer
) -> None:
    """The library raises a bare TypeError for these: any stranger used to be able to raise our alarms."""
    issuer.keys += [public_jwk("curve", EC_KEY), {**public_jwk("longer"), "alg": "RS512"}]

    for other in (issued("curve"), issued("one", EC_KEY, "ES256"), issued("longer")):
        with pytest.raises(Unauthenticated):
            keys.owner_of(other)


def test_keys_are_fetched_once_for_many_tokens(keys: JwtVerifier, issuer: Issuer) -> None:
    for _ in range(5):
        keys.owner_of(issued())

    assert issuer.asked == 1


def test_a_new_key_is_found_as_soon_as_its_first_token_comes(keys: JwtVerifier, issuer: Issuer) -> None:
    keys.owner_of(issued())
    issuer.now += ASK_AGAIN_S
    issuer.keys = [public_jwk("one"), public_jwk("two", OTHER_KEY)]

    assert keys.owner_of(issued("two", OTHER_KEY)) == "auth0|ada"
    assert issuer.asked == 2


def test_a_withdrawn_key_signs_nothing_any_more(keys: JwtVerifier, issuer: Issuer) -> None:
    """Single keys used to be remembered for as long as the function lived, which may be for days."""
    keys.owner_of(issued())
    issuer.keys = [public_jwk("two", OTHER_KEY)]
    issuer.now += KEYS_LAST_S + 1

    with pytest.raises(Unauthenticated):
        keys.owner_of(issued())
    assert keys.owner_of(issued("two", OTHER_KEY)) == "auth0|ada"


def test_tokens_that_name_unknown_keys_do_not_have_the_issuer_asked_each_time(
    keys: JwtVerifier, issuer: Issuer
) -> None:
    for number in range(50):
        with pytest.raises(Unauthenticated):
            keys.owner_of(issued(f"unknown-{number}"))

    assert issuer.asked <= 2
    assert keys.owner_of(issued()) == "auth0|ada"


@pytest.mark.parametrize(
    "failure",
    [urllib.error.URLError("no route"), TimeoutError(), ConnectionResetError(), ssl.SSLError()],
    ids=lambda failure: type(failure).__name__,
)
def test_an_issuer_that_does_not_answer_is_not_the_callers_fault_and_is_not_asked_each_time(
    keys: JwtVerifier, issuer: Issuer, failure: Exception
) -> None:
    issuer.failure = failure
    for _ in range(20):
        with pytest.raises(StoreUnavailable, match="JWT_JWKS_URL"):
            keys.owner_of(issued())
    assert issuer.asked == 1

    issuer.failure = None
    issuer.now += ASK_AGAIN_AFTER_FAILURE_S
    assert keys.owner_of(issued()) == "auth0|ada"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b'{"keys": []}', b'{"keys": [1]}', b"\xff"])
def test_an_issuer_that_answers_nonsense_is_not_the_callers_fault(
    keys: JwtVerifier, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """What is no JSON used to be an unexpected error, and an alarm."""
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *_, **__: io.BytesIO(content))

    with pytest.raises(StoreUnavailable):
        keys.owner_of(issued())


def test_keys_that_are_known_are_good_while_the_issuer_fails(keys: JwtVerifier, issuer: Issuer) -> None:
    keys.owner_of(issued())
    issuer.failure = TimeoutError()
    issuer.now += ASK_AGAIN_S
    with pytest.raises(StoreUnavailable):
        keys.owner_of(issued("two"))

    assert keys.owner_of(issued()) == "auth0|ada"


@pytest.mark.parametrize(
    "token",
    [
        signed(),
        issued(None),
        issued("one", SECRET, "HS256"),
        unsigned({"alg": "none", "kid": "one"}),
    ],
    ids=["a secret's", "no key named", "a secret's, naming a key", "not signed"],
)
def test_what_no_key_of_the_issuer_can_have_signed_asks_nobody(
    keys: JwtVerifier, issuer: Issuer, token: str
) -> None:
    with pytest.raises(Unauthenticated):
        keys.owner_of(token)

    assert issuer.asked == 0


def test_keys_come_from_the_configured_place_alone(keys: JwtVerifier) -> None:
    """A header may bring along a key, or say where one is."""
    theirs = public_jwk("one", OTHER_KEY)
    for brought in ({"jwk": theirs}, {"jku": "https://evil.invalid/keys"}, {"x5u": "https://evil.invalid/cert"}):
        with pytest.raises(Unauthenticated):
            keys.owner_of(issued("one", OTHER_KEY, **brought))


@pytest.mark.parametrize(
    "published",
    [
        {"kty": "oct", "kid": "one", "k": base64.urlsafe_b64encode(SECRET.encode()).decode()},
        public_jwk("one", use="enc"),
    ],
    ids=["a shared secret", "a key to encrypt with"],
)
def test_a_published_key_that_is_not_for_signatures_signs_nothing(
    keys: JwtVerifier, issuer: Issuer, published: dict[str, Any]
) -> None:
    issuer.keys = [published, public_jwk("two", OTHER_KEY)]

    for token in (issued(), issued("one", SECRET, "HS256")):
        with pytest.raises(Unauthenticated):
            keys.owner_of(token)
