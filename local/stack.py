"""The running stack: sandboxes, AWS, API and events, ready together and ended together."""

import http.client
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from local import aws
from local.processes import Processes, Server, StackError
from local.project import ROOT
from local.settings import Settings
from local.template import Template

READY_WITHIN_S = 60
POLL_EVERY_S = 0.02
E2B_API_KEY = "e2b_" + "0" * 40  # the SDK wants one of this shape; the local sandboxes take any


def service_environment(settings: Settings, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment in which the functions run here: all that differs from the cloud.

    The user's own AWS and E2B settings stay outside, but for the limits; loopback goes through no proxy.
    """
    limits = {"E2B_SANDBOX_TIMEOUT", "E2B_SESSION_TIMEOUT", "E2B_IDLE_PAUSE"}
    kept = {
        name: value
        for name, value in inherited.items()
        if name in limits or not name.startswith(("AWS_", "E2B_", "POWERTOOLS_"))
    }
    return {
        **kept,
        **aws.CREDENTIALS,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_REGION": aws.REGION,
        "AWS_DEFAULT_REGION": aws.REGION,
        "AWS_ENDPOINT_URL": settings.aws_url,
        "TABLE_NAME": aws.TABLE,
        "BUCKET_NAME": aws.BUCKET,
        "STACK_NAME": "sandkeeper-local",
        "E2B_API_KEY": E2B_API_KEY,
        "E2B_API_URL": settings.sandbox_url,
        "E2B_SANDBOX_URL": settings.sandbox_url,
        "POWERTOOLS_SERVICE_NAME": "sandkeeper",
        "POWERTOOLS_METRICS_NAMESPACE": "Sandkeeper",
        "POWERTOOLS_LOG_LEVEL": inherited.get("POWERTOOLS_LOG_LEVEL", "INFO"),
        "ALLOWED_ORIGINS": "http://localhost:*,http://127.0.0.1:*,http://[::1]:*",
        "API_KEY": settings.api_key,
        "CLEANUP_EVERY_S": str(settings.cleanup_every_s),
        "NO_PROXY": ",".join(filter(None, [inherited.get("NO_PROXY", ""), "127.0.0.1,localhost"])),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)]),
    }


@dataclass(frozen=True)
class Port:
    """A server and the address on which it is to answer."""

    server: Server
    url: str

    def answers(self) -> bool:
        """Whether an HTTP request is answered, with anything but a failure."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.netloc, timeout=2)
        try:
            connection.request("GET", address.path)
            return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Stack:
    """`with Stack(settings) as stack:` has the whole service running in the block, and nothing of it after.

    `on_ready` hears the name of each server that got ready, and the seconds since the start. The servers'
    logs stay in the folder `logs`. `sandbox_flags` are more of the sandbox server's.
    """

    def __init__(
        self,
        settings: Settings,
        logs: Path,
        on_ready: Callable[[str, float], None] = lambda _name, _seconds: None,
        sandbox_flags: Sequence[str] = (),
    ) -> None:
        self.settings = settings.with_ports_chosen()
        self.environment = service_environment(self.settings)
        self._logs, self._on_ready, self._sandbox_flags = logs, on_ready, sandbox_flags

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._processes = Processes(self._logs)
        try:
            self._start()
        except BaseException:
            self._processes.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    @property
    def api_url(self) -> str:
        return self.settings.api_url

    @property
    def table(self) -> str:
        return aws.TABLE

    @property
    def bucket(self) -> str:
        return aws.BUCKET

    @property
    def pids(self) -> dict[str, int]:
        return self._processes.pids

    def check(self) -> None:
        """Raises StackError if a server is not running any more."""
        self._processes.check()

    def restart(self, name: str) -> None:
        """Ends a server hard, in the middle of whatever it does, and returns when it answers again."""
        server = self._processes.restart(name)
        self._await([Port(server, self._health[name])] if name in self._health else [])

    def _start(self) -> None:
        settings = self.settings
        local_aws, sandboxes = self._start_aws({}), self._start_sandboxes()
        self._await([local_aws])
        aws.create_resources(settings.aws_url, Template.of_this_project())
        api = self._module(
            "api",
            "local.api_server",
            *("--host", settings.host, "--port", str(settings.api_port)),
            *(["--reload"] if settings.reload else []),
        )
        self._module("events", "local.events")
        self._await([Port(api, self._health["api"]), sandboxes])

    def _start_aws(self, variables: Mapping[str, str]) -> Port:
        """The local AWS, starting. Functions that are deployed to it find `variables` in their environment, too."""
        own = aws.server_environment(self.settings.host, self.settings.aws_port, self._processes.folder)
        server = self._processes.start(
            "aws",
            aws.COMMAND,
            {**own, **variables},
            ended_by=signal.SIGKILL,  # it has nothing to save, and a polite end waits for open long polls
        )
        return Port(server, self._health["aws"])

    def _start_sandboxes(self) -> Port:
        """The sandbox server, starting."""
        settings = self.settings
        server = self._module(
            "sandboxes",
            "local.sandbox",
            *("--host", settings.host, "--port", str(settings.sandbox_port)),
            *(["--network"] if settings.network else []),
            *(["--no-isolation"] if settings.no_isolation else []),
            *self._sandbox_flags,
        )
        return Port(server, self._health["sandboxes"])

    @property
    def _health(self) -> dict[str, str]:
        """What says that a server is ready, by its name; the one of the events has nothing that does."""
        settings = self.settings
        return {
            "aws": f"{settings.aws_url}/_ministack/health",
            "sandboxes": f"{settings.sandbox_url}/health",
            "api": f"{settings.api_url}/api/health",
        }

    def _module(self, name: str, module: str, *arguments: str) -> Server:
        return self._processes.start(name, [sys.executable, "-m", module, *arguments], self.environment)

    def _await(self, ports: Iterable[Port]) -> None:
        """Returns when all of them answer."""
        pending = list(ports)
        deadline = time.monotonic() + READY_WITHIN_S
        while pending:
            self.check()
            for port in [port for port in pending if port.answers()]:
                pending.remove(port)
                self._on_ready(port.server.name, time.monotonic() - self._started)
            if pending and time.monotonic() > deadline:
                late = pending[0].server
                raise StackError(f"{late.name} did not answer within {READY_WITHIN_S} s; its log:", late.log)
            time.sleep(POLL_EVERY_S)
