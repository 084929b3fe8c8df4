"""A chat in which things happen: calls, deaths, losses."""

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

from tests.crashing.callers import CONTENT, Callers
from tests.crashing.outcome import Outcome
from tests.crashing.service import Service
from tests.crashing.witness import DONE, Witness
from tests.crashing.worker import Task
from tests.sandbox_server import eventually

A_DAY_S = 24 * 3600

_numbers = count(1)


@dataclass
class Chat:
    """One chat, in a stack of its own, so that its sandboxes can be told from all others.

    Times are seconds from now, by the clocks of those who act; nobody waits for them. What may be done: `execute`,
    `execute-async` with code that waits until it is let go on, `execute-once`, which is a repetition from the
    second time on, `execute-writing`, which leaves a file behind, `status` and `cancel` of the asynchronous run,
    `close`, `cleanup`, and `cleanup-all`.
    """

    service: Service
    name: str = field(default_factory=lambda: f"c{next(_numbers)}")
    once: str = ""
    """The run that is asked for with an idempotency key."""
    left: str = ""
    """The run that went on when its caller was answered."""
    execution_id: str = ""
    """What that caller asks for it by."""
    wrote: list[str] = field(default_factory=list)
    """The runs that were to leave a file behind."""

    def __post_init__(self) -> None:
        """Sets up who remembers what happens."""
        self.witness = Witness(self.service.folder / self.name)
        self.callers = Callers(self.witness)

    def call(self, at_s: float) -> str:
        """Runs code for a caller who would not wait, and returns the sandbox's id. The answer must be true."""
        reply = self.act("execute", at_s).reply
        assert reply is not None
        return str(reply["sandboxId"])

    def upload(self) -> None:
        """Gives the chat a file."""
        self._passed(self.service.live.do(Task(do="upload", chat=self.name, code=CONTENT)))
        self.callers.has_file = True

    def befall(self, kind: str) -> None:
        """Lets something happen to the chat's sandbox: `pause`, `vanish`."""
        (sandbox_id,) = self.alive()
        self.service.server.plan(kind, sandbox_id=sandbox_id)
        self.callers.suffer(kind)

    def clean_up(self, at_s: float) -> None:
        """Lets a tick of the cleanup pass, which must end all that it begins."""
        report = self.act("cleanup", at_s).report
        assert report is not None
        assert (report["failed"], report["complete"]) == (0, True), report

    def let_go_on(self) -> None:
        """Lets code go on that waits; returns once all of it has ended, with nobody looking."""
        self.witness.open()
        eventually(lambda: all(b'"type":"end"' in spool.read_bytes() for spool in self._spools()))

    def come_back(self, at_s: float) -> None:
        """Lets those ask for their runs who can: what they are told is true, and the same whenever they ask."""
        if self.left:
            found = self.act("status", at_s).found
            assert found is not None
            assert found["state"] == "ended", found
        if self.once:
            self.act("execute-once", at_s)
        self.callers.check_ends(self.alive())
        self._check_files()

    def _check_files(self) -> None:
        """Fails unless every run that has left a file behind has it kept, once, as it was."""
        if self.wrote:
            kept = self._passed(self.service.live.do(Task(do="kept", chat=self.name))).kept
            left = [run for run in self.wrote if self.witness.times(run, DONE)]
            assert kept == left[::-1], f"{kept} is kept of what {left} have left, after\n{self.callers.died}"

    def act(self, do: str, at_s: float) -> Outcome:
        """Has something done that nobody dies of, and returns what came of it."""
        run = self._run(do)
        outcome = self._passed(self.service.live.do(self._task(do, run, at_s)))
        self._note(outcome, run, at_s)
        return outcome

    def die(self, do: str, at_s: float, moment: str) -> None:
        """Has a worker die at a moment of what it does, as `before store.claim#1`."""
        run = self._run(do)
        outcome = self.service.mortal.do(self._task(do, run, at_s, moment))
        assert outcome.was_killed, f"the worker did not come to {moment!r}:\n{outcome}"
        self._note(outcome, run, at_s)

    def alive(self) -> list[str]:
        """Returns the ids of the chat's sandboxes, running and paused."""
        query = urlencode({"metadata": urlencode({"stack": self.name}), "state": "running,paused"})
        return [entry["sandboxID"] for entry in self.service.server.call("GET", f"/v2/sandboxes?{query}")]

    def remove(self) -> None:
        """Ends the chat's session, and whatever is left of its sandboxes."""
        self.service.live.do(Task(do="close", chat=self.name, at_s=A_DAY_S))
        for sandbox_id in self.alive():
            self.service.server.call("DELETE", f"/sandboxes/{sandbox_id}")
        self.witness.close()

    def _run(self, do: str) -> str:
        """Returns the run that this is about: a new one, unless it is one that there is."""
        if do in {"status", "cancel"}:
            return self.left
        if do == "execute-once" and self.once:
            return self.once
        run = f"run{next(_numbers)}"
        if do == "execute-once":
            self.once = run
        if do == "execute-writing":
            self.wrote.append(run)
        return run

    def _task(self, do: str, run: str, at_s: float, die_at: str | None = None) -> Task:
        if do == "execute-async":
            self.witness.shut()
        return Task(
            do="execute" if do.startswith("execute") else do,
            chat=self.name,
            at_s=at_s,
            code=self.witness.code(run, leaves_a_file=do == "execute-writing"),
            mode="async" if do == "execute-async" else "auto",
            idempotency_key=run if do == "execute-once" else None,
            execution_id=self.execution_id,
            die_at=die_at,
        )

    def _passed(self, outcome: Outcome) -> Outcome:
        died = self.callers.died
        assert outcome.exit_code == 0, f"this failed:\n{outcome}\nafter a death at the end of:\n{died}"
        return outcome

    def _note(self, outcome: Outcome, run: str, at_s: float) -> None:
        if outcome.accepted is not None:
            self.left, self.execution_id = run, outcome.accepted["executionId"]
        self.callers.note(outcome, run, at_s)

    def _spools(self) -> list[Path]:
        """Returns what the runners in the chat's sandboxes have kept of each run."""
        folders = [f"*/{sandbox_id}/home/.sandkeeper/runs/*.jsonl" for sandbox_id in self.alive()]
        return [spool for folder in folders for spool in self.service.server.data_dir.glob(folder)]
