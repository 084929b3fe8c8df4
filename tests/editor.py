"""Notebooks as whoever edits and runs them over HTTP has them before them."""

from datetime import timedelta
from typing import Any

from fastapi.testclient import TestClient

from sandkeeper.model import Raised, RunEnd, RunOutcome, SandboxRef, Stream
from sandkeeper.services.cell_runs import CellAsk
from sandkeeper.services.requests import RunReply
from tests.world import CHAT, World

ROOT = "/api/chats/chat-1/notebooks"
CELLS = [{"cellId": "a", "source": "1"}, {"cellId": "b", "source": "# b", "type": "markdown"}]
CODE = [{"cellId": name, "source": name} for name in ("a", "b", "c")]
DONE = RunOutcome([Stream("stdout", "done")], RunEnd.FINISHED)
FAILED = RunOutcome([Raised("ValueError", "no", "Traceback\nValueError: no")], RunEnd.FINISHED)


class Editor:
    """A tab in which one notebook is open."""

    def __init__(self, client: TestClient, cells: list[dict[str, Any]] | None = None) -> None:
        self.client = client
        reply = client.post(ROOT, json={"title": "Salaries", "cells": CELLS if cells is None else cells})
        assert reply.status_code == 201, reply.text
        self.made = reply.json()
        self.url = f"{ROOT}/{self.made['notebookId']}"
        assert reply.headers["location"] == self.url

    def read(self) -> Any:
        """Returns the notebook as it is now."""
        reply = self.client.get(self.url)
        assert reply.status_code == 200, reply.text
        assert reply.headers["etag"] == reply.json()["etag"]
        return reply.json()

    def cell(self, cell_id: str = "a") -> Any:
        """Returns a cell as it is now."""
        reply = self.client.get(f"{self.url}/cells/{cell_id}")
        assert reply.status_code == 200, reply.text
        assert reply.headers["etag"] == reply.json()["etag"]
        return reply.json()

    def put(self, etag: str | None = None, **fields: Any) -> Any:
        """Replaces the notebook."""
        headers = {} if etag is None else {"If-Match": etag}
        return self.client.put(self.url, json={"title": "Salaries", "cells": CELLS} | fields, headers=headers)

    def put_cell(self, cell_id: str = "a", etag: str | None = None, source: str = "2", **fields: Any) -> Any:
        """Replaces what a cell says."""
        headers = {} if etag is None else {"If-Match": etag}
        return self.client.put(f"{self.url}/cells/{cell_id}", json={"source": source} | fields, headers=headers)

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """Does something to the notebook."""
        return self.client.post(f"{self.url}/{path}", json=fields, headers=headers)

    def run(self, cell_id: str = "a", **fields: Any) -> Any:
        """Runs a cell, which must come to an end."""
        reply = self.post(f"cells/{cell_id}/run", **fields)
        assert reply.status_code == 200, reply.text
        return reply.json()


def slug_of(reply: Any, status: int) -> str:
    """Returns what kind of problem is told with this status."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    return str(reply.json()["type"].removeprefix("urn:sandkeeper:problem:"))


def sources(notebook: Any) -> dict[str, str]:
    """Returns cell id → what it says."""
    return {cell["cellId"]: cell["source"] for cell in notebook["cells"]}


def goes_on(world: World) -> None:
    """Lets all code go on until it is ended."""
    world.sandboxes.program = lambda *_: None


def began(editor: Editor, cell_id: str = "a", **fields: Any) -> str:
    """Begins a cell that goes on, and returns its run's id."""
    reply = editor.post(f"cells/{cell_id}/run", **{"mode": "async"} | fields)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["executionId"])


def ran(world: World) -> list[str]:
    """Lets all code be noted that runs from now on, and succeed."""
    noted: list[str] = []

    def program(_: SandboxRef, code: str) -> RunOutcome:
        noted.append(code)
        return FAILED if code == "fails" else DONE

    world.sandboxes.program = program
    return noted


def run_directly(world: World, editor: Editor, **fields: Any) -> RunReply:
    """Runs the cell `a` without HTTP, whose client would not survive the death of a call."""
    limit = timedelta(milliseconds=world.wiring.settings.e2b_sandbox_timeout)
    return world.wiring.cell_runs.run(CHAT, editor.made["notebookId"], "a", CellAsk(limit=limit, **fields))


def states(notebook: Any) -> dict[str, tuple[str, bool | None]]:
    """Returns what became of each cell that has run."""
    runs = {cell["cellId"]: cell["lastRun"] for cell in notebook["cells"] if cell["lastRun"]}
    return {cell_id: (run["state"], run["success"]) for cell_id, run in runs.items()}
