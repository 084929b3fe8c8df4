"""HTTP servers of the tests' own, in the place of services elsewhere."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """A request."""

    method: str
    target: str
    headers: Message
    body: bytes


class Answer(NamedTuple):
    """An answer: bytes as they are, all else as JSON."""

    status: int
    body: object
    headers: Mapping[str, str] = {}


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Lets the handler answer, each request on a thread of its own, and gives the server's URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def answering(respond: Callable[[Asked], Answer]) -> Iterator[str]:
    """Answers every request as the function says, and gives the server's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            answer = respond(Asked(self.command, self.path, self.headers, body))
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {**answer.headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            with suppress(OSError):  # its caller may have lost its patience
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = _serve  # noqa: N815 - the names that `http.server` looks for

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        yield url
