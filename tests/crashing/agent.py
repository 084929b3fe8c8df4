"""What the crash tests' sandboxes are made of: a Python that keeps its variables, and a home for files.

Every crash needs a sandbox or two, and this is ready in a twentieth of a kernel's time. Started in the place of the
real agent, with its arguments, it speaks as much of its protocol as running code and writing files takes.
"""

import contextlib
import io
import json
import os
import sys
import threading
from socketserver import StreamRequestHandler, ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Agent(ThreadingMixIn, UnixStreamServer):
    """Listens where the real agent would. Code runs one after the other."""

    daemon_threads = True

    def __init__(self, run_dir: str, home: str) -> None:
        super().__init__(f"{run_dir}/agent.sock", Request)
        self.home = home
        self._variables: dict[str, Any] = {"__name__": "__main__"}
        self._running = threading.Lock()

    def run(self, code: str) -> list[dict[str, Any]]:
        """Returns the events of a run: what it printed, and what it raised."""
        printed = io.StringIO()
        events: list[dict[str, Any]] = []
        with self._running, contextlib.redirect_stdout(printed):
            try:
                exec(code, self._variables)  # noqa: S102 - that is what it is for
            except Exception as error:  # noqa: BLE001 - the code's own
                events.append({"type": "error", "name": type(error).__name__, "value": str(error), "traceback": ""})
        return [{"type": "stdout", "text": printed.getvalue(), "timestamp": 0}, *events]

    def write(self, path: str, content: bytes) -> list[dict[str, str]]:
        """Returns what is told of a file once it is written."""
        name = os.path.basename(path)  # noqa: PTH119 - importing pathlib takes as long as all the rest
        with open(f"{self.home}/{name}", "wb") as file:  # noqa: PTH123
            file.write(content)
        return [{"name": name, "type": "file", "path": path}]


class Request(StreamRequestHandler):
    """One HTTP request on a connection of its own, as the server that holds the sandboxes makes them."""

    server: Agent

    def handle(self) -> None:
        """Runs code or takes a file; whatever else is asked or told is fine."""
        _, target, _ = self.rfile.readline().decode().split(" ")
        headers = dict(line.decode().lower().strip().split(": ", 1) for line in iter(self.rfile.readline, b"\r\n"))
        body = self._chunks() if "transfer-encoding" in headers else self._whole(headers)
        address = urlsplit(target)
        if address.path == "/execute":
            self._answer("200 OK", "\n".join(map(json.dumps, self.server.run(json.loads(body)["code"]))))
        elif address.path == "/files":
            self._answer("200 OK", json.dumps(self.server.write(parse_qs(address.query)["path"][0], body)))
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

    def _answer(self, status: str, body: str = "") -> None:
        length = f"Content-Length: {len(body.encode())}\r\n" if body else ""
        self.wfile.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n{length}\r\n{body}".encode())


if __name__ == "__main__":
    arguments = dict(zip(sys.argv, sys.argv[1:], strict=False))
    Agent(arguments["--run-dir"], arguments["--home"]).serve_forever()
