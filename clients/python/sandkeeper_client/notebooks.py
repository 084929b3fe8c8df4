"""A notebook of a chat, for programs that `await`."""

import uuid
from collections.abc import Collection, Mapping
from typing import Any, Literal

from sandkeeper_client.api import Api, Call, checked_id, checked_key
from sandkeeper_client.executions import AsyncExecution, View
from sandkeeper_client.replies import MadeCell
from sandkeeper_client.runs import Begun

CellType = Literal["code", "markdown", "raw"]


class AsyncNotebook:
    """A notebook of the chat: its code cells run in the chat's session, and keep what they show."""

    def __init__(self, api: Api, chat_id: str, notebook_id: str) -> None:
        self._api, self._chat_id = api, chat_id
        self.id = checked_id("notebook id", notebook_id)
        self._path = f"/api/chats/{chat_id}/notebooks/{self.id}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def add(
        self,
        source: str,
        *,
        kind: CellType = "code",
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Returns the id of a cell that has been put at the notebook's end."""
        body = {"type": kind, "source": source, "metadata": metadata}
        call = Call(method="POST", path=f"{self._path}/cells", json=body, is_repeatable=False)
        return MadeCell.of(await self._api.json(call)).cell_id

    async def replace(self, cell_id: str, source: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Lets a cell say this, whatever it said before. What it shows stays, and metadata that are not given."""
        call = Call(
            method="PUT",
            path=f"{self._path}/cells/{checked_id('cell id', cell_id)}",
            json={"source": source, "metadata": metadata},
            headers={"If-Match": "*"},
        )
        await self._api.json(call)

    async def run(
        self,
        cell_id: str,
        *,
        timeout: float | None = None,
        include: Collection[View] = (),
        idempotency_key: str | None = None,
    ) -> AsyncExecution:
        """Returns at once the run of a cell, which shows what comes of it; what may be given is as in `Options`."""
        call = Call(
            method="POST",
            path=f"{self._path}/cells/{checked_id('cell id', cell_id)}/run",
            json={"mode": "async", "timeoutMs": None if timeout is None else round(timeout * 1000)},
            headers={"Idempotency-Key": checked_key(idempotency_key or uuid.uuid4().hex)},
        )
        execution_id = Begun.of(await self._api.json(call)).execution_id
        return AsyncExecution(self._api, self._chat_id, execution_id, include)

    async def ipynb(self) -> dict[str, Any]:
        """Returns the notebook as a file of nbformat 4.5, with what its cells show."""
        notebook: dict[str, Any] = await self._api.get(f"{self._path}/ipynb")
        return notebook
