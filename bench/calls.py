"""`python -m bench calls`: what a call takes over HTTP, beside the bare SDK on the same sandboxes, in turn."""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from e2b import SandboxNotFoundException
from e2b_code_interpreter import Sandbox

from bench.chapters import Chapter, compared, milliseconds
from bench.client import LIFETIME_S, POOL_REFILL_S, Client
from bench.samples import Case, Sample, in_turn, timed
from local.project import SAMPLE
from local.settings import Settings
from local.stack import Stack

WARM_CALLS = 200
FIRST_CALLS = 10
RESUMED_CALLS = 20
CHATS_AT_ONCE = 6
"""And so many sandboxes wait warm: how fast this machine starts them is not asked here."""

CODE = "1+1"
FIRST_CODE = "import pandas as pd\nprint(pd.read_csv('employee_data.csv')['Salary'].mean())"
FIRST_CODE_ALONE = "import pandas as pd\nprint(pd.DataFrame({'a': range(100)})['a'].mean())"

Pair = tuple[Sample, Sample]
Work = Iterator[Callable[[], object]]


class Calls:
    """The same calls through the API and by the bare SDK. The pool is full before each that needs a new sandbox."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._content = SAMPLE.read_bytes()

    def warm(self) -> Pair:
        """Returns `1+1` in the same sandbox."""
        client = self._client
        sandbox = client.attach(client.run("warm", CODE)["sandboxId"])

        @contextmanager
        def ours() -> Work:
            yield lambda: client.run("warm", CODE)

        @contextmanager
        def theirs() -> Work:
            yield lambda: _succeed(sandbox, CODE)

        pair = _pair("warm", WARM_CALLS, ours, theirs, unheeded=10)
        client.close("warm")
        return pair

    def new(self) -> Pair:
        """Returns first calls: a sandbox is created, a file put into it, read by pandas."""

        @contextmanager
        def ours() -> Work:
            with self._chat() as chat_id:
                time.sleep(POOL_REFILL_S)
                yield lambda: self._client.run(chat_id, FIRST_CODE)

        @contextmanager
        def theirs() -> Work:
            made: list[Sandbox] = []
            time.sleep(POOL_REFILL_S)
            yield lambda: made.append(self._made())
            made[0].kill()

        return _pair("new, with a file", FIRST_CALLS, ours, theirs)

    def resumed(self) -> Pair:
        """Returns `1+1` after the sandbox has paused."""
        client, name = self._client, f"resumed-{uuid.uuid4().hex[:8]}"
        sandbox_id = client.run(name, CODE)["sandboxId"]
        other = Sandbox.create(timeout=LIFETIME_S, **client.e2b)
        _succeed(other, CODE)

        @contextmanager
        def ours() -> Work:
            client.pause(name, sandbox_id)
            yield lambda: _told(client.run(name, CODE), "resumed")

        @contextmanager
        def theirs() -> Work:
            other.pause()
            yield lambda: _succeed(client.attach(other.sandbox_id), CODE)

        pair = _pair("resumed", RESUMED_CALLS, ours, theirs)
        client.close(name)
        other.kill()
        return pair

    def recreated(self) -> Pair:
        """Returns calls whose sandbox has vanished, and who learn it on the way: as a new one from there."""
        client = self._client

        @contextmanager
        def ours() -> Work:
            with self._chat() as chat_id:
                client.kill(client.run(chat_id, FIRST_CODE)["sandboxId"])
                time.sleep(POOL_REFILL_S)
                yield lambda: _told(client.run(chat_id, FIRST_CODE), "recreated")

        @contextmanager
        def theirs() -> Work:
            made: list[Sandbox] = []
            lost = self._made()
            lost.kill()
            time.sleep(POOL_REFILL_S)
            yield lambda: made.append(self._made_again(lost.sandbox_id))
            made[0].kill()

        return _pair("recreated, with a file", FIRST_CALLS, ours, theirs)

    @contextmanager
    def _chat(self) -> Iterator[str]:
        """A chat with a file."""
        chat_id = f"call-{uuid.uuid4().hex[:8]}"
        self._client.upload(chat_id, SAMPLE.name, self._content)
        yield chat_id
        self._client.close(chat_id)

    def _made(self) -> Sandbox:
        """Returns a new sandbox in which the file has been read."""
        sandbox = Sandbox.create(timeout=LIFETIME_S, **self._client.e2b)
        sandbox.files.write(SAMPLE.name, self._content)
        _succeed(sandbox, FIRST_CODE)
        return sandbox

    def _made_again(self, sandbox_id: str) -> Sandbox:
        try:
            self._client.attach(sandbox_id)
        except SandboxNotFoundException:
            return self._made()
        raise RuntimeError(f"{sandbox_id} has not vanished")


def _pair(what: str, rounds: int, ours: Case, theirs: Case, *, unheeded: int = 1) -> Pair:
    one, other = in_turn(rounds, {f"{what}: API": ours, f"{what}: bare SDK": theirs}, unheeded=unheeded)
    return one, other


def _succeed(sandbox: Sandbox, code: str) -> None:
    done = sandbox.run_code(code)
    if done.error:
        raise RuntimeError(done.error.value)


def _told(answer: dict[str, object], status: str) -> None:
    session = answer["session"]
    assert isinstance(session, dict)
    assert session["status"] == status, session


def many(client: Client) -> Sample:
    """Returns first calls of several chats at once; one that fails fails the bench."""
    chats = [f"many-{number}" for number in range(CHATS_AT_ONCE)]
    time.sleep(POOL_REFILL_S)
    with ThreadPoolExecutor(CHATS_AT_ONCE) as pool:
        durations = [*pool.map(lambda chat: timed(lambda: client.run(chat, FIRST_CODE_ALONE)), chats)]
    for chat in chats:
        client.close(chat)
    return Sample(f"API, first calls of {CHATS_AT_ONCE} chats at once", durations)


def idle_mib(client: Client) -> float:
    """Returns the memory of an idle sandbox that has answered once: its processes' own share (PSS), in MiB."""
    sandbox = client.attach(client.run("idle", CODE)["sandboxId"])
    time.sleep(1)
    used = sandbox.get_metrics()[-1].mem_used
    client.close("idle")
    return float(used) / 2**20


def chapter() -> Chapter:
    """Measures."""
    pool = ("--pool-size", str(CHATS_AT_ONCE))
    with (
        tempfile.TemporaryDirectory() as logs,
        Stack(Settings().on_free_ports(), Path(logs), sandbox_flags=pool) as stack,
    ):
        client = Client(stack)
        calls = Calls(client)
        time.sleep(CHATS_AT_ONCE * POOL_REFILL_S / 2)  # until all of them wait
        warm, resumed, new, recreated = calls.warm(), calls.resumed(), calls.new(), calls.recreated()
        at_once = many(client)
        idle = idle_mib(client)
    over = {pair[0].name: pair[0].median - pair[1].median for pair in (warm, new, resumed, recreated)}
    ratio = warm[0].median / warm[1].median
    return Chapter(
        "Calls",
        f"""
Through the API over HTTP on the local stack, and by the bare SDK on the same sandbox server, where a warm sandbox
is there at once: so this is the service's own share, and the chapter on the critical path has the delays of real
services. Warm: `{CODE}` in the same sandbox, against `run_code`. Resumed: the sandbox has paused, as its row says,
against `Sandbox.connect` and `run_code`. New: a CSV lies in S3, `pandas.read_csv` and a mean, against
`Sandbox.create`, `files.write` and `run_code`; the SDK has the content in its memory, and downloads nothing.
Recreated: the sandbox was killed behind the caller's back, then the same; the SDK learns it from `connect`. The
server has warm sandboxes waiting before each call that needs one. The SDK keeps neither session, nor record, nor
the run, should its caller die.
""",
        [compared([warm, resumed, new, recreated]), milliseconds([at_once])],
        {
            f"warm: p50 {warm[0].median:.1f} ms ≤ 20 ms": warm[0].median <= 20,
            f"warm: {over[warm[0].name]:.1f} ms ≤ 10 ms over the bare SDK (ratio {ratio:.2f})": (
                over[warm[0].name] <= 10
            ),
            f"new: p50 {new[0].median:.0f} ms ≤ 400 ms": new[0].median <= 400,
            f"idle sandbox: {idle:.0f} MiB ≤ 150 MB ({150e6 / 2**20:.0f} MiB)": idle <= 150e6 / 2**20,
        },
    )
