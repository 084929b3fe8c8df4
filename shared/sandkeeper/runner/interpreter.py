"""Requests to the code interpreter, which this package is the one client of."""

from __future__ import annotations

import json
import socket

from sandkeeper.runner.greeting import PORT, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

SILENCE_S = 60.0
"""How long the interpreter may say nothing: while code runs, it sends a sign of life every few seconds."""
MAX_HEAD_BYTES = 64 * 1024
MAX_LINE_BYTES = 32 * 1024 * 1024
"""An event that is longer is read over."""


class Interpreter:
    """The interpreter beside the runner. Raises `OSError` for what it does not answer, or not to its end."""

    def __init__(self, host: str, access_token: str) -> None:
        self._host = host
        self._access_token = access_token

    def execute(self, code: str) -> Iterator[bytes | None]:
        """Yields the events of running the code, as JSON; None in the place of one that is too long."""
        with self._ask("/execute", json.dumps({"code": code}).encode()) as answer:
            yield from answer.lines()

    def answered(self, descriptor: int) -> Iterator[bytes | None]:
        """Yields the events of what was asked for on this connection before."""
        connection = socket.socket(fileno=descriptor)
        connection.settimeout(SILENCE_S)
        with Answer(connection) as answer:
            yield from answer.lines()

    def restart(self) -> None:
        """Lets it replace its kernel."""
        with self._ask("/contexts/default/restart", b"") as answer:
            for _ in answer.chunks():
                pass

    def _ask(self, path: str, body: bytes) -> Answer:
        connection = socket.create_connection((self._host, PORT), SILENCE_S)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(request(path, self._access_token, body))
            answer = Answer(connection)
            if answer.status != 200:
                raise OSError(f"the interpreter answers {path} with {answer.status}")
        except BaseException:
            connection.close()
            raise
        return answer


class Answer:
    """An answer whose body is still to be read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        first, headers = read_head(self._reader)
        words = first.split(" ")
        self.status = int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
        self._is_chunked = "chunked" in headers.get("transfer-encoding", "")

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._connection.close()

    def chunks(self) -> Iterator[bytes]:
        """Yields the body in the pieces in which it comes."""
        if not self._is_chunked:
            while piece := self._reader.read1():
                yield piece
            return
        while size := self._size():
            while size:
                piece = self._reader.read1(size)
                if not piece:
                    raise OSError("the interpreter's answer was cut off")
                size -= len(piece)
                yield piece
            self._reader.readline(MAX_HEAD_BYTES)

    def _size(self) -> int:
        line = self._reader.readline(MAX_HEAD_BYTES).split(b";")[0].strip()
        if not line:
            raise OSError("the interpreter's answer was cut off")
        return int(line, 16)

    def lines(self) -> Iterator[bytes | None]:
        """Yields the body's lines that are not empty; None for one that is too long."""
        parts: list[bytes] = []
        length = 0
        for chunk in self.chunks():
            *whole, rest = chunk.split(b"\n")
            for end in whole:
                if length + len(end) > MAX_LINE_BYTES:
                    yield None
                elif length or end.strip():
                    yield b"".join([*parts, end])
                parts, length = [], 0
            length += len(rest)
            if length > MAX_LINE_BYTES:
                parts = []
            elif rest:
                parts.append(rest)


def read_head(reader: BinaryIO) -> tuple[str, dict[str, str]]:
    """Returns the first line, empty at the end of all, and the headers by their names in lower case."""
    first = reader.readline(MAX_HEAD_BYTES).decode("latin-1").strip()
    headers = {}
    while line := reader.readline(MAX_HEAD_BYTES).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return first, headers
