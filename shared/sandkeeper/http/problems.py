"""Errors on the wire: RFC 9457 `application/problem+json`, for every error that there is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from sandkeeper import errors

if TYPE_CHECKING:  # the MCP function has these problems too, and no FastAPI
    from fastapi.exceptions import RequestValidationError

PROBLEM_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:sandkeeper:problem:"
"""Before a slug, it is a problem's type; docs/problems.md tells of each."""

STATUS_AND_SLUG: Mapping[type[errors.SandkeeperError], tuple[int, str]] = {
    errors.InvalidRequest: (422, "invalid-request"),
    errors.Unauthenticated: (401, "unauthenticated"),
    errors.SessionNotFound: (404, "session-not-found"),
    errors.ExecutionNotFound: (404, "execution-not-found"),
    errors.ArtifactNotFound: (404, "artifact-not-found"),
    errors.FileNotFound: (404, "file-not-found"),
    errors.NotebookNotFound: (404, "notebook-not-found"),
    errors.CellNotFound: (404, "cell-not-found"),
    errors.VersionMissing: (428, "version-missing"),
    errors.VersionStale: (412, "version-stale"),
    errors.FileNotReady: (409, "file-not-ready"),
    errors.FileUnusable: (422, "file-unusable"),
    errors.PayloadTooLarge: (413, "payload-too-large"),
    errors.QuotaExceeded: (429, "quota-exceeded"),
    errors.SessionBusy: (409, "session-busy"),
    errors.CapacityExhausted: (503, "capacity-exhausted"),
    errors.SandboxUnavailable: (503, "sandbox-unavailable"),
    errors.StoreUnavailable: (503, "store-unavailable"),
    errors.NotConfigured: (500, "not-configured"),
}

HTTP_SLUGS: Mapping[int, str] = {
    403: "origin-not-allowed",
    404: "no-such-route",
    405: "method-not-allowed",
    415: "unsupported-media-type",
}


class FieldProblem(BaseModel):
    """One field that is wrong."""

    pointer: str = Field(description="JSON pointer into the body (empty: all of it), or `query/…`, `path/…`.")
    detail: str


class Problem(BaseModel):
    """Why a call was not answered as asked, after RFC 9457."""

    type: str = Field(description="Names the kind of problem, and never changes.")
    title: str
    status: int
    detail: str = Field(description="Names the value and the fix.")
    instance: str = Field(description="The path that was called.")
    requestId: str = Field(description="Finds this call in the logs.")  # noqa: N815 - the wire's name
    errors: list[FieldProblem] | None = Field(default=None, description="For 422: every field that is wrong.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI entries of these problem replies, 401, 500 and 503 included."""
    descriptions = {
        401: "No credentials, or not good ones.",
        404: "No such thing in this chat.",
        409: "Busy or not ready; `Retry-After` says when to try again.",
        412: "It has changed since; `ETag` is that of now.",
        413: "The body is over 1 MB.",
        415: "The body is not `application/json`.",
        422: "The request breaks a rule; `errors` names the fields.",
        428: "`If-Match` is missing; `ETag` is that of now.",
        429: "A limit is reached.",
        500: "The deployment is not configured, or an unexpected error.",
        503: "A backing service is busy or unreachable; `Retry-After` says when to try again.",
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": descriptions[status], "content": {PROBLEM_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 401, 500, 503})
    }


def reply(
    request: Request,
    status: int,
    slug: str,
    detail: str,
    *,
    fields: list[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Returns the problem as a reply."""
    problem = Problem(
        type=TYPE_PREFIX + slug,
        title=slug.replace("-", " ").capitalize(),
        status=status,
        detail=detail,
        instance=request.url.path,
        requestId=request.state.request_id,
        errors=fields,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=status,
        headers=dict(headers or {}),
        media_type=PROBLEM_TYPE,
    )


def of_ours(request: Request, error: errors.SandkeeperError) -> JSONResponse:
    """Returns the reply for one of our errors."""
    status, slug = STATUS_AND_SLUG[type(error)]
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.VersionMissing | errors.VersionStale) and error.version is not None:
        headers["ETag"] = f'"{error.version}"'
    fields = None
    if isinstance(error, errors.InvalidRequest) and error.problems:
        fields = [FieldProblem(pointer=field.pointer, detail=field.detail) for field in error.problems]
    return reply(request, status, slug, error.detail, fields=fields, headers=headers)


def of_validation(request: Request, error: "RequestValidationError") -> JSONResponse:
    """Returns the reply for a request that does not fit the schema, naming every field that is wrong."""
    fields = [
        FieldProblem(pointer=_pointer(problem["loc"]), detail=_field_detail(problem)) for problem in error.errors()
    ]
    wrong = "; ".join(f"{field.pointer}: {field.detail}" for field in fields[:5])
    return reply(request, 422, "invalid-request", f"the request is not valid: {wrong}", fields=fields)


def _pointer(location: tuple[str | int, ...]) -> str:
    where, *rest = location
    if where == "body" and (not rest or isinstance(rest[0], int)):
        return ""  # all of it: no object at all, or JSON that does not parse (then `rest` is a position)
    path = "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in rest)
    path = path.encode(errors="replace").decode()  # JSON can hold half a surrogate pair, a reply cannot
    return f"/{path}" if where == "body" else f"{where}/{path}"


def _field_detail(problem: Mapping[str, Any]) -> str:
    """Returns what is wrong with a field, and with which value: cut short, for it may be a whole program."""
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']}"
    value = problem.get("input")
    if problem["type"] == "missing" or isinstance(value, dict):
        return str(problem["msg"])
    shown = repr(value)
    return f"{problem['msg']}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"


def of_http(request: Request, error: HTTPException) -> JSONResponse:
    """Returns the reply for what the framework refuses: unknown routes, methods."""
    if error.status_code == 400:  # FastAPI's word for a body that no parser takes, such as 100,000 brackets
        return reply(request, 422, "invalid-request", "the body cannot be read as JSON; send a JSON object")
    slug = HTTP_SLUGS.get(error.status_code, "http-error")
    detail = f"{request.method} {request.url.path}: {error.detail}; see /openapi.json for what there is"
    return reply(request, error.status_code, slug, detail, headers=error.headers)


def of_unexpected(request: Request) -> JSONResponse:
    """Returns the reply for an error that nobody expected: it says nothing of its inside."""
    return reply(
        request,
        500,
        "internal-error",
        f"an unexpected error happened; report it with request id {request.state.request_id}",
    )
