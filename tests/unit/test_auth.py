"""Who is calling."""

from dataclasses import dataclass, field

import pytest

from sandkeeper.errors import StoreUnavailable, Unauthenticated
from sandkeeper.services import auth
from sandkeeper.services.auth import Authenticate, hash_token
from tests.world import OWNER, TOKEN, Tap, World


class Subjects:
    """A verifier that takes the token itself for the subject."""

    def owner_of(self, token: str) -> str:
        """See `TokenVerifier.owner_of`."""
        return token


@dataclass
class Gate:
    """Authentication on the keys of a world, and a stopwatch that tests move."""

    world: World
    takes_tokens: bool = False
    seconds: float = 0.0
    authenticate: Authenticate = field(init=False)

    def __post_init__(self) -> None:
        """Makes it anew, as a new function would."""
        self.keys: Tap = self.world.taps["keys"]
        tokens = Subjects() if self.takes_tokens else None
        self.authenticate = Authenticate(
            self.keys,
            tokens,
            self.world.clock,
            lambda: self.seconds,
        )

    def owner_of(self, token: str = TOKEN) -> str:
        """Returns whom the token speaks for, as the HTTP gate asks."""
        recalled = self.authenticate.recall(token)
        return recalled if recalled is not None else self.authenticate(token)


def test_a_key_speaks_for_its_owner(world: World) -> None:
    assert Gate(world).owner_of() == OWNER


@pytest.mark.parametrize("token", ["sk_", "sk_unknown", TOKEN + " ", TOKEN.upper(), TOKEN[:-1]])
def test_an_unknown_key_speaks_for_nobody(world: World, token: str) -> None:
    with pytest.raises(Unauthenticated):
        Gate(world).owner_of(token)


def test_only_the_hash_of_a_key_is_kept(world: World) -> None:
    assert world.keys.find(hash_token(TOKEN)) is not None
    assert TOKEN not in repr(vars(world.keys))


def test_a_key_that_was_used_lately_is_not_looked_up_again(world: World) -> None:
    gate = Gate(world)
    gate.owner_of()
    gate.seconds = 59.9
    world.calls()

    assert gate.owner_of() == OWNER
    assert world.calls() == []


def test_a_revoked_key_is_refused_after_a_minute_and_at_once_by_other_functions(world: World) -> None:
    gate = Gate(world)
    gate.owner_of()
    vars(world.keys)["_keys"].clear()

    assert gate.owner_of() == OWNER
    with pytest.raises(Unauthenticated):
        Gate(world).owner_of()
    gate.seconds = 60.0
    with pytest.raises(Unauthenticated):
        gate.owner_of()


def test_what_is_remembered_of_one_key_serves_no_other(world: World) -> None:
    gate = Gate(world)
    gate.owner_of()

    with pytest.raises(Unauthenticated):
        gate.owner_of("sk_other")


def test_the_memory_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBER_MOST", 3)
    gate = Gate(world)
    for number in range(10):
        world.issue_key(f"sk_{number}", f"owner-{number}")
        assert gate.owner_of(f"sk_{number}") == f"owner-{number}"

    world.calls()
    for number in range(10):
        gate.owner_of(f"sk_{number}")
    assert world.calls().count("keys.find") >= 7


def test_the_day_of_use_is_written_once_a_day(world: World) -> None:
    for _ in range(3):
        Gate(world).owner_of()

    assert world.calls().count("keys.mark_used") == 1
    found = world.keys.find(hash_token(TOKEN))
    assert found is not None
    assert found.last_used_day == "2026-01-02"


def test_a_store_that_is_down_is_not_taken_for_a_bad_key(world: World) -> None:
    world.taps["keys"].fail("find", StoreUnavailable("throttled"))

    with pytest.raises(StoreUnavailable):
        Gate(world).owner_of()


def test_tokens_are_not_taken_where_the_deployment_has_no_issuer(world: World) -> None:
    with pytest.raises(Unauthenticated, match="API keys"):
        Gate(world).owner_of("eyJhbGciOiJub25lIn0.e30.")


def test_where_it_has_one_everything_but_keys_goes_to_the_verifier(world: World) -> None:
    gate = Gate(world, takes_tokens=True)

    assert gate.owner_of("header.claims.signature") == "header.claims.signature"
    assert gate.owner_of() == OWNER
    with pytest.raises(Unauthenticated):
        gate.owner_of("sk_unknown")
