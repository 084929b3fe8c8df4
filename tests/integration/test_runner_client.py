"""Requests to a sandbox's runner over connections that break: what is asked again, and what is told of it."""

import json
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import urllib3

from sandkeeper.adapters.runner import client
from sandkeeper.adapters.runner.client import Runner
from sandkeeper.adapters.runner.records import order_json
from sandkeeper.errors import SandboxUnavailable
from sandkeeper.model import RunEnd, Stream
from sandkeeper.ports import RunLost, RunUnknown, SandboxGone
from sandkeeper.runs import Accepted, Cancelled, Ended, RunEvent, Started
from tests.factories import context, order
from tests.stand_in import listening

WAIT = timedelta(seconds=5)
LINES: list[dict[str, Any]] = [
    {"type": "accepted", **order_json(order()), "ahead_ms": 0},
    {"type": "started", "reset": None},
    {"type": "stdout", "text": "a"},
    {"type": "stdout", "text": "b"},
    {"type": "end", "end": "finished", "reset": False},
]
WHAT = [Accepted("1", context()), Started(), Stream("stdout", "a"), Stream("stdout", "b"), Ended(RunEnd.FINISHED)]

Answer = Callable[[BaseHTTPRequestHandler], None]


def lines(after: int = 0, until: int = len(LINES)) -> list[bytes]:
    """Returns a run's lines behind the number `after`."""
    return [json.dumps({"n": n, "at": n, **line}).encode() for n, line in enumerate(LINES, 1) if after < n <= until]


def tells(*said: bytes, breaks: bool = False) -> Answer:
    """Answers with these lines; then the connection breaks, or the answer is over."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for line in said:
            handler.wfile.write(b"%x\r\n%s\n\r\n" % (len(line) + 1, line))
        if not breaks:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = breaks

    return answer


def whole(status: int, body: dict[str, Any]) -> Answer:
    """Answers with this status and body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        content = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    """Hears the request, and says nothing."""
    handler.close_connection = True


NOT_FOUND = whole(502, {"message": "The sandbox was not found"})
NO_PORT = whole(502, {"message": "The sandbox is running but port is not open"})
OTHER_TOKEN = whole(401, {"error": "token"})
UNKNOWN = whole(404, {"error": "unknown"})


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    token: str
    body: Any


@dataclass
class Sandbox:
    """A sandbox that answers as a test says, the last answer over and over."""

    url: str = ""
    answers: deque[Answer] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    starts: int = 0
    """How often its runner was started."""
    connections: int = 0

    def start(self) -> None:
        """Counts."""
        self.starts += 1

    def answer(self, *answers: Answer) -> None:
        """Lets the coming requests be answered so."""
        self.answers.extend(answers)

    @property
    def targets(self) -> list[str]:
        """What was asked for, as method and path with the number behind which events are wanted."""
        return [f"{asked.method} {asked.target.partition('&')[0]}" for asked in self.asked]


@contextmanager
def serving(sandbox: Sandbox) -> Iterator[None]:
    """Serves the sandbox."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            sandbox.connections += 1

        def _serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(content) if content else None
            sandbox.asked.append(Asked(self.command, self.path, self.headers["authorization"], body))
            many = len(sandbox.answers) > 1
            (sandbox.answers.popleft() if many else sandbox.answers[0])(self)

        do_GET = do_POST = _serve  # noqa: N815 - the names that `http.server` looks for

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as sandbox.url:
        yield


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox whose callers lose their patience soon."""
    monkeypatch.setattr(client, "PAUSES_S", (0.0, 0.01))
    monkeypatch.setattr(client, "SILENT_S", 0.1)
    made = Sandbox()
    with serving(made):
        yield made


@pytest.fixture
def runner(sandbox: Sandbox) -> Iterator[Runner]:
    """The runner in that sandbox."""
    pool = urllib3.PoolManager(2, maxsize=2, retries=False)
    yield Runner(pool, sandbox.url, {"Authorization": "Bearer token"}, start=sandbox.start)
    pool.clear()


def what(events: Iterator[RunEvent]) -> list[object]:
    """Returns what the events tell."""
    return [event.what for event in events]


# ── What is asked ───────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_asked_for_once_and_told_as_it_comes(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(tells(*lines()))

    assert what(runner.run(order(), WAIT)) == WHAT

    (asked,) = sandbox.asked
    assert (asked.method, asked.target.partition("&")[0]) == ("POST", "/runs/run-1?after=0")
    assert 4_000 < int(asked.target.partition("wait_ms=")[2]) <= 5_000
    assert (asked.token, asked.body) == ("Bearer token", order_json(order()))
    assert sandbox.starts == 0


def test_a_run_is_followed_from_where_its_reader_is(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(tells(*lines(after=3)))

    assert [event.number for event in runner.follow("run-1", 3, WAIT)] == [4, 5]
    assert sandbox.targets == ["GET /runs/run-1?after=3"]
    assert sandbox.asked[0].body is None


def test_one_connection_does_for_many_requests(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(tells(*lines()), whole(200, {"cancelled": False, "ended": True}), tells(*lines()))

    assert what(runner.run(order(), WAIT)) == WHAT
    runner.cancel(None)
    assert what(runner.follow("run-1", 0, WAIT)) == WHAT

    assert sandbox.connections == 1


def test_signs_of_life_are_no_events(sandbox: Sandbox, runner: Runner) -> None:
    said = lines()
    sandbox.answer(tells(*said[:2], b"", b"", *said[2:]))

    assert what(runner.run(order(), WAIT)) == WHAT


def test_a_run_that_goes_on_when_its_time_is_over_has_no_end(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(tells(*lines(until=3)))

    assert what(runner.run(order(), WAIT)) == WHAT[:3]
    assert len(sandbox.asked) == 1


# ── Connections that break ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seen", [1, 2, 4])
def test_a_connection_that_breaks_is_followed_by_another_that_misses_nothing(
    sandbox: Sandbox, runner: Runner, seen: int
) -> None:
    sandbox.answer(tells(*lines(until=seen), breaks=True), tells(*lines(after=seen)))

    assert what(runner.run(order(), WAIT)) == WHAT
    assert sandbox.targets == ["POST /runs/run-1?after=0", f"POST /runs/run-1?after={seen}"]


def test_a_line_that_is_cut_off_is_read_again(sandbox: Sandbox, runner: Runner) -> None:
    def cut_off(handler: BaseHTTPRequestHandler) -> None:
        tells(*lines(until=2), breaks=True)(handler)
        handler.wfile.write(b"5\r\n" + lines()[2][:5])

    sandbox.answer(cut_off, tells(*lines(after=2)))

    assert what(runner.follow("run-1", 0, WAIT)) == WHAT


def test_a_run_that_keeps_breaking_off_is_followed_while_there_is_any_sign_of_life(
    sandbox: Sandbox, runner: Runner
) -> None:
    sandbox.answer(*(tells(*lines(after=seen, until=seen + 1), breaks=True) for seen in range(len(LINES))))
    sandbox.answer(tells())

    assert what(runner.follow("run-1", 0, WAIT)) == WHAT


@pytest.mark.parametrize(
    "answer",
    [
        tells(*lines(after=1)),
        tells(lines()[0], lines()[2]),
        tells(lines()[1].replace(b'"n": 2', b'"n": 1')),
        tells(b'{"n": 1}'),
        tells(b"[]"),
        tells(b"what?"),
        tells(b"[" * 100_000),
        tells(b'{"n": 1e999, "at": 0, "type": "end", "end": "finished"}'),
    ],
    ids=["no first", "one is missing", "another first", "no type", "no object", "no JSON", "deep", "huge"],
)
def test_what_is_no_run_is_never_told_as_one(sandbox: Sandbox, runner: Runner, answer: Answer) -> None:
    sandbox.answer(answer)

    assert what(runner.run(order(), WAIT)) in ([], WHAT[:1])
    with pytest.raises(SandboxUnavailable):
        list(runner.follow("run-1", 0, WAIT))


# ── Runners that are not there ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("refusal", [NO_PORT, OTHER_TOKEN], ids=["closed port", "another token"])
def test_where_no_runner_of_ours_answers_it_is_started(sandbox: Sandbox, runner: Runner, refusal: Answer) -> None:
    sandbox.answer(refusal, tells(*lines()))

    assert what(runner.run(order(), WAIT)) == WHAT
    assert sandbox.starts == 1


def test_a_short_request_starts_it_too(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(NO_PORT, whole(200, {}))

    runner.restart_kernel()

    assert (sandbox.starts, sandbox.targets) == (1, ["POST /restart"] * 2)


def test_a_runner_that_cannot_be_started_because_the_sandbox_is_gone_has_run_nothing(sandbox: Sandbox) -> None:
    def start() -> None:
        raise SandboxGone("sbx1")

    sandbox.answer(NO_PORT)
    runner = Runner(urllib3.PoolManager(retries=False), sandbox.url, {}, start=start)

    with pytest.raises(SandboxGone) as raised:
        list(runner.run(order(), WAIT))
    assert not isinstance(raised.value, RunLost)
    runner.connections.clear()


def test_a_sandbox_that_is_not_there_has_run_nothing(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(NOT_FOUND)

    with pytest.raises(SandboxGone) as raised:
        list(runner.run(order(), WAIT))
    assert not isinstance(raised.value, RunLost)
    for ask in (lambda: list(runner.follow("run-1", 0, WAIT)), lambda: runner.cancel(None), runner.restart_kernel):
        with pytest.raises(SandboxGone):
            ask()


@pytest.mark.parametrize(
    "first", [tells(*lines(until=2), breaks=True), hangs_up, whole(500, {})], ids=["told of", "heard", "failed"]
)
def test_a_sandbox_that_is_not_there_any_more_may_have_run_the_code(
    sandbox: Sandbox, runner: Runner, first: Answer
) -> None:
    sandbox.answer(first, NOT_FOUND)

    with pytest.raises(RunLost):
        list(runner.run(order(), WAIT))


def test_a_run_that_there_is_not_is_told_as_such(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(UNKNOWN)

    with pytest.raises(RunUnknown):
        list(runner.follow("run-1", 0, WAIT))
    with pytest.raises(RunUnknown):
        runner.cancel("run-1")


# ── Nobody answers ──────────────────────────────────────────────────────────────────────────────────


def test_an_order_that_may_have_been_heard_is_no_error_and_tells_nothing(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(hangs_up)

    assert what(runner.run(order(), WAIT)) == []
    assert len(sandbox.asked) > 1
    assert set(sandbox.targets) == {"POST /runs/run-1?after=0"}


def test_what_was_told_before_the_silence_is_kept(sandbox: Sandbox, runner: Runner) -> None:
    sandbox.answer(tells(*lines(until=3), breaks=True), hangs_up)

    assert what(runner.run(order(), WAIT)) == WHAT[:3]


@pytest.fixture
def nowhere(sandbox: Sandbox) -> Iterator[Runner]:
    """A runner at an address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pool = urllib3.PoolManager(retries=False)
        yield Runner(pool, f"http://127.0.0.1:{taken.getsockname()[1]}", {}, start=sandbox.start)
        pool.clear()


def test_an_order_that_was_surely_not_heard_is_an_error(nowhere: Runner, sandbox: Sandbox) -> None:
    with pytest.raises(SandboxUnavailable):
        list(nowhere.run(order(), WAIT))
    assert sandbox.starts == 0


def test_whoever_only_asks_is_told_that_nobody_answers(sandbox: Sandbox, runner: Runner, nowhere: Runner) -> None:
    sandbox.answer(hangs_up)

    for silent in (runner, nowhere):
        with pytest.raises(SandboxUnavailable):
            list(silent.follow("run-1", 0, WAIT))
        with pytest.raises(SandboxUnavailable):
            silent.cancel("run-1")


# ── Stopping ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("run_id", "target"), [("run-1", "/runs/run-1/cancel"), (None, "/cancel")])
@pytest.mark.parametrize(
    "cancelled",
    [Cancelled(found=True, ended=True), Cancelled(found=True, ended=False), Cancelled(found=False, ended=True)],
    ids=["stopped", "does not react", "nothing to stop"],
)
def test_a_run_is_stopped_or_what_is_under_way(
    sandbox: Sandbox, runner: Runner, run_id: str | None, target: str, cancelled: Cancelled
) -> None:
    sandbox.answer(hangs_up, whole(200, {"cancelled": cancelled.found, "ended": cancelled.ended}))

    assert runner.cancel(run_id) == cancelled
    assert sandbox.targets == [f"POST {target}"] * 2, "it was asked again"
