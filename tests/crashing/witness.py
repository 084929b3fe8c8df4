"""What runs do, seen from outside of their sandboxes: these share the machine's files with the tests.

So it is known how often code has begun and come to its end, and in which sandbox, whatever anybody is told of it;
and code can be made to wait.
"""

import fcntl
from dataclasses import dataclass
from pathlib import Path

BEGUN, DONE = "begun", "done"

_CODE = """
import fcntl, json, os
def note(what, run={run!r}):
    with open({ledger!r}, "a") as file:
        print(run, what, os.getcwd().split("/")[-2], file=file)
note({begun!r})
with open({gate!r}) as file:
    fcntl.flock(file, fcntl.LOCK_SH)
runs = [*globals().get("runs", []), {run!r}]
with open(".runs", "a") as file:
    print({run!r}, file=file)
if {leaves_a_file}:
    with open("report.txt", "w") as file:
        file.write({run!r})
data = open("data.txt").read() if os.path.exists("data.txt") else None
print(json.dumps({{"variable": runs, "file": open(".runs").read().split(), "data": data}}))
note({done!r})
"""


@dataclass(frozen=True, slots=True)
class Noted:
    """What a run has noted."""

    run: str
    what: str
    sandbox_id: str


class Witness:
    """Knows what the runs of one chat have done, and holds up those that come while its gate is shut."""

    def __init__(self, path: Path) -> None:
        self._ledger = path.with_suffix(".ledger")
        self._ledger.touch()
        self._gate = path.with_suffix(".gate")
        self._lock = self._gate.open("w")

    def code(self, run: str, *, leaves_a_file: bool = False) -> str:
        """Returns the code of a run: it tells what runs there were before it, by its variables and by its files.

        It may leave a file with its own name in it to be kept.
        """
        paths = {"ledger": str(self._ledger), "gate": str(self._gate)}
        return _CODE.format(run=run, **paths, begun=BEGUN, done=DONE, leaves_a_file=leaves_a_file)

    def shut(self) -> None:
        """Lets code wait before it does anything, from now on."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def open(self) -> None:
        """Lets code go on."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Needs no file any more."""
        self._lock.close()

    def times(self, run: str, what: str) -> int:
        """Returns how often a run has begun, or come to its end, in whatever sandboxes."""
        return sum((noted.run, noted.what) == (run, what) for noted in self._noted())

    def done_in(self, sandbox_id: str) -> list[str]:
        """Returns the runs that came to their end in this sandbox, in order."""
        return [noted.run for noted in self._noted() if (noted.what, noted.sandbox_id) == (DONE, sandbox_id)]

    def begun_twice(self) -> list[str]:
        """Returns the runs of which the code has run more than once."""
        begun = [noted.run for noted in self._noted() if noted.what == BEGUN]
        return [run for run in dict.fromkeys(begun) if begun.count(run) > 1]

    def _noted(self) -> list[Noted]:
        return [Noted(*line.split()) for line in self._ledger.read_text().splitlines()]
