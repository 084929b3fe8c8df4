"""The protocol's official client, and its results in short, for tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ImageContent, TextContent

T = TypeVar("T")

Era = Literal["auto", "legacy"]
"""The newest version of the protocol, or the ones that begin with a handshake."""
ERAS: tuple[Era, ...] = ("auto", "legacy")


@dataclass(frozen=True)
class Connection:
    """Where the server is, and how to call it."""

    url: str
    token: str
    transport: httpx2.AsyncBaseTransport | None = None
    era: Era = "auto"

    @asynccontextmanager
    async def open(self, **headers: str) -> AsyncIterator[Client]:
        """Returns a client that is connected."""
        sent = {"Authorization": f"Bearer {self.token}", **headers}
        async with (
            httpx2.AsyncClient(headers=sent, transport=self.transport, timeout=60, trust_env=False) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=self.era) as client,
        ):
            yield client

    def ask(self, do: Callable[[Client], Awaitable[T]], **headers: str) -> T:
        """Returns what comes of something that is done with a connected client. Raises `MCPError`."""

        async def main() -> T | MCPError:
            async with self.open(**headers) as client:
                try:
                    return await do(client)
                except MCPError as error:
                    return error  # from in here it would come out in a group of errors

        outcome = anyio.run(main)
        if isinstance(outcome, MCPError):
            raise outcome
        return outcome

    def call(self, tool: str, /, **arguments: Any) -> CallToolResult:
        """Returns what comes of one tool."""
        return self.ask(lambda client: client.call_tool(tool, arguments))


def text_of(result: CallToolResult) -> str:
    """Returns the texts of a result."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def images_of(result: CallToolResult) -> list[ImageContent]:
    """Returns the images of a result."""
    return [block for block in result.content if isinstance(block, ImageContent)]
