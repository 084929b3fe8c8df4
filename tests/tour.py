"""A caller that uses every endpoint, in the order in which a chat would, and gives each value that it may choose.

A new endpoint has to be added here: `untouched` tells of those that were not called.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

Endpoint = tuple[str, str]
"""Method and path, as the API's document names them."""

IDS = ("fileId", "executionId", "artifactId", "notebookId", "cellId", "promptName")
"""What a path may name besides the chat."""

NEVER = "01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"


def endpoints(app: FastAPI) -> frozenset[Endpoint]:
    """Returns all endpoints of the application."""
    methods = {"get", "post", "put", "patch", "delete"}
    return frozenset(
        (method.upper(), path)
        for path, calls in app.openapi()["paths"].items()
        for method in calls.keys() & methods
    )


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What callers choose. Each is a text that could be looked for."""

    chat: str = "tour-chat"
    code: str = "print('tour')"
    file_name: str = "tour.csv"
    content_type: str = "text/csv"
    package: str = "tour-package"
    idempotency_key: str = "tour-once"
    title: str = "Tour"


@dataclass
class Tour:
    """One chat's life. `upload` stands for what S3 and the ingest function do with a file."""

    client: Any
    """Of `httpx`, or of FastAPI's tests."""
    upload: Callable[[str], object]
    choices: Choices = field(default_factory=Choices)
    called: dict[Endpoint, list[int]] = field(default_factory=dict)
    """What each endpoint was answered with."""

    def untouched(self) -> frozenset[Endpoint]:
        """Returns the endpoints that have not been called."""
        return endpoints(self.client.app) - self.called.keys()

    def __call__(self) -> None:
        """Calls every endpoint at least once; replies may be errors."""
        for _ in self.steps():
            pass

    def steps(self) -> Iterator[None]:
        """Calls the endpoints, and yields after each, so that the caller can let something happen."""
        file_id = self._registered(replace=False)
        yield
        self.upload(file_id)
        self._call("GET", "/api/chats/{chatId}/files")
        yield
        self._call("GET", "/api/chats/{chatId}/files/{fileId}", fileId=file_id)
        yield
        ran = self._ran(headers={"Idempotency-Key": self.choices.idempotency_key})
        yield
        self._ran(headers={"Idempotency-Key": self.choices.idempotency_key})
        yield
        yield from self._looked_at(ran)
        yield from self._notebook()
        yield from self._prompts(ran)
        self._call("POST", "/api/chats/{chatId}/packages", json={"packages": [self.choices.package]})
        yield
        newer = self._registered(replace=True)
        yield
        self.upload(newer)
        long = self._ran(mode="async")
        yield
        self._call("POST", "/api/chats/{chatId}/executions/{executionId}/cancel", executionId=long)
        yield
        code = self.choices.code
        self._call("POST", "/api/chats/{chatId}/session/complete", json={"code": code, "cursor": len(code)})
        yield
        for verb in ("interrupt", "restart"):
            self._call("POST", f"/api/chats/{{chatId}}/session/{verb}")
            yield
        self._call("DELETE", "/api/chats/{chatId}/files/{fileId}", fileId=newer)
        yield
        self._call("DELETE", "/api/jupyter/execute", params={"chatId": self.choices.chat})
        yield
        self._call("GET", "/api/health")
        yield

    def _looked_at(self, execution_id: str) -> Iterator[None]:
        """Calls what tells of runs, sessions and files."""
        for params in ({}, {"include": ["outputs", "model"], "waitMs": 0}):
            self._call(
                "GET", "/api/chats/{chatId}/executions/{executionId}", executionId=execution_id, params=params
            )
            yield
        self._call("GET", "/api/chats/{chatId}/executions/{executionId}/events", executionId=execution_id)
        yield
        for path in ("executions", "artifacts", "notebook", "context", "session"):
            self._call("GET", f"/api/chats/{{chatId}}/{path}")
            yield
        self._call("GET", "/api/chats/{chatId}/artifacts/{artifactId}", artifactId=f"{execution_id}-0")
        yield
        self._call("GET", "/api/jupyter/execute", params={"chatId": self.choices.chat})
        yield
        self._call("GET", "/api/sessions")
        yield

    def _notebook(self) -> Iterator[None]:
        """Calls what tells of notebooks, changes and runs them."""
        all_of, cells = "/api/chats/{chatId}/notebooks", [{"cellId": "tour", "source": self.choices.code}]
        made = self._call("POST", all_of, json={"title": self.choices.title, "cells": cells})
        one, ids = f"{all_of}/{{notebookId}}", {"notebookId": made.get("notebookId", NEVER)}
        yield
        whatever = {"If-Match": "*"}
        self._call("PUT", one, json={"title": self.choices.title, "cells": cells}, headers=whatever, **ids)
        yield
        self._call("POST", f"{one}/cells", json={"cellId": "other", "source": self.choices.code}, **ids)
        yield
        cell, ids = f"{one}/cells/{{cellId}}", {**ids, "cellId": "tour"}
        self._call("PUT", cell, json={"source": f"{self.choices.code}\n"}, headers=whatever, **ids)
        yield
        self._call("POST", f"{cell}/move", json={"after": "other"}, **ids)
        yield
        self._call("POST", f"{cell}/run", json={}, headers={"Idempotency-Key": self.choices.idempotency_key}, **ids)
        yield
        for path in ("run", "clear"):
            self._call("POST", f"{one}/{path}", json={} if path == "run" else None, **ids)
            yield
        self._call("POST", f"{one}/run", json={"mode": "async", "stopOnError": False}, **ids)
        yield
        self._call("POST", f"{one}/stop", **ids)
        yield
        self._call("GET", all_of)
        yield
        for path in (one, cell, f"{one}/ipynb"):
            self._call("GET", path, **ids)
            yield
        self._call("GET", f"{one}/events", params={"after": 1, "waitMs": 0}, **ids)
        yield
        file = {"nbformat": 4, "metadata": {"title": self.choices.title}, "cells": []}
        file["cells"] = [{"cell_type": "code", "source": self.choices.code, "outputs": []}]
        self._call("POST", f"{all_of}/import", json=file)
        yield
        for path in (cell, one):
            self._call("DELETE", path, headers=whatever, **ids)
            yield

    def _prompts(self, execution_id: str) -> Iterator[None]:
        """Calls what tells of prompts, with everything that callers may fill in."""
        self._call("GET", "/api/chats/{chatId}/prompts")
        yield
        for name, params in {
            "data-analysis": {"request": self.choices.code},
            "file-context": {"file": self.choices.file_name},
            "notebook-update": {"request": self.choices.code},
            "error-recovery": {"executionId": execution_id},
        }.items():
            self._call("GET", "/api/chats/{chatId}/prompts/{promptName}", params=params, promptName=name)
            yield

    def _registered(self, *, replace: bool) -> str:
        body = {
            "fileName": self.choices.file_name,
            "size": 1_000_000,
            "contentType": self.choices.content_type,
            "replace": replace,
        }
        return str(self._call("POST", "/api/chats/{chatId}/files", json=body).get("fileId", NEVER))

    def _ran(self, *, headers: dict[str, str] | None = None, **fields: Any) -> str:
        body = {"chatId": self.choices.chat, "code": self.choices.code, "include": ["outputs", "model"], **fields}
        return str(self._call("POST", "/api/jupyter/execute", json=body, headers=headers).get("executionId", NEVER))

    def _call(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        """Calls the endpoint, and returns its JSON; nothing for a reply that has none."""
        ids = {name: given.pop(name) for name in IDS if name in given}
        url = path.format(chatId=self.choices.chat, **ids)
        reply = self.client.request(method, url, follow_redirects=False, **given)
        self.called.setdefault((method, path), []).append(reply.status_code)
        if not reply.content or "json" not in reply.headers.get("content-type", ""):
            return {}
        answer: dict[str, Any] = reply.json()
        return answer
