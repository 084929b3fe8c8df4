"""The page, at `/` of the local stack: what `make web` has built in `web/dist`, each file under a content policy.

The deployed API serves none of it.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from local.project import ROOT

DIST = ROOT / "web" / "dist"
NOT_BUILT = "The page is not built: run `make web`, and load this again. The API is there all the same.\n"

FRAME_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; media-src data: blob:; worker-src blob:; "
    "frame-ancestors 'self'"
)
"""What the frame may do that shows HTML which code has put out: run its scripts, reach nothing and nobody."""

FIGURE_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data: blob:; worker-src blob:; frame-ancestors 'self'"
)
"""What the frame may do that draws Plotly's figures: Plotly writes styles of its own, and needs nothing else."""


def policy(s3_origin: str) -> str:
    """Returns what the page itself may load: its own files, and the chat's files from S3."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; frame-src 'self'; "
        f"img-src 'self' data: blob: {s3_origin}; connect-src 'self' {s3_origin}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def serve(app: FastAPI, dist: Path = DIST, environment: Mapping[str, str] = os.environ) -> None:
    """Has the app answer at `/` with the page, whose key it hands to a browser on this machine."""
    page_policy, key = policy(environment["AWS_ENDPOINT_URL"]), environment["API_KEY"]

    def page(_: Request) -> Response:
        return _file(dist / "index.html", page_policy)

    def frame(_: Request) -> Response:
        return _file(dist / "frame.html", FRAME_POLICY)

    def figure(_: Request) -> Response:
        return _file(dist / "figure.html", FIGURE_POLICY)

    def icon(_: Request) -> Response:
        return _file(dist / "icon.svg", "default-src 'none'")

    def config(request: Request) -> Response:
        if not _is_of_this_machine(request):
            raise HTTPException(404)
        return JSONResponse({"apiKey": key})

    app.router.routes += [
        Route("/", page),
        Route("/frame.html", frame),
        Route("/figure.html", figure),
        Route("/icon.svg", icon),
        Route("/config.json", config),
        Mount("/assets", Assets(directory=dist / "assets", check_dir=False)),
    ]


class Assets(StaticFiles):
    """Files whose names tell their content: a browser asks for each once. Frames without an origin may, too."""

    async def check_config(self) -> None:
        """Finds nothing wrong with a folder that is not there yet."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Returns the file, to be kept."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response


def _file(path: Path, content_policy: str) -> Response:
    if not path.is_file():
        return PlainTextResponse(NOT_BUILT, status_code=503)
    return FileResponse(path, headers={"Content-Security-Policy": content_policy, "Cache-Control": "no-cache"})


def _is_of_this_machine(request: Request) -> bool:
    """Returns whether a browser here asks for an address of this machine.

    What it calls the server counts, too: a name that a stranger's page has made point here is not ours.
    """
    asked_for = request.url.hostname or ""
    caller = request.client.host if request.client else ""
    return _is_loopback(caller) and (asked_for == "localhost" or _is_loopback(asked_for))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
