"""What all RPC methods have in common: who calls, for how long, and how errors are told."""

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

from .. import errors
from ..commands import InputError, NoSuchCommandError
from ..paths import UnknownUserError

Call = RequestContext[Any, Any]
T = TypeVar("T")

_KEEPALIVE_HEADER = "keepalive-ping-interval"
_KEEPALIVE_S = 90.0


def user_of(call: Call) -> str | None:
    """The user that a call names in its basic authorization, which carries no password."""
    scheme, _, encoded = call.request_headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded).decode().partition(":")[0] or None
    except ValueError:
        raise ConnectError(Code.UNAUTHENTICATED, "the basic authorization cannot be read") from None


def keepalive_s(call: Call) -> float:
    """How often a silent stream should show that it lives."""
    try:
        return max(1.0, float(call.request_headers.get(_KEEPALIVE_HEADER, "")))
    except ValueError:
        return _KEEPALIVE_S


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Errors from inside leave as the Connect errors that the SDK knows."""
    try:
        yield
    except OSError as reason:
        raise ConnectError(Code(errors.connect_code(reason)), errors.message(reason)) from reason
    except UnknownUserError as reason:
        raise ConnectError(Code.UNAUTHENTICATED, str(reason)) from reason
    except NoSuchCommandError as reason:
        raise ConnectError(Code.NOT_FOUND, str(reason)) from reason
    except InputError as reason:
        raise ConnectError(Code.FAILED_PRECONDITION, str(reason)) from reason


class Deadline:
    """The time that the caller gave a stream (Connect's timeout), cut into waits for a sign of life."""

    def __init__(self, call: Call) -> None:
        left_ms = call.timeout_ms
        self._keepalive_s = keepalive_s(call)
        self._ends_at = None if left_ms is None else asyncio.get_running_loop().time() + left_ms / 1000

    async def next(self, source: Awaitable[T]) -> T | None:
        """What `source` gives, or None when it is time for a sign of life; DEADLINE_EXCEEDED at the end."""
        left_s = None if self._ends_at is None else self._ends_at - asyncio.get_running_loop().time()
        wait_s = self._keepalive_s if left_s is None else min(self._keepalive_s, left_s)
        try:
            async with asyncio.timeout(wait_s):
                return await source
        except TimeoutError:
            if left_s is not None and left_s <= self._keepalive_s:
                raise ConnectError(Code.DEADLINE_EXCEEDED, "the time given for this stream is over") from None
            return None
