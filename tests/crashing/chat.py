"""A chat that knows what its callers have been told, and holds every further answer against it."""

import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlencode

from tests.crashing.outcome import Outcome
from tests.crashing.service import Service
from tests.crashing.worker import Task

SIGKILLED = -9
KILLED = "sandboxes.kill#1"
ENDINGS = {"vanish", "store.begin_close#1", "store.begin_expire#1"}
"""What ends a session."""

SESSION_S = 30 * 60
A_DAY_S = 24 * 3600
CONTENT = "what was uploaded"

CODE = """
import json, os
runs = [*globals().get("runs", []), {run!r}]
with open("runs", "a") as file:
    print({run!r}, file=file)
data = open("data.txt").read() if os.path.exists("data.txt") else None
print(json.dumps({{"variable": runs, "file": open("runs").read().split(), "data": data}}))
"""

Told = tuple[str, bool]
"""What a caller is told of the session: its status, and whether state was lost."""

_numbers = count(1)


@dataclass
class Chat:
    """One chat, in a stack of its own, so that its sandboxes can be told from all others.

    Times are seconds from now, by the clocks of those who act; nobody waits for them.
    """

    service: Service
    name: str = field(default_factory=lambda: f"c{next(_numbers)}")
    has_file: bool = False
    known: set[str] = field(default_factory=set)
    """The runs of which callers know that their state is there."""
    generation: int = 0
    """The latest that a caller was told of."""
    given_up: bool = False
    """A caller has closed the session, and knows that its state is gone."""
    died: Outcome | None = None
    """What is known of a worker that died, until a caller has been told of what it left behind."""
    dead_run: str = ""
    """The run that it may have done."""
    behind: set[str] = field(default_factory=set)
    """What has happened behind the callers' backs since one was told anything: a loss, and what cleanup did."""
    expires_at_s: float = 0
    """From when on its session may be ended, unless it is used."""

    # ── What happens ────────────────────────────────────────────────────────────────────────────────

    def call(self, at_s: float) -> str:
        """Runs code for a caller who would not wait, and returns the sandbox's id. The answer must be true."""
        reply = self.act("execute", at_s).reply
        assert reply is not None
        return str(reply["sandboxId"])

    def upload(self) -> None:
        """Gives the chat a file."""
        self._passed(self.service.live.do(Task(do="upload", chat=self.name, code=CONTENT)))
        self.has_file = True

    def befall(self, kind: str) -> None:
        """Lets something happen to the chat's sandbox: `pause`, `vanish`."""
        (sandbox_id,) = self.alive()
        self.service.server.plan(kind, sandbox_id=sandbox_id)
        self.behind.add(kind)

    def clean_up(self, at_s: float) -> None:
        """Lets a tick of the cleanup pass, which must end all that it begins."""
        report = self.act("cleanup", at_s).report
        assert report is not None
        assert (report["failed"], report["complete"]) == (0, True), report

    def act(self, do: str, at_s: float) -> Outcome:
        """Has something done that nobody dies of, and returns what came of it."""
        run = f"run{next(_numbers)}"
        outcome = self._passed(self.service.live.do(self._task(do, at_s, run)))
        self._note(outcome, run, at_s)
        return outcome

    def die(self, do: str, at_s: float, moment: str) -> None:
        """Has a worker die at a moment of what it does, as `before store.claim#1`."""
        run = f"run{next(_numbers)}"
        outcome = self.service.mortal.do(self._task(do, at_s, run, moment))
        assert outcome.exit_code == SIGKILLED, f"the worker did not come to {moment!r}:\n{outcome}"
        self._note(outcome, run, at_s)
        if outcome.reply is None:
            self.died, self.dead_run = outcome, run

    def alive(self) -> list[str]:
        """Returns the ids of the chat's sandboxes, running and paused."""
        query = urlencode({"metadata": urlencode({"stack": self.name}), "state": "running,paused"})
        return [entry["sandboxID"] for entry in self.service.server.call("GET", f"/v2/sandboxes?{query}")]

    def remove(self) -> None:
        """Ends the chat's session, and whatever is left of its sandboxes."""
        self.service.live.do(Task(do="close", chat=self.name, at_s=A_DAY_S))
        for sandbox_id in self.alive():
            self.service.server.call("DELETE", f"/sandboxes/{sandbox_id}")

    def _task(self, do: str, at_s: float, run: str, die_at: str | None = None) -> Task:
        return Task(do=do, chat=self.name, at_s=at_s, code=CODE.format(run=run), die_at=die_at)

    def _passed(self, outcome: Outcome) -> Outcome:
        assert outcome.exit_code == 0, f"this failed:\n{outcome}\nafter a death at the end of:\n{self.died}"
        return outcome

    # ── What callers are told ───────────────────────────────────────────────────────────────────────

    def _note(self, outcome: Outcome, run: str, at_s: float) -> None:
        if outcome.do == "close" and "store.begin_close#1" in outcome.done:
            self.given_up = True
        if outcome.do.startswith("cleanup"):
            self.behind |= outcome.done
        if outcome.reply is not None:
            self._hear(outcome.reply, run, at_s)

    def _hear(self, reply: dict[str, Any], run: str, at_s: float) -> None:
        """Holds the answer to a run against what is known."""
        assert reply["success"], f"a run that completed is told as something else: {reply}"
        said = json.loads(reply["results"][0]["content"])
        runs = said["variable"]
        assert runs == said["file"], "variables and files are not of the same runs"
        assert runs[-1] == run
        assert len({*runs}) == len(runs), f"code ran twice: {runs}"
        assert said["data"] == (CONTENT if self.has_file else None), "the chat's file is not as it was uploaded"
        self._check_dead_run(reply["sandboxId"], runs)
        self._check_session(reply["session"], runs)
        excused = self.given_up or self.behind & ENDINGS or at_s >= self.expires_at_s
        assert excused or self.known <= {*runs}, f"state was lost for no reason, after\n{self.died}"
        self.expires_at_s = at_s + SESSION_S
        self.known, self.generation = {*runs}, reply["session"]["generation"]
        self.given_up, self.behind, self.died, self.dead_run = False, set(), None, ""

    def _check_dead_run(self, sandbox_id: str, runs: list[str]) -> None:
        """The dead worker's run is there if it was done in this very sandbox, and not otherwise."""
        done = self.died is not None and sandbox_id in self.died.sandboxes("sandboxes.run")
        assert (self.dead_run in runs) == done, f"the dead worker's run is told wrongly: {runs}, {self.died}"

    def _check_session(self, session: dict[str, Any], runs: list[str]) -> None:
        lost = self.known - {*runs}
        # Who dies between giving the session back and answering has told of a loss, as far as anybody can know.
        answered = self.died is not None and "store.release#1" in self.died.done and self.dead_run in runs
        truths = self._truths(lost=bool(lost), answered=answered)
        told = (session["status"], session["stateReset"])
        assert told in truths, (
            f"{session} is not true: lost is {lost}, and what is there is {runs}, after\n{self.died}"
        )
        assert (session["reason"] is not None) == session["stateReset"], session
        assert session["generation"] >= self.generation + bool(lost), "what is gone was of another generation"

    def _truths(self, *, lost: bool, answered: bool) -> set[Told]:
        """Returns what a caller may be told."""
        if lost and self.given_up:
            return {("new", False)}
        there: set[Told] = {("reused", False), ("resumed", False)}
        if lost:
            return {("recreated", True)} | (there if answered else set())
        if self.known or answered:
            return there
        # Whether the dead worker had run anything before cleanup ended what it left, nobody can know any more.
        return {("new", False)} | (
            {("recreated", True)} if self.died and self.behind & {*ENDINGS, KILLED} else set()
        )
