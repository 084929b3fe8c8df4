"""What the crash tests' sandboxes are made of: a Python that keeps its variables, a home for files, and our runner.

Every crash needs a sandbox or two, and this is ready in a twentieth of a kernel's time. Started in the place of the
real agent, with its arguments, it speaks as much of its protocol as starting the runner, reaching it and writing
files takes. The runner is the real one, but on threads of this process, and with a kernel that is its main thread.
"""

import contextlib
import io
import json
import os
import signal
import socket
import sys
import threading
from _queue import SimpleQueue
from collections.abc import Iterator
from socketserver import StreamRequestHandler, ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

sys.path.append(os.path.realpath(f"{__file__}/../../../shared"))

from sandkeeper.runner import kernel
from sandkeeper.runner.__main__ import PORT, TOKENS
from sandkeeper.runner.runs import Spool
from sandkeeper.runner.server import Server
from sandkeeper.runner.worker import Worker


class Kernel(kernel.Kernel):
    """Runs code on the main thread, which is the one that a signal interrupts."""

    def __init__(self) -> None:
        self._variables: dict[str, Any] = {"__name__": "__main__"}
        self._asked: SimpleQueue[tuple[str, SimpleQueue[bytes | None]]] = SimpleQueue()
        self._is_busy = False

    def ready(self) -> None:
        """Variables of earlier runs are there: nothing ends this kernel but the end of its sandbox."""

    def execute(self, code: str) -> Iterator[bytes | None]:
        """Yields the events of a run as an interpreter does: what it printed, what it raised, and its end."""
        events: SimpleQueue[bytes | None] = SimpleQueue()
        self._asked.put((code, events))
        yield from iter(events.get, None)

    def interrupt(self) -> None:
        """Lets running code see `KeyboardInterrupt`."""
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def serve(self) -> None:
        """Runs on the main thread what is asked for, one after the other."""
        signal.signal(signal.SIGINT, self._stop)
        while True:
            code, events = self._asked.get()
            for event in self._run(code):
                events.put(json.dumps(event).encode())
            events.put(None)

    def _stop(self, *_: object) -> None:
        if self._is_busy:
            raise KeyboardInterrupt

    def _run(self, code: str) -> Iterator[dict[str, Any]]:
        printed, raised = io.StringIO(), None
        try:
            self._is_busy = True
            with contextlib.redirect_stdout(printed):
                exec(code, self._variables)  # noqa: S102 - that is what it is for
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the code's own
            raised = error
        finally:
            self._is_busy = False
        yield {"type": "stdout", "text": printed.getvalue(), "timestamp": 0}
        if raised is not None:
            yield {"type": "error", "name": type(raised).__name__, "value": str(raised), "traceback": ""}
        yield {"type": "end_of_execution"}


class Runner:
    """The runner of this sandbox, once a command has started it."""

    def __init__(self, own: Kernel, home: str) -> None:
        self._kernel = own
        self._home = home
        self._is_started = False
        self._starting = threading.Lock()
        # One that no other sandbox has, as they share the host's network.
        own_id = os.getpid()
        self.address = f"127.{1 + (own_id >> 16)}.{own_id >> 8 & 255}.{own_id & 255}"

    def start(self, token: str) -> None:
        """Returns once requests with this token are answered."""
        with self._starting:
            os.makedirs(self._home, exist_ok=True)  # noqa: PTH103
            tokens = f"{self._home}/{TOKENS}"
            with open(tokens, "a") as file:  # noqa: PTH123
                print(token, file=file)
            if not self._is_started:
                self._is_started = True
                listening = socket.create_server((self.address, PORT)).detach()
                spool = Spool(f"{self._home}/runs")
                worker = Worker(spool, self._kernel, os.path.dirname(self._home))  # noqa: PTH120
                worker.start()
                serve = Server(worker, spool, tokens).serve
                threading.Thread(target=serve, args=(listening,), daemon=True).start()


class Listening(ThreadingMixIn, UnixStreamServer):
    """A socket of the agent."""

    daemon_threads = True

    def __init__(self, path: str, handler: type[StreamRequestHandler], runner: Runner, home: str) -> None:
        super().__init__(path, handler)
        self.runner = runner
        self.home = home
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def read(self, path: str) -> bytes:
        """Returns a file's content."""
        with open(f"{self.home}/{os.path.basename(path)}", "rb") as file:  # noqa: PTH119, PTH123
            return file.read()

    def write(self, path: str, content: bytes) -> list[dict[str, str]]:
        """Returns what is told of a file once it is written."""
        name = os.path.basename(path)  # noqa: PTH119
        with open(f"{self.home}/{name}", "wb") as file:  # noqa: PTH123
            file.write(content)
        return [{"name": name, "type": "file", "path": path}]


class Knock(StreamRequestHandler):
    """Somebody at the relay, who wants a connection to a port."""

    server: Listening

    def handle(self) -> None:
        """Hands the connection over."""
        try:
            program = socket.create_connection((self.server.runner.address, int(self.rfile.readline())))
        except OSError:
            self.wfile.write(b"refused\n")
            return
        with program:
            socket.send_fds(self.request, [b"ok\n"], [program.fileno()])


class Request(StreamRequestHandler):
    """One HTTP request on a connection of its own, as the server that holds the sandboxes makes them."""

    server: Listening

    def handle(self) -> None:
        """Starts the runner, takes or gives a file; whatever else is asked or told is fine."""
        method, target, _ = self.rfile.readline().decode().split(" ")
        headers = dict(line.decode().lower().strip().split(": ", 1) for line in iter(self.rfile.readline, b"\r\n"))
        body = self._chunks() if "transfer-encoding" in headers else self._whole(headers)
        address = urlsplit(target)
        if address.path == "/process.Process/Start":
            command = json.loads(body[FRAME_HEAD:])["process"]
            self.server.runner.start(command["envs"]["RUNNER_TOKEN"])
            self._answer("200 OK", STARTED, "application/connect+json")
        elif address.path == "/files" and method == "GET":
            self._answer("200 OK", self.server.read(parse_qs(address.query)["path"][0]), "application/octet-stream")
        elif address.path == "/files":
            told = self.server.write(parse_qs(address.query)["path"][0], body)
            self._answer("200 OK", json.dumps(told).encode(), "application/json")
        else:
            self._answer("204 No Content")

    def _whole(self, headers: dict[str, str]) -> bytes:
        return self.rfile.read(int(headers.get("content-length", 0)))

    def _chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self, status: str, body: bytes = b"", kind: str = "") -> None:
        about = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n" if body else ""
        self.wfile.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n{about}\r\n".encode() + body)


def _frame(message: dict[str, Any], *, is_last: bool = False) -> bytes:
    """Returns a message of a stream of Connect's."""
    content = json.dumps(message).encode()
    return bytes([2 * is_last]) + len(content).to_bytes(FRAME_HEAD - 1, "big") + content


FRAME_HEAD = 5
STARTED = b"".join(
    (
        _frame({"event": {"start": {"pid": 1}}}),
        _frame({"event": {"data": {"stdout": "cmVhZHkK"}}}),
        _frame({"event": {"end": {"exited": True, "status": "exit status 0"}}}),
        _frame({}, is_last=True),
    )
)
"""What is told of the command that starts a runner, which says `ready`."""


if __name__ == "__main__":
    arguments = dict(zip(sys.argv, sys.argv[1:], strict=False))
    folder, home_folder = arguments["--run-dir"], arguments["--home"]
    main_thread = Kernel()
    its_runner = Runner(main_thread, f"{home_folder}/.sandkeeper")
    Listening(f"{folder}/relay.sock", Knock, its_runner, home_folder)
    Listening(f"{folder}/agent.sock", Request, its_runner, home_folder)  # last: then the sandbox counts as ready
    main_thread.serve()
