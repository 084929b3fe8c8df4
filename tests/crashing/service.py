"""The service as the crash tests use it: a table and a bucket of its own, cheap sandboxes, and mortal workers."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from local import aws
from local.project import ROOT
from local.template import Template
from tests.crashing.outcome import Outcome
from tests.crashing.worker import Task
from tests.sandbox_server import Server, serve
from tests.stack import RunningStack

NAME = "crashing"
WARM_SANDBOXES = 3
AGENT = Path(__file__).with_name("agent.py")


class Worker:
    """A process that does tasks, one after the other."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def do(self, task: Task) -> Outcome:
        """Returns what came of the task."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(task)) + "\n")
        self._process.stdin.flush()
        events = []
        for line in self._process.stdout:
            events.append(json.loads(line))
            if "exit" in events[-1]:
                return Outcome(task.do, tuple(events))
        raise RuntimeError(f"the worker has ended; why is on stderr. It told {events}")


@dataclass(frozen=True, slots=True)
class Service:
    """The service's workers, and the server of the sandboxes that they use."""

    live: Worker
    mortal: Worker
    """Does each task in a process of its own, which may die of it."""
    server: Server
    folder: Path
    """Where tests and the code in sandboxes can both read and write."""


@contextmanager
def running_service(stack: RunningStack, folder: Path) -> Iterator[Service]:
    """Gives the service, on the stack's AWS; nothing that it has started is left running afterwards."""
    aws.client("dynamodb", stack.aws_url).create_table(TableName=NAME, **Template.of_this_project().table())
    aws.client("s3", stack.aws_url).create_bucket(Bucket=NAME)
    cheap = ("--no-isolation", "--kernel-python", str(_python(folder)))
    with serve(*cheap, pool_size=WARM_SANDBOXES) as server:
        environment = {
            **stack.environment,
            "TABLE_NAME": NAME,
            "BUCKET_NAME": NAME,
            "E2B_API_URL": server.url,
            "E2B_SANDBOX_URL": server.url,
            "E2B_SESSION_TIMEOUT": "1800000",
            "E2B_IDLE_PAUSE": "300000",
        }
        with _worker(environment) as live, _worker(environment, "--mortal") as mortal:
            yield Service(live, mortal, server, folder)


@contextmanager
def _worker(environment: dict[str, str], *flags: str) -> Iterator[Worker]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crashing.worker", *flags],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()


def _python(folder: Path) -> Path:
    """Returns what the server takes for its sandboxes' Python. It starts our agent in the place of the real one."""
    python = folder / "python"
    about_itself = json.dumps([str(folder), str(folder), str(folder), "3", python.name])
    python.write_text(
        f"#!/bin/sh\n[ \"$1\" = -I ] && echo '{about_itself}' || exec '{sys.executable}' -S -E '{AGENT}' \"$@\"\n"
    )
    python.chmod(0o755)
    return python
