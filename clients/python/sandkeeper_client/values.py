"""Values as the service tells them: camelCase JSON there, frozen dataclasses here.

A field is called as in the API's document, in snake_case; durations are milliseconds there and here, sizes bytes.
What a newer service tells besides stays in `raw`, and breaks nothing.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, Self, get_args, get_origin, get_type_hints

from sandkeeper_client.errors import UnexpectedReply

Read = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Value:
    """What all values have in common."""

    raw: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)
    """All that the service has told."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Returns the value that the service tells. Raises `UnexpectedReply` if it lacks a field."""
        known: dict[str, Any] = {"raw": told}
        for part in _parts(cls):  # type: ignore[arg-type]  # mypy takes a class for what it makes
            try:
                if part.wire_name in told or not part.may_lack:
                    known[part.name] = part.read(told[part.wire_name])
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                detail = f"{cls.__name__}.{part.wire_name} is not as documented: {error!r}"
                raise UnexpectedReply(detail) from None
        return cls(**known)


class _Part(NamedTuple):
    name: str
    wire_name: str
    may_lack: bool
    read: Read


@cache
def _parts(kind: type[Value]) -> list[_Part]:
    """Returns how each field of a value is read."""
    hints = get_type_hints(kind)
    return [
        _Part(
            name=each.name,
            wire_name=_camel(each.name),
            may_lack=each.default is not MISSING or each.default_factory is not MISSING,
            read=_reader(hints[each.name]),
        )
        for each in fields(kind)
        if each.name != "raw"
    ]


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _reader(hint: Any) -> Read:
    """Returns what makes the JSON of a field into what its annotation says."""
    if get_origin(hint) is types.UnionType:
        read = _reader(get_args(hint)[0])
        return lambda told: None if told is None else read(told)
    if get_origin(hint) is tuple:
        read = _reader(get_args(hint)[0])
        return lambda told: tuple(read(each) for each in told)
    if isinstance(hint, type) and issubclass(hint, Value):
        return hint.of
    return datetime.fromisoformat if hint is datetime else _as_it_is


def _as_it_is(told: Any) -> Any:
    return told
