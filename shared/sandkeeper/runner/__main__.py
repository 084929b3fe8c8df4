"""`python runner.pyz`: starts the runner, unless there is one."""

from __future__ import annotations

import os
import socket
import sys

from sandkeeper.runner.interpreter import Interpreter
from sandkeeper.runner.kernel import Kernel
from sandkeeper.runner.runs import Spool
from sandkeeper.runner.server import Server
from sandkeeper.runner.worker import Worker

PORT = 49990
HOME = "/home/user/.sandkeeper"


def main() -> None:
    """Says `ready` once requests with `RUNNER_TOKEN` are answered, and answers them from then on.

    `RUNNER_INTERPRETER_TOKEN` is what the interpreter asks for.
    """
    os.makedirs(HOME, mode=0o700, exist_ok=True)
    tokens = os.path.join(HOME, "tokens")
    _let_in(os.environ["RUNNER_TOKEN"], tokens)
    listening = _listen()
    if listening is None:
        print("ready", flush=True)
        return
    spool = Spool(os.path.join(HOME, "runs"))
    interpreter = Interpreter(os.environ.get("RUNNER_INTERPRETER_TOKEN", ""))
    worker = Worker(spool, Kernel(interpreter, os.path.join(HOME, "kernel.json")))
    worker.start()
    print("ready", flush=True)
    _let_go(os.path.join(HOME, "runner.log"))
    Server(worker, spool, tokens).serve(listening)


def _let_in(token: str, path: str) -> None:
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+") as tokens:
        if token not in tokens.read().split():
            tokens.write(token + "\n")


def _listen() -> socket.socket | None:
    """Returns the socket on which requests come, None when another runner has it."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("0.0.0.0", PORT))  # noqa: S104 - it is reached from outside the sandbox
    except OSError:
        listening.close()
        return None
    listening.listen(64)
    return listening


def _let_go(log: str) -> None:
    """Needs nobody that started it from here on, and is the last to be ended when memory is short."""
    if os.getpgrp() != os.getpid():  # else it leads a group of its own already
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


if __name__ == "__main__":
    main()
