"""HTTP, as much of it as the runner's requests need: `http.server` alone takes longer to import than all else."""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time

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


class Request:
    """A request as it was read."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.path = path.strip("/").split("/")
        self.headers = headers
        self.body = body
        self._query = dict(part.partition("=")[::2] for part in query.split("&"))

    def number(self, name: str) -> int:
        """Returns a number of the query, 0 when it is not there."""
        return int(self._query.get(name) or 0)

    @classmethod
    def read(cls, reader: BinaryIO) -> Request | None:
        """Returns the next request, None when there is none. Raises `ValueError` for what is none."""
        first, headers = read_head(reader)
        if not first:
            return None
        method, target, _ = first.split(" ", 2)
        size = int(headers.get("content-length", "0"))
        if not 0 <= size <= MAX_BODY_BYTES:
            raise ValueError(f"a body of {size} bytes")
        return cls(method, target, headers, reader.read(size))


class Server:
    """Answers requests, each connection on a thread of its own."""

    def __init__(self, worker: Worker, spool: Spool, tokens: str) -> None:
        """`tokens` is the path of a file with the tokens that are taken, one a line."""
        self._worker = worker
        self._spool = spool
        self._tokens = tokens

    def serve(self, listening: socket.socket) -> None:
        """Answers until the socket is closed."""
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                connection.settimeout(IDLE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (request := Request.read(reader)) is not None:
                    if self._knows(request.headers.get("authorization", "")):
                        self._answer(request, connection)
                    else:
                        _reply(connection, 401, {"error": "token"})
            except (OSError, ValueError, KeyError, TypeError):
                return  # gone, slow, or no client of ours

    def _answer(self, request: Request, connection: socket.socket) -> None:
        match request.method, *request.path:
            case "GET", "":
                _reply(connection, 200, {"open": [run.id for run in self._worker.open()]})
            case "POST", "restart":
                self._worker.restart()
                _reply(connection, 200, {})
            case "POST", "cancel":
                self._cancel(connection, next(iter(self._worker.open()), None))
            case "POST", "runs", run_id if _is_id(run_id):
                self._start(request, connection, run_id)
            case "GET", "runs", run_id if _is_id(run_id) and (run := self._spool.get(run_id)):
                _follow(request, connection, run)
            case "POST", "runs", run_id, "cancel" if _is_id(run_id) and (run := self._spool.get(run_id)):
                self._cancel(connection, run)
            case _:
                _reply(connection, 404, {"error": "unknown"})

    def _start(self, request: Request, connection: socket.socket, run_id: str) -> None:
        body: dict[str, Any] = json.loads(request.body)
        try:
            order: Order = {
                "limit_ms": body["limit_ms"],
                "output_bytes": body["output_bytes"],
                "on_busy": body["on_busy"],
                "digest": body["digest"],
            }
            run = self._worker.accept(run_id, order, body["code"])
        except KeyError as missing:
            return _reply(connection, 400, {"error": missing.args[0]})
        except Refused as refused:
            return _reply(connection, 409, {"error": refused.word})
        if run.order["digest"] != order["digest"]:
            return _reply(connection, 422, {"error": "digest"})
        return _follow(request, connection, run)

    def _cancel(self, connection: socket.socket, run: Run | None) -> None:
        """Says whether there was something to end, once it has."""
        cancelled = run is not None and self._worker.cancel(run)
        ended = run is None or run.wait_for_end(CANCEL_WAIT_S)
        _reply(connection, 200, {"cancelled": cancelled, "ended": ended})

    def _knows(self, authorization: str) -> bool:
        given = authorization.encode()
        with open(self._tokens, "rb") as file:
            return any(hmac.compare_digest(given, b"Bearer " + token) for token in file.read().split())


def _follow(request: Request, connection: socket.socket, run: Run) -> None:
    """Sends the run's events as they come."""
    sent = max(0, request.number("after"))
    until = time.monotonic() + request.number("wait_ms") / 1000
    connection.sendall(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    while True:
        with run.changed:
            left_s = until - time.monotonic()
            if left_s > 0 and not run.ended and len(run.events) <= sent:
                run.changed.wait(min(left_s, KEEPALIVE_S))
            new, is_last = run.events[sent:], run.ended or time.monotonic() >= until
        body = b"".join(map(line_of, new)) or (b"" if is_last else b"\n")
        connection.sendall((b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n" * is_last)
        if is_last:
            return
        sent += len(new)


def _reply(connection: socket.socket, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)


def _is_id(text: str) -> bool:
    """Returns whether this can be a run's id, which names a file too."""
    return 0 < len(text) <= 64 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
