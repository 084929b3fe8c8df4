"""What a worker may be doing when it dies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.crashing.callers import SESSION_S
from tests.crashing.chat import Chat
from tests.crashing.outcome import Outcome

RUN_S = 60
"""The limit of every run here."""
ATTENDED_S = 28 + 15
"""A call is taken for dead after this time, whatever its run's limit."""
CLAIM_S = 30
"""A creator or closer is taken for dead after this time."""
EXPIRED_S = SESSION_S + RUN_S
LEFT_S = 10
"""When a run is begun that is left."""
LEFT_EXPIRED_S = LEFT_S + EXPIRED_S


@dataclass(frozen=True, slots=True)
class Scenario:
    """At `at_s`, when this has happened to a chat, a worker begins to `do` something that may block others."""

    name: str
    do: str
    at_s: float
    blocks_s: float
    before: Callable[[Chat], None]
    creates: bool = False
    """A new sandbox is made: cleanup must not take it for one that nobody has."""
    is_asked_for: bool = False
    """There is a run that its caller can come back for."""
    since: str = ""
    """The first call to die at, where those before it are as in another scenario."""

    def moments(self, first_time: Outcome) -> Sequence[str]:
        """Returns the moments to die at, of those that there were when nobody died."""
        all_moments = first_time.moments
        first = next((index for index, moment in enumerate(all_moments) if self.since in moment), 0)
        return all_moments[first:]

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


def a_run_that_goes_on(chat: Chat) -> None:
    """The chat's session runs code whose caller was answered before its end."""
    chat.call(0)
    chat.act("execute-async", LEFT_S)


def a_left_run(chat: Chat) -> None:
    """The same, and the code has ended since, with nobody looking."""
    a_run_that_goes_on(chat)
    chat.let_go_on()


def a_left_run_and_a_pause(chat: Chat) -> None:
    """And the sandbox is paused since."""
    a_left_run(chat)
    chat.befall("pause")


def a_left_run_and_a_loss(chat: Chat) -> None:
    """And the sandbox is gone since."""
    a_left_run(chat)
    chat.befall("vanish")


def a_death_before_the_run(chat: Chat) -> None:
    """Somebody died who had noted a run with an idempotency key, and was about to ask for it."""
    chat.call(0)
    chat.die("execute-once", LEFT_S, "before sandboxes.run#1")


def a_death_after_the_run(chat: Chat) -> None:
    """Somebody died who had heard the end of a run with an idempotency key, and had told nobody."""
    chat.call(0)
    chat.die("execute-once", LEFT_S, "after sandboxes.run#1")


def a_death_after_the_run_and_a_loss(chat: Chat) -> None:
    """And the sandbox is gone since."""
    a_death_after_the_run(chat)
    chat.befall("vanish")


REPEATED_S = LEFT_S + ATTENDED_S

SCENARIOS = (
    Scenario("a warm call", "execute", 10, ATTENDED_S, a_call),
    Scenario("a warm call that puts the pause off", "execute", 180, ATTENDED_S, a_call),
    Scenario("a call after the pause", "execute", 360, ATTENDED_S, a_pause),
    Scenario("a call after an early pause", "execute", 10, ATTENDED_S, a_pause),
    Scenario("a call after a loss", "execute", 10, ATTENDED_S, a_loss, creates=True),
    Scenario("a call after the session has expired", "execute", EXPIRED_S, ATTENDED_S, a_call, creates=True),
    Scenario("a first call", "execute", 0, ATTENDED_S, an_upload, creates=True),
    Scenario("a warm call with a new file", "execute", 10, ATTENDED_S, a_late_upload),
    Scenario(
        "taking a dead creator's claim over", "execute", CLAIM_S + 1, ATTENDED_S, a_dead_creator, creates=True
    ),
    Scenario(
        "taking a dead successor's claim over",
        "execute",
        EXPIRED_S + CLAIM_S + 1,
        ATTENDED_S,
        a_dead_successor,
        creates=True,
    ),
    Scenario("a call that leaves a file", "execute-writing", 10, ATTENDED_S, a_call, since="sandboxes.run#1"),
    Scenario("closing", "close", 10, CLAIM_S, a_call),
    Scenario("cleaning an expired session up", "cleanup", EXPIRED_S, CLAIM_S, a_call),
    Scenario("cleaning an orphan up", "cleanup", EXPIRED_S + 180, CLAIM_S, an_orphan),
    Scenario("ending all sessions by force", "cleanup-all", 180, CLAIM_S, a_call),
    # Runs that go on when their callers have been answered, or have not.
    Scenario("beginning a run", "execute-async", 10, ATTENDED_S, a_call),
    Scenario("beginning a run after a loss", "execute-async", 10, ATTENDED_S, a_loss, since="store.activate#1"),
    Scenario("a call after a left run", "execute", 20, ATTENDED_S, a_left_run, is_asked_for=True),
    Scenario("asking for a left run", "status", 20, 0, a_left_run, is_asked_for=True),
    Scenario("asking for a paused run", "status", 360, 0, a_left_run_and_a_pause, is_asked_for=True),
    Scenario("asking for a lost run", "status", 20, 0, a_left_run_and_a_loss, is_asked_for=True),
    Scenario("stopping a run", "cancel", 20, 0, a_run_that_goes_on, is_asked_for=True),
    Scenario("closing under a run", "close", 20, CLAIM_S, a_run_that_goes_on, is_asked_for=True),
    Scenario(
        "cleaning a left run up",
        "cleanup",
        LEFT_EXPIRED_S,
        CLAIM_S,
        a_left_run_and_a_pause,
        is_asked_for=True,
        since="store.begin_expire#1",
    ),
    # Runs that are asked for more than once.
    Scenario("a call that may be repeated", "execute-once", 10, ATTENDED_S, a_call, is_asked_for=True),
    Scenario(
        "a call after a loss that may be repeated",
        "execute-once",
        10,
        ATTENDED_S,
        a_loss,
        is_asked_for=True,
    ),
    Scenario(
        "repeating what did not run",
        "execute-once",
        REPEATED_S,
        ATTENDED_S,
        a_death_before_the_run,
        is_asked_for=True,
        since="store.claim#1",
    ),
    Scenario("repeating what ran", "execute-once", REPEATED_S, 0, a_death_after_the_run, is_asked_for=True),
    Scenario(
        "repeating what is lost",
        "execute-once",
        REPEATED_S,
        ATTENDED_S,
        a_death_after_the_run_and_a_loss,
        is_asked_for=True,
        since="store.claim#1",
    ),
)
