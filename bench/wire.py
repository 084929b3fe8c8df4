"""A second API beside the stack's, with the relay between it and everything that it asks."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx

from bench.client import Client
from bench.delays import HEARD, Delays, Heard
from bench.original import Original
from local import aws
from local.processes import Processes
from local.settings import Settings
from local.stack import E2B_API_KEY, Port, Stack, service_environment

READY_WITHIN_S = 30
LATE_S = 0.3
"""How long to wait for what a call leaves to be done beside its answer."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Both designs behind the relay, and the stack's own API in front of it."""

    direct: Client
    """Prepares and clears away: what it asks is neither delayed nor counted."""
    service: Client
    original: Original
    url: str

    def heard(self) -> list[Heard]:
        """Returns what has passed since the last time, in the order of its beginning."""
        time.sleep(LATE_S)
        told = httpx.get(self.url + HEARD, timeout=10).json()
        return sorted((Heard(**each) for each in told), key=lambda each: each.begun)


@contextmanager
def relayed(stack: Stack, logs: Path, delays: Delays) -> Iterator[Wire]:
    """The relay and the API behind it, until the block ends."""
    behind = replace(Settings().on_free_ports().with_ports_chosen(), api_key=stack.settings.api_key)
    environment = service_environment(behind)
    relays = [
        f"{behind.sandbox_url}={stack.settings.sandbox_url}",
        f"{behind.aws_url}={stack.settings.aws_url}",
    ]
    with Processes(logs) as processes:
        command = [sys.executable, "-m", "bench.delays", *relays, "--delays", json.dumps(asdict(delays))]
        _await(Port(processes.start("relay", command, environment), behind.sandbox_url + HEARD))
        address = ["--host", behind.host, "--port", str(behind.api_port)]
        command = [sys.executable, "-m", "local.api_server", *address]
        _await(Port(processes.start("api-behind", command, environment), f"{behind.api_url}/api/health"))
        e2b = {"api_key": E2B_API_KEY, "api_url": behind.sandbox_url, "sandbox_url": behind.sandbox_url}
        original = Original(e2b, aws.client("s3", behind.aws_url), stack.bucket)
        yield Wire(Client(stack), Client(stack, behind.api_url), original, behind.sandbox_url)


def _await(port: Port) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not port.answers():
        port.server.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{port.server.name} did not answer within {READY_WITHIN_S} s")
        time.sleep(0.05)
