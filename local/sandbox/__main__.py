"""Serves sandboxes until SIGTERM or Ctrl-C: `python -m local.sandbox --port 8010`.

One line of JSON on stdout, {"url": …, "pid": …}, says that it is ready. Exit status 2 means that the port is
taken, 3 that sandboxes cannot run here; one line on stderr says why.
"""

import argparse
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from types import FrameType

import uvicorn

from local.sandbox.app import Settings, SettingsError, Stack
from local.sandbox.bubblewrap import IsolationUnavailableError
from local.sandbox.folder import PathTooLongError, own_folder
from local.sandbox.isolation import PRELOAD
from local.sandbox.limits import DISK_MIB

_UNPROTECTED = """\
WARNING: sandboxes are NOT isolated. Code in them can read, change and delete everything that you can, use the
WARNING: network, and see the other sandboxes. Run only code that you trust, and stop this server after use.
"""


def main() -> int:
    """The exit status."""
    arguments = _parser().parse_args()
    try:
        listener = _listen(arguments.host, arguments.port)
    except OSError as error:
        print(
            f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror}; choose another --port",
            file=sys.stderr,
        )
        return 2
    if arguments.no_isolation:
        print(_UNPROTECTED, end="", file=sys.stderr, flush=True)
    settings = Settings(
        kernel_python=arguments.kernel_python,
        data_dir=arguments.data_dir,
        pool_size=arguments.pool_size,
        max_sandboxes=arguments.max_sandboxes,
        memory_mib=arguments.memory_mib,
        disk_mib=arguments.disk_mib,
        network=arguments.network,
        isolated=not arguments.no_isolation,
        preload=arguments.preload,
    )
    try:
        with own_folder(settings.data_dir) as folder:
            _serve(Stack(settings, folder), listener)
    except (IsolationUnavailableError, PathTooLongError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def _serve(stack: Stack, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = _Server(stack.config(address), f"http://{address}")
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it is ready, and takes a signal as a call to end well."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(json.dumps({"url": self._url, "pid": os.getpid()}), flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.should_exit = True  # uvicorn would raise the signal again at the end, before folders are removed


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.sandbox", description="An E2B-compatible sandbox server."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8010, help="0 picks a free one")
    parser.add_argument("--pool-size", type=int, default=2, help="sandboxes that wait warm")
    parser.add_argument("--max-sandboxes", type=int, default=32, help="running and paused together")
    parser.add_argument("--memory-mib", type=int, default=2048, help="of each sandbox")
    parser.add_argument("--disk-mib", type=int, default=DISK_MIB, help="for a sandbox's files; more ends it")
    parser.add_argument(
        "--preload",
        default=PRELOAD,
        metavar="MODULES",
        help="what the first kernel of a sandbox has imported; with an empty one, a start costs the least",
    )
    parser.add_argument("--network", action="store_true", help="sandboxes share this machine's network")
    parser.add_argument("--no-isolation", action="store_true", help="plain processes: for trusted code alone")
    parser.add_argument("--data-dir", type=Path, default=Path(tempfile.gettempdir(), f"sandkeeper-{os.getuid()}"))
    parser.add_argument("--kernel-python", type=Path, default=Path(".envs/kernel/bin/python"))
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server has handlers of its own
    sys.exit(main())
