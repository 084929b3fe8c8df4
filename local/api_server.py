"""The API, as it is deployed, under uvicorn: `python -m local.api_server --host H --port P [--reload]`."""

import argparse
import os

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from local import functions, page
from local.project import ROOT


def create_app() -> ASGIApp:
    """The app of `functions/api`, and the page at `/`; beside it, at its path, that of `functions/mcp`."""
    app: FastAPI = functions.load("api").app
    page.serve(app)
    mcp: ASGIApp = functions.load("mcp").app

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        is_mcp = scope["type"] == "http" and scope["path"] == "/mcp"
        await (mcp if is_mcp else app)(scope, receive, send)

    return serve


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m local.api_server")
    arguments.add_argument("--host", required=True)
    arguments.add_argument("--port", required=True, type=int)
    arguments.add_argument("--reload", action="store_true", help="start again when the code changes")
    asked = arguments.parse_args()

    from sandkeeper.wiring import register_api_key  # noqa: PLC0415 - `--help` needs none of it

    register_api_key(os.environ["API_KEY"], owner="local", name="local stack")
    uvicorn.run(
        "local.api_server:create_app",
        factory=True,
        host=asked.host,
        port=asked.port,
        reload=asked.reload,
        reload_dirs=[str(ROOT / "shared"), str(ROOT / "functions")] if asked.reload else None,
        timeout_graceful_shutdown=3,
        server_header=False,
        access_log=False,  # the service logs its own events
    )


if __name__ == "__main__":
    main()
