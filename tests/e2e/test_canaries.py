"""What callers send is in no server's log: with the real clients of AWS and E2B, at the level that tells most."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from local.settings import Settings
from local.stack import Stack
from sandkeeper.log_context import hash_of
from tests.canaries import BAD_TOKENS, CHOICES, CONTENT, OUTPUT, TOKEN, quoted_in
from tests.sandbox_server import Server
from tests.tour import Tour

PROGRAM = f"""
import sys
print("{CHOICES.code}", "{OUTPUT}")
print("{OUTPUT}", file=sys.stderr)
open("/home/user/{OUTPUT}.csv", "w").write("{OUTPUT}")
raise ValueError("{OUTPUT}")
"""


@dataclass(frozen=True)
class Watched:
    """A stack, and all that its servers and sandboxes write for those who run it."""

    running: Stack
    logs: Path
    sandboxes: Path

    def written(self) -> str:
        """Returns every log: the servers', and those of agents and runners in sandboxes that are alive."""
        own = list(self.sandboxes.rglob("*.log"))
        assert {path.name for path in own} >= {"agent.log", "runner.log"}
        return "\n".join(path.read_text(errors="replace") for path in [*self.logs.glob("*.log"), *own])

    def tour(self, client: httpx.Client, chat: str) -> Tour:
        """Returns a caller who uses every endpoint."""
        return Tour(client, lambda _: None, replace(CHOICES, chat=chat, code=PROGRAM))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A stack of these tests' own, which one of them breaks."""
    logs, sandboxes = tmp_path_factory.mktemp("logs"), tmp_path_factory.mktemp("s")
    settings = replace(Settings().on_free_ports(), api_key=TOKEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
        with Stack(settings, logs, sandbox_flags=["--data-dir", str(sandboxes)]) as running:
            yield Watched(running, logs, sandboxes)


@pytest.fixture
def client(watched: Watched) -> Iterator[httpx.Client]:
    """A caller of the stack."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=watched.running.api_url, headers=headers, timeout=60, trust_env=False) as caller:
        yield caller


def test_nothing_that_callers_send_is_in_any_log(watched: Watched, client: httpx.Client) -> None:
    tour = watched.tour(client, CHOICES.chat)
    body = {"fileName": CHOICES.file_name, "size": len(CONTENT), "contentType": CHOICES.content_type}
    ticket = client.post(f"/api/chats/{CHOICES.chat}/files", json=body).json()["upload"]
    httpx.post(ticket["url"], data=ticket["fields"], files={"file": CONTENT}, trust_env=False).raise_for_status()
    tour()
    client.post("/api/jupyter/execute", json={"chatId": CHOICES.chat, "code": PROGRAM}).raise_for_status()

    written = watched.written()
    assert quoted_in(written) == []
    assert hash_of(CHOICES.chat) in written
    assert {status for statuses in tour.called.values() for status in statuses if status >= 500} == set()


def test_nothing_is_in_any_log_when_sandboxes_fail(watched: Watched, client: httpx.Client) -> None:
    server = Server(watched.running.settings.sandbox_url, 0, watched.sandboxes)
    for kind, call in (("unavailable", "create"), ("rate_limited", "create"), ("failed", "kill")):
        server.plan(kind, call=call, times=3)
        watched.tour(client, f"canary-{kind.replace('_', '-')}")()
    server.call("DELETE", "/admin/faults")

    assert quoted_in(watched.written()) == []


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_no_credentials_are_in_any_log(watched: Watched, client: httpx.Client, token: str) -> None:
    reply = client.get("/api/sessions", headers={"Authorization": f"Bearer {token}"})

    assert reply.status_code == 401
    assert quoted_in(watched.written()) == []


def test_nothing_is_in_any_log_when_the_store_is_gone(watched: Watched, client: httpx.Client) -> None:
    """The last of these tests: the stack is broken for good."""
    client.get("/api/sessions")
    os.kill(watched.running.pids["aws"], signal.SIGKILL)
    body = {"chatId": CHOICES.chat, "code": PROGRAM}
    replies = [
        client.post("/api/jupyter/execute", json=body),
        client.get(f"/api/chats/{CHOICES.chat}/files"),
        client.post(f"/api/chats/{CHOICES.chat}/files", json={"fileName": CHOICES.file_name, "size": 1}),
        client.get("/api/sessions"),
    ]

    assert {reply.status_code for reply in replies} == {503}
    assert quoted_in(watched.written()) == []
