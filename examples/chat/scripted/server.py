"""The script's server on loopback. It speaks all wires at once: which of them is meant, the path says."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from examples.chat.models import Turn
from examples.chat.scripted import script
from examples.chat.scripted.anthropic_wire import AnthropicWire
from examples.chat.scripted.bedrock_wire import BedrockWire
from examples.chat.scripted.openai_wire import OpenAIWire
from examples.chat.scripted.wires import Request, Unfit, Wire

WIRES: Sequence[Wire] = (AnthropicWire(), OpenAIWire(), BedrockWire())


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error instead of a turn."""

    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A turn whose stream breaks after so many of its events: properly ended, or in the middle of it."""

    turn: Turn
    after: int
    is_ended: bool = False


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes instead of a maker's events."""

    content: bytes


Reply = Turn | Refusal | Broken | Raw


@dataclass
class Scripted:
    """A server that runs, and what it was asked."""

    answer: Callable[[Request], Reply]
    url: str = ""
    bodies: list[Any] = field(default_factory=list)


@contextmanager
def serving(answer: Callable[[Request], Reply] = script.reply) -> Iterator[Scripted]:
    """A server at a free port of this machine, for as long as the block lasts."""
    running = Scripted(answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, running)) as server:
        running.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, scripted: Scripted, *arguments: Any) -> None:
        self.scripted = scripted
        super().__init__(*arguments)  # which handles the request

    def handle(self) -> None:
        """Serves a connection; whoever asks may leave when they like."""
        with suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        wire = next((wire for wire in WIRES if wire.is_asked(path)), None)
        if wire is None:
            self._send(404, b"{}", {"Content-Type": "application/json"})
            return
        reply = self._reply(wire, body)
        if isinstance(reply, Refusal):
            content, headers = wire.refusal(reply.status, reply.detail)
            self._send(reply.status, content, {**headers, "x-should-retry": "false"})
            return
        self._stream(wire, reply)

    def _reply(self, wire: Wire, body: bytes) -> Reply:
        if not wire.knows({name.lower(): value for name, value in self.headers.items()}):
            return Refusal(401, "there are no credentials")
        try:
            told = json.loads(body)
            self.scripted.bodies.append(told)
            return self.scripted.answer(wire.read(told))
        except (ValueError, LookupError, TypeError, AttributeError, Unfit) as error:
            return Refusal(400, f"{type(error).__name__}: {error}")

    def _stream(self, wire: Wire, reply: Turn | Broken | Raw) -> None:
        self.send_response(200)
        self.send_header("Content-Type", wire.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in _events(wire, reply):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        if isinstance(reply, Broken) and not reply.is_ended:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, content: bytes, headers: Any) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class calls it
        """Keeps quiet."""


def _events(wire: Wire, reply: Turn | Broken | Raw) -> Iterator[bytes]:
    match reply:
        case Raw(content):
            yield content
        case Broken(turn, after):
            yield from islice(wire.write(turn), after)
        case Turn():
            yield from wire.write(reply)
