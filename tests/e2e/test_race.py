"""Many calls at the same moment: a chat gets one sandbox, does one call at a time there, and all are answered."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.stack import RunningStack

EXECUTE = "/api/jupyter/execute"
REFUSED = {409: ":session-busy", 503: ":sandbox-unavailable"}
"""Why a call may be refused: others have the chat, or a machine at its limits is slow to start a sandbox."""
LONGEST_S = 100
"""The local API does 40 calls at a time: others stand in line beyond the 28 s that each may take."""

NewChat = Callable[[], str]


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """A chat backend that opens as many connections as it has calls."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    with httpx.Client(base_url=stack.api_url, headers=headers, limits=limits, timeout=LONGEST_S) as made:
        yield made


@pytest.fixture
def new_chat(client: httpx.Client) -> Iterator[NewChat]:
    """Names chats, which are closed afterwards."""
    chats: list[str] = []

    def name() -> str:
        chats.append(f"race-{uuid.uuid4()}")
        return chats[-1]

    yield name
    for chat in chats:
        client.delete(EXECUTE, params={"chatId": chat}).raise_for_status()


def all_at_once(client: httpx.Client, calls: Sequence[tuple[str, str]]) -> list[httpx.Response]:
    """Returns the replies to calls, each a chat and some code, in their order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [*pool.map(lambda call: client.post(EXECUTE, json={"chatId": call[0], "code": call[1]}), calls)]


def answers(replies: Sequence[httpx.Response]) -> list[dict[str, Any]]:
    """Returns the answers of those that were no refusals; all others must be refused for a good reason."""
    refused = [reply for reply in replies if reply.status_code != 200]
    for reply in refused:
        assert reply.status_code in REFUSED, reply.text
        assert reply.json()["type"].endswith(REFUSED[reply.status_code])
        assert int(reply.headers["retry-after"]) >= 1
    return [reply.json() for reply in replies if reply.status_code == 200]


def sandboxes_of_its_chat(stack: RunningStack, sandbox_id: str) -> list[str]:
    """Returns the ids of all sandboxes there ever were for the chat of this one."""
    records = (
        httpx.get(f"{stack.sandbox_url}/admin/sandboxes", headers={"X-API-KEY": "any"}).raise_for_status().json()
    )
    chat = next(record["metadata"]["chat"] for record in records if record["sandboxID"] == sandbox_id)
    return [record["sandboxID"] for record in records if record["metadata"].get("chat") == chat]


def test_200_first_calls_of_a_chat_share_one_sandbox(
    client: httpx.Client, new_chat: NewChat, stack: RunningStack
) -> None:
    chat = new_chat()

    replies = all_at_once(client, [(chat, f"print({number})") for number in range(200)])

    for number, reply in enumerate(replies):
        if reply.status_code == 200:
            assert [item["content"] for item in reply.json()["results"]] == [f"{number}\n"]
    sessions = [answer["session"] for answer in answers(replies)]
    assert Counter(session["status"] for session in sessions) == {"new": 1, "reused": len(sessions) - 1}
    assert {session["generation"] for session in sessions} == {1}
    (sandbox_id,) = {answer["sandboxId"] for answer in answers(replies)}
    assert sandboxes_of_its_chat(stack, sandbox_id) == [sandbox_id]


def test_20_first_calls_of_5_chats_make_5_sandboxes(
    client: httpx.Client, new_chat: NewChat, stack: RunningStack
) -> None:
    chats = [new_chat() for _ in range(5)]

    replies = all_at_once(client, [(chat, f"print({chat!r})") for _ in range(4) for chat in chats])

    for chat, reply in zip(chats * 4, replies, strict=True):
        if reply.status_code == 200:
            assert reply.json()["results"][0]["content"] == f"{chat}\n"
    used = {answer["sandboxId"] for answer in answers(replies)}
    assert len(used) == 5
    for sandbox_id in used:
        assert sandboxes_of_its_chat(stack, sandbox_id) == [sandbox_id]


def test_calls_at_once_on_a_live_chat_lose_no_update(client: httpx.Client, new_chat: NewChat) -> None:
    chat = new_chat()
    answers(all_at_once(client, [(chat, "counter = 0")]))
    code = "import time\nvalue = counter\ntime.sleep(0.3)\ncounter = value + 1"

    both = answers(all_at_once(client, [(chat, code)] * 2))

    (last,) = answers(all_at_once(client, [(chat, "print(counter)")]))
    assert last["results"][0]["content"] == "2\n"
    assert len(both) == 2
    assert {(answer["sandboxId"], answer["session"]["status"]) for answer in both} == {
        (last["sandboxId"], "reused")
    }
