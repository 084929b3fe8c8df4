"""What a stack is asked for: where it listens, with which key, and how its sandboxes are held."""

import errno
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Self

SWITCHED_ON = {"1", "true", "yes", "on"}


class SettingsError(Exception):
    """The stack cannot start as asked. The message names the setting and the fix; nothing was started."""


@dataclass(frozen=True)
class Settings:
    host: str = "127.0.0.1"
    api_port: int = 8000
    sandbox_port: int = 8010
    aws_port: int = 8020
    api_key: str = "sk_local_dev"
    cleanup_every_s: int = 300
    network: bool = False
    no_isolation: bool = False
    reload: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """What HOST, API_PORT, SANDBOX_PORT, … ask for; an empty variable asks for nothing."""
        given = {name: value for name, value in environment.items() if value}
        return cls(
            host=given.get("HOST", cls.host),
            api_port=_number(given, "API_PORT", cls.api_port),
            sandbox_port=_number(given, "SANDBOX_PORT", cls.sandbox_port),
            aws_port=_number(given, "AWS_PORT", cls.aws_port),
            api_key=given.get("API_KEY", cls.api_key),
            cleanup_every_s=_number(given, "CLEANUP_EVERY_S", cls.cleanup_every_s),
            network=_switch(given, "NETWORK"),
            no_isolation=_switch(given, "NO_ISOLATION"),
        )

    def on_free_ports(self) -> Self:
        """The same stack with every port left to the system."""
        return replace(self, api_port=0, sandbox_port=0, aws_port=0)

    def with_ports_chosen(self) -> Self:
        """The same settings with each 0 replaced by a free port; raises SettingsError for a port in use.

        All three are held until all three are known, so that they differ. Then they are let go for the
        servers to take; whoever grabs one in that instant makes the start fail, loudly.
        """
        with ExitStack() as held:
            return replace(
                self,
                api_port=self._hold(held, self.api_port, "API_PORT"),
                sandbox_port=self._hold(held, self.sandbox_port, "SANDBOX_PORT"),
                aws_port=self._hold(held, self.aws_port, "AWS_PORT"),
            )

    def _hold(self, held: ExitStack, port: int, variable: str) -> int:
        listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, port))
            listener.listen()
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise SettingsError(f"HOST={self.host!r} is no IPv4 address of this machine") from error
            raise SettingsError(
                f"port {port} cannot be used ({error.strerror}): stop what listens there, "
                f"or set {variable} to another port, or to 0 for a free one"
            ) from error
        return int(listener.getsockname()[1])

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or self.host.startswith("127.")

    @property
    def api_url(self) -> str:
        return self._url(self.api_port)

    @property
    def sandbox_url(self) -> str:
        return self._url(self.sandbox_port)

    @property
    def aws_url(self) -> str:
        return self._url(self.aws_port)

    def _url(self, port: int) -> str:
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{port}"  # noqa: S104


def _number(given: Mapping[str, str], variable: str, default: int) -> int:
    value = given.get(variable, str(default))
    if not value.isdecimal() or int(value) > 65_535:
        raise SettingsError(f"{variable}={value!r} is not a number from 0 to 65535")
    return int(value)


def _switch(given: Mapping[str, str], variable: str) -> bool:
    return given.get(variable, "").lower() in SWITCHED_ON
