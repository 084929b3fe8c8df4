"""Requests to the runner of a sandbox: its events, as they come, over connections that may break.

A request that got no answer may have been heard, and asking for a run again is harmless: it is repeated for as long
as its caller has time. What surely has not been heard is told apart, since only that may be run somewhere else.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import certifi
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from sandkeeper.adapters.runner.records import completions_of, order_json, told_by_runner
from sandkeeper.errors import SandboxUnavailable
from sandkeeper.ports import Completions, RunLost, RunUnknown, SandboxGone
from sandkeeper.runs import Accepted, Cancelled, RunEvent, RunOrder

CONNECT_S = 3.0
SILENCE_S = 12.0
"""How long a runner may say nothing: while a run goes on, it sends a sign of life every five seconds."""
SHORTEST_SILENCE_S = 2.0
ORDER_S = 2.5
"""For how long an order is repeated that nothing has been heard of, also by a caller who would not wait."""
CANCEL_S = 15.0
"""How long it may take to stop a run: a runner answers after ten seconds at the latest."""
COMPLETE_S = 2.0
"""How long it may take to complete code: somebody is typing it."""
PAUSES_S = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
"""How long to wait before each repetition; the last of these is for all further ones."""
SILENT_S = 8.0
"""For how long a sandbox that does not answer at all is asked again."""

_CONNECTIONS = 64
_NOT_HEARD = (NewConnectionError, ConnectTimeoutError)

Body = Mapping[str, Any]


def connections() -> urllib3.PoolManager:
    """Returns a pool of connections for all runners, safe to be used by many threads."""
    return urllib3.PoolManager(
        _CONNECTIONS, maxsize=_CONNECTIONS, retries=False, ca_certs=certifi.where(), cert_reqs="CERT_REQUIRED"
    )


class _NotThere(Exception):
    """The sandbox runs, but no runner of ours answers in it: it has to be started."""


class _Unreachable(Exception):
    """The sandbox does not answer. `heard`: it may have got the request."""

    def __init__(self, cause: Exception | str, *, heard: bool) -> None:
        super().__init__(str(cause))
        self.heard = heard


@dataclass(frozen=True, slots=True)
class Runner:
    """The runner of one sandbox. Every method may raise `SandboxGone` and `SandboxUnavailable`."""

    connections: urllib3.PoolManager
    url: str
    headers: Mapping[str, str]
    start: Callable[[], None]
    """Starts it, where none answers."""

    def run(self, order: RunOrder, wait: timedelta) -> Iterator[RunEvent]:
        """Starts the run, or finds it, and yields its events; see `SandboxProvider.run`."""
        progress = _Progress()
        try:
            yield from self._events(order.run_id, progress, wait, order_json(order))
        except SandboxGone as error:
            if progress.heard:
                raise RunLost(str(error)) from error
            raise
        except SandboxUnavailable:
            if not progress.heard:
                raise

    def follow(self, run_id: str, after: int, wait: timedelta) -> Iterator[RunEvent]:
        """Yields the events of a run that there is; see `SandboxProvider.follow`."""
        return self._events(run_id, _Progress(after), wait, None)

    def cancel(self, run_id: str | None) -> Cancelled:
        """Stops this run, or what is under way; see `SandboxProvider.cancel`."""
        target = "/cancel" if run_id is None else f"/runs/{run_id}/cancel"
        told = self._told(target)
        return Cancelled(found=bool(told["cancelled"]), ended=bool(told["ended"]))

    def restart_kernel(self) -> None:
        """Replaces the kernel; see `SandboxProvider.restart_kernel`."""
        self._told("/restart")

    def complete(self, code: str, cursor: int) -> Completions | None:
        """Asks once what could stand at the cursor; see `SandboxProvider.complete`."""
        try:
            with self._asked("POST", "/complete", {"code": code, "cursor": cursor}, COMPLETE_S) as answer:
                return completions_of(json.loads(answer.read()), code, cursor)
        except (_NotThere, _Unreachable, RunUnknown):  # also a runner that has been there for longer than this call
            return None

    def _events(
        self, run_id: str, progress: "_Progress", wait: timedelta, order: Body | None
    ) -> Iterator[RunEvent]:
        """Yields a run's events, over as many requests as it takes; one with an `order` starts it."""
        method, persistence_s = ("GET", 0.0) if order is None else ("POST", ORDER_S)
        patience = _Patience(wait.total_seconds(), persistence_s)
        while True:
            target = f"/runs/{run_id}?after={progress.seen}&wait_ms={round(patience.left_s * 1000)}"
            try:
                with self._asked(method, target, order, patience.silence_s) as answer:
                    for line in _lines(answer):
                        event = told_by_runner(json.loads(line))
                        is_first = event.number == 1
                        if event.number != progress.seen + 1 or isinstance(event.what, Accepted) != is_first:
                            raise ValueError(f"event {event.number} after {progress.seen}")
                        progress.seen, progress.heard = event.number, True
                        patience.renew()
                        yield event
                return  # noqa: TRY300 - an `else` would stand far from what it is about
            except _NotThere:
                self.start()
            except _Unreachable as error:
                progress.heard = progress.heard or error.heard
            patience.wait()

    def _told(self, target: str) -> Any:
        """Returns the answer to a short request, which may be repeated."""
        patience = _Patience(CANCEL_S)
        while True:
            try:
                with self._asked("POST", target, None, CANCEL_S) as answer:
                    return json.loads(answer.read())
            except _NotThere:
                self.start()
            except _Unreachable:
                pass
            patience.wait()

    @contextmanager
    def _asked(
        self, method: str, target: str, body: Body | None, silence_s: float
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """The runner's answer, whose body is still to be read: then its connection is used again."""
        answer: urllib3.BaseHTTPResponse | None = None
        try:
            answer = self.connections.urlopen(
                method,
                self.url + target,
                body=None if body is None else json.dumps(body).encode(),
                headers=dict(self.headers),
                timeout=urllib3.Timeout(connect=CONNECT_S, read=silence_s),
                preload_content=False,
                redirect=False,
            )
            if answer.status != 200:
                raise _refusal(answer)
            yield answer
            answer.release_conn()
        except _NOT_HEARD as error:
            raise _Unreachable(error, heard=False) from error
        except (HTTPError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise _Unreachable(error, heard=True) from error
        finally:
            if answer is not None:
                answer.close()  # and with it the connection, unless it was released


def _refusal(answer: urllib3.BaseHTTPResponse) -> Exception:
    """Returns what an answer means that is no runner's to a request that it takes."""
    try:
        told = json.loads(answer.read())
        message, word = str(told.get("message", "")), told.get("error")
    except (ValueError, AttributeError):
        message, word = "", None
    match answer.status, word:
        case 404, "unknown":
            return RunUnknown()
        case 401, "token":
            return _NotThere("it asks for another token")
        case 502, _ if "not found" in message:
            return SandboxGone(message)
        case 502, _ if "port is not open" in message:
            return _NotThere(message)
        case 409, "full":
            return _Unreachable("it has too many runs waiting", heard=False)
        case status, _:
            return _Unreachable(f"status {status}", heard=True)


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yields the lines of the body as they come, without empty ones. One may be megabytes, in many chunks."""
    parts: list[bytes] = []
    for chunk in answer.read_chunked():
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            if line := b"".join([*parts, end]):
                yield line
            parts = []
        parts.append(rest)


@dataclass(slots=True)
class _Progress:
    """How far a run's events have been heard of."""

    seen: int = 0
    heard: bool = False
    """The runner may have got the order."""


class _Patience:
    """How a request is repeated: after growing pauses, while there is time and any sign of life."""

    def __init__(self, seconds: float, persistence_s: float = 0.0) -> None:
        """`persistence_s`: for how long it is repeated at least, until there is a sign of life."""
        self._deadline = time.monotonic() + seconds
        self._begin(time.monotonic() + max(seconds, persistence_s))

    @property
    def left_s(self) -> float:
        """What is left of the time."""
        return max(0.0, self._deadline - time.monotonic())

    @property
    def silence_s(self) -> float:
        """For how long a request may hear nothing: as long as a runner may, and hardly beyond the time."""
        return min(SILENCE_S, max(SHORTEST_SILENCE_S, self.left_s + 1.0))

    def renew(self) -> None:
        """There is a sign of life."""
        self._begin(self._deadline)

    def _begin(self, until: float) -> None:
        self._tries = 0
        self._until = min(until, time.monotonic() + SILENT_S)

    def wait(self) -> None:
        """Waits before another try; the first is always allowed. Raises `SandboxUnavailable` when it is over."""
        pause_s = PAUSES_S[min(self._tries, len(PAUSES_S) - 1)]
        if self._tries and time.monotonic() + pause_s >= self._until:
            raise SandboxUnavailable("the sandbox does not answer; try again")
        self._tries += 1
        time.sleep(pause_s)
