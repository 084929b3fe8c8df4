"""JSON Web Tokens: whom they speak for, and every way in which they do not."""

import base64
import io
import json
import ssl
import time
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandkeeper.adapters.jwt import (
    ASK_AGAIN_AFTER_FAILURE_S,
    ASK_AGAIN_S,
    ISSUER_ALGORITHMS,
    KEYS_LAST_S,
    LEEWAY_S,
    MIN_SECRET_BYTES,
    JwtVerifier,
    of_issuer,
    of_secret,
)
from sandkeeper.errors import NotConfigured, StoreUnavailable, Unauthenticated

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


def unsigned(header: dict[str, str]) -> str:
    """Returns a token without a signature."""
    body = {**claims(), "exp": 4_000_000_000, "nbf": 0}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, body)]
    return ".".join([*parts, ""])


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
