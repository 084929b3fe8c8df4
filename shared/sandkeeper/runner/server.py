"""HTTP, as much of it as the runner's requests need: `http.server` alone takes longer to import than all else."""

from __future__ import annotations

import json
import socket
import threading
import time
from _operator import _compare_digest  # as `hmac` has it, whose import takes as long as half of the others

from sandkeeper.runner.allowance import DISPLAY_BYTES
from sandkeeper.runner.interpreter import read_head
from sandkeeper.runner.runs import Run, Spool, line_of
from sandkeeper.runner.worker import Refused, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from sandkeeper.runner.runs import Order

MAX_BODY_BYTES = 4_000_000
IDLE_S = 120.0
"""How long a connection may wait for its next request, and a reader be slow."""
KEEPALIVE_S = 5.0
CANCEL_WAIT_S = 10.0
SPARE_THREADS = 3


class Request:
    """A request as it was read, and how it is answered."""

    def __init__(self, connection: socket.socket, first: str, headers: dict[str, str], body: bytes) -> None:
        self.method, target, _ = first.split(" ", 2)
        path, _, query = target.partition("?")
        self.path = path.strip("/").split("/")
        self.headers = headers
        self.body = body
        self.is_last = headers.get("connection", "").lower() == "close"
        """Nothing else is asked on this connection, which may not be for this sandbox alone."""
        self._connection = connection
        self._query = dict(part.partition("=")[::2] for part in query.split("&"))

    def number(self, name: str) -> int:
        """Returns a number of the query, 0 when it is not there."""
        return int(self._query.get(name) or 0)

    @classmethod
    def read(cls, connection: socket.socket, reader: BinaryIO) -> Request | None:
        """Returns the next request, None when there is none. Raises `ValueError` for what is none."""
        first, headers = read_head(reader)
        if not first:
            return None
        size = int(headers.get("content-length", "0"))
        if not 0 <= size <= MAX_BODY_BYTES:
            raise ValueError(f"a body of {size} bytes")
        return cls(connection, first, headers, reader.read(size))

    def reply(self, status: int, body: dict[str, Any] | None) -> None:
        """Sends a whole answer."""
        content = json.dumps(body).encode()
        self._head(status, f"content-type: application/json\r\ncontent-length: {len(content)}", content)

    def begin_reply(self) -> None:
        """Sends the head of an answer in chunks."""
        self._head(200, "content-type: application/x-ndjson\r\ntransfer-encoding: chunked", b"")

    def send(self, data: bytes) -> None:
        """Sends more of the answer."""
        self._connection.sendall(data)

    def _head(self, status: int, headers: str, content: bytes) -> None:
        ending = "connection: close\r\n" if self.is_last else ""
        self.send(f"HTTP/1.1 {status} -\r\n{headers}\r\n{ending}\r\n".encode() + content)


class Server:
    """Answers requests, each connection on a thread that it has for itself."""

    def __init__(self, worker: Worker, spool: Spool, tokens: str) -> None:
        """`tokens` is the path of a file with the tokens that are taken, one a line."""
        self._worker = worker
        self._spool = spool
        self._tokens = tokens
        self._lock = threading.Lock()
        self._idle = 0

    def serve(self, descriptor: int) -> None:
        """Answers whoever connects to the listening socket of this descriptor, until that is closed."""
        listening = socket.socket(fileno=descriptor)
        for _ in range(SPARE_THREADS):
            self._wait_on_a_thread(listening)
        self._accept(listening)

    def _wait_on_a_thread(self, listening: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        """Waits for a connection, and then another: threads are there before they are needed."""
        while True:
            with self._lock:
                self._idle += 1
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with self._lock:
                self._idle -= 1
                is_last = not self._idle
            if is_last:
                self._wait_on_a_thread(listening)
            self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                connection.settimeout(IDLE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (request := Request.read(connection, reader)) is not None:
                    if self._knows(request.headers.get("authorization", "")):
                        self._answer(request)
                    else:
                        request.reply(401, {"error": "token"})
                    if request.is_last:
                        return
            except (OSError, ValueError, KeyError, TypeError):
                return  # gone, slow, or no client of ours

    def _answer(self, request: Request) -> None:
        match request.method, *request.path:
            case "GET", "":
                request.reply(200, {"open": [run.id for run in self._worker.open()]})
            case "POST", "restart":
                self._worker.restart()
                request.reply(200, {})
            case "POST", "complete":
                asked = json.loads(request.body)
                request.reply(200, self._worker.complete(str(asked["code"]), int(asked["cursor"])))
            case "POST", "cancel":
                self._cancel(request, next(iter(self._worker.open()), None))
            case "POST", "runs", run_id if _is_id(run_id):
                self._start(request, run_id)
            case "GET", "runs", run_id if _is_id(run_id) and (run := self._spool.get(run_id)):
                _follow(request, run)
            case "POST", "runs", run_id, "cancel" if _is_id(run_id) and (run := self._spool.get(run_id)):
                self._cancel(request, run)
            case _:
                request.reply(404, {"error": "unknown"})

    def _start(self, request: Request, run_id: str) -> None:
        body: dict[str, Any] = json.loads(request.body)
        try:
            order: Order = {
                "code": body["code"],
                "limit_ms": body["limit_ms"],
                "output_bytes": body["output_bytes"],
                "display_bytes": body.get("display_bytes", DISPLAY_BYTES),
                "on_busy": body["on_busy"],
                "given": body.get("given", []),
                "digest": body["digest"],
                "about": body["about"],
            }
            run = self._worker.accept(run_id, order)
        except KeyError as missing:
            return request.reply(400, {"error": missing.args[0]})
        except Refused as refused:
            return request.reply(409, {"error": refused.word})
        if run.order["digest"] != order["digest"]:
            return request.reply(422, {"error": "digest"})
        return _follow(request, run)

    def _cancel(self, request: Request, run: Run | None) -> None:
        """Says whether there was something to end, once it has."""
        cancelled = run is not None and self._worker.cancel(run)
        ended = run is None or run.wait_for_end(CANCEL_WAIT_S)
        request.reply(200, {"cancelled": cancelled, "ended": ended})

    def _knows(self, authorization: str) -> bool:
        given = authorization.encode()
        with open(self._tokens, "rb") as file:
            return any(_compare_digest(given, b"Bearer " + token) for token in file.read().split())


def _follow(request: Request, run: Run) -> None:
    """Sends the run's events as they come."""
    sent = max(0, request.number("after"))
    until = time.monotonic() + request.number("wait_ms") / 1000
    request.begin_reply()
    while True:
        with run.changed:
            left_s = until - time.monotonic()
            if left_s > 0 and not run.ended and len(run.events) <= sent:
                run.changed.wait(min(left_s, KEEPALIVE_S))
            new, is_last = run.events[sent:], run.ended or time.monotonic() >= until
        body = b"".join(map(line_of, new)) or (b"" if is_last else b"\n")
        request.send((b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n" * is_last)
        if is_last:
            return
        sent += len(new)


def _is_id(text: str) -> bool:
    """Returns whether this can be a run's id, which names a file too."""
    return 0 < len(text) <= 64 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
