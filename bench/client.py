"""A chat backend, as far as the benchmarks need one, and what they do behind the service's back."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
from e2b_code_interpreter import Sandbox

from local import aws
from local.stack import E2B_API_KEY, Stack
from sandkeeper.adapters.dynamodb import DynamoSessionStore, Table
from sandkeeper.model import ChatKey, utc_now

OWNER = "local"
"""Whom the stack's own key speaks for."""

LIFETIME_S = 600

POOL_REFILL_S = 4.0
"""After this time the sandbox server has warm sandboxes again, and its machine is at rest."""


class Client:
    """Calls the stack's API, or another that serves the same table; its sandboxes are the stack's."""

    def __init__(self, stack: Stack, api_url: str | None = None) -> None:
        settings = stack.settings
        self.http = httpx.Client(
            base_url=api_url or settings.api_url,
            headers={"Authorization": f"Bearer {settings.api_key}"},
            timeout=60,
        )
        self.e2b = {
            "api_key": E2B_API_KEY,
            "api_url": settings.sandbox_url,
            "sandbox_url": settings.sandbox_url,
        }
        self._store = DynamoSessionStore(Table(aws.client("dynamodb", settings.aws_url), stack.table))

    def run(self, chat_id: str, code: str, **fields: Any) -> dict[str, Any]:
        """Returns the reply of a run that must succeed."""
        reply = self.http.post("/api/jupyter/execute", json={"chatId": chat_id, "code": code, **fields})
        answer: dict[str, Any] = reply.json()
        if reply.status_code != 200 or not answer["success"]:
            raise RuntimeError(f"{chat_id}: {reply.status_code} {reply.text[:300]}")
        return answer

    def status(self, chat_id: str) -> None:
        """Asks whether the chat has a session."""
        self.http.get("/api/jupyter/execute", params={"chatId": chat_id}).raise_for_status()

    def close(self, chat_id: str) -> None:
        """Closes the chat's session."""
        self.http.delete("/api/jupyter/execute", params={"chatId": chat_id}).raise_for_status()

    def upload(self, chat_id: str, name: str, content: bytes) -> None:
        """Uploads the file and waits until it has been read."""
        files = f"/api/chats/{chat_id}/files"
        request = {"fileName": name, "size": len(content), "contentType": "text/csv"}
        registered = self.http.post(files, json=request).raise_for_status().json()
        upload = registered["upload"]
        httpx.post(upload["url"], data=upload["fields"], files={"file": content}).raise_for_status()
        while self.http.get(f"{files}/{registered['fileId']}").json()["status"] == "pending":
            time.sleep(0.02)

    def attach(self, sandbox_id: str) -> Sandbox:
        """Returns the same sandbox as the bare SDK sees it."""
        return Sandbox.connect(sandbox_id, timeout=LIFETIME_S, **self.e2b)

    def pause(self, chat_id: str, sandbox_id: str, *, unawares: bool = False) -> None:
        """Has the chat's sandbox pause as by its deadline; `unawares`, before the one that its row has."""
        Sandbox.pause(sandbox_id, **self.e2b)
        if unawares:
            return
        session = self._store.read(ChatKey(OWNER, chat_id))
        assert session is not None
        paused = replace(session, sandbox=None, pauses_at=utc_now() - timedelta(seconds=1))
        assert self._store.note_sandbox(paused)

    def kill(self, sandbox_id: str) -> None:
        """Has a sandbox vanish, with nobody told."""
        Sandbox.kill(sandbox_id, **self.e2b)
