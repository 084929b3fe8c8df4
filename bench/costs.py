"""`python -m bench costs`: what runs and waiting chats cost at list prices, with pausing and without.

Nothing is measured here: the lifetimes are the service's own, asked as its calls ask them, and the prices are those
of docs/deploying.md, looked up in November 2026.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from bench.chapters import Chapter, Table
from sandkeeper.model import Lifetimes

SANDBOX_USD_HOUR = 2 * 0.0504 + 1 * 0.0162
"""E2B, for two vCPUs and a GiB, while it runs; a paused one costs nothing."""
AWS_USD_RUN = {
    "Lambda, 1.1 s with 1 GB": 1.1 * 0.0000166667 + 0.20e-6,
    "API Gateway": 1.00e-6,
    "DynamoDB, 11 write units and a read": 11 * 0.625e-6 + 0.125e-6,
    "logs and traces": 2e-6 * 0.50 + 5.00e-6,
}
RUN = timedelta(seconds=1)
LIMIT = timedelta(seconds=60)
CLEANUP_EVERY = timedelta(minutes=5)
PAUSING = Lifetimes(session_timeout=timedelta(minutes=30))
WAITING = Lifetimes(session_timeout=timedelta(minutes=30), idle_pause=timedelta(0))
"""The design without pause: a sandbox runs until its session has ended, and the next tick finds it."""
CHATS: Sequence[tuple[str, int, timedelta]] = (
    ("one run, then nothing", 1, timedelta(0)),
    ("ten runs, a minute apart", 10, timedelta(minutes=1)),
    ("ten runs, ten minutes apart", 10, timedelta(minutes=10)),
    ("ten runs, 25 minutes apart", 10, timedelta(minutes=25)),
)
MOST = 0.25
"""What a chat that nobody comes back to may cost, the design without pause being one."""


@dataclass(slots=True)
class Chat:
    """A chat whose runs come one after the other, and how long its sandbox has run by then."""

    lifetimes: Lifetimes
    now: timedelta = timedelta(0)
    deadline: timedelta = timedelta(0)
    """When E2B pauses or kills the sandbox."""
    running: timedelta = timedelta(0)

    def run(self) -> None:
        """A run: creates or resumes the sandbox, or finds it running and moves its deadline where it should."""
        lifetime = self.lifetimes.sandbox_lifetime(LIMIT)
        if self.now >= self.deadline or self.deadline - self.now < self.lifetimes.worth_moving(LIMIT):
            self.deadline = self.now + lifetime
        self._pass(RUN)

    def idle(self, duration: timedelta) -> None:
        """Nobody calls for so long."""
        self._pass(duration)

    def end(self) -> None:
        """Nobody calls any more: the session ends after its timeout, and the sandbox with the next tick."""
        self._pass(self.lifetimes.session_timeout + CLEANUP_EVERY / 2)

    def _pass(self, duration: timedelta) -> None:
        self.running += max(min(self.now + duration, self.deadline) - self.now, timedelta(0))
        self.now += duration


def running_time(lifetimes: Lifetimes, runs: int, apart: timedelta) -> timedelta:
    """Returns for how long the chat's sandbox runs in all."""
    chat = Chat(lifetimes)
    for number in range(runs):
        if number:
            chat.idle(apart - RUN)
        chat.run()
    chat.end()
    return chat.running


def chapter() -> Chapter:
    """Computes."""
    aws = sum(AWS_USD_RUN.values())
    second = SANDBOX_USD_HOUR * RUN.total_seconds() / 3600
    runs = [(name, f"{1000 * usd:.4f}") for name, usd in AWS_USD_RUN.items()]
    runs += [("AWS", f"{1000 * aws:.4f}"), ("E2B, the second of each run", f"{1000 * second:.4f}")]
    runs.append(("sum", f"{1000 * (aws + second):.4f}"))
    chats: list[tuple[str, ...]] = []
    ratios: list[float] = []
    for name, count, apart in CHATS:
        pausing, waiting = (
            running_time(lifetimes, count, apart) / timedelta(hours=1) * SANDBOX_USD_HOUR
            for lifetimes in (PAUSING, WAITING)
        )
        ratios.append(pausing / waiting)
        chats.append((name, f"{pausing:.4f}", f"{waiting:.4f}", f"{ratios[-1]:.2f}", f"{count * aws:.4f}"))
    return Chapter(
        "Costs",
        f"""
Computed from list prices of us-east-1 and of E2B (November 2026, no free tiers), not measured. Runs take
{RUN.total_seconds():.0f} s, with the default limit of {LIMIT.total_seconds():.0f} s; sessions end 30 minutes after
their last use, sandboxes pause after five. The design without pause lets a sandbox run until its session has ended.
How often a call moves E2B's deadline is asked of the service's own code.
""",
        [
            Table(("USD", "1,000 runs"), runs),
            Table(("sandbox of a chat, USD", "with pause", "without", "ratio", "its runs on AWS"), chats),
        ],
        {
            f"a chat that nobody comes back to: {ratios[0]:.2f} ≤ {MOST} of the design without pause": ratios[0]
            <= MOST
        },
    )
