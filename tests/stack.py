"""The local stack as a fixture: one for all tests of a run that need it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from local import aws
from local.settings import Settings
from local.stack import Stack


@dataclass(frozen=True)
class RunningStack:
    """Where the servers are, and what they hold."""

    api_url: str
    sandbox_url: str
    aws_url: str
    api_key: str
    environment: dict[str, str]
    restart: Callable[[str], None]
    """Kills a server by its name, in the middle of whatever it does, and returns once it answers again."""
    pids: Callable[[], Mapping[str, int]]
    table_name: str = aws.TABLE
    bucket_name: str = aws.BUCKET

    def client(self, token: str | None = None) -> httpx.Client:
        """Returns a client of the API; with its own key, or with another token."""
        headers = {"Authorization": f"Bearer {token or self.api_key}"}
        return httpx.Client(base_url=self.api_url, headers=headers, timeout=60)


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """The whole service, on free ports. Its sandboxes import pandas when code does, as that of few tests does."""
    with (
        tempfile.TemporaryDirectory(prefix="sk-") as logs,
        Stack(Settings().on_free_ports(), Path(logs), sandbox_flags=["--preload", ""]) as running,
    ):
        settings = running.settings
        yield RunningStack(
            api_url=settings.api_url,
            sandbox_url=settings.sandbox_url,
            aws_url=settings.aws_url,
            api_key=settings.api_key,
            environment=running.environment,
            restart=running.restart,
            pids=lambda: running.pids,
        )
