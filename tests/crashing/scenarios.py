"""What a worker may be doing when it dies."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.crashing.chat import SESSION_S, Chat

RUN_S = 5
"""The limit of every run here."""
LEASE_S = RUN_S + 15
"""A run is taken for dead after this time."""
CLAIM_S = 30
"""A creator or closer is taken for dead after this time."""
CREATED_S = CLAIM_S + LEASE_S
"""The longest that a call which creates a sandbox can block others."""
EXPIRED_S = SESSION_S + RUN_S


@dataclass(frozen=True, slots=True)
class Scenario:
    """At `at_s`, when this has happened to a chat, a worker begins to `do` something that may block others."""

    name: str
    do: str
    at_s: float
    blocks_s: float
    before: Callable[[Chat], None]

    @property
    def creates(self) -> bool:
        """Returns whether a new sandbox is made."""
        return self.blocks_s == CREATED_S

    def __str__(self) -> str:
        return self.name


def a_call(chat: Chat) -> None:
    """The chat has a session."""
    chat.call(0)


def a_pause(chat: Chat) -> None:
    """The chat's sandbox is paused."""
    chat.call(0)
    chat.befall("pause")


def a_loss(chat: Chat) -> None:
    """The chat's sandbox is gone."""
    chat.call(0)
    chat.befall("vanish")


def an_upload(chat: Chat) -> None:
    """The chat is new, and has a file."""
    chat.upload()


def a_late_upload(chat: Chat) -> None:
    """The chat has a session, and a file since."""
    chat.call(0)
    chat.upload()


def a_dead_creator(chat: Chat) -> None:
    """Somebody died who had made the chat's first sandbox, and had told nobody which it is."""
    chat.die("execute", 0, "after sandboxes.create#1")


def a_dead_successor(chat: Chat) -> None:
    """Somebody died who was about to replace an expired sandbox, which is still there."""
    chat.call(0)
    chat.die("execute", EXPIRED_S, "before sandboxes.create#1")


def an_orphan(chat: Chat) -> None:
    """Somebody died who had replaced an expired sandbox, and was about to kill it."""
    chat.call(0)
    chat.die("execute", EXPIRED_S, "before sandboxes.kill#1")


SCENARIOS = (
    Scenario("a warm call", "execute", 10, LEASE_S, a_call),
    Scenario("a warm call that puts the pause off", "execute", 180, LEASE_S, a_call),
    Scenario("a call after the pause", "execute", 360, LEASE_S, a_pause),
    Scenario("a call after an early pause", "execute", 10, LEASE_S, a_pause),
    Scenario("a call after a loss", "execute", 10, CREATED_S, a_loss),
    Scenario("a call after the session has expired", "execute", EXPIRED_S, CREATED_S, a_call),
    Scenario("a first call", "execute", 0, CREATED_S, an_upload),
    Scenario("a warm call with a new file", "execute", 10, LEASE_S, a_late_upload),
    Scenario("taking a dead creator's claim over", "execute", CLAIM_S + 1, CREATED_S, a_dead_creator),
    Scenario("taking a dead successor's claim over", "execute", EXPIRED_S + 31, CREATED_S, a_dead_successor),
    Scenario("closing", "close", 10, CLAIM_S, a_call),
    Scenario("cleaning an expired session up", "cleanup", EXPIRED_S, CLAIM_S, a_call),
    Scenario("cleaning an orphan up", "cleanup", EXPIRED_S + 180, CLAIM_S, an_orphan),
    Scenario("ending all sessions by force", "cleanup-all", 180, CLAIM_S, a_call),
)
