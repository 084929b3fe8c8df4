"""The application, the same under Mangum in Lambda and under uvicorn at home."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from sandkeeper import __version__, log_context
from sandkeeper.errors import SandkeeperError
from sandkeeper.http import (
    artifact_routes,
    context_routes,
    execute_routes,
    history_routes,
    notebook_routes,
    problems,
    routes,
    session_routes,
)
from sandkeeper.http.problems import Problem
from sandkeeper.http.request_context import RequestContext
from sandkeeper.http.schemas import SCHEMAS
from sandkeeper.wiring import ApiWiring

THREADS = 400
"""How many requests one server process serves at once."""

DESCRIPTION = """\
Every chat has its own warm Python sandbox: variables, dataframes and files survive from call to call.

Durations are milliseconds, sizes bytes, times ISO 8601 in UTC. Errors are `application/problem+json`.
"""


def create_app(wiring: ApiWiring) -> FastAPI:
    """Returns the application over these services. It reads no environment until the first request."""
    log_context.quieten_libraries()
    app = FastAPI(
        title="Sandkeeper",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_many_at_once,
    )
    app.state.wiring = wiring
    app.include_router(routes.public)
    app.include_router(execute_routes.gated)
    app.include_router(routes.gated)
    app.include_router(artifact_routes.gated)
    app.include_router(session_routes.gated)
    app.include_router(history_routes.gated)
    app.include_router(notebook_routes.gated)
    app.include_router(context_routes.gated)
    app.add_exception_handler(SandkeeperError, problems.of_ours)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, problems.of_validation)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, problems.of_http)  # type: ignore[arg-type]
    app.add_middleware(RequestContext, wiring=wiring)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _many_at_once(_: FastAPI) -> AsyncIterator[None]:
    """Lets a server that outlives a call serve many at once: most only wait. Lambda serves one at a time."""
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Returns the OpenAPI document, with the problem schema that the routes refer to."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema(ref_template=SCHEMAS)
        schemas |= schemas["Problem"].pop("$defs")
        from sandkeeper.http.event_schemas import schemas_of_events  # noqa: PLC0415 - no other call needs it

        for name, schema in schemas_of_events().items():
            schemas.setdefault(name, schema)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
