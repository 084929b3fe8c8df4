"""What a chat's callers have been told, against which every further answer is held."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.crashing.outcome import Outcome
from tests.crashing.witness import BEGUN, DONE, Witness

KILLED = "sandboxes.kill#1"
ENDINGS = {"vanish", "store.begin_close#1", "store.begin_expire#1"}
"""What ends a session."""

SESSION_S = 30 * 60
CONTENT = "what was uploaded"

Reply = dict[str, Any]
Told = tuple[str, bool]
"""What a caller is told of the session: its status, and whether state was lost."""


@dataclass
class Callers:
    """The callers of one chat, as if they told each other what they hear."""

    witness: Witness
    has_file: bool = False
    known: set[str] = field(default_factory=set)
    """The runs of which callers know that their state is there."""
    generation: int = 0
    """The latest that a caller was told of."""
    given_up: bool = False
    """A caller has closed the session, and knows that its state is gone."""
    was_closed: bool = False
    """One has done so at any time."""
    died: Outcome | None = None
    """What is known of a worker that died, until a caller has been told of what it left behind."""
    taken: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Run → ids of the sandboxes that have taken it."""
    may_be_retold: bool = False
    """Who came back for a run has been told of a loss: who comes next may be, too, as the run's worker died."""
    asked_for: set[str] = field(default_factory=set)
    """All runs so far."""
    waiting: set[str] = field(default_factory=set)
    """Runs that went on when their callers were answered."""
    stopped: set[str] = field(default_factory=set)
    """Runs that were cancelled before they did anything."""
    unheard: set[str] = field(default_factory=set)
    """Runs that a sandbox has taken since a caller was told of the session."""
    answered: set[str] = field(default_factory=set)
    """Those of them whose callers were answered all the same, as far as anybody can know: they can come back."""
    told: dict[str, Reply] = field(default_factory=dict)
    """Run → what was first told of it once it had ended."""
    behind: set[str] = field(default_factory=set)
    """What has happened behind the callers' backs since one was told anything: a loss, and what cleanup did."""
    befallen: set[str] = field(default_factory=set)
    """What has ever happened to the chat's sandboxes by no doing of the service."""
    expires_at_s: float = 0
    """From when on the session may be ended, unless it is used."""

    def suffer(self, kind: str) -> None:
        """Notes what has happened to the chat's sandbox."""
        self.behind.add(kind)
        self.befallen.add(kind)

    def note(self, outcome: Outcome, run: str, at_s: float) -> None:
        """Notes what has been done for a run, and holds what is told of it against what is known."""
        self._note_what_was_done(outcome, run)
        if outcome.was_killed and outcome.reply is None and outcome.accepted is None:
            self.died = outcome
        if outcome.accepted is not None:
            self.waiting.add(run)
        if outcome.accepted is not None or (outcome.was_killed and outcome.has_given_back):
            self.answered.add(run)
        if (told := outcome.reply or (outcome.found or {}).get("result")) is not None:
            is_lost = run in self.asked_for and _end(told) == "sandbox_lost"
            if outcome.reply is None or outcome.is_repeated or is_lost:
                self._learn(told, run, at_s)
            else:
                self._hear(told, run, at_s)
        self.asked_for.add(run)
        assert not self.witness.begun_twice(), f"code ran twice, after\n{self.died}"

    def check_ends(self, alive: Sequence[str]) -> None:
        """Fails unless all that was told of runs' ends is true, while these sandboxes are there."""
        for run, told in self.told.items():
            end = _end(told)
            begun, done = self.witness.times(run, BEGUN), self.witness.times(run, DONE)
            is_gone = told["sandboxId"] not in alive
            # What was heard by somebody who died may be gone with its sandbox, but not what is waited for.
            may_be_unknown = done == 0 or bool(self.befallen) or run not in self.waiting
            truths = {
                "finished": done == 1,
                # Under a session that is being closed, code may go on for a moment: nobody will see what it does.
                "cancelled": done == 0 or self.was_closed,
                "sandbox_lost": begun == 0 or (is_gone and may_be_unknown),
            }
            assert truths.get(end), f"{run} did not end as {end!r}: begun {begun}, done {done}, after\n{self.died}"

    def _note_what_was_done(self, outcome: Outcome, run: str) -> None:
        for sandbox_id in outcome.sandboxes("sandboxes.run"):
            self.taken[run].add(sandbox_id)
            self.unheard.add(run)
        if "sandboxes.cancel#1" in outcome.done:
            self.stopped.add(run)
        if outcome.do == "close" and "store.begin_close#1" in outcome.done:
            self.given_up = self.was_closed = True
        if outcome.do.startswith("cleanup"):
            self.behind |= outcome.done

    # ── What they are told ──────────────────────────────────────────────────────────────────────────

    def _hear(self, reply: Reply, run: str, at_s: float) -> None:
        """Takes the answer to a call that has run code in the session as it is now."""
        assert reply["success"], f"a run that completed is told as something else: {reply}"
        runs = self._runs(reply, run)
        there = {other for other, sandboxes in self.taken.items() if reply["sandboxId"] in sandboxes} - self.stopped
        assert {*runs} == there, f"what ran is told wrongly: {runs} are not {there}, after\n{self.died}"
        self._check_session(reply["session"], runs, at_s)
        self._remember(reply, run)
        self.expires_at_s = at_s + SESSION_S
        self.known, self.generation = {*runs}, reply["session"]["generation"]
        self.given_up, self.died, self.may_be_retold = False, None, False
        self.behind, self.unheard, self.answered = set(), set(), set()

    def _learn(self, told: Reply, run: str, at_s: float) -> None:
        """Takes what is told of a run that was begun before."""
        self._remember(told, run)
        if not told["success"]:
            return
        runs = self._runs(told, run)
        if run in self.unheard:  # else callers have heard later news of the session
            self._check_session(told["session"], runs, at_s)
            self.known = {*runs}
            self.generation = told["session"]["generation"]
            self.may_be_retold = told["session"]["stateReset"]
            self.unheard.discard(run)
            self.answered.add(run)

    def _remember(self, told: Reply, run: str) -> None:
        """Whatever is told of a run that has ended stays the same, whoever asks."""
        names = ("executionId", "success", "results", "errorDetail", "sandboxId", "session")
        essence = {name: told[name] for name in names}
        assert self.told.setdefault(run, essence) == essence, f"two ends of {run} are told, after\n{self.died}"

    def _runs(self, told: Reply, run: str) -> list[str]:
        """Returns the runs whose state this run has found in its sandbox, and itself."""
        said = json.loads(told["results"][0]["content"])
        runs: list[str] = said["variable"]
        assert runs == said["file"], "variables and files are not of the same runs"
        assert runs[-1] == run
        assert runs == self.witness.done_in(told["sandboxId"])[: len(runs)], "runs are told that were not"
        assert said["data"] == (CONTENT if self.has_file else None), "the chat's file is not as it was uploaded"
        return runs

    def _check_session(self, session: Reply, runs: Sequence[str], at_s: float) -> None:
        lost = self.known - {*runs}
        excused = self.given_up or self.behind & ENDINGS or at_s >= self.expires_at_s
        assert excused or not lost, f"state was lost for no reason, after\n{self.died}"
        truths = self._truths(runs, is_lost=bool(lost))
        told = (session["status"], session["stateReset"])
        assert told in truths, (
            f"{session} is not true: lost is {lost}, and what is there is {runs}, after\n{self.died}"
        )
        assert (session["reason"] is not None) == session["stateReset"], session
        assert session["generation"] >= self.generation + bool(lost), "what is gone was of another generation"

    def _truths(self, runs: Sequence[str], *, is_lost: bool) -> set[Told]:
        """Returns what may be told to the caller of the last of these runs."""
        if is_lost and self.given_up:
            return {("new", False)}
        there: set[Told] = {("reused", False), ("resumed", False)}
        was_told = not self.answered.isdisjoint(runs[:-1])
        if is_lost:
            return {("recreated", True)} | (there if was_told else set())
        if self.known or was_told:
            return there | ({("recreated", True)} if self.may_be_retold else set())
        if len(runs) > 1:  # of a dead worker, that nobody has heard of
            return there | {("new", False)}
        # Whether the dead worker had run anything before cleanup ended what it left, nobody can know any more.
        return {("new", False)} | (
            {("recreated", True)} if self.died and self.behind & {*ENDINGS, KILLED} else set()
        )


def _end(told: Reply) -> str:
    """Returns how a run is told to have ended."""
    return str(told["errorDetail"]["kind"]) if told["errorDetail"] else "finished"
