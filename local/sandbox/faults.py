"""Failures on demand, for tests of whoever uses the server.

A fault is planned with `POST /admin/faults` or, for one request, in its header `X-Sandkeeper-Fault`, which
reads `kind` or `kind;call=create;delay_ms=500`. These befall the control plane's call that `call` names:

rate_limited   429 is answered, and nothing done
unavailable    503 is answered, as where there is no capacity, and nothing done
failed         500 is answered, and nothing done
slow           the call begins `delay_ms` later
reply_lost     the work is done, and the connection ends without an answer

These befall the requests to a sandbox:

run_dropped    the connection of a request to run code ends after `after_bytes` of its answer: of `POST /execute`
               at the interpreter, or of `POST /runs/<id>` at a port that is not the agent's (Sandkeeper's runner)
unreachable    connections to the sandbox end without an answer

And these have happened to the sandbox that `sandbox_id` names as soon as they are planned:

pause          it is paused, as if its deadline had come
expire         it has ended, as if its deadline had come
vanish         it is gone, with nobody told
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, TypeVar

_NUMBERS = {"times", "delay_ms", "after_bytes"}

_EnumT = TypeVar("_EnumT", bound=StrEnum)


class Call(StrEnum):
    """The calls of the control plane; those that do nearly the same have one name."""

    CREATE = "create"
    CONNECT = "connect"
    PAUSE = "pause"
    KILL = "kill"
    TIMEOUT = "timeout"
    LIST = "list"
    INFO = "info"


class Kind(StrEnum):
    """What goes wrong; see above."""

    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"
    SLOW = "slow"
    REPLY_LOST = "reply_lost"
    RUN_DROPPED = "run_dropped"
    UNREACHABLE = "unreachable"
    PAUSE = "pause"
    EXPIRE = "expire"
    VANISH = "vanish"


OF_CALLS = frozenset({Kind.RATE_LIMITED, Kind.UNAVAILABLE, Kind.FAILED, Kind.SLOW, Kind.REPLY_LOST})
AT_ONCE = frozenset({Kind.PAUSE, Kind.EXPIRE, Kind.VANISH})


@dataclass(frozen=True, slots=True)
class Fault:
    """A planned failure, for one sandbox or any, `times` times or (None) until cleared.

    Raises:
        ValueError: it lacks the call or the sandbox that its kind is of, or names a call that it is not of.
    """

    kind: Kind
    call: Call | None = None
    sandbox_id: str | None = None
    times: int | None = 1
    delay_ms: int = 1000
    after_bytes: int = 0

    def __post_init__(self) -> None:
        if self.kind in OF_CALLS and self.call is None:
            raise ValueError(f"a fault {self.kind.value!r} needs a call, one of {_names(Call)}")
        if self.kind not in OF_CALLS and self.call is not None:
            raise ValueError(f"a fault {self.kind.value!r} is of no call; leave {self.call.value!r} out")
        if self.kind in AT_ONCE and not self.sandbox_id:
            raise ValueError(f"a fault {self.kind.value!r} needs the sandbox_id that it happens to")

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Fault":
        """The fault that these values describe.

        Raises:
            ValueError: an unknown kind, call or name, a value of the wrong type, or values that do not fit.
        """
        known = {field.name for field in fields(cls)}
        if unknown := values.keys() - known:
            raise ValueError(f"a fault has no {sorted(unknown)}; it has {sorted(known)}")
        numbers = {name: int(value) for name, value in values.items() if name in _NUMBERS and value is not None}
        call = values.get("call")
        closed = {
            "kind": _member(Kind, values.get("kind")),
            "call": None if call is None else _member(Call, call),
        }
        return cls(**{**values, **numbers, **closed})

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

    def of_call(self, call: Call, *, sandbox_id: str | None, header: str | None) -> Fault | None:
        """The fault that befalls this call of the control plane, used up by one."""
        return self._take(OF_CALLS, call, sandbox_id, header)

    def of_sandbox(self, kind: Kind, *, sandbox_id: str, header: str | None = None) -> Fault | None:
        """The fault of this kind that befalls this request to a sandbox, used up by one."""
        return self._take(frozenset({kind}), None, sandbox_id, header)

    def _take(
        self, kinds: frozenset[Kind], call: Call | None, sandbox_id: str | None, header: str | None
    ) -> Fault | None:
        if header is not None and (fault := Fault.of_header(header)).kind in kinds and fault.call == call:
            return fault
        for index, fault in enumerate(self.planned):
            if fault.kind in kinds and fault.call == call and fault.sandbox_id in {None, sandbox_id}:
                if fault.times == 1:
                    del self.planned[index]
                elif fault.times is not None:
                    self.planned[index] = replace(fault, times=fault.times - 1)
                return fault
        return None


def _member(of: type[_EnumT], value: object) -> _EnumT:
    try:
        return of(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is no {of.__name__.lower()} of a fault; it is one of {_names(of)}") from None


def _names(of: type[StrEnum]) -> list[str]:
    return [member.value for member in of]


def _pair(option: str) -> tuple[str, str]:
    name, _, value = option.partition("=")
    return name.strip(), value.strip()
