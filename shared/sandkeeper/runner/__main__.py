"""Starts the runner, unless there is one. What takes long to import comes last: callers wait for the beginning."""

from __future__ import annotations

import os
import sys
from _socket import SO_REUSEADDR, SOL_SOCKET, socket  # the module `socket` takes longer to import than all else

from sandkeeper.runner.greeting import send

PORT = 49990
HOME = "/home/user/.sandkeeper"
LOOPBACK = "127.0.0.1"
TOKENS = "tokens"


def main() -> None:
    """Says `ready` and ends once requests with `RUNNER_TOKEN` are answered, by a process that goes on.

    `RUNNER_INTERPRETER_TOKEN` is what the interpreter asks for. A sandbox that shares its host's network gives
    `RUNNER_LOOPBACK`, an address of its own, and one that shares its files `RUNNER_HOME`.
    """
    home = os.environ.get("RUNNER_HOME", HOME)
    loopback = os.environ.get("RUNNER_LOOPBACK", LOOPBACK)
    os.makedirs(home, mode=0o700, exist_ok=True)
    _let_in(os.environ["RUNNER_TOKEN"], os.path.join(home, TOKENS))
    # It is reached from outside the sandbox: at all addresses, where they are the sandbox's own.
    listening = _listen("0.0.0.0" if loopback == LOOPBACK else loopback)  # noqa: S104
    if listening is None or os.fork():  # whoever starts it need not stay
        print("ready", flush=True)
        os._exit(0)
    _let_go(os.path.join(home, "runner.log"))
    _serve(listening, home, loopback, os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - the sandbox's own


def _serve(listening: socket, home: str, loopback: str, folder: str) -> None:
    kernel, token = os.path.join(home, "kernel.json"), os.environ.get("RUNNER_INTERPRETER_TOKEN", "")
    # A kernel that nobody has known before is greeted while all else is imported.
    greeted = None if os.path.exists(kernel) else send(loopback, token, folder)
    from sandkeeper.runner.interpreter import Interpreter  # noqa: PLC0415 - see the module's docstring
    from sandkeeper.runner.kernel import Kernel  # noqa: PLC0415
    from sandkeeper.runner.runs import Spool  # noqa: PLC0415
    from sandkeeper.runner.server import Server  # noqa: PLC0415
    from sandkeeper.runner.worker import Worker  # noqa: PLC0415

    spool = Spool(os.path.join(home, "runs"))
    mark = "" if loopback == LOOPBACK else f"RUNNER_LOOPBACK={loopback}"
    kept = Kernel(Interpreter(loopback, token), kernel, folder, mark, greeted)
    worker = Worker(spool, kept, os.path.dirname(home))
    worker.start()
    Server(worker, spool, os.path.join(home, TOKENS)).serve(listening.detach())


def _let_in(token: str, path: str) -> None:
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+") as tokens:
        if token not in tokens.read().split():
            tokens.write(token + "\n")


def _listen(host: str) -> socket | None:
    """Returns the socket on which requests come, None when another runner has it."""
    listening = socket()
    listening.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    try:
        listening.bind((host, PORT))
    except OSError:
        listening.close()
        return None
    listening.listen(64)
    return listening


def _let_go(log: str) -> None:
    """Needs nobody that started it from here on, and is the last to be ended when memory is short."""
    os.setsid()
    with open(log, "ab", buffering=0) as file, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("-900")
    except OSError as error:
        print(f"memory: {error}", file=sys.stderr)
