"""A chat backend's view of the running stack: the client, chats, and how to make E2B fail."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b_code_interpreter import Sandbox

from local import aws
from sandkeeper.adapters.dynamodb import DynamoSessionStore, Table
from sandkeeper.model import ChatKey
from sandkeeper.ports import SessionStore
from sandkeeper_client import Chat as ClientChat
from sandkeeper_client import FileFailed, Sandkeeper
from tests.sandbox_server import Server, eventually
from tests.stack import RunningStack

EXECUTE = "/api/jupyter/execute"

OWNER = "local"
"""Whom the stack's own key speaks for."""

Run = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Chat:
    """A chat, and what its backend does with it."""

    client: httpx.Client
    id: str

    @property
    def key(self) -> ChatKey:
        """The chat as rows name it."""
        return ChatKey(OWNER, self.id)

    @property
    def url(self) -> str:
        """Where the chat's files, session and packages are."""
        return f"/api/chats/{self.id}"

    def execute(self, code: str, **fields: Any) -> httpx.Response:
        """Runs code, and returns whatever is answered."""
        return self.client.post(EXECUTE, json={"chatId": self.id, "code": code, **fields})

    def run(self, code: str, **fields: Any) -> dict[str, Any]:
        """Runs code, and returns the reply, which must be one."""
        reply = self.execute(code, **fields)
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def status(self) -> dict[str, Any]:
        """Returns whether the chat has a live session."""
        answer: dict[str, Any] = self.client.get(EXECUTE, params={"chatId": self.id}).raise_for_status().json()
        return answer

    def session(self) -> httpx.Response:
        """Asks for the chat's live session."""
        return self.client.get(f"{self.url}/session")

    def close(self) -> httpx.Response:
        """Closes the session."""
        return self.client.delete(EXECUTE, params={"chatId": self.id})

    def upload(
        self, name: str, content: bytes, content_type: str = "text/csv", *, replace: bool = False
    ) -> dict[str, Any]:
        """Uploads a file, waits until it has been read, and returns what the API tells of it."""
        token = self.client.headers["authorization"].removeprefix("Bearer ")
        with Sandkeeper(str(self.client.base_url), token) as service:
            chat = service.chat(self.id)
            try:
                return {**chat.upload(content, name=name, content_type=content_type, replace=replace).raw}
            except FileFailed as failed:
                return {**failed.file.raw}


def texts(answer: dict[str, Any]) -> list[str]:
    """Returns the contents of the reply's text items."""
    return [item["content"] for item in answer["results"] if item["type"] == "text"]


def wait_for(server: Server, sandbox_id: str, file: str) -> None:
    """Returns once code in the sandbox has written the file."""
    eventually(lambda: Sandbox.connect(sandbox_id, timeout=300, **server.sdk).files.exists(file))


@contextmanager
def a_chat(client: httpx.Client, chat_id: str | None = None) -> Iterator[Chat]:
    """A chat that is closed afterwards; one that never was, unless its id is given."""
    made = Chat(client, chat_id or f"test-{uuid.uuid4()}")
    try:
        yield made
    finally:
        made.close().raise_for_status()


@pytest.fixture(scope="session")
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """A chat backend's client."""
    with stack.client() as made:
        yield made


@pytest.fixture
def chat(client: httpx.Client) -> Iterator[Chat]:
    """A chat of this test alone."""
    with a_chat(client) as made:
        yield made


@pytest.fixture(scope="session")
def service(stack: RunningStack) -> Iterator[Sandkeeper]:
    """The Python client."""
    with Sandkeeper(stack.api_url, stack.api_key) as made:
        yield made


@pytest.fixture
def own(service: Sandkeeper) -> Iterator[ClientChat]:
    """A chat of this test alone, as the Python client has it."""
    made = service.chat(f"test-{uuid.uuid4()}")
    yield made
    made.close()


@pytest.fixture
def run(chat: Chat) -> Run:
    """Runs code in the test's chat, and returns the reply."""
    return chat.run


@pytest.fixture(scope="session")
def e2b(stack: RunningStack) -> Server:
    """The sandbox server of the stack, as an operator of E2B sees it."""
    return Server(stack.sandbox_url, pid=0, data_dir=Path())


@pytest.fixture(scope="session")
def store(stack: RunningStack) -> SessionStore:
    """The stack's sessions' rows."""
    return DynamoSessionStore(Table(aws.client("dynamodb", stack.aws_url), stack.table_name))


@pytest.fixture
def faults(e2b: Server, chat: Chat) -> Iterator[Server]:
    """The sandbox server, on which a test plans failures; none is left when the test's chat is closed."""
    yield e2b
    e2b.call("DELETE", "/admin/faults")
