"""The endpoints of notebooks: their cells, how these are run, and what happens to them."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response, Security
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import StringConstraints

from sandkeeper.http import notebook_events
from sandkeeper.http.error_details import error_line, error_of
from sandkeeper.http.execute_routes import IdempotencyKey, LastEventId
from sandkeeper.http.execute_schemas import AcceptedReply
from sandkeeper.http.gate import GatedRoute
from sandkeeper.http.history_routes import NOTEBOOK_TYPE
from sandkeeper.http.history_schemas import decode, encode
from sandkeeper.http.notebook_schemas import (
    CellChange,
    CellId,
    CellSchema,
    IpynbRequest,
    MoveRequest,
    NewCellRequest,
    NotebookBrief,
    NotebookPage,
    NotebookRequest,
    NotebookSchema,
    RanCell,
    RunAllRequest,
    RunCellRequest,
    RunningCell,
    Title,
    etag,
)
from sandkeeper.http.notebook_views import fitted_cell, fitted_notebook
from sandkeeper.http.problems import documented
from sandkeeper.http.routes import Chat, Wired, bearer
from sandkeeper.http.schemas import FileId, event_stream
from sandkeeper.model import ChatKey
from sandkeeper.notebooks import ANY, MAX_TITLE_CHARS, Expected
from sandkeeper.services import ipynb
from sandkeeper.services.cell_runs import CellAsk
from sandkeeper.services.notebook_plans import PlanAsk
from sandkeeper.wiring import ApiWiring

ROOT = "/api/chats/{chatId}/notebooks"
ONE = f"{ROOT}/{{notebookId}}"
CELLS = f"{ONE}/cells"
CELL = f"{CELLS}/{{cellId}}"

gated = APIRouter(route_class=GatedRoute, dependencies=[Security(bearer)], tags=["notebooks"])

NotebookInPath = Annotated[FileId, Path(alias="notebookId", description="A notebook's id.")]
CellInPath = Annotated[CellId, Path(alias="cellId")]
IfMatch = Annotated[
    str | None,
    StringConstraints(pattern=r'^(\*|"[0-9]{1,12}")$'),
    Header(
        alias="If-Match",
        description="The `ETag` of what was read; `*` for whatever there is now. With another one nothing is done.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Next = Annotated[str | None, Query(max_length=100, description="What the reply before this one gave as `next`.")]
After = Annotated[
    int | None, Query(ge=0, le=999_999_999_999, description="The `version` that was read, to follow it from there.")
]
WaitMs = Annotated[
    int,
    Query(alias="waitMs", ge=0, le=25_000, description="How long the connection is kept; 0: tell what there is."),
]
WRITES = (412, 413, 415, 422, 428)


def _expected(if_match: str | None) -> Expected:
    """Returns the version that a caller has seen."""
    if if_match is None:
        return None
    return ANY if if_match == ANY else int(if_match.strip('"'))


# ── Notebooks ───────────────────────────────────────────────────────────────────────────────────────


@gated.post(ROOT, status_code=201, responses=documented(413, 415, 422, 429))
def create_notebook(chat: Chat, response: Response, body: NotebookRequest, wiring: Wired) -> NotebookSchema:
    """Makes a notebook of these cells."""
    made = wiring.notebooks.create(chat, body.title, body.drafts, body.metadata)
    response.headers["Location"] = _url(chat, made.notebook_id)
    return _whole(wiring, chat, made.notebook_id, response)


@gated.post(f"{ROOT}/import", status_code=201, responses=documented(413, 415, 422, 429))
def import_notebook(
    chat: Chat,
    response: Response,
    body: IpynbRequest,
    wiring: Wired,
    title: Annotated[Title | None, Query(description="Its title, if not that of its metadata.")] = None,
) -> NotebookSchema:
    """Makes a notebook of an `.ipynb` file, outputs included. Of a file over 1 MB clear some of these first."""
    document = body.model_dump()
    metadata = dict(ipynb.metadata_of(document))
    own = metadata.pop("title", None)
    name = title or (own[:MAX_TITLE_CHARS] if isinstance(own, str) and own else "Untitled")
    made = wiring.notebooks.create(chat, name, ipynb.read(document), metadata)
    response.headers["Location"] = _url(chat, made.notebook_id)
    return _whole(wiring, chat, made.notebook_id, response)


@gated.get(ROOT, responses=documented(422))
def list_notebooks(chat: Chat, wiring: Wired, limit: Limit = 20, next: Next = None) -> NotebookPage:  # noqa: A002
    """Returns the chat's notebooks, the latest first; a chat that has none has an empty list."""
    after = None if next is None else decode(next)
    found, behind = wiring.notebooks.page(chat, limit=limit, after=after)
    return NotebookPage(
        notebooks=[NotebookBrief.of(notebook) for notebook in found],
        next=None if behind is None else encode(behind),
    )


@gated.get(ONE, responses=documented(404, 422))
def read_notebook(chat: Chat, notebook_id: NotebookInPath, response: Response, wiring: Wired) -> NotebookSchema:
    """Returns the notebook with all its cells. What has ended is shown; where all cells run, the next begins."""
    wiring.notebook_plans.moved_on(wiring.notebooks.get(chat, notebook_id))
    return _whole(wiring, chat, notebook_id, response)


@gated.put(ONE, responses=documented(404, *WRITES))
def replace_notebook(
    *,
    chat: Chat,
    notebook_id: NotebookInPath,
    response: Response,
    body: NotebookRequest,
    wiring: Wired,
    if_match: IfMatch = None,
) -> NotebookSchema:
    """Gives the notebook this title and exactly these cells. Those that it has already keep what they show."""
    wiring.notebooks.replace(
        chat, notebook_id, _expected(if_match), title=body.title, drafts=body.drafts, metadata=body.metadata
    )
    return _whole(wiring, chat, notebook_id, response)


@gated.delete(ONE, status_code=204, responses=documented(404, 412, 422, 428))
def delete_notebook(chat: Chat, notebook_id: NotebookInPath, wiring: Wired, if_match: IfMatch = None) -> None:
    """Deletes the notebook. What its cells have run stays in the chat's history."""
    wiring.notebooks.delete(chat, notebook_id, _expected(if_match))


@gated.get(
    f"{ONE}/ipynb",
    responses={
        **documented(404, 422),
        200: {"content": {NOTEBOOK_TYPE: {"schema": {"type": "object"}}}, "description": "A Jupyter notebook."},
    },
    response_class=Response,
)
def export_notebook(chat: Chat, notebook_id: NotebookInPath, wiring: Wired) -> Response:
    """Returns the notebook as a file of nbformat 4.5, of at most 4 MB: the largest outputs are left out first."""
    wiring.cell_runs.settled(wiring.notebooks.get(chat, notebook_id))
    content = ipynb.written(*wiring.notebooks.read(chat, notebook_id))
    headers = {"Content-Disposition": f'attachment; filename="{notebook_id}.ipynb"', "Cache-Control": "no-store"}
    return Response(content, media_type=NOTEBOOK_TYPE, headers=headers)


@gated.post(f"{ONE}/clear", responses=documented(404, 422))
def clear_notebook(chat: Chat, notebook_id: NotebookInPath, response: Response, wiring: Wired) -> NotebookSchema:
    """Takes away what the cells show."""
    wiring.notebooks.clear(chat, notebook_id)
    return _whole(wiring, chat, notebook_id, response)


# ── Cells ───────────────────────────────────────────────────────────────────────────────────────────


@gated.post(CELLS, status_code=201, responses=documented(404, 413, 415, 422))
def insert_cell(
    chat: Chat, notebook_id: NotebookInPath, response: Response, body: NewCellRequest, wiring: Wired
) -> CellSchema:
    """Puts a cell into the notebook. Nobody's edits mind that."""
    _, cell_id = wiring.notebooks.insert(chat, notebook_id, body.draft, after=body.after, index=body.index)
    response.headers["Location"] = f"{_url(chat, notebook_id)}/cells/{cell_id}"
    return _cell(wiring, chat, notebook_id, cell_id, response)


@gated.get(CELL, responses=documented(404, 422))
def get_cell(
    chat: Chat, notebook_id: NotebookInPath, cell_id: CellInPath, response: Response, wiring: Wired
) -> CellSchema:
    """Returns the cell."""
    wiring.cell_runs.settled(wiring.notebooks.get(chat, notebook_id))
    return _cell(wiring, chat, notebook_id, cell_id, response)


@gated.put(CELL, responses=documented(404, *WRITES))
def replace_cell(
    *,
    chat: Chat,
    notebook_id: NotebookInPath,
    cell_id: CellInPath,
    response: Response,
    body: CellChange,
    wiring: Wired,
    if_match: IfMatch = None,
) -> CellSchema:
    """Lets the cell say this. `If-Match` is the cell's own: edits of other cells are in nobody's way."""
    wiring.notebooks.update(chat, notebook_id, cell_id, _expected(if_match), body.draft)
    return _cell(wiring, chat, notebook_id, cell_id, response)


@gated.post(f"{CELL}/move", responses=documented(404, 413, 415, 422))
def move_cell(
    chat: Chat, notebook_id: NotebookInPath, cell_id: CellInPath, body: MoveRequest, wiring: Wired
) -> NotebookBrief:
    """Puts the cell somewhere else."""
    return NotebookBrief.of(wiring.notebooks.move(chat, notebook_id, cell_id, body.after))


@gated.delete(CELL, status_code=204, responses=documented(404, 412, 422, 428))
def delete_cell(
    chat: Chat, notebook_id: NotebookInPath, cell_id: CellInPath, wiring: Wired, if_match: IfMatch = None
) -> None:
    """Takes the cell out of the notebook."""
    wiring.notebooks.drop(chat, notebook_id, cell_id, _expected(if_match))


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────


@gated.post(
    f"{CELL}/run",
    responses={
        **documented(404, 409, 412, 413, 415, 422, 429),
        202: {"model": RunningCell, "description": "The run goes on."},
    },
    response_model=RanCell,
)
def run_cell(
    *,
    chat: Chat,
    notebook_id: NotebookInPath,
    cell_id: CellInPath,
    response: Response,
    body: RunCellRequest,
    wiring: Wired,
    if_match: IfMatch = None,
    key: IdempotencyKey = None,
) -> RanCell | JSONResponse:
    """Runs the cell in the chat's session, as `POST /api/jupyter/execute` would; it shows what comes of that.

    With `If-Match` it runs what was read, or nothing.
    """
    ask = CellAsk(
        limit=body.limit(wiring.settings.e2b_sandbox_timeout),
        mode=body.mode,
        on_busy=body.on_busy,
        expected=_expected(if_match),
        idempotency_key=key,
    )
    reply = wiring.cell_runs.run(chat, notebook_id, cell_id, ask)
    headers = {"Idempotency-Replayed": "true"} if reply.is_repeated else {}
    execution = reply.execution
    if execution.end is None:
        where = AcceptedReply.of(execution)
        answer = RunningCell(
            execution_id=execution.execution_id,
            status_url=where.status_url,
            events_url=where.events_url,
            notebook_events_url=f"{_url(chat, notebook_id)}/events",
        )
        headers["Location"] = answer.status_url
        return JSONResponse(answer.model_dump(by_alias=True), status_code=202, headers=headers)
    detail = error_of(execution)
    response.headers.update(headers)
    return RanCell(
        execution_id=execution.execution_id,
        success=detail is None,
        error=error_line(detail),
        cell=_cell(wiring, chat, notebook_id, cell_id, response),
    )


@gated.post(
    f"{ONE}/run",
    responses={
        **documented(404, 409, 413, 415, 422, 429),
        202: {"model": NotebookBrief, "description": "Some cells are left: `plan` says which."},
    },
    response_model=NotebookSchema,
)
def run_notebook(
    *,
    chat: Chat,
    notebook_id: NotebookInPath,
    response: Response,
    body: RunAllRequest,
    wiring: Wired,
    key: IdempotencyKey = None,
) -> NotebookSchema | JSONResponse:
    """Runs all code cells, one after another, up to the first that fails.

    What this call has no time for goes on while somebody follows the notebook or reads it, and else waits for that.
    """
    limit = timedelta(milliseconds=body.timeout_ms or wiring.settings.e2b_sandbox_timeout)
    ask = PlanAsk(limit=limit, stops=body.stop_on_error, mode=body.mode, idempotency_key=key)
    notebook = wiring.notebook_plans.run_all(chat, notebook_id, ask)
    if notebook.plan is None and not notebook.running:
        return _whole(wiring, chat, notebook_id, response)
    headers = {"Location": _url(chat, notebook_id), "ETag": etag(notebook.edited)}
    told = NotebookBrief.of(notebook).model_dump(mode="json", by_alias=True)
    return JSONResponse(told, status_code=202, headers=headers)


@gated.post(f"{ONE}/stop", responses=documented(404, 409, 422))
def stop_notebook(chat: Chat, notebook_id: NotebookInPath, response: Response, wiring: Wired) -> NotebookSchema:
    """Stops the cell that runs, and begins no other. Variables stay."""
    wiring.notebook_plans.stop(chat, notebook_id)
    return _whole(wiring, chat, notebook_id, response)


@gated.get(
    f"{ONE}/events",
    responses={
        **documented(404, 422),
        200: event_stream("NotebookEvents"),
    },
    response_class=StreamingResponse,
)
def follow_notebook(
    *,
    request: Request,
    chat: Chat,
    notebook_id: NotebookInPath,
    wiring: Wired,
    after: After = None,
    wait_ms: WaitMs = 25_000,
    last_event_id: LastEventId = None,
) -> Response:
    """Follows the notebook as server-sent events: its changes, and what its cells put out while they run.

    Begin behind the `version` that was read: `after`. A connection ends after 25 s: a client that asks again with
    `Last-Event-ID`, as browsers do by themselves, misses nothing. `reset` says that the notebook is to be read
    again.
    """
    position = notebook_events.position_of(last_event_id, after)
    wiring.notebooks.get(chat, notebook_id)
    tell = notebook_events.sliced if "aws.event" in request.scope else notebook_events.live
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    told = tell(wiring, chat, notebook_id, position, wait_ms / 1000)
    return StreamingResponse(told, media_type="text/event-stream", headers=headers)


# ── Replies ─────────────────────────────────────────────────────────────────────────────────────────


def _url(chat: ChatKey, notebook_id: str) -> str:
    return f"/api/chats/{chat.chat_id}/notebooks/{notebook_id}"


def _whole(wiring: ApiWiring, chat: ChatKey, notebook_id: str, response: Response) -> NotebookSchema:
    notebook, cells = wiring.notebooks.read(chat, notebook_id)
    response.headers.update({"ETag": etag(notebook.edited), "Cache-Control": "no-store"})
    return fitted_notebook(notebook, cells)


def _cell(wiring: ApiWiring, chat: ChatKey, notebook_id: str, cell_id: str, response: Response) -> CellSchema:
    _, cell = wiring.notebooks.cell(chat, notebook_id, cell_id)
    response.headers.update({"ETag": etag(cell.slot.version), "Cache-Control": "no-store"})
    return fitted_cell(chat, cell, wiring.overflow)
