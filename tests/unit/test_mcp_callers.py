"""Who is let in to MCP, from which page, about which chat; and who leaves before the answer."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest

from sandkeeper.mcp import run_tools
from tests.mcp_client import ERAS, Connection, Era, text_of
from tests.mcp_world import URL, app_of, mcp_world, set_origins
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


def post(transport: httpx2.ASGITransport, method: str = "POST", url: str = URL, **headers: str) -> httpx2.Response:
    """Returns the answer to a request that lists the tools, with these headers and no others of its own."""
    sent = {"accept": "application/json, text/event-stream", "authorization": f"Bearer {TOKEN}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}

    async def main() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=transport) as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            return await http.request(method, url, headers=sent, json=body)

    return anyio.run(main)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Basic x", "Bearer sk_wrong", "Bearer a.b.c"])
def test_strangers_are_told_how_to_show_who_they_are(transport: httpx2.ASGITransport, authorization: str) -> None:
    reply = post(transport, authorization=authorization)

    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["type"] == "urn:sandkeeper:problem:unauthenticated"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_there_is_no_session_to_listen_to_or_to_end(transport: httpx2.ASGITransport, method: str) -> None:
    reply = post(transport, method)

    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("*", "https://any.example", 200),
        ("https://chat.example", "https://chat.example", 200),
        ("https://a.example, https://chat.example", "https://chat.example", 200),
        ("https://chat.example", "https://evil.example", 403),
        ("http://localhost:*", "http://localhost:8765", 200),
        ("http://localhost:*", "http://localhost.evil.example:8765", 403),
        ("http://localhost:*", "null", 403),
        ("", "https://chat.example", 403),
    ],
)
def test_pages_of_other_origins_are_not_let_in(
    world: World, transport: httpx2.ASGITransport, allowed: str, origin: str, status: int
) -> None:
    set_origins(world, allowed)

    assert post(transport, origin=origin).status_code == status


def test_a_body_that_is_too_large_is_not_read(transport: httpx2.ASGITransport) -> None:
    async def main() -> httpx2.Response:
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        async with httpx2.AsyncClient(transport=transport, headers=headers) as http:
            return await http.post(URL, content=b"x" * 1_000_001)

    assert anyio.run(main).status_code == 413


@pytest.mark.parametrize("era", ERAS)
def test_a_chat_may_be_named_by_a_header(world: World, transport: httpx2.ASGITransport, era: Era) -> None:
    connection = Connection(URL, TOKEN, transport, era)

    async def run(client: Any) -> Any:
        (tool, *_) = (await client.list_tools()).tools
        await client.call_tool("run_python", {"code": "1"})
        return tool

    tool = connection.ask(run, **{"Sandkeeper-Chat": "chat-1"})

    assert "chatId" not in tool.input_schema["properties"]
    assert world.row(CHAT).run_count == 1


@pytest.mark.parametrize("url", [f"{URL}?chatId=a&chatId=b", f"{URL}?chatId=no%20chat", f"{URL}?chatId="])
def test_a_connection_is_about_one_chat_that_there_can_be(transport: httpx2.ASGITransport, url: str) -> None:
    reply = post(transport, url=url)

    assert reply.status_code == 422
    assert reply.json()["type"] == "urn:sandkeeper:problem:invalid-request"


def test_owners_have_chats_of_their_own(world: World, transport: httpx2.ASGITransport) -> None:
    world.issue_key("sk_bob", "bob")
    world.add_file("secret.csv", b"a\n1\n")

    told = Connection(f"{URL}?chatId={CHAT.chat_id}", "sk_bob", transport).call("list_files")

    assert text_of(told) == "There are none."


def test_calls_are_noted_without_what_they_say(world: World, transport: httpx2.ASGITransport) -> None:
    Connection(f"{URL}?chatId={CHAT.chat_id}", TOKEN, transport).call("run_python", code="print('secret')")

    assert ("POST", "/mcp", 200) in world.journal.answers
    assert "secret" not in str(world.journal.notes)


NEWEST = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "run_python"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.mark.parametrize(("own", "meta"), [(NEWEST, ENVELOPE), ({}, {})], ids=ERAS)
def test_a_client_that_leaves_takes_no_thread_with_it_and_its_run_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, own: dict[str, str], meta: dict[str, Any]
) -> None:
    """Whoever told it of progress waited for ever: nobody took that any more, and nobody ended the waiting."""
    monkeypatch.setattr(run_tools, "TELL_EVERY_S", 0.01)
    monkeypatch.setattr(run_tools, "PAUSE_S", 0.01)
    world.sandboxes.program = lambda *_: None
    asked = {"name": "run_python", "arguments": {"chatId": "chat-1", "code": "slow()"}}
    params = {**asked, "_meta": {"progressToken": 1, **meta}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream", **own}
    headers["authorization"] = f"Bearer {TOKEN}"

    anyio.run(_left_at_the_first_word, app_of(world), headers, body)

    assert world.journal.errors == []
    assert world.row(CHAT).run_id is not None


async def _left_at_the_first_word(app: Any, headers: dict[str, str], body: bytes) -> None:
    """Sends a request, and leaves once its answer has begun."""
    begun, requests = anyio.Event(), [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if b"notifications/progress" in message.get("body", b""):
            begun.set()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    with anyio.fail_after(60):
        await app(scope, receive, send)
    assert begun.is_set()
