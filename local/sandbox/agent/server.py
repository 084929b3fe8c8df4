"""Starts the agent's sockets and kernels, and ends them together."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import Server

from . import envd, orphans, relay
from .access import Access
from .environment import Environment
from .interpreter import app as interpreter
from .interpreter.contexts import Contexts

ENVD_PORT = 49983
INTERPRETER_PORT = 49999

log = logging.getLogger("agent")


@dataclass(frozen=True)
class Options:
    run_dir: Path
    home: Path
    preload: tuple[str, ...]
    loopback: str
    adopts: bool
    end_with_stdin: bool


async def serve(options: Options) -> int:
    """The exit code: 0 after SIGTERM or the end of its stdin, 1 when the default kernel does not start."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    access, environment = Access(), Environment(options.home, options.loopback)
    contexts = Contexts(environment, options.home, options.preload)
    daemon = envd.create(access, environment, contexts, options.home)
    app = _ByPort(interpreter.create(access, contexts), daemon.app)

    server = _Server(
        Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            # The gateway pools connections; it decides when to close one, lest a request meet a closed one.
            timeout_keep_alive=24 * 3600,
        )
    )
    if options.adopts:
        orphans.adopt()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.end_with_stdin:
        asyncio.get_running_loop().add_reader(sys.stdin, stop.set)  # nothing is ever written there
    relay_server = await asyncio.start_unix_server(
        partial(relay.serve_client, options.loopback), options.run_dir / "relay.sock"
    )
    serving = asyncio.create_task(server.serve(sockets=_sockets(options)))
    try:
        warming = asyncio.create_task(contexts.warm())
        daemon.load()  # while the kernel starts
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({warming, stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        if warming.done() and (failure := warming.exception()):
            log.error("the default kernel did not start: %s", failure)
            return 1
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        return 0
    finally:
        relay_server.close()
        await asyncio.gather(contexts.close(), daemon.close())
        server.should_exit = server.force_exit = True
        await serving
        if options.adopts:
            orphans.end()


class _Server(Server):
    """Uvicorn without signal handlers: this module ends kernels first, then the sockets."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _ByPort:
    """Sends a request to the interpreter when it was meant for its port, to envd otherwise."""

    def __init__(self, interpreter_app: ASGIApp, envd_app: ASGIApp) -> None:
        self._interpreter = interpreter_app
        self._envd = envd_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = next((value for name, value in scope["headers"] if name == b"e2b-sandbox-port"), None)
        listening = (scope.get("server") or ("", None))[1]
        port = wanted.decode("latin-1") if wanted and listening is None else str(listening)
        app = self._interpreter if port == str(INTERPRETER_PORT) else self._envd
        await app(scope, receive, send)


def _sockets(options: Options) -> list[socket.socket]:
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.bind(str(options.run_dir / "agent.sock"))
    return [unix, _listener(options.loopback, ENVD_PORT), _listener(options.loopback, INTERPRETER_PORT)]


def _listener(host: str, port: int) -> socket.socket:
    # Without its protocol named, asyncio would leave small answers waiting for more (Nagle).
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener
