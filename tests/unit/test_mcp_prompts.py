"""Prompts over MCP: those of the API."""

from collections.abc import Iterator

import httpx2
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from sandkeeper.prompts import PROMPTS
from tests.mcp_client import ERAS, Connection, Era
from tests.mcp_world import URL, app_of, mcp_world
from tests.world import CHAT, TOKEN, World


@pytest.fixture
def world() -> Iterator[World]:
    """A service whose wiring is that of the MCP function."""
    with mcp_world() as made:
        yield made


@pytest.fixture
def transport(world: World) -> httpx2.ASGITransport:
    """The application, without a network."""
    return httpx2.ASGITransport(app_of(world))


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_those_of_the_api(world: World, transport: httpx2.ASGITransport, name: str, era: Era) -> None:
    many = Connection(URL, TOKEN, transport, era)
    world.run()

    listed = many.ask(lambda client: client.list_prompts()).prompts
    told = many.ask(lambda client: client.get_prompt(name, {"chatId": "chat-1"}))

    assert [prompt.name for prompt in listed] == list(PROMPTS)
    assert [argument.name for argument in listed[0].arguments or []] == ["chatId", "request"]
    (message,) = told.messages
    assert message.content.text == world.wiring.prompts.fill(CHAT, name, {}).text  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize(
    ("name", "arguments"), [("no-such", {}), ("data-analysis", {"file": "x"}), ("file-context", {"file": "no.csv"})]
)
def test_what_is_wrong_with_a_prompt_is_told(
    transport: httpx2.ASGITransport, name: str, arguments: dict[str, str]
) -> None:
    mcp = Connection(f"{URL}?chatId={CHAT.chat_id}", TOKEN, transport)
    with pytest.raises(MCPError) as error:
        mcp.ask(lambda client: client.get_prompt(name, arguments))

    assert error.value.code == INVALID_PARAMS
