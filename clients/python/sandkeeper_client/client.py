"""The service, for programs that `await`."""

import os
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

import httpx

from sandkeeper_client.api import LIMITS, TIMES, Api, Retries
from sandkeeper_client.chat import AsyncChat
from sandkeeper_client.replies import Health, Session
from sandkeeper_client.wires import AsyncWire, Wire


class AsyncSandkeeper:
    """A Sandkeeper service, as the token's owner sees it.

    Without address or token it takes them from `SANDKEEPER_URL` and `SANDKEEPER_TOKEN`. `http` is a client of your
    own, for proxies, certificates or limits; it is closed together with this one. The token is sent to the service
    and to nobody else.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        retries: Retries = Retries(),  # noqa: B008 - it is frozen
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._api = api(
            AsyncWire(http or httpx.AsyncClient(timeout=TIMES, limits=LIMITS)), base_url, token, retries
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._api.url)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all connections. Sessions live on."""
        await self._api.wire.close()

    def chat(self, chat_id: str) -> AsyncChat:
        """Returns the chat of this id; one that nobody has heard of begins with its first run."""
        return AsyncChat(self._api, chat_id)

    async def sessions(self) -> AsyncGenerator[Session, None]:
        """Yields your live sessions, the one that expires next first."""
        async for session in self._api.pages("/api/sessions", "sessions", Session):
            yield session

    async def health(self) -> Health:
        """Returns that the service is up, and which version of it."""
        return Health.of(await self._api.get("/api/health"))


def api(wire: Wire, base_url: str | None, token: str | None, retries: Retries) -> Api:
    """Returns the service that was named, or that the environment names. Raises `InvalidInput`."""
    return Api(
        wire,
        os.environ.get("SANDKEEPER_URL", "") if base_url is None else base_url,
        os.environ.get("SANDKEEPER_TOKEN", "") if token is None else token,
        retries,
    )
