"""A call of a tool: whose it is, what it may use, whom it keeps informed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sandkeeper.model import ChatKey
from sandkeeper.wiring import McpWiring

Tell = Callable[[float, float, str], None]
"""Tells the client how far it is: seconds that have gone by, seconds that there are, and a line for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What every tool is called with."""

    wiring: McpWiring
    key: ChatKey
    tell: Tell | None = None
    """None where the client does not ask for it, or hears nothing before the answer."""

    def limit(self, timeout_ms: int | None) -> timedelta:
        """Returns how long code may run."""
        return timedelta(milliseconds=timeout_ms or self.wiring.settings.e2b_sandbox_timeout)
