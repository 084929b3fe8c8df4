"""The two emulators that the contract suites run on: moto in this process, ministack as a server.

Every test has a table and a bucket of its own, made as `template.yaml` describes them.
"""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local import aws
from local.processes import Processes
from local.stack import Port
from local.template import Template
from sandkeeper.adapters.dynamodb import Table

READY_WITHIN_S = 60

_numbers = count(1)


@dataclass(frozen=True)
class Backend:
    """A table and a bucket of an emulator."""

    name: str
    client: Callable[[str], Any]

    @property
    def table(self) -> Table:
        """The table, as the adapters take it."""
        return Table(self.client("dynamodb"), self.name)


@cache
def _table() -> dict[str, Any]:
    return Template.of_this_project().table()


def fresh(client: Callable[[str], Any]) -> Backend:
    """Returns a table and a bucket that nobody has used."""
    backend = Backend(f"contract-{next(_numbers)}", client)
    client("dynamodb").create_table(TableName=backend.name, **_table())
    client("s3").create_bucket(Bucket=backend.name)
    return backend


@pytest.fixture(scope="class")
def moto_clients() -> Iterator[dict[str, Any]]:
    """Returns clients of moto: making one takes longer than using it. It is gone when the class has run."""
    with mock_aws():
        yield {name: one_by_one(boto3.client(name, region_name=aws.REGION)) for name in ("dynamodb", "s3")}


def one_by_one(client: Any) -> Any:
    """Returns the client with its requests in turn: moto's threads get between a condition and its write."""
    lock, request = threading.Lock(), client._make_api_call

    def in_turn(*arguments: Any) -> Any:
        with lock:
            return request(*arguments)

    client._make_api_call = in_turn
    return client


@pytest.fixture
def moto(moto_clients: dict[str, Any]) -> Backend:
    """Returns a fresh table and bucket in moto."""
    return fresh(moto_clients.__getitem__)


@pytest.fixture(scope="session")
def ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Returns where a ministack answers that these tests started."""
    logs: Path = tmp_path_factory.mktemp("ministack")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with Processes(logs) as processes:
        environment = aws.server_environment("127.0.0.1", port, processes.folder)
        server = processes.start("aws", aws.COMMAND, environment, ended_by=signal.SIGKILL)
        _await(Port(server, f"{url}/_ministack/health"))
        yield url


@pytest.fixture(scope="session")
def ministack_clients(ministack_url: str) -> dict[str, Any]:
    """Returns clients of ministack: making one takes longer than using it."""
    return {name: aws.client(name, ministack_url) for name in ("dynamodb", "s3")}


@pytest.fixture
def ministack(ministack_clients: dict[str, Any]) -> Backend:
    """Returns a fresh table and bucket in ministack."""
    return fresh(ministack_clients.__getitem__)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await(port: Port) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not port.answers():
        port.server.check()
        assert time.monotonic() < deadline, f"{port.server.name} did not answer within {READY_WITHIN_S} s"
        time.sleep(0.05)
