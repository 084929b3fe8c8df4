"""Failures on demand, for tests of whoever uses the server.

A fault is planned with `POST /admin/faults` or, for one request, in its header `X-Sandkeeper-Fault`, which
reads `kind` or `kind;delay_ms=500;after_bytes=100`:

create_slow           the create takes `delay_ms` longer
create_rate_limited   the create is answered with 429
create_unavailable    the create is answered with 503
create_reply_lost     the sandbox is made, and the connection ends without an answer
run_dropped           the connection of a run ends after `after_bytes` of its answer
unreachable           connections to the sandbox end without an answer
vanish                the sandbox is gone at once, with nobody told
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

_NUMBERS = {"times", "delay_ms", "after_bytes"}


class Kind(StrEnum):
    """What goes wrong; see above."""

    CREATE_SLOW = "create_slow"
    CREATE_RATE_LIMITED = "create_rate_limited"
    CREATE_UNAVAILABLE = "create_unavailable"
    CREATE_REPLY_LOST = "create_reply_lost"
    RUN_DROPPED = "run_dropped"
    UNREACHABLE = "unreachable"
    VANISH = "vanish"

    @property
    def is_of_create(self) -> bool:
        """Whether it befalls creates; the others befall a sandbox that exists."""
        return self.startswith("create_")


@dataclass(frozen=True, slots=True)
class Fault:
    """A planned failure, for one sandbox or any, `times` times or (None) until cleared."""

    kind: Kind
    sandbox_id: str | None = None
    times: int | None = 1
    delay_ms: int = 1000
    after_bytes: int = 0

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Fault":
        """The fault that these values describe.

        Raises:
            ValueError: an unknown kind or name, or a value of the wrong type.
        """
        known = {field.name for field in fields(cls)}
        if unknown := values.keys() - known:
            raise ValueError(f"a fault has no {sorted(unknown)}; it has {sorted(known)}")
        numbers = {name: int(value) for name, value in values.items() if name in _NUMBERS and value is not None}
        return cls(**{**values, **numbers, "kind": Kind(values.get("kind", ""))})

    @classmethod
    def of_header(cls, text: str) -> "Fault":
        """The fault that a header `kind;name=value` describes; errors as in `of`."""
        kind, *options = text.split(";")
        values = dict(map(_pair, options))
        return cls.of({**values, "kind": kind.strip()})


class Faults:
    """The planned failures, in the order in which they were planned."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []

    def plan(self, fault: Fault) -> None:
        """`fault` befalls the next requests that it fits."""
        self.planned.append(fault)

    def clear(self) -> None:
        """Nothing more goes wrong."""
        self.planned.clear()

    def take(self, *kinds: Kind, sandbox_id: str | None = None, header: str | None = None) -> Fault | None:
        """The fault that befalls this request, used up by one."""
        if header is not None and (fault := Fault.of_header(header)).kind in kinds:
            return fault
        for index, fault in enumerate(self.planned):
            if fault.kind in kinds and fault.sandbox_id in {None, sandbox_id}:
                if fault.times == 1:
                    del self.planned[index]
                elif fault.times is not None:
                    self.planned[index] = replace(fault, times=fault.times - 1)
                return fault
        return None


def _pair(option: str) -> tuple[str, str]:
    name, _, value = option.partition("=")
    return name.strip(), value.strip()
