"""`python -m bench critical`: a call's critical path with the delays of real services, beside the original's."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.chapters import Chapter, Table, compared
from bench.client import POOL_REFILL_S
from bench.delays import Delays, Heard
from bench.samples import Case, Sample, in_turn
from bench.wire import Wire, relayed
from local.project import SAMPLE
from local.settings import Settings
from local.stack import Stack

DELAYS = Delays(e2b_ms=30, create_ms=450, resume_ms=1000, s3_ms=30, dynamodb_ms=5)
FIRST_CALLS = 8
RESUMED_CALLS = 8
WARM_CALLS = 40
FILES = (1, 4)

MOST_ONE_FILE = 1.25
MOST_RESUMED = 1.1
MOST_WARM_MS = 45
"""What knowing sessions in a table, and not in a process, may cost a call that has nothing else to wait for."""

CODE = "import pandas as pd\nprint(pd.read_csv('employee_data-1.csv')['Salary'].mean())"
WARM_CODE = "1+1"


@dataclass(frozen=True, slots=True)
class Walk:
    """A call with all that it asked for, and when: in seconds of one clock."""

    begun: float
    ended: float
    asked: Sequence[Heard]

    @property
    def duration(self) -> float:
        """For how long its caller waited."""
        return self.ended - self.begun


class Walks:
    """The cases of both designs, with what they asked for on the way."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._contents = SAMPLE.read_bytes()
        self.taken: dict[str, list[Walk]] = {}

    def pair(self, what: str, rounds: int, ours: Case, theirs: Case) -> tuple[Sample, Sample]:
        """Returns the durations of both, taken in turn."""
        one, other = in_turn(rounds, {f"{what}: API": ours, f"{what}: original's design": theirs})
        return one, other

    def noted_pair(self, what: str, rounds: int, ours: Case, theirs: Case) -> tuple[Sample, Sample]:
        """Returns the same; what each call asks for is noted."""
        return self.pair(
            what, rounds, self._noted(f"{what}: API", ours), self._noted(f"{what}: original's design", theirs)
        )

    def middle(self, sample: Sample) -> Walk:
        """Returns the walk of the median duration."""
        walks = sorted(self.taken[sample.name][-len(sample.durations) :], key=lambda walk: walk.duration)
        return walks[len(walks) // 2]

    def _noted(self, name: str, case: Case) -> Case:
        @contextmanager
        def noted() -> Iterator[Callable[[], object]]:
            with case() as work:
                self._wire.service.status("unknown")  # so that the caller is known
                self._wire.heard()
                begun = time.perf_counter()
                yield work
                ended = time.perf_counter()
                self.taken.setdefault(name, []).append(Walk(begun, ended, self._wire.heard()))

        return noted

    def first(self, files: int) -> tuple[Case, Case]:
        """A chat's first call, with so many files."""
        contents = {f"employee_data-{number + 1}.csv": self._contents for number in range(files)}
        wire = self._wire

        @contextmanager
        def ours() -> Iterator[Callable[[], object]]:
            with _chat(wire) as chat_id:
                for name, content in contents.items():
                    wire.direct.upload(chat_id, name, content)
                time.sleep(POOL_REFILL_S)
                yield lambda: wire.service.run(chat_id, CODE)

        @contextmanager
        def theirs() -> Iterator[Callable[[], object]]:
            chat_id = uuid.uuid4().hex
            objects = wire.original.store(chat_id, contents)
            time.sleep(POOL_REFILL_S)
            yield lambda: wire.original.run(chat_id, CODE, objects)
            wire.original.close(chat_id)

        return ours, theirs

    @contextmanager
    def later(self) -> Iterator[tuple[tuple[Case, Case], tuple[Case, Case]]]:
        """A warm call and one whose sandbox has paused, in a chat of each design."""
        wire, theirs_id = self._wire, uuid.uuid4().hex
        with _chat(wire) as ours_id:
            sandbox_id = wire.service.run(ours_id, WARM_CODE)["sandboxId"]
            wire.original.run(theirs_id, WARM_CODE)

            @contextmanager
            def ours_warm() -> Iterator[Callable[[], object]]:
                yield lambda: wire.service.run(ours_id, WARM_CODE)

            @contextmanager
            def theirs_warm() -> Iterator[Callable[[], object]]:
                yield lambda: wire.original.run(theirs_id, WARM_CODE)

            @contextmanager
            def ours_resumed() -> Iterator[Callable[[], object]]:
                wire.direct.pause(ours_id, sandbox_id)
                yield lambda: wire.service.run(ours_id, WARM_CODE)

            @contextmanager
            def theirs_resumed() -> Iterator[Callable[[], object]]:
                wire.original.sandboxes[theirs_id].pause()
                yield lambda: wire.original.resume(theirs_id, WARM_CODE)

            yield (ours_warm, theirs_warm), (ours_resumed, theirs_resumed)
            wire.original.close(theirs_id)


@contextmanager
def _chat(wire: Wire) -> Iterator[str]:
    """A new chat."""
    chat_id = f"critical-{uuid.uuid4().hex[:8]}"
    yield chat_id
    wire.direct.close(chat_id)


def timeline(walk: Walk, whose: str) -> list[tuple[str, ...]]:
    """Returns what a call asked for and how long that took, its answer included, in rows."""
    rows = [
        (
            f"{whose}: {each.service}, {each.what}",
            f"{(each.begun - walk.begun) * 1000:,.0f}",
            f"{(each.ended - each.begun) * 1000:,.0f}",
            f"{(each.ended - walk.begun) * 1000:,.0f}",
        )
        for each in walk.asked
    ]
    duration = f"{walk.duration * 1000:,.0f}"
    return [*rows, (f"{whose}: the call", "0", duration, duration)]


def chapter() -> Chapter:
    """Measures."""
    with (
        tempfile.TemporaryDirectory() as logs,
        Stack(Settings().on_free_ports(), Path(logs)) as stack,
        relayed(stack, Path(logs), DELAYS) as wire,
    ):
        walks = Walks(wire)
        firsts = [
            walks.noted_pair(f"first call, {files} file{'s' * (files > 1)}", FIRST_CALLS, *walks.first(files))
            for files in FILES
        ]
        with walks.later() as (warm_cases, resumed_cases):
            warm = walks.pair("warm call", WARM_CALLS, *warm_cases)
            resumed = walks.pair("resumed call", RESUMED_CALLS, *resumed_cases)
    one, four = (ours.median / theirs.median for ours, theirs in firsts)
    again = resumed[0].median / resumed[1].median
    over = warm[0].median - warm[1].median
    return Chapter(
        "The first call's critical path",
        f"""
The sandboxes and the AWS of this machine answer at once; real ones do not. So a relay adds to each request, before
it passes it on: {DELAYS.create_ms} ms to create a sandbox, {DELAYS.resume_ms:,} ms to resume one, {DELAYS.e2b_ms}
ms to anything else that is asked of E2B or of a sandbox, {DELAYS.s3_ms} ms to S3, {DELAYS.dynamodb_ms} ms to
DynamoDB; and about 3 ms of its own, to both sides alike, which ours, with more requests, pay more often. Handshakes
and TLS are left out: connections are kept. The baseline is the original's design (`bench/original.py`): create,
download, upload, run, one after the other, by the bare SDK and boto3, in the process that asks; it is spared its
own HTTP, authentication and look-up of files. Ours is a call to the API over HTTP. What the baseline saves, it does
not have: its sandboxes are known to one process until that ends, two first calls make two of them, and a run ends
with its connection. First calls read a small CSV by pandas and take a mean; the others are `{WARM_CODE}`. The
second table is the first call with one file, of each design the one of the median duration.
""",
        [
            compared([*firsts, warm, resumed]),
            Table(
                ("milliseconds", "begins", "takes", "ends"),
                [
                    *timeline(walks.middle(firsts[0][0]), "API"),
                    *timeline(walks.middle(firsts[0][1]), "original's design"),
                ],
            ),
        ],
        {
            f"first call, one file: {one:.2f} ≤ {MOST_ONE_FILE} of the original's": one <= MOST_ONE_FILE,
            f"first call, four files: {four:.2f} ≤ 1 of the original's": four <= 1,
            f"resumed call: {again:.2f} ≤ {MOST_RESUMED} of the original's": again <= MOST_RESUMED,
            f"warm call: {over:.0f} ms ≤ {MOST_WARM_MS} ms over the original's": over <= MOST_WARM_MS,
        },
    )
