"""The endpoints of runs: run code, see what became of it, follow it, stop it."""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response, Security
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import StringConstraints

from sandkeeper.errors import FieldProblem, InvalidRequest, SandkeeperError
from sandkeeper.http.execute_schemas import (
    INLINE_MS,
    AcceptedReply,
    ExecuteReply,
    ExecuteRequest,
    ExecutionReply,
    View,
    Views,
    event_data,
)
from sandkeeper.http.fitting import EVENT_BYTES, Fitting, weight
from sandkeeper.http.gate import GatedRoute
from sandkeeper.http.problems import documented
from sandkeeper.http.result_schemas import LinkedResult, ResultSchema
from sandkeeper.http.routes import Chat, Wired, bearer, chat_of
from sandkeeper.http.schemas import FileId, event_stream
from sandkeeper.http.views import fitted, fitted_execution
from sandkeeper.runs import Ended, Execution
from sandkeeper.services.execute import Once, RunReply, RunRequest
from sandkeeper.services.requests import REPLY_BYTES
from sandkeeper.wiring import ApiWiring

STREAM_S = 25.0
"""How long one connection is kept that follows a run: a client then asks again, from where it is."""
SIGN_OF_LIFE_S = 5.0
PAUSE_S = 0.5
"""How long to wait before asking again where nobody can tell anything."""
SLICE_S = 20.0
"""How long a call waits for something to tell where replies are sent whole."""
GATHER_S = 0.25
"""For how long it then waits for more."""
BEGINNING = b"retry: 200\n"
"""After how many milliseconds a client is to ask again. Part of the first event: alone it would look like one."""
SIGN_OF_LIFE = b":\n"

gated = APIRouter(route_class=GatedRoute, dependencies=[Security(bearer)], tags=["execute"])

IdempotencyKey = Annotated[
    str | None,
    StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$"),
    Header(
        alias="Idempotency-Key",
        description="Any name for this request: one that is sent again with the same name and body is answered as"
        " the first one was, and its code is not run again.",
    ),
]
ExecutionInPath = Annotated[FileId, Path(alias="executionId", description="A run's id.")]
WaitMs = Annotated[
    int, Query(alias="waitMs", ge=0, le=20_000, description="For how long to wait for the end, in milliseconds.")
]
IncludedViews = Annotated[Views, Query(alias="include", default_factory=list)]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="The id of the last event that was received.")
]


@gated.post(
    "/api/jupyter/execute",
    responses={
        **documented(404, 409, 413, 415, 422, 429),
        202: {"model": AcceptedReply, "description": "The run goes on."},
    },
    response_model=ExecuteReply,
)
def execute(
    request: Request, response: Response, body: ExecuteRequest, wiring: Wired, key: IdempotencyKey = None
) -> ExecuteReply | JSONResponse:
    """Runs Python in the chat's sandbox, which is created on first use and keeps its variables and files."""
    reply = wiring.execute(
        RunRequest(
            key=chat_of(request, body.chat_id),
            code=body.code,
            file_ids=body.file_ids,
            limit=timedelta(milliseconds=body.timeout_ms or _default_ms(body, wiring)),
            on_busy=body.on_busy,
            mode=body.mode,
            once=None if key is None else Once(key, body.digest),
        )
    )
    replayed = {"Idempotency-Replayed": "true"} if reply.is_repeated else {}
    if reply.execution.end is None:
        return _accepted(reply, replayed)
    answer = fitted(ExecuteReply.of(reply), reply.execution, wiring.overflow, body.include)
    response.headers.update({"Server-Timing": answer.timings.header(), **replayed})
    return answer


def _default_ms(body: ExecuteRequest, wiring: ApiWiring) -> int:
    default_ms = wiring.settings.e2b_sandbox_timeout
    return min(default_ms, INLINE_MS) if body.mode == "inline" else default_ms


def _accepted(reply: RunReply, headers: dict[str, str]) -> JSONResponse:
    answer = AcceptedReply.of(reply.execution)
    return JSONResponse(
        answer.model_dump(by_alias=True), status_code=202, headers={"Location": answer.status_url, **headers}
    )


@gated.get("/api/chats/{chatId}/executions/{executionId}", responses=documented(404, 422))
def get_execution(
    chat: Chat, execution_id: ExecutionInPath, wiring: Wired, include: IncludedViews, wait_ms: WaitMs = 0
) -> ExecutionReply:
    """Returns the run: its result once it has ended, for which `waitMs` waits."""
    execution = wiring.executions.get(chat, execution_id, wait=timedelta(milliseconds=wait_ms))
    return _reply(wiring, execution, include)


@gated.post("/api/chats/{chatId}/executions/{executionId}/cancel", responses=documented(404, 409, 422))
def cancel(chat: Chat, execution_id: ExecutionInPath, wiring: Wired) -> ExecutionReply:
    """Stops this run, and no other; returns it with what it put out. Variables stay."""
    return _reply(wiring, wiring.executions.cancel(chat, execution_id))


def _reply(wiring: ApiWiring, execution: Execution, include: Collection[View] = ()) -> ExecutionReply:
    left = wiring.executions.expires_in(execution)
    whole = ExecutionReply.of(execution, expires_in_ms=round(left / timedelta(milliseconds=1)))
    return fitted_execution(whole, execution, wiring.overflow, include)


@gated.get(
    "/api/chats/{chatId}/executions/{executionId}/events",
    responses={
        **documented(404, 422),
        200: event_stream("RunEvents"),
        204: {"description": "There is no event behind `Last-Event-ID`, and none will come."},
    },
    response_class=StreamingResponse,
)
def follow(
    request: Request, chat: Chat, execution_id: ExecutionInPath, wiring: Wired, last_event_id: LastEventId = None
) -> Response:
    """Follows the run as server-sent events: `accepted`, `started`, `output` …, `end`.

    The connection ends with the run, or after 25 s: a client that asks again with `Last-Event-ID`, as browsers do
    by themselves, misses nothing. Behind a gateway that passes replies on whole, each is what has happened since.
    """
    after = _number(last_event_id)
    known = wiring.executions.get(chat, execution_id)
    if known.end is not None and not any(event.number > after for event in known.events):
        return Response(status_code=204)
    is_sent_whole = "aws.event" in request.scope
    told = _slice(wiring, known, after) if is_sent_whole else _live(wiring, known, after)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(told, media_type="text/event-stream", headers=headers)


def _number(last_event_id: str | None) -> int:
    if not last_event_id:
        return 0
    if not last_event_id.isdecimal() or len(last_event_id) > 12:
        detail = f"Last-Event-ID {last_event_id!r} is not the id of an event; leave it out to start from the first"
        raise InvalidRequest(detail, [FieldProblem("header/last-event-id", detail)])
    return int(last_event_id)


def _live(wiring: ApiWiring, known: Execution, after: int) -> Iterator[bytes]:
    """Yields events as they happen, and comments in between to keep the connection."""
    until = time.monotonic() + STREAM_S
    yield BEGINNING
    while (asked_at := time.monotonic()) < until:
        told = _events(wiring, known, after, min(SIGN_OF_LIFE_S, until - asked_at))
        for number, text in told:
            after = number
            yield text
        if after == _OVER:
            return
        yield SIGN_OF_LIFE
        time.sleep(max(0.0, PAUSE_S - (time.monotonic() - asked_at)))


def _slice(wiring: ApiWiring, known: Execution, after: int) -> Iterator[bytes]:
    """Yields what has happened; or waits for it, and then a little for more."""
    yield BEGINNING
    first = next(_events(wiring, known, after, SLICE_S), None)
    if first is None:
        yield SIGN_OF_LIFE
        return
    after, text = first
    yield text
    left = REPLY_BYTES - weight(BEGINNING + text)
    for _, text in _events(wiring, known, after, GATHER_S) if after != _OVER else ():
        left -= weight(text)
        if left < 0:
            return  # whoever follows asks again from here
        yield text


_OVER = -1
"""Stands for the number of the last event that a run has."""


def _events(wiring: ApiWiring, known: Execution, after: int, wait_s: float) -> Iterator[tuple[int, bytes]]:
    """Yields events behind the number `after`, with their own: those that come within this time.

    Ends early where nobody can tell: whoever wants the rest asks again.
    """
    fitting = Fitting(wiring.overflow, known.key)

    def fit(results: Sequence[ResultSchema]) -> Sequence[ResultSchema | LinkedResult]:
        return fitting.fit(results, [], EVENT_BYTES)[0]

    try:
        for event in wiring.executions.follow(known, after=after, wait=timedelta(seconds=wait_s)):
            is_last = isinstance(event.what, Ended)
            whole = wiring.executions.get(known.key, known.execution_id) if is_last else known
            name, data = event_data(event, whole, fit)
            told = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
            text = format_sse_event(id=str(event.number), event=name, data_str=told)
            yield _OVER if is_last else event.number, text
    except SandkeeperError:
        return
