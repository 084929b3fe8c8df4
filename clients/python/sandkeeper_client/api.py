"""Calls to the service: where it is, who is calling, and what is tried again."""

import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

import httpx

from sandkeeper_client.errors import (
    ConnectionFailed,
    InvalidInput,
    Problem,
    SandkeeperError,
    TransferFailed,
    UnexpectedReply,
)
from sandkeeper_client.values import Value
from sandkeeper_client.wires import Wire

TIMES = httpx.Timeout(60, connect=10)
"""A call is answered within 30 s, and a stream says something every 5 s."""
LIMITS = httpx.Limits(max_connections=1_000, max_keepalive_connections=50)
"""Who follows a run has a connection for as long as it lasts."""
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Failures at which the service has surely heard nothing."""
OVERLOADED = (502, 503, 504)
ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
VISIBLE = re.compile(r"[\x21-\x7e]+")
MOST_KEY_CHARS = 255
JITTER = 0.1

V = TypeVar("V", bound=Value)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """For how long a call is tried again, and how soon: after `Retry-After`, or twice as long each time."""

    attempts: int = 10
    within_s: float = 120
    first_s: float = 0.25
    longest_s: float = 8

    def begin(self) -> "Attempts":
        """Returns the attempts of one call."""
        return Attempts(self, time.monotonic() + self.within_s)


@dataclass
class Attempts:
    """The attempts of one call so far."""

    retries: Retries
    until: float
    failed: int = 0

    def pause(self, retry_after: float | None = None) -> float | None:
        """Returns how long to wait before trying again, after a failure; None where it is not to be tried again."""
        self.failed += 1
        if retry_after is None:
            longest = min(self.retries.longest_s, self.retries.first_s * 2 ** (self.failed - 1))
            seconds = random.uniform(longest / 2, longest)  # noqa: S311 - so that callers do not come all at once
        else:
            seconds = retry_after * random.uniform(1, 1 + JITTER)  # noqa: S311
        is_over = self.failed >= self.retries.attempts or time.monotonic() + seconds > self.until
        return None if is_over else seconds


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is asked of the service."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = True
    """Asking twice is as good as once, also when the first answer was lost."""
    waits_for_session: bool = True
    """A session that another run has is worth waiting for."""

    def failure(self, reply: httpx.Response) -> Problem:
        """Returns the error that a reply tells."""
        return Problem.of(reply)

    def may_repeat(self, failure: SandkeeperError) -> bool:
        """Whether trying again may help, and does no harm."""
        if failure.slug == "session-busy" and not self.waits_for_session:
            return False
        if failure.status == 429 or (failure.retry_after is not None and failure.status in (409, 503)):
            return True  # the service itself has refused the call, and done nothing
        return failure.status in OVERLOADED and self.is_repeatable


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Content on its way to or from where it lies. That is not the service, and is told no token."""

    method: str
    url: str
    form: Mapping[str, str] | None = None
    content: BinaryIO | None = None
    """What goes with the form, as `file`, from its beginning: httpx sees to that each time."""
    is_repeatable: bool = True

    @property
    def path(self) -> str:
        """What of the address may be told to anybody: the rest of it is as good as a token."""
        return httpx.URL(self.url).host

    def failure(self, reply: httpx.Response) -> TransferFailed:
        """Returns the error that a reply tells."""
        return TransferFailed(self.path, reply.status_code, reply.text)

    def may_repeat(self, failure: SandkeeperError) -> bool:
        """Whether trying again may help."""
        return (failure.status or 0) >= 500


class Api:
    """The service at its address, as the token's owner sees it. Only it is ever told the token."""

    def __init__(self, wire: Wire, base_url: str, token: str, retries: Retries) -> None:
        self.wire = wire
        self.url = address(base_url)
        self.retries = retries
        self._token = checked_token(token)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.url)!r})"

    async def json(self, call: Call) -> Any:
        """Returns the JSON of the answer; None for one without a body."""
        async with self.open(call, whole=True) as reply:
            if reply.status_code == 204:
                return None
            try:
                return reply.json()
            except ValueError:
                raise unexpected(reply) from None

    async def get(self, path: str, **params: Any) -> Any:
        """Returns the JSON of what is at the path."""
        return await self.json(Call(method="GET", path=path, params=params))

    async def pages(self, path: str, name: str, kind: type[V]) -> AsyncGenerator[V, None]:
        """Yields all values of a list that comes in pages."""
        place: Mapping[str, str] = {}
        while True:
            page = Page.of(await self.get(path, **place))
            for told in page.raw.get(name, ()):
                yield kind.of(told)
            if page.next is None:
                return
            place = {"next": page.next}

    async def led_to(self, path: str) -> str:
        """Returns where the path leads, which is another place than the service."""
        async with self.open(Call(method="GET", path=path)) as reply:
            if reply.has_redirect_location:
                return str(reply.url.join(reply.headers["location"]))
            raise unexpected(reply)

    async def content(self, url: str) -> AsyncGenerator[bytes, None]:
        """Yields what is at an address that was told, as it comes."""
        try:
            async with self.open(Transfer(method="GET", url=url)) as reply:
                async for chunk in self.wire.chunks(reply):
                    yield chunk
        except httpx.RequestError as error:
            raise ConnectionFailed(f"the content broke off: {error!r}") from error

    @asynccontextmanager
    async def open(self, call: Call | Transfer, *, whole: bool = False) -> AsyncIterator[httpx.Response]:
        """Gives the answer, which is no error: `whole`, or with its body yet to come. Tries again as it may."""
        attempts = self.retries.begin()
        while (reply := await self._attempt(call, attempts, whole)) is None:
            pass
        try:
            yield reply
        finally:
            await self.wire.release(reply)

    async def _attempt(self, call: Call | Transfer, attempts: Attempts, whole: bool) -> httpx.Response | None:
        """Returns the answer; None, after a pause, where the call is to be tried again."""
        try:
            reply = await self._answer(call, whole)
        except httpx.RequestError as error:
            may_repeat = call.is_repeatable or isinstance(error, UNSENT)
            pause = attempts.pause() if may_repeat else None
            if pause is None:
                raise unanswered(error, call.path, attempts.failed) from error
        else:
            if not reply.is_error:
                return reply
            failure = call.failure(reply)
            pause = attempts.pause(failure.retry_after) if call.may_repeat(failure) else None
            if pause is None:
                raise failure
        await self.wire.sleep(pause)
        return None

    async def _answer(self, call: Call | Transfer, whole: bool) -> httpx.Response:
        """Returns the answer, an error whole in any case."""
        reply = await self.wire.send(self._request(call))
        if whole or reply.is_error:
            try:
                await self.wire.read(reply)
            finally:
                await self.wire.release(reply)
        return reply

    def _request(self, call: Call | Transfer) -> httpx.Request:
        if isinstance(call, Transfer):
            files = None if call.content is None else {"file": ("upload", call.content)}
            request = self.wire.build(call.method, call.url, data=call.form, files=files, timeout=TIMES)
            request.headers.pop("Authorization", None)  # a client that was given may have one of its own
            return request
        url = self.url.copy_with(path=self.url.path.rstrip("/") + call.path)
        headers = {"Authorization": f"Bearer {self._token}", **call.headers}
        params = call.params or None
        return self.wire.build(call.method, url, json=call.json, params=params, headers=headers, timeout=TIMES)


@dataclass(frozen=True, kw_only=True)
class Page(Value):
    """Some values of a list, and where those that follow are."""

    next: str | None


def unanswered(error: httpx.RequestError, path: str, attempts: int) -> ConnectionFailed:
    """Returns what is raised where no answer came."""
    return ConnectionFailed(f"no answer from {path}, in {max(1, attempts)} attempts: {error!r}")


def unexpected(reply: httpx.Response) -> UnexpectedReply:
    """Returns what is raised where the answer is none of this API's."""
    kind = reply.headers.get("content-type", "no content")
    where = f"{reply.url.scheme}://{reply.url.netloc.decode()}"
    return UnexpectedReply(f"{reply.url.path}: {reply.status_code} with {kind}; is there a Sandkeeper at {where}?")


# ── What callers give ───────────────────────────────────────────────────────────────────────────────────


def address(base_url: str) -> httpx.URL:
    """Returns the service's address. Raises `InvalidInput`."""
    if not base_url:
        raise InvalidInput("there is no address: give base_url, or set SANDKEEPER_URL to https://…")
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"base_url is no address: {error}; give one like https://…") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise InvalidInput(
            f"base_url {_shown(url)!r} is not of the form https://host/path; credentials go into token"
        )
    return url


def _shown(url: httpx.URL) -> str:
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def checked_token(token: str) -> str:
    """Returns the token. Raises `InvalidInput`, which does not quote it."""
    if not token:
        raise InvalidInput("there is no token: give token, or set SANDKEEPER_TOKEN to an API key or JWT")
    if not VISIBLE.fullmatch(token):
        raise InvalidInput("the token has blanks or other characters that none has; copy it anew")
    return token


def only_known(given: Mapping[str, Any], known: type) -> None:
    """Raises `TypeError` where something is given that is not among a TypedDict's, as Python does for arguments."""
    for name in set(given) - set(known.__annotations__):
        raise TypeError(f"{name!r} is none of {', '.join(known.__annotations__)}")


def checked_key(key: str) -> str:
    """Returns the idempotency key. Raises `InvalidInput`."""
    if len(key) > MOST_KEY_CHARS or not VISIBLE.fullmatch(key):
        raise InvalidInput(f"idempotency key {key!r} is not 1 to {MOST_KEY_CHARS} visible ASCII characters")
    return key


def checked_id(what: str, name: str) -> str:
    """Returns the id, which can be part of a path. Raises `InvalidInput`."""
    if not ID.fullmatch(name) or name in (".", ".."):
        raise InvalidInput(f"{what} {name!r} is not 1 to 128 of letters, digits, '.', '_', ':' and '-'")
    return name
